"""Boxes of a recording come out in the left frame, whatever message holds them."""

from dataclasses import replace

import numpy as np
import pytest

from svp_ros.boxes import Boxes
from svp_ros.data import bag_messages
from svp_ros.data.bag_boxes import (
    BagBoxes,
    label_boxes,
    read_solids,
    to_boxes,
    visible_share,
)
from svp_ros.data.bag_messages import DETECTIONS, MARKER_ARRAY
from svp_ros.data.bag_topics import find_boxes_topic
from svp_ros.data.bag_transforms import make_transform
from svp_ros.data.bags import read_stereo_pairs, StereoPair
from svp_ros.data.render import write_bag
from svp_ros.data.rosbag2 import BagReader, BagWriter, TYPESTORE
from svp_ros.data.world import World
from svp_ros.geometry import StereoCamera

H, W = 96, 160
CAMERA = StereoCamera(fx=100.0, fy=101.0, cx=80.0, cy=45.0, baseline=0.5, width=W, height=H,
                      cx_right=78.0)
STAMP = 5 * 10**9 + 7
FRAME = 'left_optical'
# ahead and turned, to the left, right of the image's edge in part
BOX3D = np.array([[0.5, 0.5, 12, 4.2, 1.5, 1.7, -1.2], [-3, 0.4, 8, 0.7, 1.8, 0.6, 2.9],
                  [8.5, 0.5, 10, 4.0, 1.4, 1.6, 0.3]], np.float32)
LABELS = ['Car', 'Pedestrian', 'Car']
# a frame with x forward, y left, z up, 1 m behind and 0.7 m above the camera
TO_LIDAR = np.array([[0, 0, 1, 1], [-1, 0, 0, 0], [0, -1, 0, -0.7], [0, 0, 0, 1]], float)


def new(type_, **values):
    return TYPESTORE.types[type_](**values)


def vector(type_, values):
    return new(type_, **dict(zip('xyz', map(float, values))))


def make_pair(**values):
    image = np.zeros((H, W), np.uint8)
    return StereoPair(**{'stamp': STAMP, 'left': image, 'right': image, 'camera': CAMERA,
                         'frame_id': FRAME, 'inside': None, 'rotation': np.eye(3),
                         'findings': (), **values})


def header(frame=FRAME, stamp=STAMP):
    return bag_messages.make_header(stamp, frame)


def upright_pose(box):
    """Pose in the lidar's frame of a box whose own z is up, as ROS has them: size l, w, h."""
    x, y, z, *_, ry = box.tolist()
    half = -(ry + np.pi / 2) / 2  # about z (up); 0 faces the lidar's x, which is ry = -pi / 2
    position = (TO_LIDAR @ [x, y, z, 1])[:3]
    return new('geometry_msgs/msg/Pose', position=vector('geometry_msgs/msg/Point', position),
               orientation=new('geometry_msgs/msg/Quaternion', x=0.0, y=0.0, z=np.sin(half),
                               w=np.cos(half)))


def detections(boxes=BOX3D, frame='lidar'):
    """Detection3DArray in the lidar's frame; the second hypothesis is the better one."""
    items = []
    for box, label in zip(boxes, LABELS):
        pose = upright_pose(box)
        covariance = new('geometry_msgs/msg/PoseWithCovariance', pose=pose,
                         covariance=np.zeros(36))
        results = [new('vision_msgs/msg/ObjectHypothesisWithPose', pose=covariance,
                       hypothesis=new('vision_msgs/msg/ObjectHypothesis', class_id=name,
                                      score=score))
                   for name, score in (('Tree', 0.1), (label, 0.9))]
        bbox = new('vision_msgs/msg/BoundingBox3D', center=pose, size=vector(
            'geometry_msgs/msg/Vector3', box[[3, 5, 4]]))
        items.append(new('vision_msgs/msg/Detection3D', header=header(frame), results=results,
                         bbox=bbox, id=''))
    return new(DETECTIONS, header=header(frame), detections=items)


def lidar_markers(boxes=BOX3D):
    """Cubes with the class as text, among markers of other kinds."""
    message = bag_messages.make_box_markers(boxes, LABELS, header('lidar'))
    for marker, box in zip(message.markers[1:], boxes):
        marker.pose, marker.ns = upright_pose(box), 'truth'
        marker.scale = vector('geometry_msgs/msg/Vector3', box[[3, 5, 4]])
    message.markers.append(replace(message.markers[1], type=2, text='sphere'))
    message.markers.append(replace(message.markers[1], action=2, text='deleted'))
    return message


def write_boxes(path, *messages, **others):
    with BagWriter(path) as bag:
        for topic, message in others.items():
            bag.write('/' + topic, 0, message)
        for number, message in enumerate(messages):
            bag.write('/truth', STAMP + number, message)
    return path


def transforms():
    """tf_static from the lidar's frame to the left one."""
    matrix = np.linalg.inv(TO_LIDAR)
    position = vector('geometry_msgs/msg/Vector3', matrix[:3, 3])
    turn = new('geometry_msgs/msg/Quaternion', x=0.5, y=-0.5, z=0.5, w=0.5)
    np.testing.assert_allclose(make_transform(matrix[:3, 3], [0.5, -0.5, 0.5, 0.5]), matrix,
                               atol=1e-9)
    return new('tf2_msgs/msg/TFMessage', transforms=[new(
        'geometry_msgs/msg/TransformStamped', header=header(FRAME, 0), child_frame_id='lidar',
        transform=new('geometry_msgs/msg/Transform', translation=position, rotation=turn))])


def assert_boxes(boxes, box3d=BOX3D, labels=LABELS):
    assert boxes.label == labels
    np.testing.assert_allclose(boxes.box3d, box3d, atol=1e-5)


def test_cubes_in_the_left_frame_are_boxes(tmp_path):
    path = write_boxes(tmp_path / 'bag',
                       bag_messages.make_box_markers(BOX3D, LABELS, header()),
                       bag_messages.make_box_markers(BOX3D[:0], [], header(stamp=STAMP + 1)))
    with BagReader(path) as bag:
        boxes = BagBoxes(bag, 'truth')
        assert boxes.at(make_pair(stamp=STAMP - 1)) is None
        found = boxes.at(make_pair())
        assert_boxes(found)
        assert found.occlusion.tolist() == [3, 3, 3]
        assert found.truncation[:2].tolist() == [0, 0] and 0.5 < found.truncation[2] < 0.8
        # the end of the image cuts the last one
        assert found.box2d[2, 2] == W - 1 and found.box2d[2, 0] > W / 2
        assert len(boxes.at(make_pair(stamp=STAMP + 1))) == 0
        assert boxes.at(make_pair(stamp=STAMP + 2)) is None


@pytest.mark.parametrize('message', [detections, lidar_markers])
def test_boxes_of_another_frame_are_moved_to_the_left_one(tmp_path, message):
    with BagReader(write_boxes(tmp_path / 'bag', message(), tf_static=transforms())) as bag:
        assert_boxes(BagBoxes(bag, '/truth').at(make_pair()))
        turn = make_transform([0, 0, 0], [0, np.sin(0.05), 0, np.cos(0.05)])[:3, :3]
        expected = BOX3D.copy()
        expected[:, :3] = BOX3D[:, :3] @ turn.T
        expected[:, 6] += 0.1
        found = BagBoxes(bag, '/truth').at(make_pair(rotation=turn))
        assert_boxes(found, expected[:len(found)], LABELS[:len(found)])
    with BagReader(write_boxes(tmp_path / 'bare', message())) as bag:
        assert_boxes(BagBoxes(bag, 'truth', transform=np.linalg.inv(TO_LIDAR)).at(make_pair()))
        with pytest.raises(ValueError, match='no fixed transform leads from frame "lidar" to '
                                             '"left_optical"'):
            BagBoxes(bag, 'truth').at(make_pair())


def test_stamps_may_differ_by_the_tolerance(tmp_path):
    path = write_boxes(tmp_path / 'bag', bag_messages.make_box_markers(BOX3D, LABELS, header()),
                       new(MARKER_ARRAY, markers=[]))  # which has no stamp
    with BagReader(path) as bag:
        boxes = BagBoxes(bag, 'truth', tolerance=100)
        assert boxes.at(make_pair(stamp=STAMP - 101)) is None
        assert len(boxes.at(make_pair(stamp=STAMP - 100))) == 3
        assert len(boxes.at(make_pair(stamp=STAMP + 100))) == 3
        assert boxes.at(make_pair(stamp=STAMP + 101)) is None


def test_published_markers_bring_back_classes_and_scores():
    boxes = Boxes(BOX3D, ['Car', 'Traffic light', 'Car'], np.array([0.934, 0.5, 0.05], np.float32))
    solids = read_solids(bag_messages.make_published_markers(boxes, header()))
    found = to_boxes(solids, np.eye(4))
    assert_boxes(found, labels=boxes.label)
    np.testing.assert_allclose(found.score, [0.93, 0.5, 0.05], atol=1e-6)
    assert solids.frame_id == FRAME
    truth = read_solids(bag_messages.make_box_markers(BOX3D, LABELS, header()))
    assert truth.score.tolist() == [1, 1, 1]
    assert read_solids(detections()).score.tolist() == pytest.approx([0.9] * 3)


def test_published_markers_are_those_of_the_node():
    from rclpy.serialization import deserialize_message, serialize_message
    from std_msgs.msg import Header
    from visualization_msgs.msg import MarkerArray

    from svp_ros.ros.box_messages import box_markers
    ros_header = Header(frame_id=FRAME)
    ros_header.stamp.sec, ros_header.stamp.nanosec = 5, 7
    score = np.array([0.93, 0.125, 0.05], np.float32)
    for boxes in (Boxes(BOX3D, LABELS, score), Boxes(BOX3D[:0], [], score[:0])):
        ours = bag_messages.make_published_markers(boxes, header())
        data = bytes(TYPESTORE.serialize_cdr(ours, MARKER_ARRAY))
        assert deserialize_message(data, MarkerArray) == deserialize_message(
            serialize_message(box_markers(boxes, ros_header)), MarkerArray)


def test_boxes_behind_and_beside_the_image_are_left_out():
    behind, beside = BOX3D.copy(), BOX3D.copy()
    behind[:, 2] *= -1
    beside[:, 0] += 50
    boxes = Boxes(np.concatenate([behind, BOX3D, beside]), LABELS * 3, np.ones(9))
    assert_boxes(label_boxes(boxes, CAMERA))
    disparity = np.ones((H, W), np.float32)
    assert len(label_boxes(boxes.select([0, 1, 2]), CAMERA, disparity)) == 0
    assert len(label_boxes(boxes.select([]), CAMERA, disparity)) == 0


def test_occlusion_is_what_stands_before_the_box():
    car = np.array([0, 0.5, 10, 4, 1.5, 1.8, 0], np.float32)  # from 9.1 to 10.9 m
    box2d = label_boxes(Boxes(car[None], ['Car'], np.ones(1)), CAMERA).box2d[0]
    background = np.full((H, W), 30.0)

    def share(*walls):
        depth = background.copy()
        for columns, distance in walls:
            depth[:, columns] = distance
        return visible_share(car, box2d, depth, CAMERA)

    assert share() == 1  # seen through, as the rear of a cart
    assert share((slice(None), 10)) == 1
    assert share((slice(None), 5)) == 0
    assert share((slice(0, 80), 9)) == 1  # a surface that sticks out a little
    assert share((slice(0, 80), 8)) == pytest.approx(0.5, abs=0.02)
    assert share((slice(0, 80), np.nan), (slice(80, 90), 5)) == pytest.approx(0.5, abs=0.06)
    assert np.isnan(share((slice(None), np.nan)))
    # before the corner of a turned car is room: the box begins at 8 m there, at 10 m beside it
    turned = car + np.array([0, 0, 0, 0, 0, 0, np.pi / 4], np.float32)
    box2d = label_boxes(Boxes(turned[None], ['Car'], np.ones(1)), CAMERA).box2d[0]
    seen = visible_share(turned, box2d, np.full((H, W), 8.9), CAMERA)
    assert 0.2 < seen < 0.8


def test_occlusion_is_that_of_the_world(tmp_path):
    """Boxes, 2D boxes and truncation come back exactly, occlusion nearly so."""
    samples = list(World().sequence(2, 3, 120, 320, 'street', 10.0))
    for _ in write_bag(tmp_path / 'bag', samples, 'mcap', 10.0):
        pass
    with BagReader(tmp_path / 'bag') as bag:
        assert find_boxes_topic(bag) == '/ground_truth/markers'
        boxes, equal = BagBoxes(bag, '/ground_truth/markers'), []
        for sample, pair in zip(samples, read_stereo_pairs(tmp_path / 'bag'), strict=True):
            found = boxes.at(pair, sample.disparity[0, 0].numpy())
            truth = sample.boxes[0]
            assert_boxes(found, truth.box3d, truth.label)
            np.testing.assert_allclose(found.box2d, truth.box2d, atol=1e-2)
            np.testing.assert_allclose(found.truncation, truth.truncation, atol=1e-4)
            assert np.abs(found.occlusion - truth.occlusion).max() <= 1
            equal += (found.occlusion == truth.occlusion).tolist()
    assert len(equal) > 10 and np.mean(equal) > 0.9


def test_detections_come_before_markers_as_truth(tmp_path):
    path = write_boxes(tmp_path / 'bag', **{
        'ground_truth/detections': detections(), 'ground_truth/markers': lidar_markers(),
        'detections': detections(), 'markers': lidar_markers()})
    with BagReader(path) as bag:
        assert find_boxes_topic(bag) == '/ground_truth/detections'
    with BagReader(write_boxes(tmp_path / 'other', detections(), markers=lidar_markers())) as bag:
        assert find_boxes_topic(bag) is None


def test_unusable_boxes_are_explained(tmp_path):
    flat = BOX3D.copy()
    flat[1, 4] = 0
    path = write_boxes(tmp_path / 'bag', bag_messages.make_box_markers(flat, LABELS, header()),
                       tf_static=transforms())
    with BagReader(path) as bag:
        with pytest.raises(ValueError, match='bag, /truth: a box must have .* positive size, but '
                                             r'the "Pedestrian" at \[-3.0, 0.4, 8.0\] has'):
            BagBoxes(bag, 'truth').at(make_pair())
        with pytest.raises(ValueError, match='tf_static holds tf2_msgs/msg/TFMessage; boxes are'):
            BagBoxes(bag, 'tf_static')
    mixed = bag_messages.make_box_markers(BOX3D, LABELS, header())
    mixed.markers[2].header = header('lidar')
    with pytest.raises(ValueError, match='must be in one frame, got'):
        read_solids(mixed)
    zero = bag_messages.make_box_markers(BOX3D, LABELS, header())
    zero.markers[1].pose.orientation = new('geometry_msgs/msg/Quaternion', x=0.0, y=0.0, z=0.0,
                                           w=0.0)
    with pytest.raises(ValueError, match='is no rotation'):
        read_solids(zero)
    unsure = detections()
    unsure.detections[0].results[1].hypothesis.score = np.nan
    unsure.detections[0].results.pop(0)
    with pytest.raises(ValueError, match='a finite pose and score .* and the score nan'):
        read_solids(unsure)
