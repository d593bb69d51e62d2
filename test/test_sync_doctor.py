"""Every reason for which no pair comes, provoked between processes over the real middleware."""

from contextlib import contextmanager
from itertools import count
import re
import time

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
import rclpy
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from stereo_rig import FRAME, random_pair, Rig

from svp_ros.ros.connections import Connection
from svp_ros.ros.conversions import array_to_image
from svp_ros.ros.intake import Intake
from svp_ros.ros.node import main
from svp_ros.ros.parameters import NodeSettings
from svp_ros.ros.stamp_offsets import measure_offsets
from svp_ros.ros.sync import PairSynchronizer
from svp_ros.ros.sync_doctor import diagnose, explain_silence

pytestmark = pytest.mark.alone

MS = 1_000_000
NUMBERS = count(1)


@pytest.fixture(scope='module')
def rig(tiny_model, tmp_path_factory):
    rig = Rig('-p', f'model:={tiny_model}', '-p', 'network_height:=64', '-p', 'network_width:=96',
              log=tmp_path_factory.mktemp('doctor') / 'stderr')
    try:
        rig.wait_until_ready()
        rig.send_infos()
        yield rig
    finally:
        rig.close()


def send(rig, left=None, right=None):
    """Publish an image per side; left and right are stamps in ns, None sends nothing."""
    for side, stamp, image in zip(('left', 'right'), (left, right), random_pair()):
        if stamp is not None:
            header = Header(frame_id=FRAME, stamp=Time(sec=stamp // 10**9, nanosec=stamp % 10**9))
            rig.images[side].publish(array_to_image(image, 'rgb8', header))


@contextmanager
def publisher_of(rig, key, kind, topic=None, qos=5):
    """Replace a publisher of the rig by one on `topic`, from a participant of its own."""
    side, name = key.split('/')
    publishers = {Image: rig.images, CameraInfo: rig.infos}
    (old,) = [table[side] for table in publishers.values()
              if table[side].topic_name.endswith(key)]
    rig.node.destroy_publisher(old)
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('driver', namespace=rig.namespace, context=context)
    publisher = node.create_publisher(kind, topic or key, qos)
    try:
        yield publisher
    finally:
        node.destroy_node()
        context.try_shutdown()
        kind = Image if name == 'image_rect' else CameraInfo
        publishers[kind][side] = rig.node.create_publisher(kind, key, 20)
        assert rig.spin_until(publishers[kind][side].get_subscription_count)


def check(rig, report, cause, level):
    """The report has this cause and level, and the log says the same."""
    assert report[2]['cause'] == cause and report[0] == level
    assert float(report[2]['seconds since the last pair']) >= 2
    assert re.match(r'no pair for \d+ s: ', report[1])
    found = report[1].split(': ', 1)[1]
    words = re.sub(r'[\d.]+ (s|ms|left|right)\b', '#', found)  # measured anew every second
    assert words in re.sub(r'[\d.]+ (s|ms|left|right)\b', '#', rig.log.read_text())
    return report[1]


def test_a_silent_eye_with_a_publisher_is_named(rig):
    report = rig.diagnostic_while(lambda: send(rig, left=next(NUMBERS) * 100 * MS), 'none on',
                                  counted=['left in total', 'unpaired left in total'])
    text = check(rig, report, 'one eye silent', DiagnosticStatus.WARN)
    assert f'images come on /{rig.namespace}/left/image_rect, but none on ' in text
    assert f'/{rig.namespace}/tester has a publisher of /{rig.namespace}/right/image_rect that ' \
        'sends nothing' in text
    assert report[2]['right in total'] == report[2]['unpaired right in total'] == '0'


def test_a_topic_that_nobody_publishes_is_named_with_one_that_exists(rig):
    with publisher_of(rig, 'right/image_rect', Image, 'right/image_raw'):
        report = rig.diagnostic_while(lambda: send(rig, left=next(NUMBERS) * 100 * MS),
                                      'remap to it')
    text = check(rig, report, 'no publisher', DiagnosticStatus.WARN)
    assert f'nobody publishes /{rig.namespace}/right/image_rect; there is ' \
        f'/{rig.namespace}/right/image_raw: remap to it' in text


def test_offsets_above_the_tolerance_come_with_one_that_works(rig):
    generator = np.random.default_rng(0)
    start = 10_000

    def send_pair():
        stamp = (start + next(NUMBERS)) * 100 * MS
        send(rig, stamp, stamp + 14 * MS + int(generator.integers(-2 * MS, 2 * MS)))

    report = rig.diagnostic_while(send_pair, 'approximate_sync_tolerance:=')
    text = check(rig, report, 'offsets above the tolerance', DiagnosticStatus.ERROR)
    assert 'approximate_sync is off: set approximate_sync:=true and' in text
    suggested = float(re.search(r'approximate_sync_tolerance:=([\d.]+)', text)[1])
    assert 0.014 < suggested < 0.025
    assert float(report[2]['stamp offset (ms)']) == pytest.approx(14, abs=2)
    assert 0 < float(report[2]['spread of the stamp offset (ms)']) < 2.1

    assert rig.set_parameter('approximate_sync_tolerance', 0.001).successful
    assert rig.set_parameter('approximate_sync', True).successful
    report = rig.diagnostic_while(send_pair, 'more than approximate_sync_tolerance (0.001 s)')
    assert rig.set_parameter('approximate_sync_tolerance', suggested).successful
    before = int(report[2]['paired in total'])
    report = rig.diagnostic_while(send_pair, 'idle')  # of pairs that nobody listens to
    assert int(report[2]['paired in total']) > before and report[2]['cause'] == 'none'
    assert 'the inputs are fine again' in rig.log.read_text()
    assert rig.set_parameter('approximate_sync', False).successful


def test_cameras_with_different_clocks_get_no_tolerance(rig):
    def send_pair():
        stamp = (20_000 + next(NUMBERS)) * 100 * MS
        send(rig, stamp, stamp + 5000 * MS)

    report = rig.diagnostic_while(send_pair, 'different clocks')
    text = check(rig, report, 'different clocks', DiagnosticStatus.ERROR)
    assert 'the stamps of right images are 5.0 s later' in text


def test_stamps_that_stand_still_are_named(rig):
    report = rig.diagnostic_while(lambda: send(rig, 0, 0), 'do not increase; check that')
    check(rig, report, 'stamps stand still', DiagnosticStatus.ERROR)


def test_one_eye_whose_stamps_stand_still_is_named(rig):
    start = 30_000 * 100 * MS
    report = rig.diagnostic_while(lambda: send(rig, start + next(NUMBERS) * 100 * MS, start),
                                  'do not increase')
    text = check(rig, report, 'stamps stand still', DiagnosticStatus.ERROR)
    assert f'the stamps of the images on /{rig.namespace}/right/image_rect do not' in text


def test_images_that_come_only_compressed_are_named_with_the_parameter(rig):
    topic = f'/{rig.namespace}/left/image_rect'
    with (publisher_of(rig, 'left/image_rect', CompressedImage, 'left/image_rect/compressed'),
          publisher_of(rig, 'right/image_rect', CompressedImage, 'right/image_rect/compressed')):
        report = rig.diagnostic_while(lambda: None, f'come on {topic}/compressed')
    text = check(rig, report, 'no publisher', DiagnosticStatus.WARN)
    assert (f'nobody publishes {topic}, but the same images come on {topic}/compressed: set '
            'image_transport:=compressed') in text


def test_incompatible_qos_shows_the_policies_of_both_sides(rig):
    qos = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    with publisher_of(rig, 'left/image_rect', Image, qos=qos):
        report = rig.diagnostic_while(
            lambda: rig.images['right'].publish(Image()), '/driver offers')
    text = check(rig, report, 'incompatible QoS', DiagnosticStatus.ERROR)
    topic = f'/{rig.namespace}/left/image_rect'
    assert (f'incompatible QoS on {topic}: /{rig.namespace}/driver offers best_effort, volatile, '
            'this node asks for reliable, volatile; '
            f'set qos_overrides.{topic}.subscription.reliability:=best_effort') in text


def test_swapped_topics_show_what_they_carry(rig):
    with publisher_of(rig, 'left/image_rect', CameraInfo):
        report = rig.diagnostic_while(lambda: None, 'topics are swapped')
    text = check(rig, report, 'swapped topics', DiagnosticStatus.ERROR)
    assert f'/{rig.namespace}/left/image_rect carries sensor_msgs/msg/CameraInfo, not ' \
        'sensor_msgs/msg/Image; check the remappings' in text


def test_simulated_time_without_a_clock_is_named(rig):
    assert rig.set_parameter('use_sim_time', True).successful
    report = rig.diagnostic_while(lambda: None, 'nobody publishes /clock')
    text = check(rig, report, 'no clock', DiagnosticStatus.WARN)
    assert 'svp play --clock' in text and 'use_sim_time:=false' in text
    clock = rig.node.create_publisher(Clock, '/clock', 5)
    report = rig.diagnostic_while(
        lambda: clock.publish(Clock(clock=Time(sec=7))), '/clock stands still at 7.00 s')
    rig.node.destroy_publisher(clock)
    assert rig.set_parameter('use_sim_time', False).successful


def test_the_same_topic_for_both_eyes_is_refused(tiny_model, capfd):
    remap = 'right/image_rect:=left/image_rect'
    assert main(['--ros-args', '-p', f'model:={tiny_model}', '-r', remap]) == 1
    assert 'are both /left/image_rect; remap them' in capfd.readouterr().err


IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


@pytest.mark.parametrize('connection, text', [
    (Connection('/left', IMAGE, others=(COMPRESSED,)),
     'set image_transport:=compressed and remap /left/compressed to /left'),
    (Connection('/left', IMAGE, in_other_transport='/left/compressed'),
     'nobody publishes /left, but the same images come on /left/compressed: set '
     'image_transport:=compressed'),
    (Connection('/left/compressed', COMPRESSED, in_other_transport='/left'),
     'come on /left: set image_transport:=raw'),
    (Connection('/left/compressed', COMPRESSED, candidates=('/jpeg',)),
     'there is /jpeg: remap /left/compressed to it'),
    (Connection('/left', COMPRESSED, others=(IMAGE,)), 'set image_transport:=raw'),
    (Connection('/left', IMAGE), 'nor any other sensor_msgs/msg/Image: start the camera driver'),
    (Connection('/left', IMAGE, candidates=('/front/img',)), 'there is /front/img: remap to it'),
    (Connection('/left', IMAGE, ('/driver',), others=(COMPRESSED,)),
     '/driver has a publisher of /left that sends nothing'),
    (Connection('/left', IMAGE, ('/driver',), qos_problem='incompatible'), 'incompatible')])
def test_silence_is_explained_by_what_the_graph_shows(connection, text):
    assert text in explain_silence(connection)


@pytest.mark.parametrize('tolerance', [0, 3 * MS])
def test_partners_that_get_lost_are_not_taken_for_offsets(tolerance):
    sync = PairSynchronizer(tolerance, queue_size=2)
    for frame in range(20):  # left images come five frames before their partners
        sync.add('left', frame * 33 * MS, None)
        if frame >= 5:
            sync.add('right', (frame - 5) * 33 * MS + tolerance // 2, None)
    sync.last['pair'] -= 3
    connections = {f'{side}/image_rect': Connection(f'/{side}', IMAGE, ('/driver',))
                   for side in ('left', 'right')}
    assert sync.counts['paired'] == 0
    diagnosis = diagnose(sync, sync.counts, connections, time.monotonic())
    assert diagnosis.cause == 'images lost' and 'a larger queue_size' in diagnosis.text
    assert re.search('come 0.1[67] s late', diagnosis.text)


def test_advice_about_compressed_images_leads_to_them_and_not_in_a_circle():
    """A topic that already ends in /compressed is taken as it is with image_transport."""
    rclpy.init(args=['--ros-args', '-r', 'left/image_rect:=/cam/compressed'])
    node = rclpy.create_node('tester')
    try:
        wrong = Connection('/cam/compressed', IMAGE, others=(COMPRESSED,))
        assert explain_silence(wrong).endswith('; set image_transport:=compressed')
        intake = Intake(node, NodeSettings(image_transport='compressed'))
        assert intake.topics['left/image_rect'] == '/cam/compressed'
        assert intake.topics['right/image_rect'] == '/right/image_rect/compressed'
        intake.close()
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def test_a_clock_problem_is_told_even_while_pairs_come():
    sync = PairSynchronizer()
    now = time.monotonic()
    assert diagnose(sync, sync.counts, {}, now) is None
    assert diagnose(sync, sync.counts, {}, now, 'no /clock').text == 'no /clock'


@pytest.mark.parametrize('offset, period_right, lost', [
    (7, 1, 0), (-12, 1, 0), (7, 1, 0.3), (4, 3, 0), (4, 3, 0.2)])
def test_offsets_are_measured_in_spite_of_losses_and_other_rates(offset, period_right, lost):
    generator = np.random.default_rng(1)
    left = np.arange(60) * 33 * MS
    right = left[::period_right] + offset * MS
    left, right = (stamps[generator.random(stamps.size) >= lost] for stamps in (left, right))
    offsets = measure_offsets(left, right)
    assert offsets.median == pytest.approx(offset / 1e3)
    assert offsets.largest < offsets.suggested_tolerance <= 1.25 * abs(offset) / 1e3 + 1e-4


def test_free_running_cameras_need_half_a_period():
    left = np.arange(60) * 100 * MS
    offsets = measure_offsets(left, left * 1.013)
    assert 0.04 < offsets.suggested_tolerance <= 0.052 and offsets.spread > 0.03
