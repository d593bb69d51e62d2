from dataclasses import dataclass, field
import math
from typing import Optional

import pytest

from svp_ros.config import load_config, load_yaml, make_config


@dataclass(frozen=True)
class Optimizer:
    learning_rate: float = 1e-3
    steps: int = 100

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f'steps must be positive, got {self.steps}')


@dataclass(frozen=True)
class Settings:
    name: str = 'nano'
    size: tuple[int, int] = (480, 640)
    widths: tuple[int, ...] = (16, 32)
    flip: bool = True
    resume: Optional[str] = None
    optimizer: Optimizer = field(default_factory=Optimizer)


def load(tmp_path, text, **overrides):
    (tmp_path / 'a.yaml').write_text(text)
    return load_config(Settings, tmp_path / 'a.yaml', **overrides)


def test_file_fills_nested_fields_and_keeps_the_other_defaults(tmp_path):
    settings = load(tmp_path, 'name: small\nsize: [96, 128]\nwidths: [1, 2, 3]\n'
                              'optimizer: {learning_rate: 3}\n')
    assert settings == Settings(name='small', size=(96, 128), widths=(1, 2, 3),
                                optimizer=Optimizer(learning_rate=3.0))
    assert isinstance(settings.size, tuple)
    assert isinstance(settings.optimizer.learning_rate, float)


def test_overrides_win_over_the_file(tmp_path):
    assert load(tmp_path, 'name: small\n', name='base').name == 'base'
    assert load_config(Settings, None, flip=False) == Settings(flip=False)


def test_yaml_float_without_a_dot_is_a_float(tmp_path):
    # YAML 1.1 reads 1e-4 as text.
    settings = load(tmp_path, 'optimizer:\n  learning_rate: 1e-4\n')
    assert math.isclose(settings.optimizer.learning_rate, 1e-4)


def test_null_is_allowed_where_the_field_is_optional(tmp_path):
    assert load(tmp_path, 'resume: null\n').resume is None
    assert load(tmp_path, 'resume: runs/a\n').resume == 'runs/a'


@pytest.mark.parametrize('text, message', [
    ('nmae: small', 'unknown key "nmae"; known keys are name, size'),
    ('optimizer: {rate: 1}', 'optimizer: unknown key "rate"; known keys are learning_rate, steps'),
    ('name: 3', 'name must be str, got 3'),
    ('flip: 1', 'flip must be bool, got 1'),
    ('optimizer: {steps: true}', 'steps must be int, got True'),
    ('optimizer: {steps: 1.5}', 'steps must be int, got 1.5'),
    ('optimizer: {learning_rate: fast}', "learning_rate must be float, got 'fast'"),
    ('optimizer: 3', 'optimizer must be a mapping, got 3'),
    ('size: 480', 'size must be a list, got 480'),
    ('size: [480]', 'size must have 2 entries, got 1'),
    ('widths: [1, two]', "widths must be int, got 'two'"),
    ('optimizer: {steps: 0}', 'steps must be positive, got 0'),
])
def test_wrong_values_are_refused_with_the_place_and_the_reason(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, text)


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='no configuration file'):
        load_yaml(tmp_path / 'nowhere.yaml')
    for text, message in (('a: [1', 'not valid YAML'), ('- 1', 'must hold "key: value" lines'),
                          ('', 'got NoneType')):
        (tmp_path / 'a.yaml').write_text(text)
        with pytest.raises(ValueError, match=message):
            load_yaml(tmp_path / 'a.yaml')


def test_make_config_names_the_class_without_a_file():
    with pytest.raises(ValueError, match='Settings: unknown key "x"'):
        make_config(Settings, {'x': 1})
