"""The comparison of starts for detection."""

import json

import pytest
from test_detection_training import FAST
import yaml

from svp_ros.config import load_config
from svp_ros.model.build import build_model, get_size, save_checkpoint
from svp_ros.train.detection import DetectionTraining
from svp_ros.train.detection_starts import main, plan, summarise


def test_only_start_budget_and_seed_differ():
    runs = plan(DetectionTraining(), ['nano_pretrained', 'none'], [50, 400], 2)
    assert list(runs)[:2] == [('nano_pretrained', 50, 0), ('none', 50, 0)] and len(runs) == 8
    for (start, budget, seed), run in runs.items():
        assert (run.start, run.stream.pairs, run.seed) == (
            None if start == 'none' else start, budget, seed)
    with pytest.raises(ValueError, match='nano has learnt boxes already'):
        plan(DetectionTraining(), ['nano'], [50], 1)
    with pytest.raises(ValueError, match='at least 4, got 3'):
        plan(DetectionTraining(), ['none'], [3], 1)


def test_means_are_over_seeds():
    rows = summarise({('a', 50, 0): {'car_3d': 10.0}, ('a', 50, 1): {'car_3d': 20.0},
                      ('b', 50, 0): {'car_3d': 5.0}})
    assert rows == [{'start': 'a', 'pairs': 50, 'runs': 2, 'car_3d': 15.0},
                    {'start': 'b', 'pairs': 50, 'runs': 1, 'car_3d': 5.0}]


def test_comparison_runs_and_continues(tmp_path, capsys):
    config = tmp_path / 'fast.yaml'
    config.write_text(yaml.safe_dump({**FAST, 'loop': {**FAST['loop'], 'steps': 2,
                                                       'validate_every': 2}}))
    network = get_size('nano')
    start = tmp_path / 'start.safetensors'
    save_checkpoint(start, build_model(network).state_dict(), network)
    options = ['--config', str(config), '--out', str(tmp_path / 'runs'), '--json',
               str(tmp_path / 'starts.json'), '--starts', str(start), 'none', '--budgets', '8']
    assert main(options) == 0
    assert 'none      8 pairs' in capsys.readouterr().out
    written = json.loads((tmp_path / 'starts.json').read_text())
    assert [(row['pairs'], row['step']) for row in written['rows']] == [(8, 2), (8, 2)]
    assert written['steps'] == 2 and load_config(
        DetectionTraining, tmp_path / 'runs' / 'start_8_0' / 'config.yaml').start == str(start)
    assert main(options) == 0  # all are there
    assert json.loads((tmp_path / 'starts.json').read_text())['rows'] == written['rows']
