"""3-D boxes in the left optical frame: convention, corners, projection, overlap.

A box3d row is x, y, z, l, h, w, ry in metres and radians: the geometric centre, the length along
the heading, the height along y (down) and the width across. The yaw ry turns about +y as in
KITTI: 0 faces +x, -pi/2 faces +z (away from the camera), wrapped to [-pi, pi). A box2d row is
left, top, right, bottom in pixels of the left image, whose pixel centres lie at integers.
"""

from dataclasses import dataclass, fields, replace
from itertools import product
import math
from typing import Optional, TypeVar, Union

import numpy as np
import torch

from svp_ros.geometry import project, StereoCamera

Array = TypeVar('Array', np.ndarray, torch.Tensor)
AnyBoxes = TypeVar('AnyBoxes', 'Boxes', 'LabelledBoxes')

CLASSES = ('Car', 'Pedestrian', 'Cyclist')
DONT_CARE = 'DontCare'

# Signs of length, height and width: corners 0-3 are the rear, 4-7 the front; y points down, so
# that 0, 1, 4, 5 are the top. Corners that differ in one sign share an edge.
CORNERS = np.array(list(product((-1, 1), repeat=3)))
EDGES = np.array([(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b) in (1, 2, 4)])
NEAR = 0.1  # metres; what is nearer to the image plane has no useful projection

# KITTI's easy, moderate, hard: a box is higher than so many pixels of the image that it was
# labelled in, and its worst occlusion and largest truncation are these. What is easy is also one
# of the moderate, and so on.
DIFFICULTIES = ((40, 0, 0.15), (25, 1, 0.30), (25, 2, 0.50))
UNKNOWN_OCCLUSION = 3
VISIBLE_SHARES = (0.8, 0.4, 0.1)  # below them a thing is partly, largely, almost wholly occluded


@dataclass(frozen=True)
class Boxes:
    """What a detector says about one image.

    Attributes:
        box3d: (N, 7) float32.
        label: N names of classes.
        score: (N,) float32 in [0, 1].

    Raises:
        ValueError: If the attributes are of different length or of another shape.
    """

    box3d: np.ndarray
    label: list[str]
    score: np.ndarray

    def __post_init__(self):
        _check_shapes(self, box3d=(7,), score=())

    def __len__(self) -> int:
        return len(self.label)

    def select(self, keep: np.ndarray) -> 'Boxes':
        """Return the boxes of a boolean mask or of a list of indices."""
        return _select(self, keep)


@dataclass(frozen=True)
class LabelledBoxes:
    """Ground truth of one image.

    Regions that nobody labelled are boxes with the label DontCare and a box3d of NaN.

    Attributes:
        box3d: (N, 7) float32.
        label: N names of classes, any that the data set has.
        box2d: (N, 4) float32, clipped to the image.
        truncation: (N,) float32, share of the 2D box outside the image; -1 unknown.
        occlusion: (N,) int64, 0 fully visible, 1 partly, 2 largely occluded, 3 unknown; -1 for
            DontCare.
        instance: (N,) int64, the number in the instance map, if there is such a map.

    Raises:
        ValueError: If the attributes are of different length or of another shape.
    """

    box3d: np.ndarray
    label: list[str]
    box2d: np.ndarray
    truncation: np.ndarray
    occlusion: np.ndarray
    instance: Optional[np.ndarray] = None

    def __post_init__(self):
        _check_shapes(self, box3d=(7,), box2d=(4,), truncation=(), occlusion=(), instance=())

    def __len__(self) -> int:
        return len(self.label)

    def select(self, keep: np.ndarray) -> 'LabelledBoxes':
        """Return the boxes of a boolean mask or of a list of indices."""
        return _select(self, keep)


def wrap_angle(angle: Array) -> Array:
    """Wrap angles, an array or tensor, to [-pi, pi)."""
    wrapped = (angle + math.pi) % (2 * math.pi) - math.pi
    where = torch.where if isinstance(wrapped, torch.Tensor) else np.where
    # the remainder of a tiny negative number rounds up to the whole turn
    return where(wrapped >= math.pi, -math.pi, wrapped)


def observation_angle(box3d: Array) -> Array:
    """Return alpha, the yaw (..., ) of boxes (..., 7) relative to the ray to their centre.

    Boxes that look the same in the image have the same alpha, wherever they stand.
    """
    return wrap_angle(box3d[..., 6] - _ray_angle(box3d[..., 0], box3d[..., 2]))


def yaw_from_observation(alpha: Array, x: Array, z: Array) -> Array:
    """Return the yaw ry of boxes at (x, z) that are seen under alpha."""
    return wrap_angle(alpha + _ray_angle(x, z))


def corners(box3d: np.ndarray) -> np.ndarray:
    """Return the corners (N, 8, 3) of boxes (N, 7) in the order of CORNERS."""
    box3d = np.asarray(box3d, np.float64)
    local = CORNERS / 2 * box3d[:, None, 3:6]
    cosine, sine = np.cos(box3d[:, 6, None]), np.sin(box3d[:, 6, None])
    x, y, z = np.moveaxis(local, -1, 0)
    return box3d[:, None, :3] + np.stack([cosine * x + sine * z, y, cosine * z - sine * x], -1)


def project_boxes(box3d: np.ndarray, camera: StereoCamera) -> np.ndarray:
    """Return the 2D boxes (N, 4) float32 around boxes (N, 7) seen by the left camera.

    They are not clipped to the image. Only what lies beyond z = 0.1 m counts; NaN where a box
    lies wholly behind that.
    """
    points = corners(box3d)[:, EDGES]
    z = points[..., 2]
    with np.errstate(divide='ignore', invalid='ignore'):
        # where along the edge, seen from either end, the plane z = NEAR is crossed
        share = (NEAR - z) / (z[..., ::-1] - z)
        crossing = points + share[..., None] * (points[..., ::-1, :] - points)
    behind = z < NEAR
    points = np.where(behind[..., None], crossing, points)
    hidden = behind.all(-1) | np.isnan(z).any(-1)
    pixels = project(points, camera)[..., :2].reshape(-1, 24, 2)
    hidden = np.repeat(hidden, 2, axis=-1)[..., None]
    lowest = np.where(hidden, np.inf, pixels).min(1)
    highest = np.where(hidden, -np.inf, pixels).max(1)
    box2d = np.concatenate([lowest, highest], -1)
    return np.where(np.isfinite(box2d), box2d, np.nan).astype(np.float32)


def project_inside(box3d: np.ndarray, camera: StereoCamera) -> np.ndarray:
    """Return the part (N, 4) of `project_boxes` within the image, as `clip_boxes` does."""
    return clip_boxes(project_boxes(box3d, camera), camera.width, camera.height)


def clip_boxes(box2d: np.ndarray, width: int, height: int) -> np.ndarray:
    """Clip boxes (N, 4) to the outer pixel centres of an image, as KITTI does."""
    return np.clip(box2d, 0, np.array([width - 1, height - 1] * 2, box2d.dtype))


def box2d_area(box2d: np.ndarray) -> np.ndarray:
    """Return the areas of boxes (..., 4); 0 where right or bottom do not exceed left or top."""
    return np.prod(np.maximum(box2d[..., 2:] - box2d[..., :2], 0), axis=-1)


def cut_share(whole: np.ndarray, clipped: np.ndarray) -> np.ndarray:
    """Return the share (N,) float32 of the area of 2D boxes that clipping cut off: truncation.

    1 where a box has no area, or a NaN.
    """
    share = box2d_area(clipped) / np.maximum(box2d_area(whole), 1e-6)
    return (1 - np.nan_to_num(share)).clip(0, 1).astype(np.float32)


def grade_occlusion(visible: np.ndarray) -> np.ndarray:
    """Grade shares (N,) that nothing hides as 0 to 3; NaN is unknown."""
    grade = np.sum([visible < limit for limit in VISIBLE_SHARES], axis=0)
    return np.where(np.isnan(visible), UNKNOWN_OCCLUSION, grade)


def iou_2d(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the overlap (N, M) of 2D boxes (N, 4) and (M, 4); 0 with NaN or without area."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    common = np.concatenate([np.maximum(a[:, None, :2], b[None, :, :2]),
                             np.minimum(a[:, None, 2:], b[None, :, 2:])], -1)
    return _over_union(box2d_area(common), box2d_area(a), box2d_area(b))


def iou_bev(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the overlap (N, M) seen from above of boxes (N, 7) and (M, 7).

    0 where a box has no area, or a NaN in what counts here (all but y and h).
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return _over_union(_intersection_bev(a, b), _extent(a, 3, 5), _extent(b, 3, 5))


def iou_3d(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the overlap (N, M) by volume of boxes (N, 7) and (M, 7).

    0 where a box has a NaN or no volume.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    (top_a, bottom_a), (top_b, bottom_b) = (
        (boxes[:, 1] - boxes[:, 4] / 2, boxes[:, 1] + boxes[:, 4] / 2) for boxes in (a, b))
    common = np.minimum(bottom_a[:, None], bottom_b) - np.maximum(top_a[:, None], top_b)
    return _over_union(_intersection_bev(a, b) * np.maximum(common, 0),
                       _extent(a, 3, 4, 5), _extent(b, 3, 4, 5))


def _ray_angle(x: Array, z: Array) -> Array:
    return torch.atan2(x, z) if isinstance(x, torch.Tensor) else np.arctan2(x, z)


def _intersection_bev(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the area (N, M) that boxes share on the ground."""
    area = np.zeros((len(a), len(b)))
    radius_a, radius_b = (np.hypot(boxes[:, 3], boxes[:, 5]) / 2 for boxes in (a, b))
    distance = np.hypot(a[:, None, 0] - b[:, 0], a[:, None, 2] - b[:, 2])
    # only what may touch; a comparison with NaN is False
    near = np.nonzero(distance < radius_a[:, None] + radius_b)
    area[near] = _clipped_area(a[near[0]], b[near[1]])
    return area


def _clipped_area(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the area (P,) on the ground of each box of (P, 7) within its partner in b.

    In the frame of b the window is upright, so that the outline of a is clipped by x and by z.
    """
    x, z = a[:, None, 0] - b[:, None, 0], a[:, None, 2] - b[:, None, 2]
    yaw, turn = b[:, None, 6], (a[:, 6] - b[:, 6])[:, None]
    along = np.array([1, 1, -1, -1]) * a[:, None, 3] / 2
    across = np.array([1, -1, -1, 1]) * a[:, None, 5] / 2
    outline = np.stack([
        np.cos(yaw) * x - np.sin(yaw) * z + np.cos(turn) * along + np.sin(turn) * across,
        np.sin(yaw) * x + np.cos(yaw) * z + np.cos(turn) * across - np.sin(turn) * along], -1)
    for axis, size in ((0, b[:, 3]), (1, b[:, 5])):
        outline = _clip_outline(outline, axis, size / 2)
    following = np.roll(outline, -1, axis=1)
    return np.abs(np.sum(outline[..., 0] * following[..., 1]
                         - outline[..., 1] * following[..., 0], -1)) / 2


def _clip_outline(outline: np.ndarray, axis: int, bound: np.ndarray) -> np.ndarray:
    """Clip polygons (P, V, 2) to [-bound, bound] of (P,) along an axis; returns (P, 3 V, 2).

    Every edge gets two more points, where it crosses the bounds. Then what lies beyond a bound
    can be pressed flat onto it, where it encloses no area.
    """
    P, V, _ = outline.shape
    step = np.roll(outline, -1, axis=1) - outline
    with np.errstate(divide='ignore', invalid='ignore'):
        share = (bound[:, None, None] * [-1, 1] - outline[..., axis, None]) / step[..., axis, None]
    share = np.sort(np.clip(np.nan_to_num(share, nan=0.0), 0, 1), -1)
    share = np.concatenate([np.zeros_like(share[..., :1]), share], -1)[..., None]
    points = (outline[:, :, None] + share * step[:, :, None]).reshape(P, 3 * V, 2)
    points[..., axis] = np.clip(points[..., axis], -bound[:, None], bound[:, None])
    return points


def _extent(box3d: np.ndarray, *columns: int) -> np.ndarray:
    return np.prod(np.maximum(box3d[:, columns], 0), axis=-1)


def _over_union(common: np.ndarray, size_a: np.ndarray, size_b: np.ndarray) -> np.ndarray:
    """Divide shares (N, M) by the union of sizes (N,) and (M,); 0 where there is nothing."""
    usable = (common > 0) & (size_a[:, None] > 0) & (size_b > 0)
    union = np.where(usable, size_a[:, None] + size_b - common, 1)
    return np.where(usable, np.minimum(common / union, 1), 0)


def _check_shapes(boxes: Union[Boxes, LabelledBoxes], **shapes: tuple[int, ...]) -> None:
    for name, shape in shapes.items():
        value = getattr(boxes, name)
        expected = (len(boxes.label), *shape)
        if value is not None and np.shape(value) != expected:
            raise ValueError(f'{name} of {len(boxes.label)} labels must be {expected}, '
                             f'got {np.shape(value)}')


def _select(boxes: AnyBoxes, keep: np.ndarray) -> AnyBoxes:
    values = {field.name: getattr(boxes, field.name) for field in fields(boxes)}
    chosen = {name: None if value is None else value[keep]
              for name, value in values.items() if name != 'label'}
    label = np.array(boxes.label, object)[keep].tolist()
    return replace(boxes, label=label, **chosen)
