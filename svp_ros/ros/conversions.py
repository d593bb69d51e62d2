"""Messages <-> arrays. Pure functions; no per-pixel Python.

Arrays go out as `array.array`, which a message keeps as it is if it checks its fields. Humble's
always do; later ones copy the array once more unless they are told to.
"""

from array import array
import sys
from typing import Optional, Union

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from stereo_msgs.msg import DisparityImage

from svp_ros.geometry import slopes, StereoCamera
from svp_ros.image_messages import decode_compressed, decode_image, ENCODINGS

CHECKED = {'check_fields': True} if '_check_fields' in Image.__slots__ else {}


def image_to_array(message: Union[Image, CompressedImage]) -> np.ndarray:
    """Convert a camera's Image or CompressedImage to (H, W, 3) RGB or (H, W) grey, uint8.

    What `decode_image` does not know goes to cv_bridge, where that is installed.

    Raises:
        ValueError: If the message is empty or inconsistent, or its encoding is not known.
    """
    if isinstance(message, CompressedImage):
        return decode_compressed(message)
    if message.encoding in ENCODINGS and message.encoding != '32FC1':
        return decode_image(message)
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError:
        known = ', '.join(name for name in ENCODINGS if name != '32FC1')
        raise ValueError(f'encoding "{message.encoding}" is not known; publish one of {known}, '
                         'or install cv_bridge') from None
    try:
        return CvBridge().imgmsg_to_cv2(message, 'rgb8')
    except (CvBridgeError, RuntimeError, TypeError, AttributeError, cv2.error) as error:
        raise ValueError(f'cv_bridge cannot convert "{message.encoding}": {error}') from error


def array_to_image(pixels: np.ndarray, encoding: str, header) -> Image:
    """Pack an array as an Image in the byte order of this machine."""
    message = Image(header=header, height=pixels.shape[0], width=pixels.shape[1],
                    encoding=encoding, step=pixels[0].nbytes,
                    is_bigendian=int(sys.byteorder == 'big'), **CHECKED)
    message.data = to_bytes(pixels)
    return message


def nanoseconds(stamp) -> int:
    """Return a stamp in nanoseconds; unlike rclpy.time.Time it takes negative ones too."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def to_bytes(values: np.ndarray) -> array:
    """Copy an array into what a uint8[] field keeps as it is."""
    data = array('B')
    data.frombytes(memoryview(np.ascontiguousarray(values)).cast('B'))
    return data


def disparity_message(disparity: np.ndarray, camera: Optional[StereoCamera], minimum: float,
                      maximum: float, header) -> DisparityImage:
    """Fill every field of a DisparityImage.

    Args:
        disparity: (H, W) float32, x_left - x_right - (cx_left - cx_right); NaN where invalid.
        camera: the rig at this image size; None leaves f and T at 0.
        minimum: disparity of the farthest point that counts, positive.
        maximum: disparity of the nearest point that counts.
        header: that of the left image.

    Returns:
        The message; invalid pixels lie below min_disparity. delta_d is the step of float32 at
        `maximum`: the network regresses real numbers, so nothing coarser quantises them.
    """
    valid = np.isfinite(disparity)
    low = np.float32(minimum)
    f, t = (camera.fx, camera.baseline) if camera else (0.0, 0.0)
    message = DisparityImage(header=header, f=float(f), t=float(t),
                             min_disparity=float(low), max_disparity=float(np.float32(maximum)),
                             delta_d=float(np.spacing(np.float32(maximum))))
    pixels = disparity.copy()
    cv2.patchNaNs(pixels, float(low) - 1)
    message.image = array_to_image(pixels, '32FC1', header)
    rows, columns = np.flatnonzero(valid.any(1)), np.flatnonzero(valid.any(0))
    if rows.size:
        window = message.valid_window
        window.x_offset, window.y_offset = int(columns[0]), int(rows[0])
        window.width = int(columns[-1] - columns[0] + 1)
        window.height = int(rows[-1] - rows[0] + 1)
    return message


def color_disparity(disparity: np.ndarray) -> np.ndarray:
    """Paint disparity with the Turbo colour map, near is red, invalid is black.

    Args:
        disparity: (H, W) float32, NaN where invalid.

    Returns:
        (H, W, 3) uint8 BGR; full scale is the 98th percentile of the image.
    """
    valid = np.isfinite(disparity)
    sample = disparity[::4, ::4][valid[::4, ::4]]
    scale = max(float(np.percentile(sample, 98)), 1e-6) if sample.size else 1.0
    levels = np.where(valid, np.clip(disparity * (255 / scale), 0, 255), 0).astype(np.uint8)
    colors = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)
    colors[~valid] = 0
    return colors


def camera_to_info(camera: StereoCamera, header) -> CameraInfo:
    """Describe the rectified left camera (no distortion, R = identity, K = P)."""
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    return CameraInfo(
        header=header, width=camera.width, height=camera.height, distortion_model='plumb_bob',
        d=[0.0] * 5, k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0])


def cloud_message(depth: np.ndarray, image: np.ndarray, camera: StereoCamera,
                  header) -> PointCloud2:
    """Make an organised cloud with x, y, z and colour, NaN where depth is not known.

    Args:
        depth: (H, W) float32, metres, NaN where invalid.
        image: (H, W, 3) RGB or (H, W) grey, uint8.
        camera: the rig at this image size.
        header: that of the left image.
    """
    H, W = depth.shape
    x, y = slopes(camera)
    bgra = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGRA if image.ndim == 3
                        else cv2.COLOR_GRAY2BGRA)
    rgb = (bgra.view('<u4')[..., 0] & 0x00ffffff).view(np.float32)
    points = cv2.merge((x * depth, y * depth, depth, rgb))  # much faster than numpy's strides
    message = PointCloud2(header=header, height=H, width=W, is_dense=False,
                          is_bigendian=sys.byteorder == 'big', point_step=16, row_step=16 * W,
                          **CHECKED)
    message.fields = [PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
                      for index, name in enumerate(('x', 'y', 'z', 'rgb'))]
    message.data = to_bytes(points)
    return message
