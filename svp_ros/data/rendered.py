"""Pairs of the procedural world, rendered anew or kept on disk for later steps and runs."""

from collections.abc import Sequence
import hashlib
import os
from pathlib import Path
from typing import Optional

import numpy as np
import torch

from svp_ros.data.transforms import Batch
from svp_ros.data.world import World, WorldConfig

DISPARITY_STEPS_PER_PIXEL = 128  # stored disparities are fixed-point uint16
PAIRS_PER_RENDER = 4
RENDERING = 1  # raise it when the world changes, so that no stored pair of the old one is used
IMAGES = ('left', 'right')
DISPARITIES = ('disparity', 'disparity_right')


class RenderedPairs:
    """An endless or, with a cache, finite supply of rendered pairs.

    Args:
        config: the world's settings.
        height: rows of a rendered pair.
        width: columns of a rendered pair.
        photographs: folder of texture photographs; None means scikit-image's.
        device: where pairs are rendered.
        cache: folder that keeps rendered pairs; each kind has its own folder below it. None
            renders anew.
        stored: number of different pairs that are kept.
    """

    def __init__(self, config: WorldConfig, height: int, width: int,
                 photographs: Optional[str] = None, device: str = 'cpu',
                 cache: Optional[Path] = None, stored: int = 0):
        self.height = height
        self.width = width
        self.stored = stored
        # the name says what is rendered, so that other settings never reuse these pairs
        kind = (RENDERING, height, width, photographs, config)
        self.folder = cache and Path(cache) / hashlib.sha256(repr(kind).encode()).hexdigest()[:12]
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
        self.world = World(config, photographs, device)

    def draw(self, count: int, step: int, generator: torch.Generator,
             names: Sequence[str] = IMAGES + DISPARITIES) -> Batch:
        """Return random pairs.

        Args:
            count: number of pairs B.
            step: of the training; the store grows by at most one rendering per step, so that
                training starts at once.
            generator: source of all randomness, on the CPU.
            names: those that are wanted of left, right (B, 3, H, W) in [0, 1] and disparity,
                disparity_right (B, 1, H, W) in pixels.
        """
        if self.folder is None:
            seed = int(torch.randint(2 ** 31, (), generator=generator))
            batch = self._render(seed, count)
            return {name: batch[name] for name in names}
        stored = min(self.stored, PAIRS_PER_RENDER * (step // 2 + 4))
        index = torch.randint(stored, (count,), generator=generator).tolist()
        pairs = [self._load_or_render(i, names) for i in index]
        return {name: torch.stack([pair[name] for pair in pairs]) for name in names}

    def _render(self, seed: int, count: int) -> Batch:
        sample = self.world.sample(seed, count, self.height, self.width)
        return {name: getattr(sample, name) for name in IMAGES + DISPARITIES}

    def _load_or_render(self, index: int, names: Sequence[str]) -> Batch:
        path = self.folder / f'{index:06d}.npz'
        if not path.exists():
            first = index - index % PAIRS_PER_RENDER
            batch = self._render(first, PAIRS_PER_RENDER)
            for i in range(PAIRS_PER_RENDER):
                _save(self.folder / f'{first + i:06d}.npz',
                      {name: x[i].cpu() for name, x in batch.items()})
        with np.load(path) as file:
            pair = {name: torch.from_numpy(file[name]).float() for name in names}
        return {name: x / (255 if name in IMAGES else DISPARITY_STEPS_PER_PIXEL)
                for name, x in pair.items()}


def _save(path: Path, pair: Batch) -> None:
    arrays = {}
    for name in IMAGES:
        arrays[name] = (pair[name] * 255).round().byte().numpy()
    for name in DISPARITIES:
        steps = pair[name].numpy() * DISPARITY_STEPS_PER_PIXEL
        arrays[name] = steps.round().clip(0, 65535).astype(np.uint16)
    temporary = path.with_suffix(f'.{os.getpid()}.tmp.npz')
    np.savez(temporary, **arrays)
    temporary.replace(path)
