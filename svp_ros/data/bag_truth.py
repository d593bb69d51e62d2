"""Ground truth of a recording, as disparity of the rectified left image.

It may be a DisparityImage, a depth image or a point cloud. A depth image that was made for the
left rectified image is taken as it is; others, and clouds, are moved there as points, by
/tf_static or by a given transform, and projected.
"""

from typing import Any, Optional

import cv2
import numpy as np

from svp_ros.data.bag_messages import DISPARITY_IMAGE, IMAGE, POINT_CLOUD
from svp_ros.data.bag_topics import find_info
from svp_ros.data.bag_transforms import FixedTransforms
from svp_ros.data.bags import StereoPair
from svp_ros.data.rosbag2 import BagReader, NearestMessages
from svp_ros.geometry import depth_to_disparity, StereoCamera
from svp_ros.image_messages import decode_disparity, decode_image
from svp_ros.rectification import has_distortion

TOLERANCE = {POINT_CLOUD: 50_000_000}  # nanoseconds; a lidar turns at 10 Hz and is not triggered
HIDDEN = 1.1  # of the depth of a neighbour: farther points are seen past its edge by the sensor
NEIGHBOURS = (7, 3)  # width and height of the neighbourhood, pixels
_FLOATS = {7: 'f4', 8: 'f8'}  # PointField.datatype


class BagTruth:
    """Ground truth for the pairs of a recording, asked for in their order.

    Args:
        bag: open recording, read by nobody else.
        topic: of type DisparityImage, Image (16UC1 in millimetres or 32FC1 in metres) or
            PointCloud2.
        tolerance: nanoseconds between the stamps of an image and its truth; None takes 50 ms for
            clouds and equal stamps for images.
        transform: (4, 4) matrix from the frame of the truth to that of the left image, instead of
            /tf_static.

    Raises:
        ValueError: If the recording has no such topic, or one of another type.
    """

    def __init__(self, bag: BagReader, topic: str, tolerance: Optional[int] = None,
                 transform: Optional[np.ndarray] = None):
        self.topic = bag.resolve(topic)
        self.type = bag.types[self.topic]
        if self.type not in (DISPARITY_IMAGE, IMAGE, POINT_CLOUD):
            raise ValueError(f'{self.topic} holds {self.type}; ground truth is a DisparityImage, '
                             'a depth Image or a PointCloud2')
        self._bag = bag
        self._messages = NearestMessages(
            bag, self.topic, TOLERANCE.get(self.type, 0) if tolerance is None else tolerance)
        self._given = transform
        self._transforms = FixedTransforms(bag)
        self._rays: Optional[np.ndarray] = None

    def at(self, pair: StereoPair) -> Optional[np.ndarray]:
        """Return the (H, W) float32 disparity x_left - x_right of a pair, NaN where unknown.

        None if the recording has no truth for its stamp. Pairs must come in order of time.

        Raises:
            ValueError: If a message cannot be used; the text says what would work.
        """
        nearest = self._messages.at(pair.stamp)
        if nearest is None:
            return None
        message = self._bag.decode(nearest)
        if self.type == DISPARITY_IMAGE:
            disparity = self._from_disparity(message, pair.camera)
        else:
            depth = self._depth(message, pair)
            disparity = depth_to_disparity(depth, pair.camera).astype(np.float32)
        return disparity if np.isfinite(disparity).any() else None

    def _from_disparity(self, message: Any, camera: StereoCamera) -> np.ndarray:
        scale = scale_to(camera, message, self.topic)
        return (_resize(decode_disparity(message), camera) * np.float32(scale)
                + np.float32(camera.doffs))

    def _depth(self, message: Any, pair: StereoPair) -> np.ndarray:
        frame = message.header.frame_id
        if self.type == POINT_CLOUD:
            points = decode_cloud(message)
        else:
            depth = decode_depth(message)
            same = frame == pair.frame_id and self._given is None
            if same and pair.inside is None:
                return _resize(depth, pair.camera)
            points = (self._find_rays(depth.shape) * depth[..., None]).reshape(-1, 3)
        points = points[np.isfinite(points).all(axis=1)]
        matrix = self._given
        if matrix is None:
            matrix = self._transforms.find(frame, pair.frame_id)
        points = points @ matrix[:3, :3].T + matrix[:3, 3]
        return render_depth(points @ pair.rotation.T, pair.camera)

    def _find_rays(self, shape: tuple[int, int]) -> np.ndarray:
        """(H, W, 3) directions of the pixels of the depth camera, z = 1."""
        if self._rays is None:
            H, W = shape
            info = self._bag.decode(next(self._bag.raw([find_info(self._bag, self.topic)])))
            sx, sy = W / info.width, H / info.height
            pixels = np.stack(np.meshgrid((np.arange(W) + 0.5) / sx - 0.5,
                                          (np.arange(H) + 0.5) / sy - 0.5), axis=-1)
            d = np.array(info.d) if has_distortion(info) else np.zeros(5)
            rays = cv2.undistortPoints(pixels.reshape(-1, 1, 2), info.k.reshape(3, 3), d)
            self._rays = np.concatenate([rays.reshape(H, W, 2), np.ones((H, W, 1))], axis=-1)
        return self._rays


def decode_depth(message: Any) -> np.ndarray:
    """Convert a depth Image to (H, W) float32 metres, NaN where unknown (0, NaN or infinite).

    Raises:
        ValueError: If it is neither 16UC1 (millimetres) nor 32FC1 (metres), or too short.

    Source: REP 118.
    """
    if message.encoding in ('16UC1', 'mono16'):
        H, W, step = message.height, message.width, message.step
        if step < 2 * W or len(message.data) < step * (H - 1) + 2 * W:
            raise ValueError(f'a {W}x{H} {message.encoding} image needs step >= {2 * W} and {H} '
                             f'rows, got step {step} and {len(message.data)} bytes')
        kind = '>u2' if message.is_bigendian else '<u2'
        depth = np.ndarray((H, W), kind, bytes(message.data), strides=(step, 2)) / np.float32(1000)
    elif message.encoding == '32FC1':
        depth = decode_image(message)
    else:
        raise ValueError(f'a depth image must be 16UC1 (millimetres) or 32FC1 (metres), got '
                         f'{message.encoding}')
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.nan).astype(np.float32)


def scale_to(camera: StereoCamera, message: Any, name: str) -> float:
    """Pixels of the camera's images per pixel of a DisparityImage of the same camera.

    Raises:
        ValueError: If `name`, where the message comes from, belongs to another camera.
    """
    scale = camera.width / message.image.width
    if not np.allclose((message.f * scale, message.t), (camera.fx, camera.baseline), rtol=0.01):
        raise ValueError(
            f'{name} belongs to another camera: focal length {message.f * scale:.1f} px and '
            f'baseline {message.t:.4f} m, but the images have {camera.fx:.1f} px and '
            f'{camera.baseline:.4f} m')
    return scale


def decode_cloud(message: Any) -> np.ndarray:
    """Convert a PointCloud2 of any layout to (N, 3) float64 x, y, z.

    Raises:
        ValueError: If x, y and z are not there as floating-point numbers, or data are missing.
    """
    fields = {field.name: field for field in message.fields}
    if not all(name in fields and fields[name].datatype in _FLOATS for name in 'xyz'):
        raise ValueError('a point cloud needs the fields x, y and z as float32 or float64, got '
                         f'{", ".join(fields) or "none"}')
    H, W = message.height, message.width
    if len(message.data) < message.row_step * (H - 1) + message.point_step * W:
        raise ValueError(f'a point cloud of {W}x{H} points of {message.point_step} bytes came '
                         f'with {len(message.data)} bytes')
    if not H * W:
        return np.zeros((0, 3))
    order, data = '>' if message.is_bigendian else '<', bytes(message.data)
    return np.stack([np.ndarray(
        (H, W), order + _FLOATS[fields[name].datatype], data, fields[name].offset,
        (message.row_step, message.point_step)).ravel() for name in 'xyz'], axis=1).astype(
            np.float64)


def render_depth(points: np.ndarray, camera: StereoCamera) -> np.ndarray:
    """Project points of the rectified left frame; the nearest one of each pixel counts.

    Another sensor looks past edges that the camera does not: points much farther than a neighbour
    are left out.

    Args:
        points: (N, 3), metres.
        camera: the rectified rig.

    Returns:
        (H, W) float32 depth, NaN where no point is seen.
    """
    H, W = camera.height, camera.width
    points = points[points[:, 2] > 1e-3]
    z = points[:, 2]
    x = np.round(camera.fx * points[:, 0] / z + camera.cx)
    y = np.round(camera.fy * points[:, 1] / z + camera.cy)
    inside = (x >= 0) & (x < W) & (y >= 0) & (y < H)
    pixel = (y[inside] * W + x[inside]).astype(np.int64)
    far_first = np.argsort(-z[inside])
    depth = np.full(H * W, np.inf, np.float32)
    depth[pixel[far_first]] = z[inside][far_first]
    depth = depth.reshape(H, W)
    nearest = cv2.erode(depth, np.ones(NEIGHBOURS[::-1], np.uint8)).astype(np.float64)
    return np.where(np.isfinite(depth) & (depth <= HIDDEN * nearest), depth, np.float32(np.nan))


def _resize(values: np.ndarray, camera: StereoCamera) -> np.ndarray:
    if values.shape == (camera.height, camera.width):
        return values
    if abs(values.shape[1] * camera.height / (values.shape[0] * camera.width) - 1) > 0.01:
        raise ValueError(f'the ground truth is {values.shape[1]}x{values.shape[0]}, which is no '
                         f'scaled {camera.width}x{camera.height} of the images')
    return cv2.resize(values, (camera.width, camera.height), interpolation=cv2.INTER_NEAREST)
