"""Training batches by step number: the same step gives the same batch.

Nothing is remembered between steps, so a run that was killed continues with exactly the batches
that it would have seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
import hashlib
import os
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from svp_ros.data.transforms import augment, AugmentConfig, Batch
from svp_ros.data.world import World, WorldConfig

DISPARITY_STEPS_PER_PIXEL = 128  # cached disparities are fixed-point uint16
PAIRS_PER_RENDER = 4
RENDERING = 1  # raise it when the world changes, so that no stored pair of the old one is used


@dataclass(frozen=True)
class StreamConfig:
    """What the world renders and how it is cropped.

    Args:
        height: rows of a training crop, pixels, a multiple of 32.
        width: columns of a training crop, pixels, a multiple of 32.
        batch: pairs per step and process.
        render_height: rows of a rendered pair.
        render_width: columns of a rendered pair.
        pairs: number of different rendered pairs when they are kept on disk (`cache`); a GPU
            renders new ones for every step instead.
        photographs: folder of texture photographs; None means scikit-image's.
        world: the world's own settings.
        augment: the augmentation's settings.
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

    def __post_init__(self):
        for name in ('height', 'width'):
            if getattr(self, name) % 32 or getattr(self, name) <= 0:
                raise ValueError(f'{name} must be a positive multiple of 32, got '
                                 f'{getattr(self, name)}')
        if self.batch < 1 or self.pairs < PAIRS_PER_RENDER:
            raise ValueError(f'batch must be at least 1 and pairs at least {PAIRS_PER_RENDER}, '
                             f'got {self.batch} and {self.pairs}')


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
        self.config = config
        self.seed = seed
        self.device = device
        self.cache = cache and Path(cache) / self._digest()
        if self.cache:
            self.cache.mkdir(parents=True, exist_ok=True)
        self.rank = rank
        self.world = World(config.world, config.photographs, device)

    def __getitem__(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence((self.seed, step, self.rank)).generate_state(1)[0]))
        c = self.config
        if self.cache is None:
            seed = int(torch.randint(2 ** 31, (), generator=generator))
            batch = self._render(seed, c.batch)
        else:
            # the store grows by at most one rendering per step, so that training starts at once
            stored = min(c.pairs, PAIRS_PER_RENDER * (step // 2 + 4))
            index = torch.randint(stored, (c.batch,), generator=generator).tolist()
            pairs = [self._load_or_render(i) for i in index]
            batch = {name: torch.stack([pair[name] for pair in pairs]) for name in pairs[0]}
        return augment(batch, c.height, c.width, c.augment, generator)

    def _digest(self) -> str:
        """Name of what is rendered, so that other settings never reuse its pairs."""
        c = self.config
        rendered = (RENDERING, c.render_height, c.render_width, c.photographs, c.world)
        return hashlib.sha256(repr(rendered).encode()).hexdigest()[:12]

    def _render(self, seed: int, count: int) -> Batch:
        sample = self.world.sample(seed, count, self.config.render_height,
                                   self.config.render_width)
        return {name: getattr(sample, name) for name in (
            'left', 'right', 'disparity', 'disparity_right')}

    def _load_or_render(self, index: int) -> Batch:
        path = self.cache / f'{index:06d}.npz'
        if not path.exists():
            first = index - index % PAIRS_PER_RENDER
            batch = self._render(first, PAIRS_PER_RENDER)
            for i in range(PAIRS_PER_RENDER):
                self._save(self.cache / f'{first + i:06d}.npz',
                           {name: x[i] for name, x in batch.items()})
        with np.load(path) as file:
            pair = {name: torch.from_numpy(file[name]) for name in file}
        for name in ('left', 'right'):
            pair[name] = pair[name].float() / 255
        for name in ('disparity', 'disparity_right'):
            pair[name] = pair[name].float() / DISPARITY_STEPS_PER_PIXEL
        return pair

    @staticmethod
    def _save(path: Path, pair: Batch) -> None:
        arrays = {}
        for name in ('left', 'right'):
            arrays[name] = (pair[name] * 255).round().byte().numpy()
        for name in ('disparity', 'disparity_right'):
            steps = pair[name].numpy() * DISPARITY_STEPS_PER_PIXEL
            arrays[name] = steps.round().clip(0, 65535).astype(np.uint16)
        temporary = path.with_suffix(f'.{os.getpid()}.tmp.npz')
        np.savez(temporary, **arrays)
        temporary.replace(path)


def batches(stream: WorldStream, start: int, stop: int, workers: int) -> Iterator[Batch]:
    """Batches of the steps start, ..., stop - 1, prepared by `workers` processes (0: here)."""
    return iter(DataLoader(stream, batch_size=None, sampler=range(start, stop),
                           num_workers=workers, prefetch_factor=4 if workers else None,
                           multiprocessing_context='fork' if workers else None))
