"""Training batches of a user's own labelled frames, beside those of the procedural world."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
import torch
from torch.utils.data import Dataset

from svp_ros.data.formats import read_disparity
from svp_ros.data.labelled_frames import LabelledFrame
from svp_ros.data.stream import (
    crops_at,
    make_generator,
    stored_indices,
    StreamConfig,
    WorldStream,
)
from svp_ros.data.transforms import augment, Batch
from svp_ros.engine.images import resize


class LabelledStream(Dataset):
    """Augmented batches of labelled frames; `stream[step]` depends on nothing but `step`.

    Frames are resized to the stream's rendered size. Where a frame has no disparity, `valid` is
    False and `disparity` is 0.

    Args:
        frames: at least one.
        config: sizes, augmentation and classes.
        count: frames per batch.
        seed: seed of the run.
        rank: number of this process among those that train together.
    """

    def __init__(self, frames: Sequence[LabelledFrame], config: StreamConfig, count: int,
                 seed: int, rank: int = 0):
        self.frames, self.config, self.count = frames, config, count
        self.seed, self.rank = seed, rank

    def __getitem__(self, step: int) -> Batch:
        c = self.config
        crops, _ = crops_at(c, step)
        first = step * self.count
        indices = stored_indices(range(first, first + self.count), len(self.frames),
                                 self.seed, self.rank)
        samples = [load_frame(self.frames[i], c.render_height, c.render_width) for i in indices]
        batch: Batch = {name: [sample[name] for sample in samples] for name in samples[0]}
        for name in ('left', 'right', 'disparity', 'disparity_right'):
            batch[name] = torch.stack(batch[name])
        generator = make_generator(self.seed, step, self.rank, 1)
        result = augment(batch, crops.height, crops.width, c.augment, generator, c.boxes)
        return {**result, 'disparity': result['disparity'].nan_to_num(0)}


def load_frame(frame: LabelledFrame, height: int, width: int) -> Batch:
    """Read a frame at another size.

    Returns:
        left, right (3, H, W) in [0, 1]; disparity, disparity_right (1, H, W), pixels, NaN unless
        both are on disk, which tells what is occluded; boxes and camera.

    Raises:
        FileNotFoundError, ValueError: If a file is missing or broken, or they do not belong
            together.
    """
    left, right, camera, boxes = frame.load()
    sx, sy = width / camera.width, height / camera.height
    scale = np.array([sx, sy] * 2, np.float32)
    other = frame.disparity and frame.disparity.with_name('disp_right.pfm')
    if other and other.is_file():
        disparities = [_shrink(*read_disparity(path), height, width)
                       for path in (frame.disparity, other)]
    else:
        disparities = [torch.full((1, height, width), torch.nan)] * 2
    return {
        **{name: torch.from_numpy(resize(image, (height, width))).permute(2, 0, 1) / 255
           for name, image in (('left', left), ('right', right))},
        'disparity': disparities[0], 'disparity_right': disparities[1],
        'boxes': replace(boxes, box2d=(boxes.box2d + 0.5) * scale - 0.5),
        'camera': camera.scaled(sx, sy)}


def _shrink(disparity: np.ndarray, valid: np.ndarray, height: int, width: int) -> torch.Tensor:
    """Disparity at the nearest pixel, NaN where unknown."""
    H, W = disparity.shape
    rows, columns = (((np.arange(to) + 0.5) * length / to).astype(int)
                     for to, length in ((height, H), (width, W)))
    known = np.where(valid, disparity, np.nan)[rows][:, columns] * (width / W)
    return torch.from_numpy(known.astype(np.float32))[None]


@dataclass(frozen=True)
class MixedStream:
    """Batches of the world with those of labelled frames behind them.

    Args:
        world: rendered pairs.
        labelled: a user's frames; None leaves the world alone.
    """

    world: WorldStream
    labelled: Optional[LabelledStream] = None

    def __getitem__(self, step: int) -> Batch:
        batch = self.world[step]
        if self.labelled is None:
            return batch
        own = {name: x.to(batch[name].device) for name, x in self.labelled[step].items()}
        return {name: torch.cat((x, own[name])) for name, x in batch.items()}
