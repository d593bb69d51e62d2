from dataclasses import replace
import re
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from stereo_msgs.msg import DisparityImage
from visualization_msgs.msg import Marker

from svp_ros.boxes import Boxes
from svp_ros.frame import choose_boxes, same_channels
from svp_ros.frame import make_frame as frame_of
from svp_ros.geometry import project, StereoCamera
from svp_ros.image_messages import decode_disparity, ENCODINGS
from svp_ros.rig import RectifiedPair
from svp_ros.ros import box_messages, outputs
from svp_ros.ros.conversions import (
    array_to_image,
    camera_to_info,
    cloud_message,
    color_disparity,
    disparity_message,
    image_to_array,
)
from svp_ros.ros.parameters import NodeSettings

H, W = 6, 10
HEADER = Header(frame_id='left_optical')
CAMERA = StereoCamera(fx=20.0, fy=22.0, cx=4.5, cy=2.5, baseline=0.5, width=W, height=H,
                      cx_right=3.0)
RGB = np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)
GREY = RGB[..., 0]
OURS = set(ENCODINGS) - {'32FC1'}  # what needs no cv_bridge


def padded_message(rows, encoding, width=W, padding=7, bigendian=0):
    rows = rows.reshape(rows.shape[0], -1)
    data = np.full((rows.shape[0], rows.shape[1] + padding), 111, np.uint8)
    data[:, :rows.shape[1]] = rows
    return Image(height=rows.shape[0], width=width, encoding=encoding, step=data.shape[1],
                 is_bigendian=bigendian, data=data.tobytes())


@pytest.mark.parametrize('encoding, pixels, expected', [
    ('rgb8', RGB, RGB), ('bgr8', RGB[..., ::-1], RGB), ('8UC3', RGB[..., ::-1], RGB),
    ('rgba8', np.dstack([RGB, GREY]), RGB), ('bgra8', np.dstack([RGB[..., ::-1], GREY]), RGB),
    ('mono8', GREY, GREY), ('8UC1', GREY, GREY)])
@pytest.mark.parametrize('padding', [0, 7])
def test_encodings_give_rgb_or_grey_whatever_the_step(encoding, pixels, expected, padding):
    message = padded_message(np.ascontiguousarray(pixels), encoding, padding=padding)
    np.testing.assert_array_equal(image_to_array(message), expected)


@pytest.mark.parametrize('encoding', ['mono16', '16UC1'])
@pytest.mark.parametrize('bigendian', [0, 1])
def test_sixteen_bits_keep_the_upper_eight_in_either_byte_order(encoding, bigendian):
    wide = GREY.astype('>u2' if bigendian else '<u2') * 256 + 77
    wide = wide.astype('>u2' if bigendian else '<u2')
    message = padded_message(wide.view(np.uint8), encoding, bigendian=bigendian)
    np.testing.assert_array_equal(image_to_array(message), GREY)


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_patterns_give_the_colour_they_encode(pattern):
    color = {'r': 200, 'g': 120, 'b': 30}
    mosaic = np.empty((H, W), np.uint8)
    for index, letter in enumerate(pattern):
        mosaic[index // 2::2, index % 2::2] = color[letter]
    rgb = image_to_array(padded_message(mosaic, f'bayer_{pattern}8'))
    np.testing.assert_array_equal(rgb[2:-2, 2:-2].reshape(-1, 3).mean(0), [200, 120, 30])


@pytest.mark.parametrize('encoding, luma', [
    ('yuv422', 1), ('uyvy', 1), ('yuv422_yuy2', 0), ('yuyv', 0)])
@pytest.mark.parametrize('padding', [0, 7])
def test_yuv_is_that_of_bt_601(encoding, luma, padding):
    color = np.array([[200.0, 120.0, 30.0], [20.0, 90.0, 220.0]])[np.arange(W // 2) % 2]
    y = color @ [65.481, 128.553, 24.966] / 255 + 16
    u = color @ [-37.797, -74.203, 112.0] / 255 + 128
    v = color @ [112.0, -93.786, -18.214] / 255 + 128
    row = np.empty((W // 2, 4))  # two pixels, their luma at 1 and 3 or at 0 and 2
    row[:, luma::2] = y[:, None]
    row[:, 1 - luma], row[:, 3 - luma] = u, v
    rows = np.tile(row.round().astype(np.uint8).ravel(), (H, 1))
    rgb = image_to_array(padded_message(rows, encoding, padding=padding))
    expected = np.broadcast_to(np.repeat(color, 2, axis=0), (H, W, 3))
    np.testing.assert_allclose(rgb, expected, atol=3)


SMOOTH = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (40, 56, 3), np.uint8),
                          (0, 0), 5)


def compressed_message(pixels, extension, format_):
    """Encode as OpenCV does: the channels of `pixels` are blue, green, red to it."""
    data = cv2.imencode(extension, pixels)[1]
    return CompressedImage(format=format_, data=data.tobytes())


@pytest.mark.parametrize('format_, stored_bgr', [
    ('rgb8; jpeg compressed bgr8', True), ('bgr8; png compressed bgr8', True), ('jpeg', True),
    ('png', True), ('rgb8; jpeg compressed ', False), ('bgr8; png compressed rgb8', False)])
@pytest.mark.parametrize('extension, tolerance', [('.jpg', 3), ('.png', 0)])
def test_compressed_colours_come_out_as_image_transport_means_them(format_, stored_bgr, extension,
                                                                   tolerance):
    stored = np.ascontiguousarray(SMOOTH[..., ::-1]) if stored_bgr else SMOOTH
    image = image_to_array(compressed_message(stored, extension, format_))
    np.testing.assert_allclose(image.astype(int), SMOOTH, atol=2 * tolerance)


def test_compressed_grey_alpha_sixteen_bits_and_mosaics():
    grey = SMOOTH[..., 0]
    decoded = image_to_array(compressed_message(grey, '.png', 'mono8; png compressed '))
    np.testing.assert_array_equal(decoded, grey)
    wide = grey.astype(np.uint16) * 256 + 77
    decoded = image_to_array(compressed_message(wide, '.png', 'mono16; png compressed '))
    np.testing.assert_array_equal(decoded, grey)
    rgba = np.dstack([SMOOTH[..., ::-1], grey])
    decoded = image_to_array(compressed_message(rgba, '.png', 'rgba8; png compressed bgra8'))
    np.testing.assert_array_equal(decoded, SMOOTH)
    raw = padded_message(grey, 'bayer_rggb8', width=56)
    decoded = image_to_array(compressed_message(grey, '.png', 'bayer_rggb8; png compressed '))
    np.testing.assert_array_equal(decoded, image_to_array(raw))


@pytest.mark.parametrize('extension', ['.jpg', '.png'])
@pytest.mark.parametrize('keep', [0.0, 0.1, 0.6, 0.98])
def test_damaged_compressed_images_are_refused_with_the_reason(extension, keep):
    message = compressed_message(np.repeat(SMOOTH, 8, axis=0), extension, 'jpeg')
    message.data = message.data[:int(keep * len(message.data))]
    with pytest.raises(ValueError, match='neither JPEG nor PNG|damaged or cut off'):
        image_to_array(message)


def test_a_grey_and_a_colour_eye_both_become_grey():
    left, right = same_channels(SMOOTH, SMOOTH[..., 1])
    assert left.shape == right.shape == (40, 56) and right is not None
    np.testing.assert_array_equal(left, cv2.cvtColor(SMOOTH, cv2.COLOR_RGB2GRAY))
    assert same_channels(SMOOTH, SMOOTH)[0] is SMOOTH


class CvBridgeError(TypeError):
    """That of cv_bridge."""


class CvBridge:
    """cv_bridge's class as far as we use it: one encoding more, and its error for the others."""

    def imgmsg_to_cv2(self, img_msg, desired_encoding='passthrough'):
        if (img_msg.encoding, desired_encoding) != ('rgb16', 'rgb8'):
            raise CvBridgeError(f'Unrecognized image encoding [{img_msg.encoding}]')
        wide = np.frombuffer(img_msg.data, '<u2').reshape(img_msg.height, img_msg.width, 3)
        return (wide >> 8).astype(np.uint8)


def wide_message(encoding='rgb16'):
    wide = RGB.astype('<u2') * 256 + 77
    return padded_message(wide.view(np.uint8), encoding, padding=0)


def test_other_encodings_go_to_cv_bridge(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv_bridge', SimpleNamespace(
        CvBridge=CvBridge, CvBridgeError=CvBridgeError))
    np.testing.assert_array_equal(image_to_array(wide_message()), RGB)
    with pytest.raises(ValueError, match=r'cv_bridge cannot convert "rgb17": Unrecognized image '
                                         r'encoding \[rgb17\]'):
        image_to_array(wide_message('rgb17'))


def test_without_cv_bridge_other_encodings_are_refused_with_those_that_work(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv_bridge', None)
    with pytest.raises(ValueError, match='encoding "rgb16" is not known') as raised:
        image_to_array(wide_message())
    assert str(raised.value).endswith('or install cv_bridge')
    named = set(re.findall(r'\w+', str(raised.value)))
    assert OURS <= named and '32FC1' not in named


# Encodings that cv_bridge knows by another name, and those in which it sees no colour.
ITS_NAME = {'uyvy': 'yuv422', 'yuyv': 'yuv422_yuy2'}
GENERIC = {'8UC1': lambda image: image, '8UC3': lambda image: image[..., ::-1],
           '16UC1': lambda image: image >> 8}


@pytest.mark.parametrize('encoding', sorted(OURS))
def test_cv_bridge_agrees(encoding):
    bridge = pytest.importorskip('cv_bridge').CvBridge()
    kind, channels = ENCODINGS[encoding]
    rows = np.random.default_rng(0).integers(
        0, 256, (H, W * channels * np.dtype(kind).itemsize), np.uint8)
    message = padded_message(rows, encoding, padding=0)  # cv_bridge needs rows of whole pixels
    ours = image_to_array(message)
    if encoding in GENERIC:
        theirs = GENERIC[encoding](bridge.imgmsg_to_cv2(message))
    else:
        message.encoding = ITS_NAME.get(encoding, encoding)
        theirs = bridge.imgmsg_to_cv2(message, 'mono8' if ours.ndim == 2 else 'rgb8')
    np.testing.assert_allclose(ours.astype(int), theirs, atol=1)


@pytest.mark.parametrize('change, message', [
    ({'width': 0}, 'empty'), ({'step': 5}, 'step >= 30'), ({'height': 60}, 'got step'),
    ({'encoding': 'yuv422', 'width': 9}, 'width must be even, got 9'),
    ({'encoding': 'bayer_rggb8', 'width': 1}, 'needs 2x2 pixels')])
def test_bad_images_are_refused_with_the_reason(change, message):
    image = padded_message(RGB, 'rgb8')
    for name, value in change.items():
        setattr(image, name, value)
    with pytest.raises(ValueError, match=message):
        image_to_array(image)


@pytest.mark.parametrize('pixels, encoding', [
    (RGB, 'rgb8'), (GREY, 'mono8'), (RGB[:, ::-1], 'rgb8')])
def test_array_to_message_to_array(pixels, encoding):
    message = deserialize_message(
        serialize_message(array_to_image(pixels, encoding, HEADER)), Image)
    assert message.header.frame_id == 'left_optical'
    assert message.step == pixels.shape[1] * (3 if pixels.ndim == 3 else 1)
    np.testing.assert_array_equal(image_to_array(message), pixels)


def test_disparity_message_has_every_field_and_comes_back():
    disparity = np.full((H, W), np.nan, np.float32)
    disparity[2:5, 3:9] = np.linspace(1.5, 8.0, 18).reshape(3, 6)
    message = disparity_message(disparity, CAMERA, 0.25, 9.0, HEADER)
    message = deserialize_message(serialize_message(message), DisparityImage)
    assert message.header == message.image.header == HEADER
    image = message.image
    assert (image.encoding, image.height, image.width, image.step) == ('32FC1', H, W, 4 * W)
    assert image.is_bigendian == (sys.byteorder == 'big')
    assert (message.f, message.t) == (20.0, 0.5)
    assert (message.min_disparity, message.max_disparity) == (0.25, 9.0)
    window = message.valid_window
    assert (window.x_offset, window.y_offset, window.width, window.height) == (3, 2, 6, 3)
    assert message.delta_d == np.spacing(np.float32(9.0))
    raw = np.frombuffer(image.data, np.float32).reshape(H, W)
    assert np.isfinite(raw).all() and (raw[np.isnan(disparity)] < message.min_disparity).all()
    np.testing.assert_array_equal(decode_disparity(message), disparity)


def test_disparity_message_without_a_valid_pixel_has_an_empty_window():
    message = disparity_message(np.full((H, W), np.nan, np.float32), CAMERA, 1.0, 9.0, HEADER)
    assert (message.valid_window.width, message.valid_window.height) == (0, 0)


def test_foreign_byte_order_and_padding_of_a_disparity_image_are_read():
    disparity = np.linspace(1, 8, H * W, dtype=np.float32).reshape(H, W)
    message = disparity_message(disparity, CAMERA, 0.25, 9.0, HEADER)
    message.image = padded_message(disparity.astype('>f4').view(np.uint8), '32FC1', bigendian=1)
    np.testing.assert_array_equal(decode_disparity(message), disparity)


def test_cloud_points_project_back_to_their_pixels_with_their_colour():
    depth = np.linspace(1, 9, H * W, dtype=np.float32).reshape(H, W)
    depth[0, 0] = np.nan
    message = cloud_message(depth, RGB, CAMERA, HEADER)
    assert [(field.name, field.offset) for field in message.fields] == [
        ('x', 0), ('y', 4), ('z', 8), ('rgb', 12)]
    assert (message.height, message.width, message.point_step, message.row_step) == (
        H, W, 16, 16 * W)
    assert not message.is_dense
    points = np.frombuffer(message.data, np.float32).reshape(H, W, 4)
    assert np.isnan(points[0, 0, :3]).all()
    columns = project(points[1:, :, :3], CAMERA)
    np.testing.assert_allclose(columns[..., 0], np.tile(np.arange(W), (H - 1, 1)), atol=1e-4)
    np.testing.assert_allclose(columns[..., 1], np.mgrid[1:H, :W][0], atol=1e-4)
    packed = np.frombuffer(message.data, np.uint32).reshape(H, W, 4)[..., 3]
    unpacked = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], -1)
    np.testing.assert_array_equal(unpacked, RGB)
    grey = np.frombuffer(cloud_message(depth, GREY, CAMERA, HEADER).data, np.uint8)
    np.testing.assert_array_equal(grey.reshape(H, W, 16)[..., 12:15], np.dstack([GREY] * 3))
    # CameraInfo gives numpy's own float64
    same = replace(CAMERA, fx=np.float64(CAMERA.fx), cy=np.float64(CAMERA.cy))
    assert cloud_message(depth, RGB, same, HEADER).data == message.data


def test_colours_tell_near_from_far_and_invalid():
    disparity = np.tile(np.linspace(1, 50, 40, dtype=np.float32), (20, 1))
    disparity[0, 0] = np.nan
    colors = color_disparity(disparity)
    assert colors.shape == (20, 40, 3) and not colors[0, 0].any()
    blue, green, red = colors[10, -1].astype(int)
    assert red > blue and red > green
    assert len(np.unique(colors[10], axis=0)) > 30
    assert not color_disparity(np.full((4, 4), np.nan, np.float32)).any()


def test_camera_info_says_rectified_left_camera():
    info = camera_to_info(CAMERA, HEADER)
    assert (info.width, info.height, list(info.d)) == (W, H, [0.0] * 5)
    assert list(info.k) == [20.0, 0.0, 4.5, 0.0, 22.0, 2.5, 0.0, 0.0, 1.0]
    np.testing.assert_array_equal(np.reshape(info.p, (3, 4))[:, :3].ravel(), info.k)
    np.testing.assert_array_equal(np.reshape(info.r, (3, 3)), np.eye(3))


def make_frame(disparity, confidence=None, inside=None, **settings):
    confidence = np.ones_like(disparity) if confidence is None else confidence
    pair = RectifiedPair(RGB, RGB, CAMERA, inside)
    result = SimpleNamespace(disparity=disparity, disparity_filled=np.nan_to_num(disparity),
                             confidence=confidence, boxes=None)
    return frame_of(HEADER, pair, result, NodeSettings(**settings))


def test_frame_depth_respects_the_principal_point_offset():
    frame = make_frame(np.full((H, W), 5.5, np.float32))  # doffs is 1.5, so d = 4
    np.testing.assert_allclose(frame.depth, 20.0 * 0.5 / 4)
    message = outputs.TOPICS['disparity'][1](frame)
    np.testing.assert_allclose(decode_disparity(message), 4.0)
    depth = image_as_float(outputs.TOPICS['depth'][1](frame))
    np.testing.assert_allclose(depth, message.f * message.t / 4)


def image_as_float(message):
    assert message.encoding == '32FC1'
    return np.frombuffer(message.data, np.float32).reshape(message.height, message.width)


def test_frame_limits_come_from_the_depth_range_and_the_image_width():
    disparity = np.full((H, W), 3.5, np.float32)  # 5 m
    disparity[0, 0] = 1.5 + 0.5  # 20 m
    disparity[0, 1] = 1.5 + 5.0  # 2 m
    disparity[0, 2] = np.nan
    frame = make_frame(disparity, min_depth=2.5, max_depth=10.0)
    assert (frame.min_disparity, frame.max_disparity) == (1.0, 4.0)
    assert np.isnan(frame.disparity[0, :3]).all()
    assert np.isfinite(frame.disparity).sum() == H * W - 3
    assert make_frame(disparity, min_depth=0.01).max_disparity == W - 1 - 1.5


def test_frame_drops_unsure_pixels_and_those_without_raw_pixel():
    confidence = np.linspace(0, 1, H * W, dtype=np.float32).reshape(H, W)
    inside = np.ones((H, W), bool)
    inside[:, -1] = False
    frame = make_frame(np.full((H, W), 4.0, np.float32), confidence, inside,
                       confidence_threshold=0.5)
    np.testing.assert_array_equal(np.isfinite(frame.disparity), (confidence >= 0.5) & inside)


def test_boxes_keep_the_limits_of_score_depth_class_and_number():
    box3d = np.tile(np.float32([0, 0, 0, 4, 1.5, 1.7, 0]), (5, 1))
    box3d[:, 2] = 10, 20, 30, 150, 40
    boxes = Boxes(box3d, ['Car', 'Tram', 'Car', 'Car', 'Tram'],
                  np.float32([0.9, 0.8, 0.7, 0.6, 0.12]))

    def depths(**changes):
        return choose_boxes(boxes, NodeSettings(**changes)).box3d[:, 2].tolist()

    assert depths() == [10, 20, 30]
    assert depths(score_threshold=0.0) == [10, 20, 30, 40]
    assert depths(max_depth=200.0, min_depth=15.0) == [20, 30, 150]
    assert depths(classes=['Tram'], score_threshold=0.1) == [20, 40]
    assert depths(max_detections=1) == [10] and depths(max_detections=0) == []


BOXES = SimpleNamespace(
    box3d=np.array([[1.0, 1.5, 10.0, 4.0, 1.6, 1.8, 0.7], [-2.0, 1.0, 6.0, 0.8, 1.8, 0.6, 0.0]],
                   np.float32),
    score=np.array([0.9, 0.6], np.float32), label=['car', 'pedestrian'])


def quaternion_matrix(q):
    return np.array([
        [1 - 2 * (q.y ** 2 + q.z ** 2), 2 * (q.x * q.y - q.z * q.w), 2 * (q.x * q.z + q.y * q.w)],
        [2 * (q.x * q.y + q.z * q.w), 1 - 2 * (q.x ** 2 + q.z ** 2), 2 * (q.y * q.z - q.x * q.w)],
        [2 * (q.x * q.z - q.y * q.w), 2 * (q.y * q.z + q.x * q.w), 1 - 2 * (q.x ** 2 + q.y ** 2)]])


def test_box_pose_turns_the_length_as_kitti_yaw_does():
    rotation = quaternion_matrix(box_messages.box_pose([0, 0, 0, 1, 1, 1, -np.pi / 2]).orientation)
    np.testing.assert_allclose(rotation @ [1, 0, 0], [0, 0, 1], atol=1e-7)  # -pi/2 faces +z


def test_markers_wipe_the_old_ones_and_draw_solid_edges_and_text():
    markers = box_messages.box_markers(BOXES, HEADER).markers
    assert markers[0].action == Marker.DELETEALL
    solid, edges, text = markers[1:4]
    assert [m.type for m in (solid, edges, text)] == [
        Marker.CUBE, Marker.LINE_LIST, Marker.TEXT_VIEW_FACING]
    assert (solid.scale.x, solid.scale.y, solid.scale.z) == pytest.approx((4.0, 1.6, 1.8))
    assert solid.color.a == pytest.approx(0.3)
    points = np.array([[p.x, p.y, p.z] for p in edges.points]).reshape(-1, 2, 3)
    lengths = np.sort(np.linalg.norm(points[:, 0] - points[:, 1], axis=1))
    np.testing.assert_allclose(lengths, np.repeat([1.6, 1.8, 4.0], 4), rtol=1e-6)
    assert edges.pose == solid.pose and text.pose.position.y < solid.pose.position.y - 0.8
    assert text.text == 'car 0.90 10.0 m'
    assert [m.ns for m in markers[1:]] == ['car'] * 3 + ['pedestrian'] * 3
    assert len({(m.ns, m.id) for m in markers[1:]}) == 6
    assert all(m.lifetime.sec == 1 and not m.frame_locked for m in markers[1:])
    assert all(m.header == HEADER for m in markers)


def test_no_boxes_still_wipe_the_old_ones():
    assert [m.action for m in box_messages.box_markers(None, HEADER).markers] == [Marker.DELETEALL]


def test_detection_image_shows_each_class_in_the_colour_of_its_markers():
    frame = replace(make_frame(np.full((H, W), 5.5, np.float32)), boxes=BOXES,
                    camera=CAMERA.scaled(20, 20), image=np.zeros((20 * H, 20 * W), np.uint8))
    message = outputs.TOPICS['detection_image'][1](frame)
    assert message.encoding == 'rgb8' and message.header == HEADER
    colours = image_to_array(message).reshape(-1, 3).astype(float)
    for marker in box_messages.box_markers(BOXES, HEADER).markers[1::3]:
        colour = np.round([255 * getattr(marker.color, c) for c in 'rgb'])
        assert np.abs(colours - colour).max(axis=1).min() <= 2


def test_detections_need_vision_msgs():
    if box_messages.Detection3DArray is None:
        assert 'detections_3d' not in outputs.TOPICS
        return
    detection = box_messages.detections_message(BOXES, HEADER).detections[0]
    assert detection.results[0].hypothesis.class_id == 'car'
    assert detection.bbox.size.x == pytest.approx(4.0)


def test_opencv_reads_the_published_colours_as_bgr():
    frame = make_frame(np.full((H, W), 5.5, np.float32))
    message = outputs.TOPICS['disparity_color'][1](frame)
    assert message.encoding == 'bgr8'
    expected = cv2.applyColorMap(np.full((1, 1), 255, np.uint8), cv2.COLORMAP_TURBO)[0, 0]
    pixels = np.frombuffer(message.data, np.uint8).reshape(H, W, 3)
    np.testing.assert_array_equal(pixels, np.broadcast_to(expected, (H, W, 3)))
