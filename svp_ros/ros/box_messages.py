"""3-D boxes -> MarkerArray for RViz and vision_msgs/Detection3DArray.

The convention of boxes is that of `svp_ros.boxes`.
"""

import math

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
import numpy as np
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from svp_ros.box_pictures import class_colour
from svp_ros.boxes import CORNERS, EDGES

try:
    from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose
except ImportError:
    Detection3DArray = None

LIFETIME = Duration(sec=1)  # of what a node that stopped leaves behind


def box_pose(box3d: np.ndarray) -> Pose:
    """Return the pose of a box: its centre, turned by ry about +y."""
    x, y, z, ry = (float(box3d[index]) for index in (0, 1, 2, 6))
    return Pose(position=Point(x=x, y=y, z=z),
                orientation=Quaternion(y=math.sin(ry / 2), w=math.cos(ry / 2)))


def box_markers(boxes, header) -> MarkerArray:
    """Draw boxes: per class a namespace with solid, edges and text; all older ones go away.

    Args:
        boxes: result.boxes of the predictor (.box3d, .score, .label) or None.
        header: that of the left image.
    """
    message = MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])
    if boxes is None:
        return message
    for index, (box, score, label) in enumerate(zip(boxes.box3d, boxes.score, boxes.label)):
        pose, size = box_pose(box), np.asarray(box[3:6], float)
        red, green, blue = (channel / 255 for channel in class_colour(label))
        solid, edges, text = (
            Marker(header=header, ns=label, id=3 * index + part, type=kind, action=Marker.ADD,
                   pose=pose, lifetime=LIFETIME, frame_locked=False,
                   color=ColorRGBA(r=red, g=green, b=blue, a=0.3 if part == 0 else 1.0))
            for part, kind in enumerate((Marker.CUBE, Marker.LINE_LIST, Marker.TEXT_VIEW_FACING)))
        solid.scale = Vector3(x=size[0], y=size[1], z=size[2])
        edges.scale.x = 0.03
        edges.points = [Point(x=x, y=y, z=z) for edge in EDGES
                        for x, y, z in (CORNERS[edge] * size / 2).tolist()]
        text.pose = box_pose(box)
        text.pose.position.y -= size[1] / 2 + 0.3
        text.scale.z = 0.4
        text.text = f'{label} {score:.2f} {box[2]:.1f} m'
        message.markers += [solid, edges, text]
    return message


def detections_message(boxes, header):
    """Convert boxes (or None) to a Detection3DArray; needs vision_msgs."""
    message = Detection3DArray(header=header)
    if boxes is None:
        return message
    for box, score, label in zip(boxes.box3d, boxes.score, boxes.label):
        detection = Detection3D(header=header)
        detection.bbox.center = box_pose(box)
        detection.bbox.size = Vector3(**dict(zip('xyz', map(float, box[3:6]))))
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = label
        hypothesis.hypothesis.score = float(score)
        hypothesis.pose.pose = box_pose(box)
        detection.results.append(hypothesis)
        message.detections.append(detection)
    return message
