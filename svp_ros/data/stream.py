"""Training batches by step number: the same step gives the same batch.

Nothing is remembered between steps, so a run that was killed continues with exactly the batches
that it would have seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Optional, Union

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from svp_ros.data.rendered import DISPARITIES, IMAGES, LABELS, PAIRS_PER_RENDER, RenderedPairs
from svp_ros.data.transforms import augment, AugmentConfig, Batch
from svp_ros.data.world import WorldConfig

VALIDATION_SEED = 2 ** 31  # of the world's validation pairs; training draws smaller ones


@dataclass(frozen=True)
class EarlyCrops:
    """Crops of the first steps: smaller ones are cheaper, so that more of them can be seen.

    Args:
        steps: how many steps take them.
        height: rows, pixels, a multiple of 32.
        width: columns, pixels, a multiple of 32.
        batch: pairs per step and process.
    """

    steps: int
    height: int
    width: int
    batch: int

    def __post_init__(self):
        check_crop(self.height, self.width)
        if min(self.steps, self.batch) < 1:
            raise ValueError('steps and batch of early crops must be at least 1, got '
                             f'{self.steps} and {self.batch}')


@dataclass(frozen=True)
class StreamConfig:
    """What the world renders and how it is cropped.

    Args:
        height: rows of a training crop, pixels, a multiple of 32.
        width: columns of a training crop, pixels, a multiple of 32.
        batch: pairs per step and process.
        render_height: rows of a rendered pair.
        render_width: columns of a rendered pair.
        pairs: number of different rendered pairs when they are kept on disk (`cache`), each used
            once before any comes again; a GPU renders new ones for every step instead.
        photographs: folder of texture photographs; None means scikit-image's.
        world: the world's own settings.
        augment: the augmentation's settings.
        early: crops of the first steps, in this order, before those of height, width and batch.
        boxes: classes of the 3D boxes that batches hold; none leaves boxes and camera out.
    """

    height: int = 192
    width: int = 384
    batch: int = 8
    render_height: int = 256
    render_width: int = 512
    pairs: int = 6000
    photographs: Optional[str] = None
    world: WorldConfig = field(default_factory=WorldConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    early: tuple[EarlyCrops, ...] = ()
    boxes: tuple[str, ...] = ()

    def __post_init__(self):
        check_crop(self.height, self.width)
        if self.batch < 1 or self.pairs < PAIRS_PER_RENDER:
            raise ValueError(f'batch must be at least 1 and pairs at least {PAIRS_PER_RENDER}, '
                             f'got {self.batch} and {self.pairs}')


def check_crop(height: int, width: int) -> None:
    """Raise ValueError unless the networks can take crops of this size."""
    for name, value in (('height', height), ('width', width)):
        if value % 32 or value <= 0:
            raise ValueError(f'{name} must be a positive multiple of 32, got {value}')


class WorldStream(Dataset):
    """Augmented batches of the procedural world; `stream[step]` depends on nothing but `step`.

    Args:
        config: sizes and settings.
        seed: seed of the run.
        device: where pairs are rendered and augmented.
        cache: folder that keeps rendered pairs for later steps and runs; None renders anew.
        rank: number of this process among those that train together.
    """

    def __init__(self, config: StreamConfig, seed: int, device: str = 'cpu',
                 cache: Optional[Path] = None, rank: int = 0):
        c = self.config = config
        self.seed = seed
        self.rank = rank
        self.rendered = RenderedPairs(c.world, c.render_height, c.render_width, c.photographs,
                                      device, cache)

    def __getitem__(self, step: int) -> Batch:
        generator = make_generator(self.seed, step, self.rank)
        c = self.config
        crops, seen = crops_at(c, step)
        indices = stored_indices(range(seen, seen + crops.batch), c.pairs, self.seed, self.rank)
        names = IMAGES + DISPARITIES + (LABELS if c.boxes else ())
        batch = self.rendered.draw(indices, generator, names)
        return augment(batch, crops.height, crops.width, c.augment, generator, c.boxes)


def crops_at(config: StreamConfig, step: int) -> tuple[Union[EarlyCrops, StreamConfig], int]:
    """Sizes of the crops of a step, and how many samples a process has seen before it."""
    seen = 0
    for early in config.early:
        if step < early.steps:
            return early, seen + step * early.batch
        step, seen = step - early.steps, seen + early.steps * early.batch
    return config, seen + step * config.batch


def make_generator(*key: int) -> torch.Generator:
    """Source of randomness of its own for every key, for example (seed, step, rank)."""
    return torch.Generator().manual_seed(
        int(np.random.SeedSequence(key).generate_state(1)[0]))


def stored_indices(positions: Sequence[int], stored: int, *key: int) -> list[int]:
    """Which stored pair every sample of a training is, given its position among all samples.

    All pairs come once before any comes again. The first time they come in order, from some
    start, because neighbours are rendered together; then in another order every time.

    Args:
        positions: of the samples, from 0.
        stored: number of pairs.
        key: what the order depends on, for example seed and rank.
    """
    indices = []
    for epoch, part in groupby(positions, lambda position: position // stored):
        generator = make_generator(*key, epoch)
        if epoch == 0:
            start = torch.randint(stored, (), generator=generator).item()
            order = torch.arange(stored).roll(start % PAIRS_PER_RENDER - start)
        else:
            order = torch.randperm(stored, generator=generator)
        indices += order[[position % stored for position in part]].tolist()
    return indices


def batches(stream: Dataset, start: int, stop: int, workers: int) -> Iterator[Batch]:
    """Batches of the steps start, ..., stop - 1, prepared by `workers` processes (0: here).

    Raises:
        ValueError, OSError: What `stream` raises, without a worker's traceback.
    """
    loader = iter(DataLoader(stream, batch_size=None, sampler=range(start, stop),
                             num_workers=workers, prefetch_factor=4 if workers else None,
                             multiprocessing_context='fork' if workers else None))
    return _with_plain_errors(loader) if workers else loader


def _with_plain_errors(loader: Iterator[Batch]) -> Iterator[Batch]:
    try:
        yield from loader
    except (ValueError, OSError) as error:
        # a worker's exception arrives with its whole traceback as the message
        last = str(error).strip().splitlines()[-1]
        raise type(error)(last.removeprefix(f'{type(error).__name__}: ')) from error
