"""Settings as frozen dataclasses, filled from short YAML files; unknown keys are errors."""

from dataclasses import fields, is_dataclass
from pathlib import Path
import typing
from typing import Any, Mapping, TypeVar, Union

import yaml

Config = TypeVar('Config')


def load_yaml(path: Union[str, Path]) -> dict:
    """Read one YAML mapping.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not YAML or not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no configuration file {path}')
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is not valid YAML: {str(error).splitlines()[0]}') from error
    if not isinstance(values, dict):
        raise ValueError(f'{path} must hold "key: value" lines, got {type(values).__name__}')
    return values


def make_config(config_class: type[Config], values: Mapping[str, Any], where: str = '') -> Config:
    """Build a (nested) dataclass from a mapping and check names and types.

    Args:
        config_class: the frozen dataclass to build.
        values: field name to value; nested dataclasses take mappings.
        where: name of the source, for messages.

    Raises:
        ValueError: On an unknown key, a value of the wrong type, or what the dataclass refuses.
    """
    where = where or config_class.__name__
    hints = typing.get_type_hints(config_class)
    known = [field.name for field in fields(config_class)]
    for key in values:
        if key not in known:
            raise ValueError(f'{where}: unknown key "{key}"; known keys are {", ".join(known)}')
    return config_class(**{key: _convert(hints[key], value, f'{where}: {key}')
                           for key, value in values.items()})


def load_config(config_class: type[Config], path: Union[str, Path, None] = None,
                **overrides: Any) -> Config:
    """Build `config_class` from a YAML file (optional) and overrides that win over it."""
    values = load_yaml(path) if path else {}
    return make_config(config_class, {**values, **overrides}, str(path or ''))


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f'{where} must be a mapping, got {value!r}')
        return make_config(hint, value, where)
    if origin is Union:
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        hint = bool if bool in options and isinstance(value, bool) else options[0]
        return None if value is None else _convert(hint, value, where)
    if origin is tuple:
        inner = typing.get_args(hint)
        if not isinstance(value, (list, tuple)):
            raise ValueError(f'{where} must be a list, got {value!r}')
        if inner[-1] is not Ellipsis and len(inner) != len(value):
            raise ValueError(f'{where} must have {len(inner)} entries, got {len(value)}')
        return tuple(_convert(inner[0], item, where) for item in value)
    if hint is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f'{where} must be {hint.__name__}, got {value!r}')
    return value
