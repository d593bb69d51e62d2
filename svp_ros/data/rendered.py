"""Pairs of the procedural world, rendered anew or kept on disk for later steps and runs."""

from collections.abc import Sequence
from dataclasses import astuple
import hashlib
import os
from pathlib import Path
from typing import Optional

import numpy as np
import torch

from svp_ros.boxes import LabelledBoxes
from svp_ros.data.transforms import Batch
from svp_ros.data.world import World, WorldConfig
from svp_ros.geometry import StereoCamera

DISPARITY_STEPS_PER_PIXEL = 128  # of stored disparities
PAIRS_PER_RENDER = 4
RENDERING = 3  # raise it when the world changes, so that no stored pair of the old one is used
IMAGES = ('left', 'right')
DISPARITIES = ('disparity', 'disparity_right')
LABELS = ('boxes', 'camera')
STORED_BOX = np.dtype([('label', 'U16'), ('box3d', 'f4', 7), ('box2d', 'f4', 4),
                       ('truncation', 'f4'), ('occlusion', 'i8')])


class RenderedPairs:
    """Rendered pairs: numbered ones that a cache keeps, or new ones every time.

    Args:
        config: the world's settings.
        height: rows of a rendered pair.
        width: columns of a rendered pair.
        photographs: folder of texture photographs; None means scikit-image's.
        device: where pairs are rendered.
        cache: folder that keeps rendered pairs; each kind has its own folder below it. None
            renders anew.
    """

    def __init__(self, config: WorldConfig, height: int, width: int,
                 photographs: Optional[str] = None, device: str = 'cpu',
                 cache: Optional[Path] = None):
        self.height = height
        self.width = width
        # the name says what is rendered, so that other settings never reuse these pairs
        kind = (RENDERING, height, width, photographs, config)
        self.folder = cache and Path(cache) / hashlib.sha256(repr(kind).encode()).hexdigest()[:12]
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
        self.world = World(config, photographs, device)

    def draw(self, indices: Sequence[int], generator: torch.Generator,
             names: Sequence[str] = IMAGES + DISPARITIES) -> Batch:
        """Return pairs of the store, rendered if it does not hold them yet.

        Args:
            indices: numbers of B pairs; without a cache only how many they are counts.
            generator: source of the new pairs without a cache, on the CPU.
            names: those that are wanted of left, right (B, 3, H, W) in [0, 1], disparity,
                disparity_right (B, 1, H, W) in pixels, boxes (B LabelledBoxes) and camera
                (B StereoCamera); the store keeps no others.
        """
        if self.folder is None:
            seed = int(torch.randint(2 ** 31, (), generator=generator))
            batch = self._render(seed, len(indices))
            return {name: batch[name] for name in names}
        pairs = [self._load(i, names) or self._render_and_store(i, names) for i in indices]
        columns = {name: [pair[name] for pair in pairs] for name in names}
        return {name: column if name in LABELS else torch.stack(column)
                for name, column in columns.items()}

    def _render(self, seed: int, count: int) -> Batch:
        sample = self.world.sample(seed, count, self.height, self.width)
        maps = {name: getattr(sample, name) for name in IMAGES + DISPARITIES}
        return {**maps, 'boxes': sample.boxes, 'camera': sample.cameras}

    def _load(self, index: int, names: Sequence[str]) -> Optional[Batch]:
        path = self._path(index)
        if not path.exists():
            return None
        with np.load(path) as file:
            if not set(names) <= set(file.files):
                return None  # stored by a training that needs no disparity
            return _decode({name: file[name] for name in names})

    def _render_and_store(self, index: int, names: Sequence[str]) -> Batch:
        first = index - index % PAIRS_PER_RENDER
        batch = self._render(first, PAIRS_PER_RENDER)
        pairs = [_encode({name: batch[name][i] for name in names})
                 for i in range(PAIRS_PER_RENDER)]
        for i, arrays in enumerate(pairs):
            path = self._path(first + i)
            temporary = path.with_suffix(f'.{os.getpid()}.tmp.npz')
            np.savez(temporary, **arrays)
            temporary.replace(path)
        return _decode(pairs[index - first])

    def _path(self, index: int) -> Path:
        return self.folder / f'{index:06d}.npz'


def _encode(pair: Batch) -> dict[str, np.ndarray]:
    """Images as uint8, disparities as fixed-point uint16, boxes as records."""
    arrays = {}
    for name, x in pair.items():
        if name in IMAGES:
            arrays[name] = (x.cpu() * 255).round().byte().numpy()
        elif name in DISPARITIES:
            steps = x.cpu().numpy() * DISPARITY_STEPS_PER_PIXEL
            arrays[name] = steps.round().clip(0, 65535).astype(np.uint16)
        elif name == 'boxes':
            arrays[name] = np.empty(len(x), STORED_BOX)
            for column in STORED_BOX.names:
                arrays[name][column] = getattr(x, column)
        else:
            arrays[name] = np.array(astuple(x))
    return arrays


def _decode(arrays: dict[str, np.ndarray]) -> Batch:
    pair: Batch = {}
    for name, x in arrays.items():
        if name in IMAGES + DISPARITIES:
            steps = 255 if name in IMAGES else DISPARITY_STEPS_PER_PIXEL
            pair[name] = torch.from_numpy(x.astype(np.float32)) / steps
        elif name == 'boxes':
            columns = {column: x[column] for column in STORED_BOX.names}
            pair[name] = LabelledBoxes(**{**columns, 'label': columns['label'].tolist()})
        else:
            *lengths, width, height, cx_right = x.tolist()
            pair[name] = StereoCamera(*lengths, int(width), int(height), cx_right)
    return pair
