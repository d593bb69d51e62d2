"""Messages <-> arrays. Pure functions; no per-pixel Python.

Arrays go out through `array.array` and a memoryview, which rclpy takes without checking elements.
"""

from array import array
import sys

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from stereo_msgs.msg import DisparityImage

from svp_ros.geometry import StereoCamera, unproject

CHANNELS = {'mono8': 1, '8UC1': 1, 'rgb8': 3, 'bgr8': 3, '8UC3': 3, 'rgba8': 4, 'bgra8': 4,
            'bayer_rggb8': 1, 'bayer_bggr8': 1, 'bayer_gbrg8': 1, 'bayer_grbg8': 1,
            'mono16': 1, '16UC1': 1}
TO_RGB = {'bgr8': cv2.COLOR_BGR2RGB, '8UC3': cv2.COLOR_BGR2RGB, 'rgba8': cv2.COLOR_RGBA2RGB,
          'bgra8': cv2.COLOR_BGRA2RGB, 'bayer_rggb8': cv2.COLOR_BayerRGGB2RGB,
          'bayer_bggr8': cv2.COLOR_BayerBGGR2RGB, 'bayer_gbrg8': cv2.COLOR_BayerGBRG2RGB,
          'bayer_grbg8': cv2.COLOR_BayerGRBG2RGB}


def image_to_array(message: Image) -> np.ndarray:
    """Convert an Image of a usual encoding to RGB or grey.

    Args:
        message: sensor_msgs/Image of any step and byte order; of 16 bits the upper 8 are kept.

    Returns:
        (H, W, 3) RGB or (H, W) grey, uint8; may share memory with the message.

    Raises:
        ValueError: If the message is empty or inconsistent, or its encoding is not known.
    """
    height, width, encoding = message.height, message.width, message.encoding
    if not height or not width:
        raise ValueError(f'the image is empty ({width}x{height})')
    if encoding not in CHANNELS:
        return _convert_with_cv_bridge(message)
    channels, wide = CHANNELS[encoding], encoding in ('mono16', '16UC1')
    row = width * channels * (2 if wide else 1)
    if message.step < row or len(message.data) < message.step * (height - 1) + row:
        raise ValueError(f'a {width}x{height} {encoding} image needs step >= {row} and '
                         f'{height} rows, got step {message.step} and {len(message.data)} bytes')
    data = np.frombuffer(message.data, np.uint8)
    rows = np.lib.stride_tricks.as_strided(data, (height, row), (message.step, 1), writeable=False)
    if wide:
        return np.ascontiguousarray(rows[:, 0 if message.is_bigendian else 1::2])
    image = rows if channels == 1 else rows.reshape(height, width, channels)
    if encoding in TO_RGB:
        return cv2.cvtColor(np.ascontiguousarray(image), TO_RGB[encoding])
    return image


def array_to_image(pixels: np.ndarray, encoding: str, header) -> Image:
    """Pack an array as an Image in the byte order of this machine."""
    message = Image(header=header, height=pixels.shape[0], width=pixels.shape[1],
                    encoding=encoding, step=pixels[0].nbytes,
                    is_bigendian=int(sys.byteorder == 'big'))
    message.data = to_bytes(pixels)
    return message


def nanoseconds(stamp) -> int:
    """Return a stamp in nanoseconds; unlike rclpy.time.Time it takes negative ones too."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def to_bytes(values: np.ndarray) -> array:
    """Copy an array into what rclpy assigns to a uint8[] field without a per-element check."""
    data = array('B')
    data.frombytes(memoryview(np.ascontiguousarray(values)).cast('B'))
    return data


def disparity_message(disparity: np.ndarray, camera: StereoCamera, minimum: float,
                      maximum: float, header) -> DisparityImage:
    """Fill every field of a DisparityImage.

    Args:
        disparity: (H, W) float32, x_left - x_right - (cx_left - cx_right); NaN where invalid.
        camera: the rig at this image size.
        minimum: disparity of the farthest point that counts, positive.
        maximum: disparity of the nearest point that counts.
        header: that of the left image.

    Returns:
        The message; invalid pixels lie below min_disparity. delta_d is the step of float32 at
        `maximum`: the network regresses real numbers, so nothing coarser quantises them.
    """
    valid = np.isfinite(disparity)
    low = np.float32(minimum)
    message = DisparityImage(header=header, f=float(camera.fx), t=float(camera.baseline),
                             min_disparity=float(low), max_disparity=float(np.float32(maximum)),
                             delta_d=float(np.spacing(np.float32(maximum))))
    message.image = array_to_image(np.where(valid, disparity, low - 1), '32FC1', header)
    rows, columns = np.flatnonzero(valid.any(1)), np.flatnonzero(valid.any(0))
    if rows.size:
        window = message.valid_window
        window.x_offset, window.y_offset = int(columns[0]), int(rows[0])
        window.width = int(columns[-1] - columns[0] + 1)
        window.height = int(rows[-1] - rows[0] + 1)
    return message


def message_to_disparity(message: DisparityImage) -> np.ndarray:
    """Read a DisparityImage back: (H, W) float32, NaN where invalid.

    Raises:
        ValueError: If the image inside is not 32FC1 or too short.
    """
    image = message.image
    if image.encoding != '32FC1' or len(image.data) < image.step * image.height:
        raise ValueError(f'DisparityImage must hold a complete 32FC1 image, got {image.encoding} '
                         f'with {len(image.data)} bytes')
    kind = np.dtype('>f4' if image.is_bigendian else '<f4')
    rows = np.frombuffer(image.data, np.uint8)[:image.step * image.height]
    rows = np.ascontiguousarray(rows.reshape(image.height, image.step)[:, :4 * image.width])
    disparity = rows.view(kind).astype(np.float32)
    return np.where(disparity >= message.min_disparity, disparity, np.float32(np.nan))


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
    points = cv2.cvtColor(unproject(depth, camera), cv2.COLOR_RGB2RGBA)  # much faster than strides
    bgra = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGRA if image.ndim == 3
                        else cv2.COLOR_GRAY2BGRA)
    points.view(np.uint32)[..., 3] = bgra.view('<u4')[..., 0] & 0x00ffffff
    message = PointCloud2(header=header, height=H, width=W, is_dense=False,
                          is_bigendian=sys.byteorder == 'big', point_step=16, row_step=16 * W)
    message.fields = [PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
                      for index, name in enumerate(('x', 'y', 'z', 'rgb'))]
    message.data = to_bytes(points)
    return message


def _convert_with_cv_bridge(message: Image) -> np.ndarray:
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError:
        raise ValueError(f'encoding "{message.encoding}" is not known; publish one of '
                         f'{", ".join(CHANNELS)}, or install cv_bridge') from None
    try:
        return CvBridge().imgmsg_to_cv2(message, 'rgb8')
    except CvBridgeError as error:
        raise ValueError(f'cv_bridge cannot convert "{message.encoding}": {error}') from error
