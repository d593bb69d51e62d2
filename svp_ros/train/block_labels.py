"""Labels for unlabelled pairs: what block matching finds, unless the network knows better.

Where semi-global matching is sure of itself it is sharper than a network of ours, and mostly right
where the two disagree: on the labelled scenes of docs/adaptation.md it covers 84 % of the pixels.

Source of the idea: Tonioni et al. 2017, Unsupervised adaptation for deep stereo.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import hashlib
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from svp_ros.boxes import DONT_CARE, LabelledBoxes
from svp_ros.data.pairs import Pair
from svp_ros.data.stream import make_generator, StreamConfig
from svp_ros.data.transforms import augment, Batch
from svp_ros.engine.images import resize
from svp_ros.eval.sgbm import match_blocks
from svp_ros.files import replace_file
from svp_ros.geometry import StereoCamera
from svp_ros.predictor import StereoPredictor

SURE = 0.95  # confidence from which the network may contradict
CONTRADICTION = 3.0  # pixels of the network's input
REACH = 1.25  # of the disparities that the network sees, block matching looks this much farther
MARGIN = 16.0  # pixels more


def label_pair(predictor: StereoPredictor, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return what can be taken for the truth of a rectified pair.

    Args:
        predictor: of the network that is to be taught.
        left: (H, W, 3) uint8 RGB.
        right: likewise.

    Returns:
        (H, W) float32 disparity in pixels of the image, NaN where nobody knows.
    """
    result = predictor.predict(left, right)
    width = left.shape[1]
    search = REACH * np.percentile(result.disparity_filled, 99) + MARGIN
    disparity, known = match_blocks(left, right, min(search, width - 1))
    difference = np.abs(disparity - result.disparity_filled) * predictor.network_size[1] / width
    contradicted = (result.confidence > SURE) & (difference > CONTRADICTION)
    outside = np.arange(width) - disparity < 0
    return np.where(known & ~contradicted & ~outside, disparity, np.float32(np.nan))


@dataclass(frozen=True)
class TaughtPair:
    """A pair and the file of its label, (H, W) disparity in pixels of the images."""

    pair: Pair
    label: Path


def label_pairs(predictor: StereoPredictor, pairs: Sequence[Pair],
                folder: Path) -> list[TaughtPair]:
    """Label pairs, those excepted whose label is in the folder already.

    Raises:
        FileNotFoundError, ValueError: If an image is missing or broken.
        OSError: If a label cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taught = []
    for pair in tqdm(pairs, unit='pair', desc='labels', dynamic_ncols=True, mininterval=5):
        key = hashlib.sha256(f'{pair.left} {pair.right}'.encode()).hexdigest()[:16]
        path = folder / f'{key}.tiff'
        if not path.is_file():
            label = label_pair(predictor, *pair.load())
            replace_file(path, cv2.imencode('.tiff', label)[1].tobytes())
        taught.append(TaughtPair(pair, path))
    return taught


class TaughtStream(Dataset):
    """Augmented batches of labelled pairs; `stream[step]` depends on nothing but `step`.

    Pairs are resized to what the network sees of this camera. They are never mirrored: the labels
    are those of the left eye alone. What objects they show is unknown.

    Args:
        sources: pairs of every source, at least one of each.
        weights: share of the samples of every source.
        size: (height, width) of the network's input.
        config: crops, augmentation and classes.
        count: pairs per batch.
        seed: seed of the run.
    """

    def __init__(self, sources: Sequence[Sequence[TaughtPair]], weights: Sequence[float],
                 size: tuple[int, int], config: StreamConfig, count: int, seed: int):
        self.sources, self.weights = sources, torch.tensor(weights)
        self.size, self.config, self.count, self.seed = size, config, count, seed

    def __getitem__(self, step: int) -> Batch:
        generator = make_generator(self.seed, step, 0, 1)
        c = self.config
        samples = []
        for source in torch.multinomial(self.weights, self.count, True, generator=generator):
            pairs = self.sources[source]
            index = torch.randint(len(pairs), (), generator=generator)
            samples.append(load_taught(pairs[index], *self.size))
        batch: Batch = {name: torch.stack([sample[name] for sample in samples])
                        for name in samples[0]}
        if c.boxes:
            batch['boxes'], batch['camera'] = zip(*[_unknown_objects(*self.size)] * self.count)
        result = augment(batch, c.height, c.width, c.augment, generator, c.boxes)
        return {**result, 'disparity': result['disparity'].nan_to_num(0)}


def read_label(taught: TaughtPair) -> np.ndarray:
    """(H, W) float32 disparity in pixels of the images, NaN where unknown."""
    return cv2.imread(str(taught.label), cv2.IMREAD_UNCHANGED)


def load_taught(taught: TaughtPair, height: int, width: int) -> Batch:
    """Read a pair and its label at another size.

    Returns:
        left, right (3, height, width) in [0, 1]; disparity (1, height, width), pixels, NaN where
        unknown, and disparity_right, NaN everywhere.
    """
    label = read_label(taught)
    scale = width / label.shape[1]
    small = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT) * scale
    images = {name: torch.from_numpy(resize(image, (height, width))).permute(2, 0, 1) / 255
              for name, image in zip(('left', 'right'), taught.pair.load())}
    return {**images, 'disparity': torch.from_numpy(small)[None],
            'disparity_right': torch.full((1, height, width), torch.nan)}


def _unknown_objects(height: int, width: int) -> tuple[LabelledBoxes, StereoCamera]:
    """Say that nobody knows what objects an image shows; the camera then does not matter."""
    whole = np.array([[0, 0, width - 1, height - 1]], np.float32)
    boxes = LabelledBoxes(np.full((1, 7), np.nan, np.float32), [DONT_CARE], whole,
                          np.full(1, -1, np.float32), np.full(1, -1))
    camera = StereoCamera(fx=width, fy=width, cx=width / 2, cy=height / 2, baseline=0.1,
                          width=width, height=height)
    return boxes, camera
