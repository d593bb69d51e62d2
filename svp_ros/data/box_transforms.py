"""Labelled boxes through mirroring, cropping and into the padded tensors of a training batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Union

import numpy as np
import torch
from torch import Tensor

from svp_ros.boxes import (
    box2d_area,
    clip_boxes,
    cut_share,
    DIFFICULTIES,
    DONT_CARE,
    LabelledBoxes,
    project_boxes,
    wrap_angle,
)
from svp_ros.geometry import camera_row, project, StereoCamera

MAX_BOXES = 48
CLASS, BOX3D, BOX2D, IGNORE = 0, slice(1, 8), slice(8, 12), 12  # columns of a batch's boxes
NO_BOX = -1  # class of the rows after the last box
OTHER = -2  # class of DontCare and of what is not asked for: nothing is to be learnt there
BORDER_DEPTH = 5.0  # metres
LEAST_HEIGHT = 10  # pixels of the crop; what is smaller, cut or hidden more is ignored
_, WORST_OCCLUSION, LARGEST_TRUNCATION = DIFFICULTIES[-1]


def mirror_boxes(boxes: LabelledBoxes, camera: StereoCamera
                 ) -> tuple[LabelledBoxes, StereoCamera]:
    """Return boxes and camera of the mirrored pair, whose left eye was the right one.

    Regions without a 3D box have no disparity and are mirrored as they are.
    """
    last = camera.width - 1
    mirrored = replace(camera, cx=last - camera.cx_right, cx_right=last - camera.cx)
    box3d = boxes.box3d.copy()
    box3d[:, 0] = camera.baseline - box3d[:, 0]
    box3d[:, 6] = wrap_angle(np.pi - box3d[:, 6])
    whole = project_boxes(box3d, mirrored)
    flipped = np.stack([last - boxes.box2d[:, 2], boxes.box2d[:, 1],
                        last - boxes.box2d[:, 0], boxes.box2d[:, 3]], 1)
    unknown = np.isnan(whole).any(1)
    whole[unknown] = flipped[unknown]
    box2d = clip_boxes(whole, camera.width, camera.height)
    truncation = np.where(unknown, boxes.truncation, cut_share(whole, box2d))
    result = replace(boxes, box3d=box3d, box2d=box2d, truncation=truncation)
    return result.select(box2d_area(box2d) > 0), mirrored


def ignore_border(boxes: LabelledBoxes, camera: StereoCamera
                  ) -> tuple[LabelledBoxes, StereoCamera]:
    """Add a DontCare region at the left border of a mirrored pair; instances are left out.

    The left eye alone sees what is there, and the labels are those of the other eye, so that
    things may be missing. The region is as wide as the disparity of things BORDER_DEPTH away;
    nearer ones are wider than the strip that one eye alone sees of them, or are cut off.
    """
    width = min(camera.fx * camera.baseline / BORDER_DEPTH + camera.doffs, camera.width)
    if width <= 1:
        return boxes, camera
    region = np.array([[0, 0, width - 1, camera.height - 1]], np.float32)
    return LabelledBoxes(
        np.concatenate([boxes.box3d, np.full((1, 7), np.nan, np.float32)]),
        [*boxes.label, DONT_CARE], np.concatenate([boxes.box2d, region]),
        np.append(boxes.truncation, np.float32(-1)), np.append(boxes.occlusion, -1)), camera


def crop_boxes(boxes: LabelledBoxes, camera: StereoCamera, window: tuple[int, int, int, int],
               height: int, width: int) -> tuple[LabelledBoxes, StereoCamera]:
    """Return the boxes and the camera of a window that is resized to `height` x `width`.

    Args:
        boxes: those of the whole image; what lies outside the window is left out.
        camera: that of the whole image.
        window: y, x, rows and columns, pixels.
        height: rows of the result.
        width: columns of the result.
    """
    y, x, h, w = window
    sx, sy = width / w, height / h
    cut = replace(camera, cx=camera.cx - x, cy=camera.cy - y, cx_right=camera.cx_right - x,
                  width=w, height=h).scaled(sx, sy)
    scale = np.array([sx, sy] * 2, np.float32)
    moved = (boxes.box2d - np.array([x, y] * 2, np.float32) + 0.5) * scale - 0.5
    box2d = clip_boxes(moved, width, height)
    inside = box2d_area(box2d) / np.maximum(box2d_area(moved), 1e-6)
    truncation = 1 - (1 - np.maximum(boxes.truncation, 0)) * inside
    result = replace(boxes, box2d=box2d, truncation=truncation.astype(np.float32))
    return result.select(inside > 0), cut


def collate_boxes(boxes: Sequence[LabelledBoxes], cameras: Sequence[StereoCamera],
                  classes: Sequence[str], device: Union[str, torch.device] = 'cpu'
                  ) -> dict[str, Tensor]:
    """Stack the boxes and cameras of B images.

    Args:
        boxes: B images' boxes; the largest MAX_BOXES of each are kept.
        cameras: B cameras.
        classes: names that are to be learnt; others are regions to ignore, as DontCare is.
        device: of the result.

    Returns:
        'boxes' (B, MAX_BOXES, 13): class index, NO_BOX or OTHER; x, y, z, l, h, w, ry; left,
        top, right, bottom in pixels; 1 for what is too small, cut or hidden to be asked for, or
        whose centre is outside the image, else 0.
        'camera' (B, 6): fx, fy, cx, cy, baseline, doffs.
    """
    table = np.zeros((len(boxes), MAX_BOXES, 13), np.float32)
    table[..., CLASS] = NO_BOX
    for rows, some, camera in zip(table, boxes, cameras):
        some = some.select(np.argsort(-box2d_area(some.box2d), kind='stable')[:MAX_BOXES])
        index = np.array([classes.index(label) if label in classes else OTHER
                          for label in some.label], np.float32)
        rows[:len(some), CLASS] = index
        rows[:len(some), BOX3D] = np.nan_to_num(some.box3d)
        rows[:len(some), BOX2D] = some.box2d
        rows[:len(some), IGNORE] = (index == OTHER) | _too_hard(some, camera)
    rigs = torch.tensor([camera_row(camera) for camera in cameras], dtype=torch.float32)
    return {'boxes': torch.from_numpy(table).to(device), 'camera': rigs.to(device)}


def _too_hard(boxes: LabelledBoxes, camera: StereoCamera) -> np.ndarray:
    """Return which boxes (N,) no detector is asked for."""
    centre = np.nan_to_num(boxes.box3d[:, :3])
    behind = centre[:, 2] <= 0
    x, y, _ = project(np.where(behind[:, None], 1, centre), camera).T
    outside = behind | (x < 0) | (x > camera.width - 1) | (y < 0) | (y > camera.height - 1)
    return (outside | (boxes.occlusion > WORST_OCCLUSION) | (boxes.occlusion < 0)
            | (boxes.truncation > LARGEST_TRUNCATION)
            | (boxes.box2d[:, 3] - boxes.box2d[:, 1] < LEAST_HEIGHT))
