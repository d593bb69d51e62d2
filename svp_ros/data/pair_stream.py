"""Unlabelled batches for masked pre-training, mixed from the world, folders and recordings.

As in stream.py, the same step gives the same batch.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
import math
from pathlib import Path
from typing import Optional, Union

import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as F
from torch.utils.data import Dataset

from svp_ros.data.bags import unpack_recording
from svp_ros.data.pairs import find_pairs, Pair, split_pairs
from svp_ros.data.rendered import IMAGES, PAIRS_PER_RENDER, RenderedPairs
from svp_ros.data.rosbag2 import is_recording
from svp_ros.data.stream import check_crop, make_generator, stored_indices
from svp_ros.data.transforms import AugmentConfig, Batch, erase, flip, misalign, recolour
from svp_ros.data.world import WorldConfig


@dataclass(frozen=True)
class DataSource:
    """Unlabelled pairs on disk.

    Args:
        path: folder of rectified pairs (see data/pairs.py), or a rosbag2 recording.
        weight: share of the samples, relative to the other sources and the world.
        tail: share of every sequence, at its end, that validates instead.
        held_out: sequences that validate as a whole; with tail 0 and nothing held out, all pairs
            are for training.
        leave_out: pairs that are not used at all, SEQUENCE/NAME.
        left: topic of a recording, left images; None finds it by its name, as the next ones.
        right: right images.
        left_info: camera_info of the left images.
        right_info: camera_info of the right images.
        rectify: whether a recording has to be rectified: auto (by topic and camera_info), on or
            off, for which YAML says true and false.
        tolerance: seconds by which the stamps of a pair of a recording may differ.
        most: about so many pairs of a recording are taken, evenly spread; None takes all.
    """

    path: str
    weight: float = 1.0
    tail: float = 0.2
    held_out: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    left: Optional[str] = None
    right: Optional[str] = None
    left_info: Optional[str] = None
    right_info: Optional[str] = None
    rectify: Union[str, bool] = 'auto'
    tolerance: float = 0.0
    most: Optional[int] = None

    def __post_init__(self):
        if isinstance(self.rectify, bool):
            object.__setattr__(self, 'rectify', 'on' if self.rectify else 'off')
        if self.rectify not in ('auto', 'on', 'off'):
            raise ValueError(f'rectify must be auto, on or off, got {self.rectify}')
        if self.weight <= 0:
            raise ValueError(f'weight must be positive, got {self.weight} for {self.path}')
        if not self.tolerance >= 0:
            raise ValueError(f'tolerance must not be negative, got {self.tolerance} for '
                             f'{self.path}')


@dataclass(frozen=True)
class MildAugmentConfig(AugmentConfig):
    """Augmentation that hides nothing of what the right eye tells about the left one.

    `zoom` is limited to windows that fit into the image: one too small for the crop is enlarged.
    """

    zoom: tuple[float, float] = (-2.0, 0.0)
    stretch: tuple[float, float] = (-0.1, 0.1)
    asymmetric: float = 0.1
    photometric: float = 0.3
    hue_deg: float = 10.0
    grey: float = 0.1
    noise: float = 0.01
    blur: float = 0.0
    jpeg: float = 0.0
    erase: float = 0.0
    misalign: float = 0.0
    upside_down: float = 0.0


@dataclass(frozen=True)
class PairStreamConfig:
    """Where the pairs come from and how they are cropped.

    Args:
        height: rows of a training crop, pixels, a multiple of 32.
        width: columns of a training crop, pixels, a multiple of 32.
        batch: pairs per step and process.
        data: folders and recordings.
        world: weight of the procedural world beside that of `data`; 0 leaves it out.
        render_height: rows of a rendered pair.
        render_width: columns of a rendered pair.
        stored_pairs: number of different rendered pairs when they are kept on disk.
        photographs: folder of texture photographs; None means scikit-image's.
        world_config: the world's own settings.
        augment: the augmentation's settings.
    """

    height: int = 192
    width: int = 256
    batch: int = 8
    data: tuple[DataSource, ...] = ()
    world: float = 1.0
    render_height: int = 256
    render_width: int = 512
    stored_pairs: int = 3200
    photographs: Optional[str] = None
    world_config: WorldConfig = field(default_factory=WorldConfig)
    augment: MildAugmentConfig = field(default_factory=MildAugmentConfig)

    def __post_init__(self):
        check_crop(self.height, self.width)
        if self.batch < 1 or self.stored_pairs < PAIRS_PER_RENDER:
            raise ValueError(f'batch must be at least 1 and stored_pairs at least '
                             f'{PAIRS_PER_RENDER}, got {self.batch} and {self.stored_pairs}')
        if self.world < 0 or self.world == 0 and not self.data:
            raise ValueError(f'world must be positive if there is no other data, and never '
                             f'negative, got {self.world}')


class PairStream(Dataset):
    """Augmented batches; `stream[step]` depends on nothing but settings, seed, step and rank.

    Args:
        config: sources and settings.
        seed: seed of the run.
        device: where the world is rendered and batches are augmented.
        cache: folder that keeps rendered pairs for later steps and runs; None renders anew.
        rank: number of this process among those that train together.
        unpacked: folder that keeps the images of recordings.

    Attributes:
        validation: pairs of `config.data` that training never sees.

    Raises:
        FileNotFoundError, ValueError: If a source holds no usable pairs.
    """

    def __init__(self, config: PairStreamConfig, seed: int, device: str = 'cpu',
                 cache: Optional[Path] = None, rank: int = 0, unpacked: Optional[Path] = None):
        c = self.config = config
        self.seed = seed
        self.device = device
        self.rank = rank
        self.training: list[list[Pair]] = []
        self.validation: list[Pair] = []
        for source in c.data:
            training, validation = find_and_split(source, unpacked)
            self.training.append(training)
            self.validation += validation
        self.rendered = None
        if c.world:
            self.rendered = RenderedPairs(c.world_config, c.render_height, c.render_width,
                                          c.photographs, device, cache)
        # beside a GPU no worker processes prepare batches, so that threads decode
        self._map = map if device == 'cpu' else ThreadPoolExecutor().map
        self._weights = torch.tensor([*(source.weight for source in c.data), c.world])

    def __getitem__(self, step: int) -> Batch:
        generator = make_generator(self.seed, step, self.rank)
        c = self.config
        sources = torch.multinomial(self._weights, c.batch, True, generator=generator).tolist()
        pairs = []
        positions = [step * c.batch + i for i, source in enumerate(sources)
                     if source == len(c.data)]
        if positions:
            indices = stored_indices(positions, c.stored_pairs, self.seed, self.rank)
            world = self.rendered.draw(indices, generator, IMAGES)
            pairs += zip(world['left'], world['right'])
        chosen = []
        for source in sources:
            if source < len(c.data):
                index = torch.randint(len(self.training[source]), (), generator=generator)
                chosen.append(self.training[source][index])
        pairs += self._map(_load, chosen)
        crops = []
        for pair in pairs:
            window = draw_window(pair[0].shape[-2:], c.height, c.width, c.augment, generator)
            crops.append([crop(image, window, c.height, c.width).to(self.device)
                          for image in pair])
        batch = {name: torch.stack(images) for name, images in zip(IMAGES, zip(*crops))}
        batch = flip(batch, c.augment, generator)
        left, right = recolour(batch['left'], batch['right'], c.augment, generator)
        right = erase(misalign(right, c.augment, generator), c.augment.erase, generator)
        return {'left': left.clamp(0, 1), 'right': right.clamp(0, 1)}


def draw_window(shape: Sequence[int], height: int, width: int, config: AugmentConfig,
                generator: torch.Generator) -> tuple[int, int, int, int]:
    """Choose a window (y, x, rows, columns) of an image that becomes `height` x `width`.

    Its enlargement is drawn from `config.zoom` as far as the window fits into the image.
    """
    H, W = shape
    stretch, zoom, down, right = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    stretch = 2 ** (config.stretch[0] + stretch * (config.stretch[1] - config.stretch[0]))
    whole = math.log2(max(height / H, width / (W * stretch)))
    low, high = (max(limit, whole) for limit in config.zoom)
    enlarged = 2 ** (low + zoom * (high - low))
    h = min(H, round(height / enlarged))
    w = min(W, round(width / (enlarged * stretch)))
    return round(down * (H - h)), round(right * (W - w)), h, w


def central_window(shape: Sequence[int], height: int, width: int) -> tuple[int, int, int, int]:
    """Return the largest window (y, x, rows, columns) of the aspect of `height` x `width`."""
    H, W = shape
    scale = max(height / H, width / W)
    h, w = min(H, round(height / scale)), min(W, round(width / scale))
    return (H - h) // 2, (W - w) // 2, h, w


def crop(image: Tensor, window: tuple[int, int, int, int], height: int, width: int) -> Tensor:
    """Cut a window out of an image (3, H, W), uint8 or in [0, 1]; float32 (3, height, width)."""
    y, x, h, w = window
    part = image[None, :, y:y + h, x:x + w]
    if (h, w) != (height, width):
        part = F.interpolate(part, size=(height, width), mode='bilinear', align_corners=False,
                             antialias=True)
    return part[0].float() / 255 if part.dtype == torch.uint8 else part[0]


def fixed_batches(pairs: Sequence[Pair], height: int, width: int, batch: int) -> Iterator[Batch]:
    """Yield all pairs in order, unchanged but for size: their largest central window, resized."""
    for start in range(0, len(pairs), batch):
        crops = []
        for pair in map(_load, pairs[start:start + batch]):
            window = central_window(pair[0].shape[-2:], height, width)
            crops.append([crop(image, window, height, width) for image in pair])
        yield {name: torch.stack(images) for name, images in zip(IMAGES, zip(*crops))}


def unpack_source(source: DataSource, unpacked: Optional[Path]) -> DataSource:
    """Return the source as a folder: recordings are unpacked below `unpacked`, others as is.

    Raises:
        FileNotFoundError, ValueError: If a recording cannot be read, see `unpack_recording`.
    """
    path = Path(source.path)
    if not is_recording(path):
        return source
    if unpacked is None:
        raise ValueError(f'{path} is a recording: name a folder to unpack it to')
    folder = unpack_recording(path, unpacked, source.rectify, round(1e9 * source.tolerance),
                              source.most, left=source.left, right=source.right,
                              left_info=source.left_info, right_info=source.right_info)
    return replace(source, path=str(folder))


def find_source(source: DataSource) -> list[Pair]:
    """Find the pairs of a folder but those to leave out.

    Raises:
        FileNotFoundError, ValueError: If there are none, or none of a name to leave out.
    """
    pairs = find_pairs(source.path)
    names = {f'{pair.sequence}/{pair.name}' for pair in pairs}
    unknown = sorted(set(source.leave_out) - names)
    if unknown:
        raise ValueError(f'no pair {", ".join(unknown)} below {source.path} to leave out; names '
                         f'are like {min(names)}')
    return [pair for pair in pairs if f'{pair.sequence}/{pair.name}' not in source.leave_out]


def find_and_split(source: DataSource, unpacked: Optional[Path]) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs of a source for training and those for validation.

    Raises:
        FileNotFoundError, ValueError: If it holds no usable pairs.
    """
    pairs = find_source(unpack_source(source, unpacked))
    if not source.tail and not source.held_out:
        return pairs, []
    return split_pairs(pairs, source.tail, source.held_out)


def _load(pair: Pair) -> tuple[Tensor, ...]:
    return tuple(map(to_tensor, pair.load()))


def to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, 3) -> (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
