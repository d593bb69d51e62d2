from dataclasses import fields
import json

import numpy as np
import pytest
import yaml

from svp_ros.config import load_config
from svp_ros.data.render import render_scenes, write_folder
from svp_ros.data.world import World, WorldConfig
from svp_ros.train.ablation import GROUPS, leave_out, main, plan, summarise, WHOLE
from svp_ros.train.disparity import DisparityTraining


def test_every_group_changes_the_training_and_nothing_else():
    whole = DisparityTraining()
    for group in GROUPS:
        without = leave_out(whole, [group])
        assert without.stream.world != whole.stream.world \
            or without.stream.augment != whole.stream.augment
        assert without.loop == whole.loop and without.size == whole.size
    assert leave_out(whole, []) == whole


def test_every_share_of_the_world_belongs_to_a_group():
    whole = DisparityTraining().stream.world
    left = leave_out(DisparityTraining(), [group for group in GROUPS if group not in (
        'rooms', 'streets', 'clutter', 'tables')]).stream.world
    shares = [item.name for item in fields(WorldConfig) if item.name.endswith('_share')]
    assert len(shares) > 12
    assert all(getattr(left, name) == 0 != getattr(whole, name) for name in shares)


def test_unknown_group():
    with pytest.raises(ValueError, match='no group "dragons"; there are rooms, streets'):
        leave_out(DisparityTraining(), ['dragons'])


def test_plan_trains_the_whole_world_with_every_seed():
    runs = plan(DisparityTraining(), ['shadows'], 2)
    assert list(runs) == [(WHOLE, 0), ('shadows', 0), (WHOLE, 1), ('shadows', 1)]
    assert runs['shadows', 1].seed == 1 and runs['shadows', 1].stream.world.shadow_share == 0


def test_summary_compares_means_over_seeds():
    def row(epe):
        return {'all': dict.fromkeys(('epe', 'bad_1', 'bad_3', 'd1'), epe)}

    summary = summarise({(WHOLE, 0): row(2.0), ('night', 0): row(3.0), (WHOLE, 1): row(4.0),
                         ('night', 1): row(5.0)})
    assert summary['night']['all']['epe'] == 4 and summary['night']['worse']['epe'] == 1
    assert summary[WHOLE]['worse']['epe'] == 0 and summary['night']['runs'] == 2


def test_it_trains_scores_and_writes_the_table(tmp_path):
    list(write_folder(tmp_path / 'real', render_scenes(World(), 0, 1, 64, 96, 'table')))
    (tmp_path / 'tiny.yaml').write_text(yaml.safe_dump({
        'size': 'nano', 'precision': '32-true',
        'stream': {'height': 64, 'width': 96, 'batch': 2, 'pairs': 4, 'render_height': 64,
                   'render_width': 96}}))
    argv = ['--labelled', str(tmp_path / 'real'), '--out', str(tmp_path / 'runs'), '--json',
            str(tmp_path / 'out' / 'table.json'), '--config', str(tmp_path / 'tiny.yaml'),
            '--steps', '1', '--groups', 'shadows', '--cache']
    assert main(argv) == 0
    table = json.loads((tmp_path / 'out' / 'table.json').read_text())
    assert set(table['left_out']) == {WHOLE, 'shadows'}
    assert table['settings']['shadows'] == {'world': {'shadow_share': 0.0}, 'augment': {}}
    assert table['scenes'] == 1 and table['steps'] == 1
    for row in table['left_out'].values():
        assert np.isfinite(list(row['all'].values())).all()
    own = load_config(DisparityTraining, tmp_path / 'runs' / 'shadows_0' / 'config.yaml')
    assert own.stream.world.shadow_share == 0 and own.loop.steps == 1
    assert main(argv) == 0  # nothing is trained twice
