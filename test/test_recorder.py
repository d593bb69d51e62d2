import os
import resource
import signal
import time

import numpy as np
import pytest

from svp_ros.data import bag_messages
from svp_ros.data.rosbag2 import BagReader, BagWriter
from svp_ros.processes import ModuleProcess, ProcessError, ros_environment

pytestmark = pytest.mark.alone

PLAYER, RECORDER = 'svp_ros.ros.player', 'svp_ros.ros.recorder'
ENVIRONMENT = ros_environment(1 + (os.getpid() + 50) % 101)
IMAGES = f'/image={bag_messages.IMAGE}'


@pytest.fixture
def bag_path(tmp_path):
    generator = np.random.default_rng(0)
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(10):
            header = bag_messages.make_header(index, 'camera')
            image = bag_messages.make_image(
                generator.integers(0, 256, (480, 640, 3), np.uint8), header)
            bag.write('/image', index * 50_000_000, image)
    return tmp_path / 'bag'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_recording_and_it_can_be_read(tmp_path, bag_path, number):
    with ModuleProcess(PLAYER, [bag_path, '--loop', 0], tmp_path / 'player.log', ENVIRONMENT):
        with ModuleProcess(RECORDER, [tmp_path / 'out', 'image'], tmp_path / 'log',
                           ENVIRONMENT) as recorder:
            recorder.wait_for(f'recording 1 topics to {tmp_path / "out"}\n', 20)
            time.sleep(1.5)
            os.kill(recorder.pid, number)
            os.kill(recorder.pid, number)
            recorder.finish(10)
    with BagReader(tmp_path / 'out') as bag:
        assert bag.types == {'/image': bag_messages.IMAGE}
        stamps = [raw.stamp for raw in bag.raw()]
    assert len(stamps) >= 10
    assert [(second - first) % 10 for first, second in zip(stamps, stamps[1:], strict=False)] == (
        [1] * (len(stamps) - 1))
    assert f'/image {len(stamps)}\n' in recorder.output()


def test_best_effort_publishers_are_recorded(tmp_path, monkeypatch):
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    rclpy.init()
    node = rclpy.create_node('camera')
    try:
        publisher = node.create_publisher(Image, '/image', qos_profile_sensor_data)
        with ModuleProcess(RECORDER, [tmp_path / 'out', '/image', '--storage', 'sqlite3',
                                      '--duration', 2], tmp_path / 'log',
                           ENVIRONMENT) as recorder:
            recorder.wait_for('recording ', 20)
            for _ in range(15):
                publisher.publish(Image(width=3, height=2))
                time.sleep(0.1)
            recorder.finish(10)
    finally:
        node.destroy_node()
        rclpy.shutdown()
    with BagReader(tmp_path / 'out') as bag:
        messages = [message for _, _, message in bag.messages()]
    assert len(messages) >= 10
    assert all((message.width, message.height) == (3, 2) for message in messages)


def test_a_topic_that_nobody_publishes_is_an_error(tmp_path):
    with ModuleProcess(RECORDER, [tmp_path / 'out', '/nothing', '--wait', 0.5], tmp_path / 'log',
                       ENVIRONMENT) as recorder:
        with pytest.raises(ProcessError, match='exit code 1'):
            recorder.finish(20)
    assert recorder.output() == 'recorder: no publisher of /nothing within 0.5 s\n'
    assert not (tmp_path / 'out').exists()


def test_a_full_disk_is_reported(tmp_path, bag_path):
    with ModuleProcess(RECORDER, [tmp_path / 'out', IMAGES], tmp_path / 'log',
                       ENVIRONMENT) as recorder:
        recorder.wait_for('recording ', 20)
        # The kernel refuses to let files grow beyond this, as it does on a full disk.
        resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
        with ModuleProcess(PLAYER, [bag_path, '--wait-for-subscribers', 20], tmp_path / 'player',
                           ENVIRONMENT):
            with pytest.raises(ProcessError, match='exit code 1'):
                recorder.finish(20)
    last = recorder.output().splitlines()[-1]
    assert last.startswith(f'recorder: cannot write {tmp_path / "out"}: ')
    assert last.endswith('File too large; the recording is incomplete')
    with pytest.raises(ValueError, match='no metadata.yaml'):
        BagReader(tmp_path / 'out')


@pytest.mark.parametrize('topic, storage, message', [
    ('/image=my_msgs/msg/Thing', 'mcap', 'my_msgs/msg/Thing is not known'),
    ('/image=nav_msgs/msg/Odometry', 'mcap', 'nav_msgs/msg/Odometry is not installed'),
    (IMAGES, 'rosbag1', 'storage must be mcap or sqlite3')])
def test_wrong_arguments_are_refused(tmp_path, topic, storage, message):
    from svp_ros.ros.recorder import record
    with pytest.raises(ValueError, match=message):
        record(tmp_path / 'out', [topic], storage, duration_s=0.1)


def test_recordings_are_not_overwritten(tmp_path, capsys):
    from svp_ros.ros.recorder import main
    assert main([str(tmp_path), IMAGES]) == 2
    assert 'exists already; choose another folder' in capsys.readouterr().err
