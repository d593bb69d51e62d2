"""launch/evaluate.launch.py passes arguments that `svp evaluate bag` knows."""

import ast
import os
import re
import shutil
import subprocess

import pytest

from svp_ros.eval import bag
from svp_ros.resources import find_resource

pytestmark = pytest.mark.alone

SOURCE = find_resource('launch/evaluate.launch.py')
TREE = ast.parse(SOURCE.read_text())
HAS_LAUNCH = shutil.which('ros2') is not None
(ROWS,) = [ast.literal_eval(node.value) for node in TREE.body if isinstance(node, ast.Assign)]


def test_every_argument_has_a_description_and_a_name_of_its_own():
    names = [name for name, *_ in ROWS]
    assert len(set(names)) == len(names)
    assert all(len(description) > 10 for *_, description in ROWS)
    assert not {node.id for node in ast.walk(TREE) if isinstance(node, ast.Name)} & {
        'OpaqueFunction', 'PythonExpression', 'eval', 'exec'}


def command_line(**given):
    """What the launch file passes to the command, empty arguments included."""
    values = {name: default for name, default, *_ in ROWS} | given
    bag_path = values.pop('bag')
    return [bag_path, *(f'--{name.replace("_", "-")}={value}' for name, value in values.items())]


def test_the_defaults_are_understood_by_the_command(tmp_path):
    """A bag that does not exist is the only complaint."""
    with pytest.raises(FileNotFoundError, match='no recording .*nothing'):
        bag.main(command_line(bag=str(tmp_path / 'nothing'), out=str(tmp_path / 'out')))
    assert not (tmp_path / 'out').exists()


def test_the_choices_are_those_of_the_command(tmp_path, capsys):
    for name, _, choices, _ in ROWS:
        for choice in choices or ():
            with pytest.raises(FileNotFoundError):
                bag.main(command_line(bag=str(tmp_path / 'nothing'), **{name: choice}))
        if choices:
            with pytest.raises(SystemExit):
                bag.main(command_line(bag='x', **{name: 'wrong'}))
            assert f'--{name}: invalid choice' in capsys.readouterr().err


def test_what_is_given_reaches_the_command(tmp_path):
    missing = command_line(bag=str(tmp_path), truth_boxes='none', score_threshold='30')
    with pytest.raises(ValueError, match='--score-threshold must be within 0 to 1, got 30'):
        bag.main(missing)
    assert '--truth-boxes=none' in missing


def test_only_what_a_launch_does_not_need_is_left_to_the_command(capsys):
    with pytest.raises(SystemExit):
        bag.main(['--help'])
    known = set(re.findall('^  --([a-z-]+)', capsys.readouterr().out, re.MULTILINE))
    offered = {name.replace('_', '-') for name, *_ in ROWS}
    assert known - offered == {
        'recording', 'disparity-topic', 'network-size', 'baseline-override', 'min-depth',
        'max-depth', 'confidence-threshold', 'classes', 'truth-tolerance', 'truth-transform',
        'pictures', 'no-left-right', 'config'}


@pytest.mark.skipif(not HAS_LAUNCH, reason='ros2 launch comes with ROS, not from package indexes')
def test_ros2_launch_shows_the_arguments_and_runs_the_command(tmp_path):
    shown = subprocess.run(['ros2', 'launch', str(SOURCE), '--show-args'], check=True, text=True,
                           capture_output=True, timeout=60).stdout
    for name, *_ in ROWS:
        assert f"'{name}':" in shown
    run = subprocess.run(
        ['ros2', 'launch', 'svp_ros', 'evaluate.launch.py', f'bag:={tmp_path / "nothing"}'],
        text=True, capture_output=True, timeout=120, cwd=tmp_path, env=dict(os.environ))
    assert 'svp evaluate bag: no recording' in run.stdout + run.stderr
