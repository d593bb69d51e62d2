import math
import os
from pathlib import Path
import subprocess
import sys

import cv2
import numpy as np
import pytest
from rosbags.typesys import get_typestore, Stores

from svp_ros.data import bag_messages
from svp_ros.data.bag_topics import find_stereo_topics
from svp_ros.data.bags import read_stereo_pairs, StereoBagWriter, unpack_recording
from svp_ros.data.formats import read_image
from svp_ros.data.pairs import find_pairs
from svp_ros.data.rosbag2 import BagReader, BagWriter
from svp_ros.geometry import StereoCamera
from svp_ros.image_messages import decode_disparity, decode_image

H, W = 24, 40
CAMERA = StereoCamera(fx=50.0, fy=51.0, cx=19.5, cy=11.25, baseline=0.2, width=W, height=H,
                      cx_right=22.0)
STAMPS = [1_700_000_000_123_456_789, 1_700_000_000_223_456_789, 1_700_000_001_000_000_001]
BOX3D = np.array([[1.0, 0.5, 8.0, 4.0, 1.5, 1.8, -math.pi / 3],
                  [-2.0, 0.25, 5.0, 0.6, 1.75, 0.5, 2.5]], np.float32)
LABELS = ['car', 'pedestrian']
RAW_CAMERA = StereoCamera(fx=200.0, fy=200.0, cx=159.5, cy=119.5, baseline=0.1, width=320,
                          height=240)
# Focal length, D and rotation (radians) of the raw cameras: lenses differ, the left one looks up.
RAW_LENSES = ((190.0, [-0.28, 0.07, 0.0, 0.0, 0.0], [0.04, 0.0, 0.01]),
              (205.0, [-0.20, 0.04, 0.001, 0.0, 0.0], [0.0, 0.01, 0.0]))
RAW_DISPARITY = 12


def make_pair(seed, shape=(H, W, 3)):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, shape, np.uint8) for _ in range(2)]


def make_disparity():
    disparity = np.random.default_rng(9).uniform(1, 20, (H, W)).astype(np.float32)
    disparity[:3, 5:9] = np.nan
    disparity[20, 30] = np.inf
    return disparity


@pytest.fixture(params=['mcap', 'sqlite3'])
def bag_path(request, tmp_path):
    path = tmp_path / 'bag'
    with StereoBagWriter(path, request.param) as writer:
        for index, stamp in enumerate(STAMPS):
            writer.write(*make_pair(index), CAMERA, stamp, make_disparity(), BOX3D, LABELS)
    return path


def test_every_field_survives_the_recording(bag_path):
    with BagReader(bag_path) as bag:
        assert bag.counts == dict.fromkeys(
            ['/left/camera_info', '/right/camera_info', '/left/image_rect', '/right/image_rect',
             '/ground_truth/disparity', '/ground_truth/markers'], 3)
        messages = {}
        for topic, time, message in bag.messages():
            messages.setdefault(topic, []).append((time, message))

    for topic, items in messages.items():
        assert [time for time, _ in items] == STAMPS
        for stamp, (_, message) in zip(STAMPS, items, strict=True):
            headers = [marker.header for marker in message.markers] if 'markers' in topic else [
                message.header]
            for header in headers:
                assert header.stamp.sec * 10**9 + header.stamp.nanosec == stamp
                assert header.frame_id == 'left_camera_optical_frame'

    left, right = messages['/left/camera_info'][0][1], messages['/right/camera_info'][0][1]
    assert left.p.tolist() == [50, 0, 19.5, 0, 0, 51, 11.25, 0, 0, 0, 1, 0]
    assert right.p.tolist() == [50, 0, 22, -10, 0, 51, 11.25, 0, 0, 0, 1, 0]
    assert right.k.tolist() == [50, 0, 22, 0, 51, 11.25, 0, 0, 1]
    for info in (left, right):
        assert (info.width, info.height, info.distortion_model) == (W, H, 'plumb_bob')
        assert info.d.tolist() == [0] * 5
        assert info.r.tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1]

    for index in range(3):
        for topic, image in zip(('/left/image_rect', '/right/image_rect'), make_pair(index),
                                strict=True):
            message = messages[topic][index][1]
            assert (message.height, message.width, message.encoding) == (H, W, 'rgb8')
            assert (message.step, message.is_bigendian) == (3 * W, 0)
            assert np.array_equal(message.data.reshape(H, W, 3), image)

    truth = messages['/ground_truth/disparity'][1][1]
    expected = np.where(np.isfinite(make_disparity()), make_disparity() + 2.5, np.nan)
    assert truth.image.header == truth.header
    assert (truth.image.encoding, truth.image.step) == ('32FC1', 4 * W)
    assert truth.f == pytest.approx(50) and truth.t == pytest.approx(0.2)
    assert truth.min_disparity == 0 and truth.max_disparity == np.nanmax(expected)
    assert (truth.valid_window.width, truth.valid_window.height) == (W, H)
    np.testing.assert_array_equal(decode_disparity(truth), expected)
    assert (truth.image.data.view(np.float32).reshape(H, W)[np.isnan(expected)] == -1).all()

    clear, *cubes = messages['/ground_truth/markers'][2][1].markers
    assert clear.action == clear.DELETEALL
    for marker, box, label in zip(cubes, BOX3D, LABELS, strict=True):
        assert (marker.type, marker.action, marker.ns) == (marker.CUBE, marker.ADD, label)
        position, scale = marker.pose.position, marker.scale
        turn = marker.pose.orientation
        assert [position.x, position.y, position.z, scale.x, scale.y, scale.z] == box[:6].tolist()
        assert (turn.x, turn.z) == (0, 0)
        assert 2 * math.atan2(turn.y, turn.w) == pytest.approx(box[6])
    assert [marker.id for marker in cubes] == [0, 1]


def test_pairs_come_back_as_they_were_written(bag_path):
    pairs = list(read_stereo_pairs(bag_path))
    assert [pair.stamp for pair in pairs] == STAMPS
    for index, pair in enumerate(pairs):
        assert pair.camera == CAMERA
        for image, expected in zip((pair.left, pair.right), make_pair(index), strict=True):
            assert np.array_equal(image, expected)


def test_grey_pairs_stay_grey_and_single_files_open(tmp_path):
    left, right = make_pair(5, (H, W))
    with StereoBagWriter(tmp_path / 'grey') as writer:
        writer.write(left, right, CAMERA, 7)
    pair, = read_stereo_pairs(tmp_path / 'grey' / 'grey.mcap')
    assert pair.stamp == 7
    assert np.array_equal(pair.left, left) and np.array_equal(pair.right, right)


def test_images_without_a_partner_are_left_out(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        infos = bag_messages.make_camera_infos(CAMERA, bag_messages.make_header(0, 'camera'))
        for name, info in zip(('left', 'right'), infos, strict=True):
            bag.write(f'/rig/{name}/camera_info', 0, info)
        for name, stamps in (('left', [1, 2, 4]), ('right', [2, 3, 4])):
            for stamp in stamps:
                image = make_pair(stamp)[name == 'right']
                header = bag_messages.make_header(stamp, 'camera')
                bag.write(f'/rig/{name}/image_raw', stamp, bag_messages.make_image(image, header))
    pairs = list(read_stereo_pairs(tmp_path / 'bag'))
    assert [pair.stamp for pair in pairs] == [2, 4]
    assert np.array_equal(pairs[1].right, make_pair(4)[1])


@pytest.mark.parametrize('encoding, channels', [('bgr8', [2, 1, 0]), ('rgba8', [0, 1, 2, 2]),
                                                ('bgra8', [2, 1, 0, 0])])
def test_padded_rows_of_other_channel_orders_are_read(encoding, channels):
    image = make_pair(3)[0]
    rows = np.full((H, W * len(channels) + 8), 255, np.uint8)
    rows[:, :-8] = image[..., channels].reshape(H, -1)
    message = bag_messages.make_image(image, bag_messages.make_header(0, ''))
    message.encoding, message.step, message.data = encoding, rows.shape[1], rows.ravel()
    assert np.array_equal(decode_image(message), image)


def test_big_endian_floats_are_read():
    values = np.random.default_rng(0).normal(size=(H, W)).astype(np.float32)
    message = bag_messages.make_image(values, bag_messages.make_header(0, ''))
    message.is_bigendian, message.data = 1, values.astype('>f4').view(np.uint8).ravel()
    assert np.array_equal(decode_image(message), values)


def test_other_readers_understand_our_bytes(bag_path):
    store = get_typestore(Stores.ROS2_HUMBLE)
    with BagReader(bag_path) as bag:
        raw = next(bag.raw(['ground_truth/disparity']))
    message = store.deserialize_cdr(raw.data, raw.type)
    assert message.image.width == W
    assert raw.stamp == STAMPS[0]


def test_missing_topics_are_named_beside_those_there_are(bag_path, tmp_path):
    with BagReader(bag_path) as bag:
        with pytest.raises(ValueError, match='no topic /disparity; it has /ground_truth'):
            bag.resolve('/disparity')
        with pytest.raises(ValueError, match='no topic cam0'):
            find_stereo_topics(bag, left='cam0')
    with BagWriter(tmp_path / 'other') as bag:
        bag.add_topic('/scan', 'sensor_msgs/msg/LaserScan')
    with pytest.raises(ValueError, match=r'no topics of images.*/scan \('):
        list(read_stereo_pairs(tmp_path / 'other'))


def test_what_is_no_recording_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='no recording'):
        BagReader(tmp_path / 'nothing')
    with pytest.raises(ValueError, match='no metadata.yaml'):
        BagReader(tmp_path)
    text = tmp_path / 'notes.txt'
    text.write_text('hello')
    with pytest.raises(ValueError, match='not a recording'):
        BagReader(text)
    fake = tmp_path / 'fake.mcap'
    fake.write_bytes(b'not an mcap at all' * 10)
    with pytest.raises(ValueError, match='fake.mcap cannot be read: File magic is invalid'):
        BagReader(fake)


@pytest.mark.parametrize('keep', [0.0, 0.3, 0.9])
def test_a_truncated_recording_is_an_error_not_a_short_one(bag_path, keep):
    file, = (path for path in bag_path.iterdir() if path.suffix in ('.mcap', '.db3'))
    content = file.read_bytes()
    file.write_bytes(content[:int(len(content) * keep)])
    with pytest.raises(ValueError, match='cannot be read'):
        list(read_stereo_pairs(bag_path))


def test_damaged_bytes_inside_a_message_are_an_error(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.add_topic('/left/image_rect', bag_messages.IMAGE)
        bag.write_raw('/left/image_rect', 1, b'\x00\x01\x00\x00' + b'\xff' * 30)
    with BagReader(tmp_path / 'bag') as bag:
        with pytest.raises(ValueError, match='a message of /left/image_rect is damaged'):
            list(bag.messages())


def test_wrong_input_to_the_writer_is_refused(tmp_path):
    left, right = make_pair(0)
    (tmp_path / 'there').mkdir()
    with pytest.raises(ValueError, match='exists already'):
        StereoBagWriter(tmp_path / 'there')
    with pytest.raises(ValueError, match='mcap or sqlite3'):
        StereoBagWriter(tmp_path / 'bag', 'rosbag1')
    with StereoBagWriter(tmp_path / 'bag') as writer:
        with pytest.raises(ValueError, match=r'right must be \(24, 40\[, 3\]\)'):
            writer.write(left, right[:, 1:], CAMERA, 0)
        with pytest.raises(ValueError, match='left must be'):
            writer.write(left.astype(np.float32), right, CAMERA, 0)
        with pytest.raises(ValueError, match=r'disparity must be \(24, 40\)'):
            writer.write(left, right, CAMERA, 0, np.ones((H, W + 1), np.float32))
        with pytest.raises(ValueError, match='no finite value'):
            writer.write(left, right, CAMERA, 0, np.full((H, W), np.nan, np.float32))
        with pytest.raises(ValueError, match='1 labels'):
            writer.write(left, right, CAMERA, 0, box3d=BOX3D, labels=['car'])
    with BagWriter(tmp_path / 'custom') as bag:
        with pytest.raises(ValueError, match='my_msgs/msg/Thing is not known'):
            bag.add_topic('/thing', 'my_msgs/msg/Thing')


def test_reading_recordings_needs_no_ros():
    code = ('import sys; sys.modules["rclpy"] = None; sys.modules["sensor_msgs"] = None; '
            'import svp_ros.data.bags')
    subprocess.run([sys.executable, '-c', code], check=True, cwd=Path(__file__).parents[1])


def make_rectified(seed=0):
    """A textured plane with RAW_DISPARITY everywhere, grey."""
    H, W = RAW_CAMERA.height, RAW_CAMERA.width
    noise = np.random.default_rng(seed).uniform(0, 1, (H, W + RAW_DISPARITY))
    wide = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    wide = wide.astype(np.uint8)
    return wide[:, :W], wide[:, RAW_DISPARITY:]


def write_raw_recording(path, stamps=(1, 2), storage='mcap', image_topic='image_raw', **unset):
    """What cameras with RAW_LENSES see of `make_rectified`; `unset` are fields of CameraInfo."""
    H, W = RAW_CAMERA.height, RAW_CAMERA.width
    header = bag_messages.make_header(stamps[0], 'camera')
    infos = bag_messages.make_camera_infos(RAW_CAMERA, header)
    pixels = np.stack(np.meshgrid(np.arange(W), np.arange(H)), axis=-1).reshape(-1, 1, 2)
    with BagWriter(path, storage) as bag:
        for side, info, (focal, d, turn) in zip(('left', 'right'), infos, RAW_LENSES, strict=True):
            info.k = np.array([focal, 0, W / 2, 0, focal, H / 2, 0, 0, 1])
            info.d = np.array(d)
            info.r = cv2.Rodrigues(np.array(turn))[0].ravel()
            place = cv2.undistortPoints(
                pixels.astype(np.float64), info.k.reshape(3, 3), info.d, R=info.r.reshape(3, 3),
                P=info.p.reshape(3, 4)[:, :3]).reshape(H, W, 2).astype(np.float32)
            for name, value in unset.items():
                setattr(info, name, np.full_like(getattr(info, name), value))
            bag.write(f'/rig/{side}/camera_info', stamps[0], info)
            for stamp in stamps:
                image = make_rectified(stamp)[side == 'right']
                raw = cv2.remap(image, place[..., 0], place[..., 1], cv2.INTER_CUBIC)
                bag.write(f'/rig/{side}/{image_topic}', stamp, bag_messages.make_image(
                    raw, bag_messages.make_header(stamp, 'camera')))
    return path


def match_features(left, right):
    """Median |y_left - y_right| and median x_left - x_right of matching corners, pixels."""
    finder = cv2.ORB_create(1000)
    (left_points, left_words), (right_points, right_words) = (
        finder.detectAndCompute(image, None) for image in (left, right))
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(left_words, right_words)
    matches = sorted(matches, key=lambda match: match.distance)[:100]
    x, y = np.array([np.subtract(left_points[match.queryIdx].pt, right_points[match.trainIdx].pt)
                     for match in matches]).T
    return np.median(np.abs(y)), np.median(x)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_raw_recordings_are_rectified(tmp_path, storage):
    path = write_raw_recording(tmp_path / 'bag', storage=storage)
    raw = next(read_stereo_pairs(path, 'off'))
    assert match_features(raw.left, raw.right)[0] > 3
    pairs = list(read_stereo_pairs(path))
    assert [pair.stamp for pair in pairs] == [1, 2]
    for pair in pairs:
        rows, disparity = match_features(pair.left, pair.right)
        assert rows < 1 and disparity == pytest.approx(RAW_DISPARITY, abs=0.5)
        assert pair.camera == RAW_CAMERA
        for image, expected in zip((pair.left, pair.right), make_rectified(pair.stamp),
                                   strict=True):
            middle = np.s_[40:-40, 40:-40]
            assert np.abs(image[middle].astype(int) - expected[middle]).mean() < 3


def test_the_caller_can_overrule_what_names_say(tmp_path):
    path = write_raw_recording(tmp_path / 'bag', image_topic='image_rect')
    for rectify, limit in (('auto', False), ('on', True)):
        pair = next(read_stereo_pairs(path, rectify))
        assert (match_features(pair.left, pair.right)[0] < 1) == limit
    with pytest.raises(ValueError, match='rectify must be auto, on or off, got yes'):
        next(read_stereo_pairs(path, 'yes'))


@pytest.mark.parametrize('unset, message', [
    ({'p': 0.0}, r'bag: left/camera_info: P\[0\] = 0 .*the camera is not calibrated: run camera_'),
    ({'k': 0.0}, 'bag: K or R of camera_info is not set; calibrate the stereo pair'),
    ({'r': 0.0}, 'bag: K or R of camera_info is not set; calibrate the stereo pair'),
    ({'p': np.nan}, 'P holds NaN or infinity; recalibrate')])
def test_raw_recordings_without_calibration_are_refused(tmp_path, unset, message):
    path = write_raw_recording(tmp_path / 'bag', **unset)
    with pytest.raises(ValueError, match=message) as caught:
        next(read_stereo_pairs(path))
    assert '\n' not in str(caught.value)


def test_recordings_without_pairs_are_refused(tmp_path):
    with StereoBagWriter(tmp_path / 'bag') as writer:
        writer.write(*make_pair(0, (H, W)), CAMERA, 1)
    with BagWriter(tmp_path / 'late') as late, BagReader(tmp_path / 'bag') as bag:
        for topic, time, message in bag.messages():
            if topic == '/right/image_rect':
                message.header.stamp.nanosec += 1
            late.write(topic, time, message)
    with pytest.raises(ValueError, match='late holds no pair: no images of /left/image_rect and '
                                         '/right/image_rect have equal header stamps'):
        list(read_stereo_pairs(tmp_path / 'late'))


def test_recordings_are_unpacked_as_folders_of_pairs(bag_path, tmp_path):
    folder = unpack_recording(bag_path, tmp_path / 'unpacked')
    assert folder.parent == tmp_path / 'unpacked' and folder.name.startswith('bag-')
    pairs = find_pairs(folder)
    assert [pair.name for pair in pairs] == [str(stamp) for stamp in STAMPS]
    for index, pair in enumerate(pairs):
        for image, expected in zip(pair.load(), make_pair(index), strict=True):
            assert np.array_equal(image, expected)


def test_a_recording_is_unpacked_again_only_if_it_changed(bag_path, tmp_path):
    folder = unpack_recording(bag_path, tmp_path / 'unpacked')
    mark = folder / 'left' / 'mark'
    mark.touch()
    assert unpack_recording(bag_path, tmp_path / 'unpacked') == folder and mark.exists()
    assert unpack_recording(bag_path, tmp_path / 'unpacked', 'off') != folder
    file = next(path for path in bag_path.iterdir() if path.suffix in ('.mcap', '.db3'))
    os.utime(file, (0, 0))
    changed = unpack_recording(bag_path, tmp_path / 'unpacked')
    assert changed != folder and not (changed / 'left' / 'mark').exists()


def test_grey_recordings_are_unpacked_as_rectified_grey_images(tmp_path):
    folder = unpack_recording(write_raw_recording(tmp_path / 'bag', (7,)), tmp_path / 'unpacked')
    image = cv2.imread(str(folder / 'left' / '7.png'), cv2.IMREAD_UNCHANGED)
    assert image.shape == (RAW_CAMERA.height, RAW_CAMERA.width)
    assert np.array_equal(image, next(read_stereo_pairs(tmp_path / 'bag')).left)
    assert np.array_equal(read_image(folder / 'left' / '7.png')[..., 1], image)


def test_a_damaged_recording_leaves_nothing_behind(bag_path, tmp_path):
    with BagReader(bag_path) as bag, BagWriter(tmp_path / 'broken') as broken:
        for topic, type_ in bag.types.items():
            broken.add_topic(topic, type_)
        for raw in bag.raw():
            broken.write_raw(raw.topic, raw.time,
                             raw.data[:None if raw.time == STAMPS[0] else 100])
    with pytest.raises(ValueError, match='is damaged'):
        unpack_recording(tmp_path / 'broken', tmp_path / 'unpacked')
    assert list((tmp_path / 'unpacked').iterdir()) == []
    with pytest.raises(FileNotFoundError, match='no recording .*nothing'):
        unpack_recording(tmp_path / 'nothing', tmp_path / 'unpacked')
