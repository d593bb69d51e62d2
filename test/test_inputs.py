"""Encodings, compressed images, bad images and bad rigs through the real node."""

from itertools import count

from builtin_interfaces.msg import Time
import cv2
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from skimage.data import stereo_motorcycle
from std_msgs.msg import Header
from stereo_rig import FRAME, random_pair, Rig

from svp_ros.frame import same_channels
from svp_ros.geometry import StereoCamera
from svp_ros.image_messages import decode_disparity
from svp_ros.predictor import StereoPredictor
from svp_ros.ros.conversions import array_to_image, image_to_array

pytestmark = pytest.mark.alone

STAMPS = count(1)
CAMERA = StereoCamera(fx=497.0, fy=497.0, cx=155.0, cy=127.0, baseline=0.193, width=370,
                      height=250)


@pytest.fixture(scope='module')
def predictor(tiny_model):
    return StereoPredictor.load(tiny_model, device='cpu', network_size=(64, 96))


def start(tiny_model, folder, *arguments, **keys):
    rig = Rig('-p', f'model:={tiny_model}', '-p', 'network_height:=64', '-p', 'network_width:=96',
              *arguments, log=folder / 'stderr', **keys)
    try:
        rig.wait_until_ready()
        rig.listen('disparity')
    except BaseException:
        rig.close()
        raise
    return rig


@pytest.fixture(scope='module')
def rig(tiny_model, tmp_path_factory):
    rig = start(tiny_model, tmp_path_factory.mktemp('raw'))
    yield rig
    rig.close()


@pytest.fixture(scope='module')
def compressed_rig(tiny_model, tmp_path_factory):
    rig = start(tiny_model, tmp_path_factory.mktemp('compressed'), '-p',
                'image_transport:=compressed', image_type=CompressedImage)
    yield rig
    rig.close()


def publish(rig, left, right):
    """Publish two messages under the next stamp, which is returned."""
    stamp = next(STAMPS)
    rig.send_infos()
    for side, message in (('left', left), ('right', right)):
        message.header = Header(frame_id=FRAME, stamp=Time(sec=stamp))
        rig.images[side].publish(message)
    return stamp


def answer(rig, left, right):
    """The disparity, x_left - x_right, that the node publishes for two messages."""
    stamp = publish(rig, left, right)
    assert rig.spin_until(lambda: stamp in rig.stamps('disparity')), rig.log.read_text()
    (message,) = [message for message in rig.received['disparity']
                  if message.header.stamp.sec == stamp]
    return decode_disparity(message) + rig.camera.doffs


def assert_same(disparity, predictor, left, right):
    expected = predictor.predict(*same_channels(left, right)).disparity
    both = np.isfinite(disparity) & np.isfinite(expected)
    assert both.sum() > 100
    np.testing.assert_allclose(disparity[both], expected[both], rtol=1e-3, atol=1e-3)


def test_a_camera_info_that_nobody_publishes_is_named(rig):
    """The first test, because the node keeps the camera_info that later ones publish."""
    rig.node.destroy_publisher(rig.infos['left'])
    other = rig.node.create_publisher(CameraInfo, 'left/other_info', 5)
    rig.infos['left'] = other
    try:
        level, text, _ = rig.diagnostic_while(
            lambda: publish(rig, *(encoded(image, 'rgb8') for image in random_pair())),
            f'there is /{rig.namespace}/left/other_info', 'calibration')
        # the disparity is known all the same, and says that its camera is not
        for _ in range(40):
            publish(rig, *(encoded(image, 'rgb8') for image in random_pair()))
            if rig.spin_until(lambda: rig.received['disparity'], timeout=0.25):
                break
        message = rig.received['disparity'][-1]
        assert (message.f, message.t) == (0.0, 0.0)
        assert np.isfinite(decode_disparity(message)).any()
    finally:
        rig.node.destroy_publisher(other)
        rig.infos['left'] = rig.node.create_publisher(CameraInfo, 'left/camera_info', 20)
    assert rig.spin_until(rig.infos['left'].get_subscription_count)
    assert level == DiagnosticStatus.ERROR and 'remap to it' in text
    assert f'no camera_info on /{rig.namespace}/left/camera_info' in text


def encoded(pixels, encoding):
    if encoding == 'mono8':
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    elif encoding == 'bgra8':
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGRA)
    elif encoding == 'yuyv':
        pixels = np.ascontiguousarray(pixels[..., :2])
    elif encoding == 'bayer_grbg8':
        pixels = np.ascontiguousarray(pixels[..., 0])
    elif encoding == 'mono16':
        pixels = pixels[..., 1].astype(np.uint16) << 8
    return array_to_image(pixels, encoding, Header())


@pytest.mark.parametrize('left, right', [
    ('rgb8', 'bgra8'), ('mono8', 'rgb8'), ('yuyv', 'yuyv'), ('bayer_grbg8', 'mono16')])
def test_each_eye_may_have_its_own_encoding(rig, predictor, left, right):
    pair = random_pair(4)
    messages = encoded(pair[0], left), encoded(pair[1], right)
    disparity = answer(rig, *messages)
    assert_same(disparity, predictor, *(image_to_array(message) for message in messages))


def compressed(pixels, extension='.jpg'):
    data = cv2.imencode(extension, np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()
    return CompressedImage(format=f'rgb8; {extension[1:]} compressed bgr8', data=data)


def test_compressed_images_are_taken_on_the_topics_of_image_transport(compressed_rig, predictor):
    names = [publisher.topic_name for publisher in compressed_rig.images.values()]
    assert [name.split('/', 2)[2] for name in names] == [
        'left/image_rect/compressed', 'right/image_rect/compressed']
    messages = compressed(random_pair(5)[0]), compressed(random_pair(5)[1], '.png')
    disparity = answer(compressed_rig, *messages)
    assert_same(disparity, predictor, *(image_to_array(message) for message in messages))


@pytest.mark.parametrize('damage, text', [
    (lambda data: data[:len(data) // 2], 'JPEG image of .* bytes is damaged or cut off'),
    (lambda data: b'', 'neither JPEG nor PNG'),
    (lambda data: b'\x00' + data, 'neither JPEG nor PNG')])
def test_damaged_compressed_images_are_reported_and_the_next_pair_is_answered(compressed_rig,
                                                                              damage, text):
    good, bad = (compressed(image) for image in random_pair(6))
    bad.data = damage(bytes(bad.data))
    stamp = publish(compressed_rig, good, bad)
    level, message, _ = compressed_rig.diagnostic_while(lambda: None, text.split(' .* ')[-1])
    assert level == DiagnosticStatus.WARN
    answer(compressed_rig, *(compressed(image) for image in random_pair(6)))
    assert stamp not in compressed_rig.stamps('disparity')


def test_an_absurd_size_is_reported_and_the_next_pair_is_answered(rig):
    huge = [Image(encoding='mono8', height=2**31, width=2**31, step=0) for _ in range(2)]
    publish(rig, *huge)
    rig.diagnostic_while(lambda: None, 'needs step >= 2147483648')
    answer(rig, *(encoded(image, 'rgb8') for image in random_pair(7)))


@pytest.fixture(scope='module')
def photographs():
    return [cv2.resize(image, (CAMERA.width, CAMERA.height), interpolation=cv2.INTER_AREA)
            for image in stereo_motorcycle()[:2]]


def test_rows_that_do_not_line_up_and_swapped_eyes_are_reported(rig, photographs, monkeypatch):
    monkeypatch.setattr(rig, 'camera', CAMERA)
    left, right = photographs
    moved = np.roll(right, 4, axis=0)

    def report_about(pair, text):
        return rig.diagnostic_while(
            lambda: publish(rig, *(encoded(image, 'rgb8') for image in pair)), text, 'calibration')

    assert report_about((left, right), 'calibrated')[0] == DiagnosticStatus.OK
    level, text, _ = report_about((left, moved), 'points lie 4.0 px higher or lower')
    assert level == DiagnosticStatus.WARN and 'rows do not line up' in text
    level, _, values = report_about((moved, left), 'images are swapped')
    assert level == DiagnosticStatus.WARN and float(values['negative disparities (%)']) > 80
    assert 'exchange the topics' in values['swapped eyes']
    assert 'left and right images are swapped' in rig.log.read_text()
