"""Split and compressed recordings, compressed images and inexact stamps are read as the others."""

import cv2
import numpy as np
import pytest
import yaml

from svp_ros.data import bag_messages
from svp_ros.data.bags import read_stereo_pairs, StereoBagWriter
from svp_ros.data.rosbag2 import BagReader, BagWriter, TYPESTORE
from svp_ros.geometry import StereoCamera

H, W = 24, 40
CAMERA = StereoCamera(fx=50.0, fy=51.0, cx=19.5, cy=11.25, baseline=0.2, width=W, height=H)
STAMPS = [10**9 * second for second in (3, 4, 5, 6)]


def make_pair(seed):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (H, W, 3), np.uint8) for _ in range(2)]


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp('plain') / 'bag'
    with StereoBagWriter(path) as writer:
        for stamp in STAMPS:
            writer.write(*make_pair(stamp), CAMERA, stamp)
    return path


def copy(source, target, *settings, keep=lambda raw: True):
    with BagReader(source) as bag, BagWriter(target, *settings) as copied:
        for topic, type_ in bag.types.items():
            copied.add_topic(topic, type_)
        for raw in bag.raw():
            if keep(raw):
                copied.write_raw(raw.topic, raw.time, raw.data)
    return target


def check_pairs(path):
    pairs = list(read_stereo_pairs(path))
    assert [pair.stamp for pair in pairs] == STAMPS
    for pair in pairs:
        assert all(np.array_equal(image, expected) for image, expected in zip(
            (pair.left, pair.right), make_pair(pair.stamp)))
        assert pair.frame_id == 'left_camera_optical_frame' and pair.camera == CAMERA


@pytest.mark.parametrize('storage, compression', [
    ('mcap', 'file'), ('mcap', 'message'), ('mcap', 'storage'), ('sqlite3', 'file'),
    ('sqlite3', 'message')])
def test_zstd_recordings_are_read(tmp_path, plain, storage, compression):
    path = copy(plain, tmp_path / 'bag', storage, compression)
    names = {file.suffix for file in path.iterdir()}
    assert ('.zstd' in names) == (compression == 'file')
    check_pairs(path)


def test_an_mcap_file_with_compressed_chunks_stands_alone(tmp_path, plain):
    file, = copy(plain, tmp_path / 'bag', 'mcap', 'storage').glob('*.mcap')
    check_pairs(file.rename(tmp_path / 'alone.mcap'))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_split_recordings_are_read(tmp_path, plain, storage):
    """As `ros2 bag record --max-bag-duration` leaves them: several files, one metadata.yaml."""
    parts = [copy(plain, tmp_path / f'part{part}', storage, keep=lambda raw, part=part: (
        raw.time < STAMPS[2]) == (part == 0)) for part in (0, 1)]
    information, other = (yaml.safe_load((part / 'metadata.yaml').read_text())
                          ['rosbag2_bagfile_information'] for part in parts)
    for key in ('relative_file_paths', 'files'):
        information[key] += other[key]
    for topic, more in zip(information['topics_with_message_count'],
                           other['topics_with_message_count']):
        topic['message_count'] += more['message_count']
    information['message_count'] += other['message_count']
    information['duration']['nanoseconds'] = STAMPS[-1] - STAMPS[0]
    for name in other['relative_file_paths']:
        (parts[1] / name).rename(parts[0] / name)
    (parts[0] / 'metadata.yaml').write_text(yaml.safe_dump(
        {'rosbag2_bagfile_information': information}))
    check_pairs(parts[0])


def test_wrong_compression_is_refused(tmp_path):
    for settings in (('sqlite3', 'storage'), ('mcap', 'bzip2')):
        with pytest.raises(ValueError, match='compression of (sqlite3|mcap) must be file(,| or)'):
            BagWriter(tmp_path / 'bag', *settings)


def write_compressed(path, format_, encode, offset=0):
    """Compressed images, the right ones `offset` nanoseconds later."""
    with BagWriter(path) as bag:
        for stamp in STAMPS:
            for side, image, delay in zip(('left', 'right'), make_pair(7), (0, offset)):
                header = bag_messages.make_header(stamp + delay, 'camera')
                info = bag_messages.make_camera_infos(CAMERA, header)[side == 'right']
                bag.write(f'/{side}/camera_info', stamp + delay, info)
                data = np.frombuffer(encode(image[..., ::-1]), np.uint8)
                message = TYPESTORE.types[bag_messages.COMPRESSED_IMAGE](
                    header=header, format=format_, data=data)
                bag.write(f'/{side}/image_rect/compressed', stamp + delay, message)
    return path


def test_compressed_images_are_read(tmp_path):
    path = write_compressed(tmp_path / 'bag', 'rgb8; png compressed bgr8',
                            lambda image: cv2.imencode('.png', image)[1].tobytes())
    pairs = list(read_stereo_pairs(path))
    assert len(pairs) == 4 and np.array_equal(pairs[0].left, make_pair(7)[0])


def test_stamps_may_differ_only_if_that_is_allowed(tmp_path):
    path = write_compressed(tmp_path / 'bag', 'png', lambda image: cv2.imencode(
        '.png', image)[1].tobytes(), offset=2_500_000)
    with pytest.raises(ValueError, match='have equal header stamps; the nearest are 2.500 ms '
                                         'apart: synchronise the cameras, or allow that'):
        next(read_stereo_pairs(path))
    with pytest.raises(ValueError, match='within 1 ms; the nearest are 2.500 ms apart'):
        next(read_stereo_pairs(path, tolerance=1_000_000))
    pairs = list(read_stereo_pairs(path, tolerance=5_000_000))
    assert [pair.stamp for pair in pairs] == STAMPS


def test_a_silent_eye_is_named(tmp_path, plain):
    path = copy(plain, tmp_path / 'bag', keep=lambda raw: raw.topic != '/right/image_rect')
    with pytest.raises(ValueError, match='/left/image_rect has 4 messages, /right/.* has 0'):
        next(read_stereo_pairs(path))
