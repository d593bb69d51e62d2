"""ROS 2 messages of recordings <-> arrays and cameras, as `rosbags` types (no ROS needed)."""

from collections.abc import Sequence
import math
from typing import Any

import numpy as np

from svp_ros.box_pictures import class_colour
from svp_ros.boxes import Boxes, CORNERS, EDGES
from svp_ros.data.rosbag2 import MARKER_ARRAY, TYPESTORE
from svp_ros.geometry import StereoCamera

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
DISPARITY_IMAGE = 'stereo_msgs/msg/DisparityImage'
POINT_CLOUD = 'sensor_msgs/msg/PointCloud2'
DETECTIONS = 'vision_msgs/msg/Detection3DArray'


def make_header(stamp: int, frame_id: str) -> Any:
    """Build a std_msgs/Header; `stamp` in nanoseconds."""
    return _new('std_msgs/msg/Header', frame_id=frame_id,
                stamp=_new('builtin_interfaces/msg/Time', sec=stamp // 10**9,
                           nanosec=stamp % 10**9))


def make_camera_infos(camera: StereoCamera, header: Any) -> tuple[Any, Any]:
    """Build the left and right CameraInfo of a rectified rig: K, D = 0, R = 1, P."""
    infos = []
    for cx, shift in ((camera.cx, 0.0), (camera.cx_right, -camera.fx * camera.baseline)):
        K = np.array([camera.fx, 0, cx, 0, camera.fy, camera.cy, 0, 0, 1], np.float64)
        P = np.array([camera.fx, 0, cx, shift, 0, camera.fy, camera.cy, 0, 0, 0, 1, 0],
                     np.float64)
        infos.append(_new(CAMERA_INFO, header=header, height=camera.height, width=camera.width,
                          distortion_model='plumb_bob', d=np.zeros(5), k=K,
                          r=np.eye(3).ravel(), p=P, binning_x=0, binning_y=0,
                          roi=_region(0, 0)))
    return infos[0], infos[1]


def make_image(image: np.ndarray, header: Any) -> Any:
    """Build an Image: rgb8 of (H, W, 3) uint8, mono8 of (H, W) uint8, 32FC1 of float32."""
    encoding = '32FC1' if image.dtype == np.float32 else {3: 'rgb8', 2: 'mono8'}[image.ndim]
    H, W = image.shape[:2]
    data = np.ascontiguousarray(image).reshape(H, -1).view(np.uint8)
    return _new(IMAGE, header=header, height=H, width=W, encoding=encoding, is_bigendian=0,
                step=data.shape[1], data=data.ravel())


def make_disparity_image(disparity: np.ndarray, camera: StereoCamera, header: Any) -> Any:
    """Build a ground-truth DisparityImage.

    Its values are x_left - x_right - (cx_left - cx_right), so that infinity is at 0; unknown
    pixels hold -1, below min_disparity = 0.

    Args:
        disparity: (H, W), x_left - x_right in pixels; not finite = unknown.
        camera: the rectified rig, of the same size.
        header: of the left image.

    Raises:
        ValueError: If the map has another size than the camera, or no known value.
    """
    if disparity.shape != (camera.height, camera.width):
        raise ValueError(f'disparity must be ({camera.height}, {camera.width}) as the camera '
                         f'says, got {disparity.shape}')
    known = np.isfinite(disparity)
    if not known.any():
        raise ValueError('disparity has no finite value; leave it out if there is no truth')
    values = np.where(known, disparity - camera.doffs, -1.0).astype(np.float32)
    return _new(DISPARITY_IMAGE, header=header, image=make_image(values, header),
                f=camera.fx, t=camera.baseline,
                valid_window=_region(camera.width, camera.height),
                min_disparity=0.0, max_disparity=float(values[known].max()), delta_d=0.0)


def make_published_disparity(disparity: np.ndarray, camera: StereoCamera, minimum: float,
                             maximum: float, header: Any) -> Any:
    """Build a DisparityImage as the node publishes it, every field filled.

    Args:
        disparity: (H, W), x_left - x_right - (cx_left - cx_right) in pixels; NaN where invalid.
        camera: the rectified rig, of the same size.
        minimum: disparity of the farthest point that counts, positive.
        maximum: disparity of the nearest point that counts.
        header: of the left image.
    """
    valid = np.isfinite(disparity)
    low, high = np.float32(minimum), np.float32(maximum)
    rows, columns = np.flatnonzero(valid.any(1)), np.flatnonzero(valid.any(0))
    window = _region(0, 0)
    if rows.size:
        window = _new('sensor_msgs/msg/RegionOfInterest', x_offset=int(columns[0]),
                      y_offset=int(rows[0]), width=int(columns[-1] - columns[0] + 1),
                      height=int(rows[-1] - rows[0] + 1), do_rectify=False)
    image = make_image(np.where(valid, disparity, low - 1).astype(np.float32), header)
    return _new(DISPARITY_IMAGE, header=header, image=image, f=camera.fx, t=camera.baseline,
                valid_window=window, min_disparity=float(low), max_disparity=float(high),
                delta_d=float(np.spacing(high)))


def make_box_markers(box3d: np.ndarray, labels: Sequence[str], header: Any) -> Any:
    """Build a MarkerArray: one DELETEALL, then one cube per box with its label as namespace.

    Args:
        box3d: (N, 7) x, y, z, l, h, w, ry in the left optical frame; the cube's own axes are
            length, height, width, turned by `ry` about +y.
        labels: N class names.
        header: of the left image.

    Raises:
        ValueError: If the shape is not (N, 7) or the number of labels differs.
    """
    box3d = np.asarray(box3d, np.float64)
    if box3d.ndim != 2 or box3d.shape[1] != 7 or len(labels) != len(box3d):
        raise ValueError(f'box3d must be (N, 7) with N labels, got {box3d.shape} and '
                         f'{len(labels)} labels')
    markers = [_marker(header, action=3)]
    for index, (box, label) in enumerate(zip(box3d, labels, strict=True)):
        markers.append(_marker(header, ns=label, id=index, type=1, pose=_box_pose(box),
                               scale=box[3:6], color=(0.2, 0.9, 0.3, 0.3), text=label))
    return _new(MARKER_ARRAY, markers=markers)


def make_published_markers(boxes: Boxes, header: Any) -> Any:
    """Build the MarkerArray that the node publishes: DELETEALL; solid, edges, text per box."""
    markers = [_marker(header, action=3)]
    lifetime = _new('builtin_interfaces/msg/Duration', sec=1, nanosec=0)
    for index, (box, score, label) in enumerate(zip(boxes.box3d.astype(np.float64), boxes.score,
                                                    boxes.label)):
        colour = [channel / 255 for channel in class_colour(label)]
        solid, lines, text = ({'ns': label, 'id': 3 * index + part, 'type': type_,
                               'color': (*colour, alpha), 'lifetime': lifetime}
                              for part, (type_, alpha) in enumerate(((1, 0.3), (5, 1), (9, 1))))
        edges = (CORNERS[EDGES] * box[3:6] / 2).reshape(-1, 3)
        above = box - [0, box[4] / 2 + 0.3, 0, 0, 0, 0, 0]
        markers += [
            _marker(header, pose=_box_pose(box), scale=box[3:6], **solid),
            _marker(header, pose=_box_pose(box), scale=(0.03, 0.0, 0.0), points=[
                _vector('geometry_msgs/msg/Point', point) for point in edges], **lines),
            _marker(header, pose=_box_pose(above), scale=(0.0, 0.0, 0.4),
                    text=f'{label} {score:.2f} {box[2]:.1f} m', **text)]
    return _new(MARKER_ARRAY, markers=markers)


def _box_pose(box3d: Sequence[float]) -> Any:
    """Pose of the centre, turned by ry about +y."""
    half = box3d[6] / 2
    return _new('geometry_msgs/msg/Pose', position=_vector('geometry_msgs/msg/Point', box3d),
                orientation=_new('geometry_msgs/msg/Quaternion', x=0.0, y=math.sin(half), z=0.0,
                                 w=math.cos(half)))


def _marker(header: Any, **values: Any) -> Any:
    """Build a marker whose other fields are zero or empty."""
    scale, color = values.pop('scale', (0.0,) * 3), values.pop('color', (0.0,) * 4)
    now = _new('builtin_interfaces/msg/Time', sec=0, nanosec=0)
    return _new('visualization_msgs/msg/Marker', **{
        'header': header, 'ns': '', 'id': 0, 'type': 0, 'action': 0,
        'pose': _box_pose(np.zeros(7)), 'scale': _vector('geometry_msgs/msg/Vector3', scale),
        'color': _new('std_msgs/msg/ColorRGBA', **dict(zip('rgba', map(float, color)))),
        'lifetime': _new('builtin_interfaces/msg/Duration', sec=0, nanosec=0),
        'frame_locked': False, 'points': [], 'colors': [], 'texture_resource': '',
        'texture': _new('sensor_msgs/msg/CompressedImage', format='', data=np.zeros(0, np.uint8),
                        header=_new('std_msgs/msg/Header', stamp=now, frame_id='')),
        'uv_coordinates': [], 'text': '', 'mesh_resource': '',
        'mesh_file': _new('visualization_msgs/msg/MeshFile', filename='',
                          data=np.zeros(0, np.uint8)),
        'mesh_use_embedded_materials': False, **values})


def _vector(type_: str, xyz: Sequence[float]) -> Any:
    return _new(type_, x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def _region(width: int, height: int) -> Any:
    return _new('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=height,
                width=width, do_rectify=False)


def _new(type_: str, **values: Any) -> Any:
    return TYPESTORE.types[type_](**values)
