"""The procedural stereo world: seeds to stereo pairs with exact ground truth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Optional, Union

import numpy as np
import torch
from torch import Tensor

from svp_ros.data.world.builder import SceneBuilder
from svp_ros.data.world.clutter import build_clutter, build_table
from svp_ros.data.world.config import WorldConfig
from svp_ros.data.world.effects import apply_effects
from svp_ros.data.world.render import render
from svp_ros.data.world.scene import Pose, Scene, log_uniform
from svp_ros.data.world.textures import make_texture_bank
from svp_ros.geometry import StereoCamera

KINDS = ('room', 'street', 'clutter', 'table')


@dataclass(frozen=True)
class Boxes3D:
    """Labelled 3D boxes of one image in the left camera's optical frame."""

    box3d: np.ndarray     # (N, 7) float32 x, y, z, l, h, w, ry
    label: list[str]      # (N,) Car, Pedestrian or Cyclist
    instance: np.ndarray  # (N,) int64, numbers in the instance map


@dataclass(frozen=True)
class StereoSample:
    """A batch of rendered stereo pairs with their ground truth."""

    left: Tensor             # (B, 3, H, W) float32 in [0, 1]
    right: Tensor            # (B, 3, H, W)
    disparity: Tensor        # (B, 1, H, W) float32 pixels, 0 = sky
    disparity_right: Tensor  # (B, 1, H, W), right-referenced
    occluded: Tensor         # (B, 1, H, W) bool, left pixels that the right eye does not see
    instance: Tensor         # (B, 1, H, W) int32, 0 = background
    boxes: list[Boxes3D]
    cameras: list[StereoCamera]


class World:
    """Renders random rooms, streets, clutter and tabletops.

    Args:
        config: distributions of scenes.
        photographs: folder of .jpg or .png images for textures; None takes scikit-image's.
        device: where to render.

    Raises:
        FileNotFoundError: If the folder of photographs does not exist or is empty.
    """

    def __init__(self, config: WorldConfig = WorldConfig(),
                 photographs: Union[str, Path, None] = None,
                 device: Union[str, torch.device] = 'cpu'):
        self.config = config
        self.device = torch.device(device)
        self.textures = make_texture_bank(photographs, device=self.device)

    def sample(self, seed: int, batch: int, height: int, width: int,
               kind: Optional[str] = None) -> StereoSample:
        """Render `batch` random scenes; the same arguments give the same sample.

        Raises:
            ValueError: If kind is unknown or a size is not positive.
        """
        _check(batch, height, width, kind)
        scenes = [self._scene(np.random.default_rng([seed, index]), height, width, kind)
                  for index in range(batch)]
        return self._render(scenes, seed, height, width)

    def _render(self, scenes: list[Scene], seed: int, height: int, width: int) -> StereoSample:
        colours, truth = render(scenes, self.textures, height, width, self.config.specular,
                                self.device)
        if self.config.effects:
            generator = torch.Generator(self.device).manual_seed(seed)
            colours = apply_effects(colours, self.config, generator)
        left, right = colours.clamp(0, 1).chunk(2)
        boxes = [Boxes3D(np.zeros((0, 7), np.float32), [], np.zeros(0, np.int64))
                 for _ in scenes]
        return StereoSample(left, right, truth.disparity, truth.disparity_right, truth.occluded,
                            truth.instance, boxes, [scene.camera for scene in scenes])

    def _scene(self, rng: np.random.Generator, height: int, width: int,
               kind: Optional[str]) -> Scene:
        config = self.config
        if kind is None:
            weights = np.array([getattr(config, name) for name in KINDS])
            kind = str(rng.choice(KINDS, p=weights / weights.sum()))
        fx = log_uniform(rng, *config.focal_length) * width
        camera = StereoCamera(fx, fx * log_uniform(rng, *config.pixel_aspect), (width - 1) / 2,
                              (height - 1) / 2, log_uniform(rng, 0.05, 0.5), width, height)
        builder = SceneBuilder(rng, self.textures.groups, config, fx)
        build = build_table if kind == 'table' else build_clutter
        light = build(builder, camera, log_uniform(rng, *config.max_disparity))
        return Scene(builder.primitives, light, camera, Pose(), builder.boxes)


def _check(batch: int, height: int, width: int, kind: Optional[str]) -> None:
    if kind is not None and kind not in KINDS:
        raise ValueError(f'kind must be one of {", ".join(KINDS)} or None, got {kind!r}')
    if min(batch, height, width) < 1:
        raise ValueError('batch, height and width must be positive, '
                         f'got {batch}, {height} and {width}')
