"""Labels of the things of rendered scenes: 3D and 2D boxes, truncation and occlusion."""

from dataclasses import replace
import math
from typing import Sequence, Union

import numpy as np
import torch
from torch import Tensor

from svp_ros.boxes import (
    box2d_area,
    clip_boxes,
    cut_share,
    grade_occlusion,
    LabelledBoxes,
    project_boxes,
    UNKNOWN_OCCLUSION,
)
from svp_ros.data.world.raycast import cast
from svp_ros.data.world.scene import LabelledBox, Primitive, Scene
from svp_ros.data.world.table import make_table
from svp_ros.data.world.textures import TextureBank
from svp_ros.geometry import StereoCamera

RAYS = 16  # along each axis of a thing's 2D box, at most


def label_things(scenes: Sequence[Scene], instance: Tensor, bank: TextureBank,
                 device: Union[str, torch.device] = 'cpu') -> list[LabelledBoxes]:
    """Describe the labelled things of every scene of which the left eye sees a pixel.

    Occlusion compares the visible pixels with those that the thing would have alone in the
    image: 0 from 80 % on, 1 from 40 %, 2 from 10 %, else 3. 2D boxes surround the 3D ones.

    Args:
        scenes: B scenes.
        instance: (B, 1, H, W) int32, what the left eyes see.
        bank: textures.
        device: where to cast rays.
    """
    visible = [np.bincount(seen.flatten()) for seen in instance.cpu().numpy()]
    labelled = [_place_boxes(scene, count) for scene, count in zip(scenes, visible)]
    alone = iter(_count_pixels_alone(scenes, labelled, bank, device))
    return [replace(boxes, occlusion=grade_occlusion(
        count[boxes.instance] / np.maximum([next(alone) for _ in boxes.label], 1)))
        for boxes, count in zip(labelled, visible)]


def _place_boxes(scene: Scene, visible: np.ndarray) -> LabelledBoxes:
    """Return the boxes of things that are seen, in the camera's frame; occlusion unknown."""
    things = [box for box in scene.boxes
              if box.instance < len(visible) and visible[box.instance]]
    box3d = np.array([_to_camera(scene, box) for box in things], np.float32).reshape(-1, 7)
    camera = scene.camera
    whole = np.nan_to_num(project_boxes(box3d, camera))
    box2d = clip_boxes(whole, camera.width, camera.height)
    boxes = LabelledBoxes(
        box3d, [box.label for box in things], box2d, cut_share(whole, box2d),
        np.full(len(things), UNKNOWN_OCCLUSION),
        np.array([box.instance for box in things], np.int64))
    return boxes.select(box2d_area(box2d) > 0)


def _to_camera(scene: Scene, box: LabelledBox) -> tuple[float, ...]:
    to_camera = scene.pose.rotation.T
    heading = to_camera @ (np.cos(box.yaw), 0, -np.sin(box.yaw))
    return (*(to_camera @ (box.centre - scene.pose.position)), *box.size,
            np.arctan2(-heading[2], heading[0]))


def _count_pixels_alone(scenes: Sequence[Scene], labelled: Sequence[LabelledBoxes],
                        bank: TextureBank, device: Union[str, torch.device]) -> list[float]:
    """Return about how many pixels each thing would have if nothing hid it.

    Each thing is a scene of its own for a camera that sees its 2D box and little more.
    """
    windows, shapes, steps = [], [], []
    for scene, boxes in zip(scenes, labelled):
        parts: dict[int, list[Primitive]] = {}
        for primitive in scene.primitives:
            parts.setdefault(primitive.instance, []).append(primitive)
        for box2d, instance in zip(boxes.box2d, boxes.instance.tolist()):
            camera, shape, step = _look_at(scene.camera, *box2d.tolist())
            windows.append(replace(scene, primitives=parts[instance], camera=camera))
            shapes.append(shape)
            steps.append(step)
    if not windows:
        return []
    table = make_table(windows, device)
    left_eyes = replace(table, origin=table.origin[:1])
    hit = cast(left_eyes, bank, len(windows), RAYS, RAYS).primitive.cpu().numpy() >= 0
    return [step * hit[:rows, :columns].sum()
            for hit, (rows, columns), step in zip(hit, shapes, steps)]


def _look_at(camera: StereoCamera, left: float, top: float, right: float, bottom: float
             ) -> tuple[StereoCamera, tuple[int, int], float]:
    """Return a camera of RAYS x RAYS pixels whose first rows and columns show a 2D box.

    Returns:
        The camera, how many rows and columns show the box, and how many pixels of the image one
        of its own stands for.
    """
    x, y = math.ceil(left), math.ceil(top)
    columns, rows = max(math.floor(right) - x, 0) + 1, max(math.floor(bottom) - y, 0) + 1
    step_x, step_y = max(1, columns / RAYS), max(1, rows / RAYS)
    closer = replace(camera, cx=camera.cx - x, cx_right=camera.cx_right - x,
                     cy=camera.cy - y).scaled(1 / step_x, 1 / step_y)
    return (replace(closer, width=RAYS, height=RAYS),
            (round(rows / step_y), round(columns / step_x)), step_x * step_y)
