"""launch/stereo.launch.py: its tables everywhere, its run where ros2 launch is installed."""

import ast
from dataclasses import fields
import os
import shutil
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree

import pytest

from svp_ros.resources import find_resource
from svp_ros.ros.parameters import NodeSettings

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
            'approximate_sync'} <= set(names)


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
    names = {node.id for node in ast.walk(TREE) if isinstance(node, ast.Name)}
    assert not names & {'OpaqueFunction', 'PythonExpression', 'eval', 'exec'}


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
    log = tmp_path / 'log'
    with log.open('w') as output:
        process = subprocess.Popen(
            ['ros2', 'launch', 'svp_ros', 'stereo.launch.py', f'params_file:={params}',
             f'model:={tiny_model}', 'namespace:=/cam', 'left_image:=image_mono'],
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, 'ROS_DOMAIN_ID': str(1 + os.getpid() % 101)})
        try:
            deadline = time.monotonic() + 60
            while 'waiting for' not in log.read_text() and time.monotonic() < deadline:
                assert process.poll() is None, log.read_text()
                time.sleep(0.2)
            os.killpg(process.pid, signal.SIGINT)  # the terminal's Ctrl-C reaches everyone
            assert process.wait(30) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    text = log.read_text()
    assert 'model tiny' in text and '/cam/image_mono, /cam/left/camera_info' in text
    assert 'finished cleanly' in text and 'Traceback' not in text
