"""Images and disparity maps on disk; no sentinel values leave this file."""

from pathlib import Path
from typing import Optional, Union

import cv2
import numpy as np

PathLike = Union[str, Path]
KITTI_SCALE = 256


def read_image(path: PathLike) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB; grey images repeat their channel.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not an image.
    """
    # twice as fast for grey files as letting OpenCV decode them as colour
    image = _decode(path, cv2.IMREAD_ANYCOLOR)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)


def write_image(path: PathLike, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB or (H, W) uint8 as the format that the file name says.

    Raises:
        ValueError: If the array is not such an image or the file name says no known format.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.ndim == 3 and image.shape[2] == 3):
        raise ValueError(f'an image to write must be (H, W, 3) or (H, W) uint8, '
                         f'got {image.shape} {image.dtype}')
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _encode(path, image)


def read_pfm(path: PathLike) -> np.ndarray:
    """Read a one-channel portable float map as (H, W) float32, top row first.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a grey PFM of the size that its header says.

    Source: http://www.pauldebevec.com/Research/HDR/PFM/, rows from bottom to top, the sign of
    the scale is the byte order.
    """
    content = _existing(path).read_bytes()
    header = content.split(b'\n', 3)
    try:
        kind, size, scale, data = header
        width, height = (int(number) for number in size.split())
        scale = float(scale)
    except ValueError:
        raise ValueError(f'{path} is not a PFM file: its header is broken') from None
    if kind.strip() != b'Pf':
        raise ValueError(f'{path} must be a one-channel PFM ("Pf"), got "{kind.decode("latin1")}"')
    if len(data) < width * height * 4:
        raise ValueError(f'{path} is cut short: {width}x{height} floats are {width * height * 4} '
                         f'bytes, got {len(data)}')
    values = np.frombuffer(data, '<f4' if scale < 0 else '>f4', width * height)
    return values.reshape(height, width)[::-1].astype(np.float32)


def write_pfm(path: PathLike, values: np.ndarray) -> None:
    """Write (H, W) as a little-endian one-channel PFM.

    Raises:
        ValueError: If the array is not two-dimensional.
    """
    if values.ndim != 2:
        raise ValueError(f'a PFM to write must be (H, W), got {values.shape}')
    H, W = values.shape
    header = f'Pf\n{W} {H}\n-1.0\n'.encode()
    Path(path).write_bytes(header + values[::-1].astype('<f4').tobytes())


def read_disparity(path: PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Read ground-truth disparity from a PFM, a KITTI 16-bit PNG or a NumPy file.

    In a PFM, values that are not finite are unknown, in a KITTI PNG zeros, in a NumPy file both.
    A PFM zero is a disparity (a point at infinity).

    Returns:
        (H, W) float32 disparity in pixels, 0 where unknown, and (H, W) bool, True where known.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none of these formats, or a known disparity is negative.
    """
    suffix = Path(path).suffix.lower()
    if suffix == '.png':
        return read_scaled_disparity(path, KITTI_SCALE, np.uint16)
    if suffix == '.pfm':
        disparity = read_pfm(path)
        valid = np.isfinite(disparity)
    elif suffix == '.npy':
        disparity = _read_npy(path)
        valid = np.isfinite(disparity) & (disparity != 0)
    else:
        raise ValueError(f'{path}: disparity is read from .pfm, KITTI 16-bit .png or .npy files')
    if (disparity[valid] < 0).any():
        raise ValueError(f'{path} holds negative disparities; x_left - x_right must be >= 0')
    return np.where(valid, disparity, np.float32(0)), valid


def read_scaled_disparity(path: PathLike, scale: float,
                          dtype: Optional[type] = None) -> tuple[np.ndarray, np.ndarray]:
    """Read disparity that a one-channel image holds as grey levels; 0 is unknown.

    Args:
        path: image file.
        scale: grey levels per pixel of disparity.
        dtype: np.uint8 or np.uint16, what the image must be; None takes both.

    Returns, Raises:
        Like `read_disparity`.
    """
    raw = read_grey(path, dtype)
    return raw.astype(np.float32) / np.float32(scale), raw > 0


def read_grey(path: PathLike, dtype: Optional[type] = None) -> np.ndarray:
    """Read a one-channel image as it is, (H, W) uint8 or uint16; `dtype` says what it must be.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such an image.
    """
    raw = _decode(path, cv2.IMREAD_UNCHANGED)
    if raw.ndim != 2 or dtype and raw.dtype != dtype:
        bits = {np.uint8: '8-bit ', np.uint16: '16-bit '}.get(dtype, '')
        raise ValueError(f'{path} must be a one-channel {bits}image, got {raw.shape} {raw.dtype}')
    return raw


def read_not_occluded(path: PathLike) -> np.ndarray:
    """(H, W) bool, True where a picture of occlusions is black; raises like `read_grey`."""
    return read_grey(path) == 0


def read_named_numbers(path: PathLike, counts: dict[str, int]) -> list[list[float]]:
    """Read lines "name: number number ..." of a calibration file.

    Args:
        path: text file; other lines do not matter.
        counts: how many numbers each wanted name has.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a name is missing or has other numbers.
    """
    lines = dict(line.partition(':')[::2] for line in _existing(path).read_text().splitlines())
    values = []
    for name, count in counts.items():
        try:
            values.append([float(number) for number in lines.get(name, '').split()])
        except ValueError:
            values.append([])
        if len(values[-1]) != count:
            raise ValueError(f'{path} must have a line "{name}:" with {count} numbers')
    return values


def _read_npy(path: PathLike) -> np.ndarray:
    try:
        values = np.load(_existing(path), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f'{path} is not a NumPy array: {error}') from None
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f'{path} must be (H, W) floats, got {values.shape} {values.dtype}')
    return values.astype(np.float32)


def _existing(path: PathLike) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no file {path}')
    return path


def _decode(path: PathLike, mode: int) -> np.ndarray:
    content = np.frombuffer(_existing(path).read_bytes(), np.uint8)
    image = cv2.imdecode(content, mode) if content.size else None
    if image is None:
        raise ValueError(f'{path} is not an image that OpenCV can read')
    return image


def _encode(path: PathLike, image: np.ndarray) -> None:
    suffix = Path(path).suffix.lower()
    if not cv2.haveImageWriter(f'a{suffix}'):
        raise ValueError(f'{path}: no image format "{suffix}"; use .png or .jpg')
    Path(path).write_bytes(cv2.imencode(suffix, image)[1].tobytes())
