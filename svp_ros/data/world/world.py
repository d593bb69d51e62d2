"""The procedural stereo world: seeds to stereo pairs with exact ground truth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Optional, Union

import numpy as np
import torch
from torch import Tensor

from svp_ros.boxes import LabelledBoxes
from svp_ros.data.world.builder import SceneBuilder
from svp_ros.data.world.clutter import build_clutter, build_table
from svp_ros.data.world.config import WorldConfig
from svp_ros.data.world.effects import apply_effects
from svp_ros.data.world.fields import build_field
from svp_ros.data.world.labels import label_things
from svp_ros.data.world.render import render
from svp_ros.data.world.rooms import build_room
from svp_ros.data.world.scene import log_uniform, Pose, Scene
from svp_ros.data.world.streets import build_street
from svp_ros.data.world.textures import make_texture_bank
from svp_ros.geometry import StereoCamera

KINDS = ('room', 'street', 'clutter', 'table')


@dataclass(frozen=True)
class StereoSample:
    """A batch of rendered stereo pairs with their ground truth."""

    left: Tensor             # (B, 3, H, W) float32 in [0, 1]
    right: Tensor            # (B, 3, H, W)
    disparity: Tensor        # (B, 1, H, W) float32 pixels, 0 = sky
    disparity_right: Tensor  # (B, 1, H, W), right-referenced
    occluded: Tensor         # (B, 1, H, W) bool, left pixels that the right eye does not see
    instance: Tensor         # (B, 1, H, W) int32, 0 = background
    boxes: list[LabelledBoxes]
    cameras: list[StereoCamera]


class World:
    """Renders random rooms, streets, clutter and tabletops.

    Args:
        config: distributions of scenes; None takes the defaults.
        photographs: folder of .jpg or .png images for textures; None takes scikit-image's.
        device: where to render.

    Raises:
        FileNotFoundError: If the folder of photographs does not exist or is empty.
    """

    def __init__(self, config: Optional[WorldConfig] = None,
                 photographs: Union[str, Path, None] = None,
                 device: Union[str, torch.device] = 'cpu'):
        self.config = config or WorldConfig()
        self.device = torch.device(device)
        self.textures = make_texture_bank(photographs, device=self.device)

    def sample(self, seed: int, batch: int, height: int, width: int,
               kind: Optional[str] = None) -> StereoSample:
        """Render `batch` random scenes; the same arguments give the same sample.

        Raises:
            ValueError: If kind is unknown or a size is not positive.
        """
        _check(seed, batch, height, width, kind)
        scenes = [self._scene(np.random.default_rng([seed, index]), height, width, kind)
                  for index in range(batch)]
        return self._render(scenes, seed, height, width)

    def sequence(self, seed: int, frames: int, height: int, width: int, kind: str = 'street',
                 rate: float = 10.0) -> Iterator[StereoSample]:
        """Yield samples of one pair each: a camera that moves through one scene.

        Args:
            seed: of the scene.
            frames: number of samples.
            height: of the images, pixels.
            width: of the images, pixels.
            kind: of the scene.
            rate: frames per second.

        Raises:
            ValueError: If kind is unknown or a number is not positive.
        """
        _check(seed, frames, height, width, kind)
        if rate <= 0:
            raise ValueError(f'rate must be positive, got {rate}')
        scene = self._scene(np.random.default_rng([seed, 0]), height, width, kind)
        return (self._render([scene.after(frame / rate)], seed, height, width, frame)
                for frame in range(frames))

    def _render(self, scenes: list[Scene], seed: int, height: int, width: int,
                frame: int = 0) -> StereoSample:
        colours, truth = render(scenes, self.textures, height, width, self.config.specular,
                                self.device)
        if self.config.effects:
            disparity = torch.cat([truth.disparity, truth.disparity_right])
            colours = apply_effects(colours, disparity, self.config, seed, frame)
        left, right = colours.clamp(0, 1).chunk(2)
        boxes = label_things(scenes, truth.instance, self.textures, self.device)
        return StereoSample(left, right, truth.disparity, truth.disparity_right, truth.occluded,
                            truth.instance, boxes, [scene.camera for scene in scenes])

    def _scene(self, rng: np.random.Generator, height: int, width: int,
               kind: Optional[str]) -> Scene:
        config = self.config
        if kind is None:
            weights = np.array([getattr(config, name) for name in KINDS])
            kind = str(rng.choice(KINDS, p=weights / weights.sum()))
        street = kind == 'street'
        fx = width * log_uniform(rng, *(config.street_focal_length if street
                                        else config.focal_length))
        fy = fx * log_uniform(rng, *(config.street_pixel_aspect if street
                                     else config.pixel_aspect))
        cx, cy = (width - 1) / 2, height * rng.uniform(
            *(config.street_centre_y if street else (0.4, 0.6))) - 0.5
        builder = SceneBuilder(rng, self.textures.groups, config, fx)
        pose, velocity = Pose(), np.zeros(3)
        if street:
            baseline = rng.uniform(*config.street_baseline)
            cx = width * rng.uniform(*config.street_centre_x) - 0.5
            light, pose, velocity = build_street(builder)
        else:
            nearest = rng.uniform(0.5, 1.5)
            velocity = rng.uniform(-0.15, 0.15, 3) * nearest
            baseline = nearest * log_uniform(rng, *config.max_disparity) * width / fx
        camera = StereoCamera(fx, fy, cx, cy, baseline, width, height)
        if kind == 'room':
            light, pose = build_room(builder, nearest)
        elif kind == 'clutter' and rng.random() < config.field_share:
            light, pose = build_field(builder, camera, nearest)
        elif not street:
            light = (build_table if kind == 'table' else build_clutter)(builder, camera, nearest)
        return Scene(builder.primitives, light, camera, pose, builder.boxes, velocity)


def _check(seed: int, count: int, height: int, width: int, kind: Optional[str]) -> None:
    if kind is not None and kind not in KINDS:
        raise ValueError(f'kind must be one of {", ".join(KINDS)} or None, got {kind!r}')
    if seed < 0:
        raise ValueError(f'seed must not be negative, got {seed}')
    if min(count, height, width) < 1:
        raise ValueError('the number of pairs, height and width must be positive, '
                         f'got {count}, {height} and {width}')
