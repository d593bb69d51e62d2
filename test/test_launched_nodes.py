"""launch/stereo.launch.py under launch_testing: the nodes answer pairs, and end when launch does.

Needs a sourced ROS 2 workspace with this package, and pytest 7 or 8 for its plugin.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
import unittest

from conftest import TINY
from life_cycle import state
import pytest
from rcl_interfaces.srv import GetParameters
from stereo_rig import Rig
import torch

from svp_ros.model.build import build_model, save_checkpoint
from svp_ros.resources import find_resource

pytestmark = pytest.mark.alone

launch_testing = pytest.importorskip(
    'launch_testing', reason='launch_testing comes with ROS, not from package indexes')
launch = pytest.importorskip('launch')

FOLDER = TemporaryDirectory()  # launch_testing knows no fixtures
MODEL = Path(FOLDER.name) / 'tiny.safetensors'
PARAMETERS = """
/**:
  ros__parameters:
    model: overridden_by_the_argument
    rectify: 'on'
    network_height: 64
    network_width: 96
    num_threads: 1
"""
LAUNCHED = SimpleNamespace(poll=lambda: None, kill=lambda: None, wait=lambda: None)


@pytest.mark.launch_test
@launch_testing.parametrize('cameras', ['', '[front,rear]'])
def generate_test_description(cameras):
    torch.manual_seed(0)
    save_checkpoint(MODEL, build_model(TINY).state_dict(), TINY)
    params_file = MODEL.with_name('params.yaml')
    params_file.write_text(PARAMETERS)
    arguments = {'namespace': 'robot', 'cameras': cameras, 'params_file': str(params_file),
                 'model': str(MODEL), 'device': 'cpu', 'rectify': 'off'}
    return launch.LaunchDescription([
        launch.actions.SetEnvironmentVariable('ROS_DOMAIN_ID', str(1 + os.getpid() % 101)),
        launch.actions.IncludeLaunchDescription(
            launch.launch_description_sources.PythonLaunchDescriptionSource(
                str(find_resource('launch/stereo.launch.py'))),
            launch_arguments=arguments.items()),
        launch_testing.actions.ReadyToTest(),
    ]), {'namespaces': ['robot/front', 'robot/rear'] if cameras else ['robot']}


class TestLaunchedNodes(unittest.TestCase):

    def start_rigs(self, namespaces, proc_output):
        """A camera and listeners for each node, when all nodes wait for images."""
        for namespace in namespaces:
            proc_output.assertWaitFor(f'waiting for /{namespace}/left/image_rect, ', timeout=120)
        rigs = []
        for namespace in namespaces:
            rigs.append(Rig(log=MODEL, namespace=namespace, process=LAUNCHED))
            self.addCleanup(rigs[-1].close)
        return rigs

    def test_each_node_answers_the_pairs_of_its_camera(self, namespaces, proc_output):
        rigs = self.start_rigs(namespaces, proc_output)
        for first, rig in zip((10, 20), rigs):
            rig.wait_until_ready()
            rig.listen('disparity', 'depth')
            rig.exchange([first, first + 1, first + 2])
            self.assertTrue(rig.spin_until(lambda rig=rig: len(rig.stamps('depth')) == 3))
        for first, rig in zip((10, 20), rigs):
            self.assertEqual(rig.stamps('disparity'), [first, first + 1, first + 2])
            message = rig.received['disparity'][0]
            self.assertEqual((message.image.width, message.image.height), (104, 72))
            self.assertAlmostEqual(message.t, rig.camera.baseline, places=6)

    def test_arguments_win_over_the_file_on_every_node(self, namespaces, proc_output):
        expected = {'model': str(MODEL), 'device': 'cpu', 'rectify': 'off', 'network_height': 64,
                    'network_width': 96, 'use_sim_time': False}
        for rig in self.start_rigs(namespaces, proc_output):
            values = rig.call(GetParameters, 'stereo_node/get_parameters',
                              GetParameters.Request(names=list(expected))).values
            got = [value.string_value or value.integer_value or value.bool_value
                   for value in values]
            self.assertEqual(dict(zip(expected, got)), expected)
            self.assertEqual(state(rig), 'active')


@launch_testing.post_shutdown_test()
class TestAfterShutdown(unittest.TestCase):

    def test_every_node_ended_cleanly(self, namespaces, proc_info):
        self.assertEqual(len(proc_info.process_names()), len(namespaces))
        launch_testing.asserts.assertExitCodes(proc_info)

    def test_nothing_was_printed_twice_or_went_wrong(self, namespaces, proc_output):
        lines = [line for output in proc_output for line in output.text.decode().splitlines()]
        self.assertEqual([line for line in lines if 'Traceback' in line or 'ERROR' in line], [])
        for namespace in namespaces:
            waiting = [line for line in lines if f'waiting for /{namespace}/left' in line]
            self.assertEqual(len(waiting), 1, lines)
