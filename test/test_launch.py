"""launch/stereo.launch.py: its tables everywhere, its run where ros2 launch is installed."""

import ast
from dataclasses import fields
import os
import re
import shutil
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree

import pytest
from test_bag_topics import DRIVERS
import yaml

from svp_ros.resources import find_resource
from svp_ros.ros.parameters import NodeSettings

pytestmark = pytest.mark.alone

SOURCE = find_resource('launch/stereo.launch.py')
TREE = ast.parse(SOURCE.read_text())
HAS_LAUNCH = shutil.which('ros2') is not None


def table(name):
    """Rows of a module-level list of tuples; a cell that is no literal comes as source text."""
    (value,) = [node.value for node in TREE.body if isinstance(node, ast.Assign)
                and node.targets[0].id == name]
    return [[cell.value if isinstance(cell, ast.Constant) else ast.unparse(cell)
             for cell in row.elts] for row in value.elts]


def test_every_argument_has_a_description_and_a_name_of_its_own():
    rows = [(row[0], row[3]) for row in table('ARGUMENTS') + table('PARAMETERS')]
    assert all(len(description) > 10 for _, description in rows)
    names = [name for name, _ in rows]
    assert len(names) == len(set(names))
    assert {'namespace', 'left_image', 'left_camera_info', 'right_image', 'right_camera_info',
            'model', 'device', 'params_file', 'rviz', 'bag', 'use_sim_time', 'log_level',
            'approximate_sync', 'autostart', 'camera', 'cameras'} <= set(names)


def test_parameter_arguments_are_parameters_of_the_node_with_their_type():
    parameters = {entry.name: entry for entry in fields(NodeSettings)}
    for name, kind, choices, _ in table('PARAMETERS'):
        assert kind == parameters[name].type.__name__
        if parameters[name].metadata['choices']:
            assert tuple(ast.literal_eval(choices)) == ('', *parameters[name].metadata['choices'])


def test_shipped_files_that_the_launch_file_names_exist():
    text = SOURCE.read_text()
    for name in ('stereo.yaml', 'stereo.rviz', 'fastdds.xml'):
        assert f"'{name}'" in text and find_resource(f'config/{name}').is_file()


def test_no_code_is_evaluated_and_nothing_is_installed():
    names = {ast.unparse(node) for node in ast.walk(TREE)
             if isinstance(node, (ast.Name, ast.Attribute))}
    assert not names & {'PythonExpression', 'eval', 'exec', 'subprocess', 'os', 'yaml.load'}
    assert 'yaml.safe_load' in names


PRESETS = sorted(find_resource('config/cameras').glob('*.yaml'))


def test_the_choices_of_camera_are_the_files():
    (choices,) = [row[2] for row in table('ARGUMENTS') if row[0] == 'camera']
    assert ast.literal_eval(choices) == ['', *(path.stem for path in PRESETS)]


@pytest.mark.parametrize('path', PRESETS, ids=lambda path: path.stem)
def test_a_preset_sets_topics_and_names_where_they_are_documented(path):
    values = yaml.safe_load(path.read_text())
    topics = {f'{side}_{name}' for side in ('left', 'right') for name in ('image', 'camera_info')}
    assert topics <= set(values) <= {row[0] for row in table('ARGUMENTS') + table('PARAMETERS')}
    assert all(type(value) is str for value in values.values())
    assert not any(values[name].startswith('/') for name in topics)  # for several cameras
    assert len({values[name] for name in topics}) == 4
    comment = ' '.join(line[2:] for line in path.read_text().splitlines() if line[0] == '#')
    assert 'Names: ' in comment and 'https://' in comment


@pytest.mark.parametrize('camera, driver', [
    ('realsense', 'RealSense'), ('zed', 'ZED 5'), ('euroc', 'EuRoC'), ('kitti', 'kitti2bag')])
def test_a_preset_and_the_search_in_recordings_agree(camera, driver):
    values = yaml.safe_load(find_resource(f'config/cameras/{camera}.yaml').read_text())
    found = tuple('/'.join(['', *filter(None, (values.get('namespace'), values[name]))])
                  for name in ('left_image', 'left_camera_info'))
    assert found == DRIVERS[driver][1:]


def test_the_fast_dds_profile_has_room_for_images():
    space = {'d': 'http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles'}
    root = ElementTree.parse(find_resource('config/fastdds.xml')).getroot()
    transports = {entry.find('d:type', space).text: entry
                  for entry in root.iter(f'{{{space["d"]}}}transport_descriptor')}
    assert set(transports) == {'SHM', 'UDPv4'}
    assert int(transports['SHM'].find('d:segment_size', space).text) == 64 * 1024 ** 2
    assert int(transports['SHM'].find('d:maxMessageSize', space).text) == 8 * 1024 ** 2
    used = {entry.text for entry in root.find('.//d:userTransports', space)}
    assert used == {entry.find('d:transport_id', space).text for entry in transports.values()}


@pytest.mark.skipif(not HAS_LAUNCH, reason='ros2 launch comes with ROS, not from package indexes')
def test_ros2_launch_shows_the_arguments():
    shown = subprocess.run(['ros2', 'launch', str(SOURCE), '--show-args'], check=True, text=True,
                           capture_output=True, timeout=60).stdout
    for row in table('ARGUMENTS') + table('PARAMETERS'):
        assert f"'{row[0]}':" in shown


@pytest.mark.skipif(not HAS_LAUNCH, reason='ros2 launch comes with ROS, not from package indexes')
def test_ros2_launch_runs_the_node_with_arguments_over_the_file(tiny_model, tmp_path):
    params = tmp_path / 'params.yaml'
    params.write_text('/**:\n  ros__parameters:\n    model: from_the_file\n    device: cpu\n')
    text = run_launch(tmp_path / 'log', f'params_file:={params}', f'model:={tiny_model}',
                      'namespace:=/cam', 'left_image:=image_mono')
    assert 'model tiny' in text and '/cam/image_mono, /cam/left/camera_info' in text


@pytest.mark.skipif(not HAS_LAUNCH, reason='ros2 launch comes with ROS, not from package indexes')
def test_ros2_launch_runs_a_node_for_each_camera(tiny_model, tmp_path):
    text = run_launch(tmp_path / 'log', f'model:={tiny_model}', 'cameras:=[front, rear]',
                      'namespace:=/robot', 'camera:=realsense', 'device:=cpu',
                      'use_sim_time:=true', nodes=2)
    for name in ('front', 'rear'):
        assert re.search(f'waiting for /robot/{name}/infra1/image_rect_raw, '
                         f'/robot/{name}/infra1/camera_info, /robot/{name}/infra2/', text)


@pytest.mark.skipif(not HAS_LAUNCH, reason='ros2 launch comes with ROS, not from package indexes')
def test_ros2_launch_takes_the_preset_of_a_camera_and_arguments_over_it(tiny_model, tmp_path):
    text = run_launch(tmp_path / 'log', f'model:={tiny_model}', 'camera:=kitti', 'device:=cpu',
                      'right_image:=other')
    assert 'waiting for /kitti/camera_color_left/image_raw, ' in text and '/kitti/other' in text


@pytest.mark.skipif(not HAS_LAUNCH, reason='ros2 launch comes with ROS, not from package indexes')
def test_a_recording_is_played_when_every_node_is_ready(tiny_model, tmp_path):
    text = run_launch(tmp_path / 'log', f'model:={tiny_model}', 'device:=cpu', 'namespace:=robot',
                      'cameras:=[front, rear]', f'bag:={tmp_path / "bag"}', nodes=2,
                      until='[ros2-3]: process started')
    start = text.index('[ros2-3]: process started')
    assert all(text.index(f'waiting for /robot/{name}/') < start for name in ('front', 'rear'))


@pytest.mark.skipif(not HAS_LAUNCH, reason='ros2 launch comes with ROS, not from package indexes')
def test_launch_ends_without_playing_when_no_node_starts(tmp_path):
    run = subprocess.run(
        ['ros2', 'launch', 'svp_ros', 'stereo.launch.py', 'model:=nothing', 'cameras:=[a,b]',
         f'bag:={tmp_path}'], text=True, capture_output=True, timeout=120)
    text = run.stdout + run.stderr
    assert text.count('no model "nothing"') == 2 and '[ros2-3]' not in text


@pytest.mark.skipif(not HAS_LAUNCH, reason='ros2 launch comes with ROS, not from package indexes')
def test_a_node_that_does_not_start_keeps_no_recording_from_the_other(tiny_model, tmp_path):
    params = tmp_path / 'params.yaml'
    params.write_text('/front/stereo_node:\n  ros__parameters:\n    model: nothing\n'
                      f'/rear/stereo_node:\n  ros__parameters:\n    model: {tiny_model}\n')
    text = run_launch(tmp_path / 'log', f'params_file:={params}', 'device:=cpu', 'bag:=none',
                      'cameras:=[front,rear]', until='[ros2-3]: process started')
    assert 'no model "nothing"' in text and 'waiting for /rear/' in text


GROUP = """
launch:
- group:
  - include:
      file: $(find-pkg-share svp_ros)/launch/stereo.launch.py
      arg:
      - {{name: model, value: {model}}}
      - {{name: device, value: cpu}}
      - {{name: bag, value: none}}
"""
PLAYER = """#!/bin/sh
[ "$1" = bag ] || exec {ros2} "$@"
echo player has $FASTRTPS_DEFAULT_PROFILES_FILE $FASTDDS_DEFAULT_PROFILES_FILE
exec sleep 100
"""


@pytest.mark.skipif(not HAS_LAUNCH, reason='ros2 launch comes with ROS, not from package indexes')
def test_the_player_has_the_fast_dds_profile_in_a_group_too(tiny_model, tmp_path, monkeypatch):
    robot, player = tmp_path / 'robot.launch.yaml', tmp_path / 'ros2'
    robot.write_text(GROUP.format(model=tiny_model))
    player.write_text(PLAYER.format(ros2=shutil.which('ros2')))
    player.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}{os.pathsep}{os.environ["PATH"]}')
    monkeypatch.delenv('FASTRTPS_DEFAULT_PROFILES_FILE', raising=False)
    monkeypatch.delenv('FASTDDS_DEFAULT_PROFILES_FILE', raising=False)
    text = run_launch(tmp_path / 'log', launch_file=[robot], until='player has')
    assert re.search('player has .*/config/fastdds.xml .*/config/fastdds.xml', text)


INCLUDING = """
from launch.actions import IncludeLaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

STEREO = PathJoinSubstitution([FindPackageShare('svp_ros'), 'launch', 'stereo.launch.py'])


def generate_launch_description():
    return LaunchDescription([
        IncludeLaunchDescription(STEREO, launch_arguments=[
            ('model', '{model}'), ('device', 'cpu'), ('camera', camera), ('namespace', name)])
        for camera, name in (('realsense', 'front'), ('oak', 'rear'))])
"""


@pytest.mark.skipif(not HAS_LAUNCH, reason='ros2 launch comes with ROS, not from package indexes')
def test_a_launch_file_of_a_robot_includes_it_for_different_cameras(tiny_model, tmp_path):
    robot = tmp_path / 'robot.launch.py'
    robot.write_text(INCLUDING.format(model=tiny_model))
    text = run_launch(tmp_path / 'log', launch_file=[robot], nodes=2)
    assert 'waiting for /front/infra1/image_rect_raw, /front/infra1/camera_info, ' in text
    assert 'waiting for /rear/left/image_raw, /rear/left/camera_info, ' in text


def run_launch(log, *arguments, launch_file=('svp_ros', 'stereo.launch.py'), nodes=1,
               until='[stereo_node-1]: process started'):
    """Start a launch file, press Ctrl-C when its nodes wait for images; return the log."""
    with log.open('w') as output:
        process = subprocess.Popen(
            ['ros2', 'launch', *launch_file, *arguments],
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, 'ROS_DOMAIN_ID': str(1 + os.getpid() % 101)})
        try:
            deadline = time.monotonic() + 120
            while ((log.read_text().count('waiting for /') < nodes
                    or until not in log.read_text())
                   and time.monotonic() < deadline):
                assert process.poll() is None, log.read_text()
                time.sleep(0.2)
            os.killpg(process.pid, signal.SIGINT)  # the terminal's Ctrl-C reaches everyone
            assert process.wait(30) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    text = log.read_text()
    assert len(re.findall(r'stereo_node-\d]: process has finished cleanly', text)) == nodes
    # the player alone may be interrupted while Python starts
    assert not re.search(r'(?<!\[ros2-\d] )Traceback', text)
    return text
