"""Rectified stereo geometry: one camera class, disparity <-> depth, projection, padding.

Frames are optical frames: x right, y down, z forward (REP 103). Pixel centres lie at integers.
All functions take numpy arrays or torch tensors and return the same kind.
"""

from dataclasses import dataclass, replace
import math
from typing import Optional, TypeVar

import numpy as np
import torch

Array = TypeVar('Array', np.ndarray, torch.Tensor)


@dataclass(frozen=True)
class StereoCamera:
    """A rectified stereo rig; pixel quantities belong to images of `width` x `height`.

    Args:
        fx: focal length of both rectified cameras along x, pixels.
        fy: focal length along y, pixels.
        cx: principal point of the left camera, pixels.
        cy: principal point of both cameras along y, pixels.
        baseline: distance between the optical centres, metres, positive.
        width: image width, pixels.
        height: image height, pixels.
        cx_right: principal point of the right camera, pixels; None means `cx`.

    Raises:
        ValueError: If a value is not finite, or a length or size is not positive.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    baseline: float
    width: int
    height: int
    cx_right: Optional[float] = None

    def __post_init__(self):
        if self.cx_right is None:
            object.__setattr__(self, 'cx_right', self.cx)
        for name in ('fx', 'fy', 'baseline', 'width', 'height'):
            value = getattr(self, name)
            if not math.isfinite(value) or value <= 0:
                raise ValueError(f'{name} must be positive and finite, got {value}')
        for name in ('cx', 'cy', 'cx_right'):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f'{name} must be finite, got {getattr(self, name)}')

    @property
    def doffs(self) -> float:
        """Disparity of a point at infinity, cx_left - cx_right, pixels."""
        return self.cx - self.cx_right

    def scaled(self, sx: float, sy: float) -> 'StereoCamera':
        """Return the camera of the images resized by `sx` horizontally and `sy` vertically.

        Pixel centres lie at integers, so a resize maps x to (x + 0.5) * sx - 0.5.
        """
        return replace(
            self, fx=self.fx * sx, fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5, cy=(self.cy + 0.5) * sy - 0.5,
            cx_right=(self.cx_right + 0.5) * sx - 0.5,
            width=round(self.width * sx), height=round(self.height * sy))


def camera_row(camera: StereoCamera) -> tuple[float, ...]:
    """Return fx, fy, cx, cy, baseline and doffs: the camera as networks and batches take it."""
    return camera.fx, camera.fy, camera.cx, camera.cy, camera.baseline, camera.doffs


def disparity_to_depth(disparity: Array, camera: StereoCamera) -> Array:
    """Convert disparity x_left - x_right to depth along the optical axis.

    Args:
        disparity: any shape, pixels of the camera's image.
        camera: the rectified rig.

    Returns:
        Depth in metres, the same shape; inf at and beyond infinity, NaN stays NaN.

    Source: stereo_msgs/DisparityImage, Z = f * T / d with d = x_l - x_r - (cx_l - cx_r).
    """
    d = disparity - camera.doffs
    if isinstance(d, torch.Tensor):
        depth = camera.fx * camera.baseline / d
        return torch.where(d <= 0, torch.full_like(depth, math.inf), depth)
    with np.errstate(divide='ignore', invalid='ignore'):
        depth = np.asarray(camera.fx * camera.baseline / d)
    depth[d <= 0] = np.inf
    return depth


def depth_to_disparity(depth: Array, camera: StereoCamera) -> Array:
    """Convert depth in metres to disparity x_left - x_right in pixels (inf gives `doffs`)."""
    return camera.fx * camera.baseline / depth + camera.doffs


def slopes(camera: StereoCamera) -> tuple[np.ndarray, np.ndarray]:
    """X / Z of the left image's columns, (1, W), and Y / Z of its rows, (H, 1), float32."""
    x = (np.arange(camera.width) - camera.cx) / camera.fx
    y = (np.arange(camera.height) - camera.cy) / camera.fy
    return x[None].astype(np.float32), y[:, None].astype(np.float32)


def unproject(depth: np.ndarray, camera: StereoCamera) -> np.ndarray:
    """Lift a depth map to points in the left optical frame.

    Args:
        depth: (H, W), metres.
        camera: rig whose left image has this depth map.

    Returns:
        (H, W, 3) float32 x, y, z in metres.

    Raises:
        ValueError: If the map has another size than the camera's image.
    """
    if depth.shape != (camera.height, camera.width):
        raise ValueError(f'depth is {depth.shape[1]}x{depth.shape[0]} but the camera has '
                         f'{camera.width}x{camera.height}; scale the camera with scaled()')
    x, y = slopes(camera)
    points = np.empty(depth.shape + (3,), np.float32)
    points[..., 0] = x * depth
    points[..., 1] = y * depth
    points[..., 2] = depth
    return points


def project(points: Array, camera: StereoCamera) -> Array:
    """Project points of the left optical frame into both images.

    Args:
        points: (..., 3), metres, z > 0.
        camera: the rectified rig.

    Returns:
        (..., 3): x_left, y, x_right in pixels.
    """
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    columns = (camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy,
               camera.fx * (x - camera.baseline) / z + camera.cx_right)
    stack = torch.stack if isinstance(points, torch.Tensor) else np.stack
    return stack(columns, -1)


def pad_to_multiple(image: torch.Tensor, multiple: int = 32) -> torch.Tensor:
    """Pad (B, C, H, W) on the right and bottom, repeating the border, to multiples of `multiple`.

    x, y, cx and cy do not move; undo with `image[..., :H, :W]`.
    """
    H, W = image.shape[-2:]
    padding = (0, -W % multiple, 0, -H % multiple)
    return torch.nn.functional.pad(image, padding, mode='replicate') if any(padding) else image
