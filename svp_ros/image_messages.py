"""Decode Image, CompressedImage and DisparityImage, whether rclpy or `rosbags` made the object.

Both have the same attributes, so this file needs neither. No per-pixel Python.
"""

from typing import Any

import cv2
import numpy as np

# Encoding -> numpy type of a channel, number of channels.
ENCODINGS = {
    'mono8': ('u1', 1), '8UC1': ('u1', 1), 'rgb8': ('u1', 3), 'bgr8': ('u1', 3), '8UC3': ('u1', 3),
    'rgba8': ('u1', 4), 'bgra8': ('u1', 4), 'mono16': ('u2', 1), '16UC1': ('u2', 1),
    'bayer_rggb8': ('u1', 1), 'bayer_bggr8': ('u1', 1), 'bayer_gbrg8': ('u1', 1),
    'bayer_grbg8': ('u1', 1), 'yuv422': ('u1', 2), 'uyvy': ('u1', 2), 'yuv422_yuy2': ('u1', 2),
    'yuyv': ('u1', 2), '32FC1': ('f4', 1)}
TO_RGB = {'bgr8': cv2.COLOR_BGR2RGB, '8UC3': cv2.COLOR_BGR2RGB, 'rgba8': cv2.COLOR_RGBA2RGB,
          'bgra8': cv2.COLOR_BGRA2RGB, 'bayer_rggb8': cv2.COLOR_BayerRGGB2RGB,
          'bayer_bggr8': cv2.COLOR_BayerBGGR2RGB, 'bayer_gbrg8': cv2.COLOR_BayerGBRG2RGB,
          'bayer_grbg8': cv2.COLOR_BayerGRBG2RGB, 'yuv422': cv2.COLOR_YUV2RGB_UYVY,
          'uyvy': cv2.COLOR_YUV2RGB_UYVY, 'yuv422_yuy2': cv2.COLOR_YUV2RGB_YUY2,
          'yuyv': cv2.COLOR_YUV2RGB_YUY2}
COLOR_ENCODINGS = tuple(f'{order}{bits}' for order in ('rgb', 'bgr', 'rgba', 'bgra')
                        for bits in (8, 16))


def decode_image(message: Any) -> np.ndarray:
    """Convert an Image of a usual encoding to RGB, grey or float.

    Args:
        message: sensor_msgs/Image of any step and byte order.

    Returns:
        (H, W, 3) uint8 RGB; (H, W) uint8 grey, of 16 bits the upper 8; (H, W) float32 of 32FC1.
        May share memory with the message.

    Raises:
        ValueError: If the message is empty or inconsistent, or its encoding is not in ENCODINGS.
    """
    height, width, encoding = message.height, message.width, message.encoding
    if encoding not in ENCODINGS:
        raise ValueError(f'encoding "{encoding}" is not known; publish one of '
                         f'{", ".join(ENCODINGS)}')
    if not height or not width:
        raise ValueError(f'the image is empty ({width}x{height})')
    kind, channels = ENCODINGS[encoding]
    dtype = np.dtype(kind).newbyteorder('>' if message.is_bigendian else '<')
    row = width * channels * dtype.itemsize
    if message.step < row or len(message.data) < message.step * (height - 1) + row:
        raise ValueError(f'a {width}x{height} {encoding} image needs step >= {row} and '
                         f'{height} rows, got step {message.step} and {len(message.data)} bytes')
    if channels == 2 and width % 2:
        raise ValueError(f'a {encoding} image stores pixels in pairs: its width must be even, '
                         f'got {width}')
    if encoding.startswith('bayer') and (height < 2 or width < 2):
        raise ValueError(f'a {encoding} image needs 2x2 pixels at least, got {width}x{height}')
    data = np.frombuffer(message.data, np.uint8)
    rows = np.lib.stride_tricks.as_strided(data, (height, row), (message.step, 1), writeable=False)
    if kind == 'u2':
        return np.ascontiguousarray(rows[:, 0 if message.is_bigendian else 1::2])
    if kind == 'f4':
        return np.ascontiguousarray(rows).view(dtype).astype(np.float32, copy=False)
    image = rows if channels == 1 else rows.reshape(height, width, channels)
    if encoding in TO_RGB:
        return cv2.cvtColor(np.ascontiguousarray(image), TO_RGB[encoding])
    return image


def decode_compressed(message: Any) -> np.ndarray:
    """Convert a CompressedImage (JPEG or PNG) to RGB or grey.

    Args:
        message: sensor_msgs/CompressedImage as image_transport publishes it.

    Returns:
        (H, W, 3) uint8 RGB or (H, W) uint8 grey, of 16 bits the upper 8.

    Raises:
        ValueError: If the data are neither, or damaged.

    Source: the meaning of `format` is that of image_transport_plugins' compressed_subscriber.
    """
    data = np.frombuffer(message.data, np.uint8)
    kind = _compression(data)
    if not kind:
        raise ValueError(f'the compressed image (format "{message.format}", {data.size} bytes) is '
                         'neither JPEG nor PNG; set the publisher to one of these')
    whole = kind == 'PNG' or b'\xff\xd9' in data.tobytes()  # OpenCV paints what is missing grey
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if whole else None
    except cv2.error as error:
        raise ValueError(f'the compressed image cannot be decoded: {error.err}') from error
    if image is None:
        raise ValueError(f'the {kind} image of {data.size} bytes is damaged or cut off; check '
                         'that the whole file is in the message')
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    encoding, separator, compressed = message.format.partition(';')
    if image.ndim == 2:
        return cv2.cvtColor(image, TO_RGB[encoding]) if encoding.startswith('bayer') and (
            encoding in TO_RGB) else image
    if image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB)
    if separator and encoding in COLOR_ENCODINGS and 'compressed bgr' not in compressed:
        return image  # its red was stored where JPEG has blue
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _compression(data: np.ndarray) -> str:
    head = data[:8].tobytes()
    if head == b'\x89PNG\r\n\x1a\n':
        return 'PNG'
    return 'JPEG' if head[:3] == b'\xff\xd8\xff' else ''


def decode_disparity(message: Any) -> np.ndarray:
    """Convert a DisparityImage to (H, W) float32, NaN where it is invalid (< min_disparity).

    The values stay in the message's convention, x_left - x_right - (cx_left - cx_right).

    Raises:
        ValueError: If the image inside is not 32FC1 or too short.
    """
    if message.image.encoding != '32FC1':
        raise ValueError(f'a DisparityImage must hold a 32FC1 image, got {message.image.encoding}')
    disparity = decode_image(message.image)
    return np.where(disparity >= message.min_disparity, disparity, np.float32(np.nan))
