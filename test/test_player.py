import os
from pathlib import Path
import signal
import time

import numpy as np
import pytest

from svp_ros.data import bag_messages
from svp_ros.data.rosbag2 import BagReader, BagWriter
from svp_ros.processes import ModuleProcess, ProcessError, ros_environment

pytestmark = pytest.mark.alone

PLAYER, RECORDER = 'svp_ros.ros.player', 'svp_ros.ros.recorder'
ENVIRONMENT = ros_environment(1 + os.getpid() % 101)
SHAPE = (480, 640, 3)


def write_bag(path, frames=12, period_s=0.05, topics=('/left/image_rect', '/right/image_rect')):
    generator = np.random.default_rng(0)
    with BagWriter(path) as bag:
        for index in range(frames):
            stamp = 1_600_000_000_000_000_000 + round(index * period_s * 1e9)
            header = bag_messages.make_header(stamp, 'camera')
            for topic in topics:
                image = generator.integers(0, 256, SHAPE, np.uint8)
                bag.write(topic, stamp, bag_messages.make_image(image, header))
    return path


def read_raw(path, topic=None):
    with BagReader(path) as bag:
        return list(bag.raw(topic and [topic]))


def record_while_playing(folder: Path, bag: Path, topics, play_arguments=()):
    """Play in one process, record in another; returns the recording and the player's output."""
    with ModuleProcess(RECORDER, [folder / 'recording', *topics], folder / 'recorder.log',
                       ENVIRONMENT) as recorder:
        recorder.wait_for('recording ', 20)
        with ModuleProcess(PLAYER, [bag, *play_arguments, '--wait-for-subscribers', 20],
                           folder / 'player.log', ENVIRONMENT) as player:
            player.finish(30, [recorder])
            recorder.interrupt()
            return folder / 'recording', player.output()


def test_recording_holds_the_same_bytes_in_the_same_order(tmp_path):
    bag = write_bag(tmp_path / 'bag', frames=20)
    topics = ['/left/image_rect', '/right/image_rect']
    recording, output = record_while_playing(
        tmp_path, bag, [f'{topic}={bag_messages.IMAGE}' for topic in topics],
        ['--start-delay', 0.3])
    for topic in topics:
        sent, received = read_raw(bag, topic), read_raw(recording, topic)
        assert len(sent) == 20
        assert [raw.stamp for raw in received] == [raw.stamp for raw in sent]
        assert [raw.data for raw in received] == [raw.data for raw in sent]
        assert {raw.type for raw in received} == {bag_messages.IMAGE}
    assert 'played 40 messages in 0.9' in output or 'played 40 messages in 1.' in output


def test_time_of_arrival_follows_the_recorded_pace(tmp_path):
    bag = write_bag(tmp_path / 'bag', frames=8, period_s=0.2, topics=['/image'])
    recording, _ = record_while_playing(tmp_path, bag, [f'/image={bag_messages.IMAGE}'],
                                        ['--rate', 2])
    times = np.array([raw.time for raw in read_raw(recording)]) / 1e9
    assert abs(times[0] - time.time()) < 60
    # Seven periods of 0.2 s at double speed; a loaded machine may be late, never early.
    assert 0.69 - 0.05 < times[-1] - times[0] < 1.4


def test_clock_carries_the_time_of_the_recording_and_topics_are_remapped(tmp_path):
    bag = write_bag(tmp_path / 'bag', frames=6, period_s=0.1, topics=['/a', '/b'])
    recording, _ = record_while_playing(
        tmp_path, bag, [f'/camera/a={bag_messages.IMAGE}', '/clock=rosgraph_msgs/msg/Clock'],
        ['--topics', 'a', '--remap', 'a:=/camera/a', '--clock', '--start-delay', 0.3])
    first = read_raw(bag)[0].time
    with BagReader(recording) as reader:
        assert reader.counts['/camera/a'] == 6
        clock = [message.clock.sec * 10**9 + message.clock.nanosec
                 for _, _, message in reader.messages(['/clock'])]
    assert clock[0] == first and clock[-1] == first + 500_000_000
    assert (np.diff(clock) >= 0).all()
    assert len(clock) > 20


def test_loop_plays_the_recording_again(tmp_path):
    bag = write_bag(tmp_path / 'bag', frames=3, period_s=0.05, topics=['/image'])
    recording, output = record_while_playing(tmp_path, bag, [f'/image={bag_messages.IMAGE}'],
                                             ['--loop', 2, '--start-delay', 0.3])
    sent = [raw.data for raw in read_raw(bag)]
    assert [raw.data for raw in read_raw(recording)] == sent * 2
    assert 'played 6 messages' in output


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_player_ends_cleanly_with_its_summary(tmp_path, number):
    bag = write_bag(tmp_path / 'bag', frames=4, period_s=10.0, topics=['/image'])
    with ModuleProcess(PLAYER, [bag, '--clock'], tmp_path / 'log', ENVIRONMENT) as player:
        time.sleep(4)
        os.kill(player.pid, number)
        player.finish(10)
        assert player.output().startswith('played 1 messages in ')
        assert 'Traceback' not in player.output()


def test_a_player_without_subscribers_fails_and_names_the_topic(tmp_path):
    bag = write_bag(tmp_path / 'bag', frames=1, topics=['/image'])
    with ModuleProcess(PLAYER, [bag, '--wait-for-subscribers', 0.3], tmp_path / 'log',
                       ENVIRONMENT) as player:
        with pytest.raises(ProcessError, match='too few subscribers of /image within 0.3 s'):
            player.finish(20)


def test_the_player_waits_for_as_many_subscribers_as_were_named(tmp_path):
    bag = write_bag(tmp_path / 'bag', frames=1, topics=['/image'])
    with pytest.raises(ProcessError, match='too few subscribers of /image within 3 s'):
        with ModuleProcess(RECORDER, [tmp_path / 'out', f'/image={bag_messages.IMAGE}'],
                           tmp_path / 'recorder.log', ENVIRONMENT):
            with ModuleProcess(PLAYER, [bag, '--wait-for-subscribers', 3, '--subscribers',
                                        'image:=2'], tmp_path / 'log', ENVIRONMENT) as player:
                player.finish(20)


def test_types_that_are_not_installed_are_skipped_unless_asked_for(tmp_path, capsys):
    from svp_ros.ros.player import main
    with BagWriter(tmp_path / 'bag') as bag:
        bag.add_topic('/points', 'nav_msgs/msg/Odometry')
        bag.write('/image', 5, bag_messages.make_image(np.zeros((2, 3), np.uint8),
                                                       bag_messages.make_header(5, '')))
    assert main([str(tmp_path / 'bag')]) == 0
    captured = capsys.readouterr()
    assert '/points is skipped: message type nav_msgs/msg/Odometry is not' in captured.err
    assert 'played 1 messages' in captured.out
    with pytest.raises(ValueError, match='nav_msgs/msg/Odometry is not installed'):
        main([str(tmp_path / 'bag'), '--topics', '/points'])


@pytest.mark.parametrize('arguments, message', [
    (['--rate', '0'], '--rate must be positive'), (['--loop', '-1'], '--loop must not be'),
    (['--subscribers', 'image:=two'], '--subscribers needs numbers'),
    (['--remap', 'a:b'], '--remap must be TOPIC:=NEW'), (['--topics', 'x'], 'no topic x; it has')])
def test_wrong_arguments_are_refused(tmp_path, arguments, message):
    from svp_ros.ros.player import main
    bag = write_bag(tmp_path / 'bag', frames=1, topics=['/image'])
    with pytest.raises(ValueError, match=message):
        main([str(bag), *arguments])


def test_a_missing_recording_is_refused(tmp_path):
    from svp_ros.ros.player import main
    with pytest.raises(FileNotFoundError, match='no recording'):
        main([str(tmp_path / 'nothing')])
