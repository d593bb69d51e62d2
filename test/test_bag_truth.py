"""Ground truth of a recording becomes disparity of the left image, whatever message holds it."""

from dataclasses import replace
import struct

import numpy as np
import pytest

from svp_ros.data import bag_messages
from svp_ros.data.bag_transforms import find_transform, make_transform, TF_MESSAGE
from svp_ros.data.bag_truth import BagTruth, decode_cloud, decode_depth, render_depth
from svp_ros.data.bags import StereoPair
from svp_ros.data.rosbag2 import BagReader, BagWriter, TYPESTORE
from svp_ros.geometry import StereoCamera

H, W = 24, 40
CAMERA = StereoCamera(fx=50.0, fy=51.0, cx=19.5, cy=11.25, baseline=0.2, width=W, height=H,
                      cx_right=17.5)
STAMP = 5 * 10**9
DEPTH = np.full((H, W), 4.0, np.float32)
DEPTH[:, W // 2:] = 2.0
DEPTH[:3] = np.nan
HALF_TURN = 0.0, 0.0, 1.0, 0.0  # about z
TO_OPTICAL = -0.5, 0.5, -0.5, 0.5  # orientation of an optical frame in one with x forward


def new(type_, **values):
    return TYPESTORE.types[type_](**values)


def make_pair(stamp=STAMP, frame='left_optical', rotation=None, inside=None):
    image = np.zeros((H, W), np.uint8)
    rotation = np.eye(3) if rotation is None else rotation
    return StereoPair(stamp, image, image, CAMERA, frame, inside, rotation, ())


def header(stamp=STAMP, frame='left_optical'):
    return bag_messages.make_header(stamp, frame)


def depth_message(depth, encoding, stamp=STAMP, frame='left_optical'):
    message = bag_messages.make_image(depth.astype(np.float32), header(stamp, frame))
    if encoding == '16UC1':
        millimetres = np.nan_to_num(depth * 1000).astype('>u2')
        rows = np.zeros((len(depth), 2 * depth.shape[1] + 6), np.uint8)  # padded
        rows[:, :-6] = millimetres.view(np.uint8)
        message.encoding, message.is_bigendian, message.step = '16UC1', 1, rows.shape[1]
        message.data = rows.ravel()
    return message


def cloud_message(points, frame='lidar', stamp=STAMP):
    """As lidar drivers have it: float32 x, y, z, then an intensity, in rows."""
    data = np.zeros(len(points), {'names': ['x', 'y', 'z', 'i'], 'formats': ['<f4'] * 3 + ['u1'],
                                  'offsets': [0, 4, 8, 16], 'itemsize': 20})
    for name, values in zip('xyz', np.asarray(points).T):
        data[name] = values
    fields = [new('sensor_msgs/msg/PointField', name=name, offset=offset, datatype=kind, count=1)
              for name, offset, kind in (('x', 0, 7), ('y', 4, 7), ('z', 8, 7), ('i', 16, 2))]
    return new(bag_messages.POINT_CLOUD, header=header(stamp, frame), height=1, width=len(points),
               fields=fields, is_bigendian=False, point_step=20, row_step=20 * len(points),
               data=data.view(np.uint8).ravel(), is_dense=True)


def transform_message(*edges):
    """TFMessage of (parent, child, translation, quaternion)."""
    return new(TF_MESSAGE, transforms=[new(
        'geometry_msgs/msg/TransformStamped', header=header(0, parent), child_frame_id=child,
        transform=new('geometry_msgs/msg/Transform',
                      translation=new('geometry_msgs/msg/Vector3', **dict(zip('xyz', move))),
                      rotation=new('geometry_msgs/msg/Quaternion', **dict(zip('xyzw', turn)))))
        for parent, child, move, turn in edges])


def write_truth(path, *messages, topic='/truth', **others):
    with BagWriter(path) as bag:
        for other, message in others.items():
            bag.write('/' + other, 0, message)
        for message in messages:
            bag.write(topic, STAMP, message)
    return path


def expected(depth=DEPTH):
    return CAMERA.fx * CAMERA.baseline / depth + CAMERA.doffs


@pytest.mark.parametrize('scale', [1, 2])
def test_disparity_images_lose_their_offset_and_scale(tmp_path, scale):
    camera = replace(CAMERA.scaled(scale, scale), width=scale * W, height=scale * H)
    truth = np.kron(expected() - CAMERA.doffs, np.ones((scale, scale))) * scale + camera.doffs
    message = bag_messages.make_disparity_image(truth.astype(np.float32), camera, header())
    with BagReader(write_truth(tmp_path / 'bag', message)) as bag:
        np.testing.assert_allclose(BagTruth(bag, 'truth').at(make_pair()), expected(), rtol=1e-5)


def test_disparity_of_another_camera_is_refused(tmp_path):
    camera = replace(CAMERA, baseline=0.3)
    message = bag_messages.make_disparity_image(expected(), camera, header())
    with BagReader(write_truth(tmp_path / 'bag', message)) as bag:
        with pytest.raises(ValueError, match='/truth belongs to another camera: .* 0.3000 m, but'):
            BagTruth(bag, '/truth').at(make_pair())


@pytest.mark.parametrize('encoding', ['32FC1', '16UC1'])
def test_depth_images_of_the_left_camera_are_taken_as_they_are(tmp_path, encoding):
    with BagReader(write_truth(tmp_path / 'bag', depth_message(DEPTH, encoding))) as bag:
        truth = BagTruth(bag, 'truth')
        np.testing.assert_allclose(truth.at(make_pair()), expected(), rtol=1e-5)
        assert truth.at(make_pair(STAMP + 1)) is None


def points_of_left_pixels():
    """One point per known pixel, in the left optical frame, a little off the pixel's centre."""
    y, x = np.nonzero(np.isfinite(DEPTH))
    z = DEPTH[y, x]
    return np.stack([(x + 0.2 - CAMERA.cx) / CAMERA.fx * z, (y - 0.2 - CAMERA.cy) / CAMERA.fy * z,
                     z], axis=1)


def test_clouds_are_moved_by_tf_static_and_projected(tmp_path):
    # base -> camera -> left_optical on one side, base -> lidar on the other.
    base_to_left = (make_transform([1, 0.1, 0.5], [0, 0, 0, 1])
                    @ make_transform([0, 0, 0], TO_OPTICAL))
    base_to_lidar = make_transform([0.5, 0, 1.5], HALF_TURN)
    left = np.c_[points_of_left_pixels(), np.ones(np.isfinite(DEPTH).sum())]
    in_lidar = (np.linalg.inv(base_to_lidar) @ base_to_left @ left.T)[:3].T
    np.testing.assert_allclose((base_to_left @ [0, 0, 2, 1])[:3], [3, 0.1, 0.5], atol=1e-9)
    transforms = transform_message(
        ('base', 'camera', (1.0, 0.1, 0.5), (0.0, 0.0, 0.0, 1.0)),
        ('camera', 'left_optical', (0.0, 0.0, 0.0), TO_OPTICAL),
        ('base', '/lidar', (0.5, 0.0, 1.5), HALF_TURN))
    path = write_truth(tmp_path / 'bag', cloud_message(in_lidar, stamp=STAMP + 30_000_000),
                       tf_static=transforms)
    with BagReader(path) as bag:
        disparity = BagTruth(bag, 'truth').at(make_pair())
        known = np.isfinite(disparity)
        # Far points beside the near half are left out: the camera may not see them.
        assert not known[4, 17:20].any() and known[3:, :17].all() and known[3:, 20:].all()
        np.testing.assert_allclose(disparity[known], expected()[known], rtol=1e-4)
        assert BagTruth(bag, 'truth', tolerance=20_000_000).at(make_pair()) is None
        matrix = np.linalg.inv(base_to_left) @ base_to_lidar
        np.testing.assert_allclose(find_transform(bag, 'lidar', 'left_optical'), matrix,
                                   atol=1e-9)
    bare = write_truth(tmp_path / 'bare', cloud_message(in_lidar))
    with BagReader(bare) as bag:
        given = BagTruth(bag, 'truth', transform=matrix).at(make_pair())
        np.testing.assert_allclose(given, disparity, rtol=1e-4)
        with pytest.raises(ValueError, match='no fixed transform leads from frame "lidar" to '
                                             '"left_optical"; .*the recording has no /tf_static'):
            BagTruth(bag, 'truth').at(make_pair())


def test_depth_of_another_camera_is_moved_to_the_left_one(tmp_path):
    # A depth camera of twice the focal length, 5 cm to the right, sees a wall at 3 m.
    camera = StereoCamera(fx=100.0, fy=100.0, cx=79.5, cy=59.5, baseline=1, width=160, height=120)
    info = bag_messages.make_camera_infos(camera, header())[0]
    depth = np.full((120, 160), 3.0, np.float32)
    depth[:, :80] = np.nan
    path = write_truth(
        tmp_path / 'bag', depth_message(depth, '32FC1', frame='depth'), topic='/depth/image',
        **{'depth/camera_info': info, 'tf_static': transform_message(
            ('left_optical', 'depth', (0.05, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)))})
    with BagReader(path) as bag:
        disparity = BagTruth(bag, 'depth/image').at(make_pair())
    # The first known column is at x = 0.5 / 100 * 3 + 0.05 = 0.065 m, left pixel 20.6.
    assert np.isnan(disparity[:, :20]).all() and np.isfinite(disparity[2:-2, 22:]).mean() > 0.9
    np.testing.assert_allclose(disparity[np.isfinite(disparity)], 50 * 0.2 / 3 + 2, rtol=1e-5)


def test_truth_of_raw_cameras_is_turned_into_the_rectified_frame(tmp_path):
    turn = make_transform([0, 0, 0], [0, 0.05, 0, 1])[:3, :3]
    raw = points_of_left_pixels() @ turn  # rectified = turn @ raw
    path = write_truth(tmp_path / 'bag', cloud_message(raw, frame='left_optical'),
                       tf_static=transform_message(('a', 'left_optical', (0.0,) * 3, HALF_TURN)))
    with BagReader(path) as bag:
        pair = make_pair(rotation=turn, inside=np.ones((H, W), bool))
        disparity = BagTruth(bag, 'truth').at(pair)
        known = np.isfinite(disparity)
        assert known.mean() > 0.7
        np.testing.assert_allclose(disparity[known], expected()[known], rtol=1e-4)


def test_the_nearest_point_of_a_pixel_counts():
    points = np.array([[0, 0, 9], [0, 0, 4], [0, 0, 6], [0, 0, -4], [99, 0, 1]], float)
    depth = render_depth(points, CAMERA)
    assert depth[11, 20] == 4 and np.isfinite(depth).sum() == 1


def test_unusable_truth_is_explained(tmp_path):
    path = write_truth(tmp_path / 'bag', depth_message(DEPTH[:, :-9], '32FC1'),
                       tf_static=transform_message(), topic='/depth')
    with BagReader(path) as bag:
        with pytest.raises(ValueError, match='truth is 31x24, which is no scaled 40x24 of the'):
            BagTruth(bag, 'depth').at(make_pair())
        with pytest.raises(ValueError, match='/tf_static holds tf2_msgs.*; ground truth is a'):
            BagTruth(bag, 'tf_static')
    message = depth_message(DEPTH, '32FC1')
    message.encoding = 'rgb8'
    with pytest.raises(ValueError, match='must be 16UC1 .* or 32FC1 .*, got rgb8'):
        decode_depth(message)
    short = depth_message(DEPTH, '16UC1')
    short.data = short.data[:-20]
    with pytest.raises(ValueError, match='16UC1 image needs step >= 80 and 24 rows'):
        decode_depth(short)
    cloud = cloud_message(np.ones((5, 3)))
    cloud.fields = cloud.fields[1:]
    with pytest.raises(ValueError, match='needs the fields x, y and z .*, got y, z, i'):
        decode_cloud(cloud)
    cloud = cloud_message(np.ones((5, 3)))
    cloud.data = cloud.data[:-1]
    with pytest.raises(ValueError, match='5x1 points of 20 bytes came with 99 bytes'):
        decode_cloud(cloud)
    with pytest.raises(ValueError, match='is no rotation'):
        make_transform([0, 0, 0], [0, 0, 0, 0])


def test_clouds_of_doubles_and_big_endian_ones_are_read():
    cloud = cloud_message(np.zeros((2, 3)))
    for field, offset in zip(cloud.fields, (0, 8, 16)):
        field.datatype, field.offset = 8, offset
    cloud.is_bigendian, cloud.point_step, cloud.row_step = True, 24, 48
    cloud.data = np.frombuffer(struct.pack('>6d', *range(6)), np.uint8)
    np.testing.assert_array_equal(decode_cloud(cloud), [[0, 1, 2], [3, 4, 5]])
    cloud.width, cloud.row_step, cloud.data = 0, 0, b''
    assert decode_cloud(cloud).shape == (0, 3)
