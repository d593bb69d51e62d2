"""Labels for unlabelled pairs: what block matching finds, unless the network knows better.

Where semi-global matching is sure of itself it is sharper than a network of ours, and mostly right
where the two disagree (docs/adaptation.md). Where it finds nothing and the network says that there
is no match, as in the sky, the network is to go on saying so.

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
LARGEST_WIDTH = 2.0  # of the images that are matched, widths of the network's input
REACH = 1.25  # of the disparities that the network sees, block matching looks this much farther
# Pixels of the network's input.
CONTRADICTION = 3.0
MARGIN = 16.0  # beyond REACH
LEAST = 0.5  # smaller disparities are as well cut off at 0


def label_pair(predictor: StereoPredictor, left: np.ndarray, right: np.ndarray
               ) -> tuple[np.ndarray, np.ndarray]:
    """Return what can be taken for the truth of a rectified pair.

    Black pixels, which rectification leaves where no raw pixel is, and their matches have no
    label, nor has what the network sees nearer than block matching looks.

    Args:
        predictor: of the network that is to be taught.
        left: (H, W, 3) uint8 RGB.
        right: likewise.

    Returns:
        (H, W) float32 disparity in pixels of the image, NaN where nobody knows; and (H, W) bool,
        where the network declares no match and block matching finds none: there the disparity is
        the network's own guess.
    """
    H, W = left.shape[:2]
    limit = LARGEST_WIDTH * predictor.network_size[1]
    if limit < W:
        size = round(H * limit / W), round(limit)
        disparity, unmatched = label_pair(predictor, resize(left, size), resize(right, size))
        return _resize(disparity, H, W) * (W / size[1]), _resize(unmatched, H, W)

    scale = W / predictor.network_size[1]
    result = predictor.predict(left, right)
    guess = result.disparity_filled
    search = min(REACH * np.percentile(guess, 99) + MARGIN * scale, W - 1)
    disparity, known = match_blocks(left, right, search)
    known &= (guess < search) & (disparity > LEAST * scale)
    known &= ~((result.confidence > SURE) & (np.abs(disparity - guess) > CONTRADICTION * scale))
    known &= np.arange(W) >= disparity
    matched = np.rint(np.arange(W) - disparity).astype(int).clip(0, W - 1)
    known &= left.any(axis=2) & np.take_along_axis(right.any(axis=2), matched, axis=1)
    unmatched = ~known & np.isnan(result.disparity) & left.any(axis=2)
    return np.select((known, unmatched), (disparity, guess), np.float32(np.nan)), unmatched


def _resize(label: np.ndarray, height: int, width: int) -> np.ndarray:
    kind = label.dtype
    return cv2.resize(label.astype(np.float32), (width, height),
                      interpolation=cv2.INTER_NEAREST_EXACT).astype(kind)


@dataclass(frozen=True)
class TaughtPair:
    """A pair and the file of its label."""

    pair: Pair
    label: Path

    def read_label(self) -> tuple[np.ndarray, np.ndarray]:
        """Read what `label_pair` said.

        Raises:
            ValueError: If the file is missing or broken.
        """
        signed = cv2.imread(str(self.label), cv2.IMREAD_UNCHANGED)
        if signed is None:
            raise ValueError(f'the label {self.label} is missing or broken; delete its folder '
                             'and start again')
        return np.abs(signed), np.signbit(signed)

    def read_matches(self) -> np.ndarray:
        """(H, W) float32 disparity that block matching found, NaN elsewhere."""
        disparity, unmatched = self.read_label()
        return np.where(unmatched, np.float32(np.nan), disparity)


def label_pairs(predictor: StereoPredictor, pairs: Sequence[Pair],
                folder: Path) -> list[TaughtPair]:
    """Label pairs, those excepted whose label by this network is in the folder already.

    Raises:
        FileNotFoundError, ValueError: If an image is missing or broken.
        OSError: If a label cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taught = []
    for pair in tqdm(pairs, unit='pair', desc='labels', dynamic_ncols=True, mininterval=5):
        states = [(path.resolve(), path.stat().st_size, path.stat().st_mtime_ns)
                  for path in (pair.left, pair.right)]
        key = repr((states, predictor.card['sha256'], predictor.network_size))
        path = folder / f'{hashlib.sha256(key.encode()).hexdigest()[:16]}.tiff'
        if not path.is_file():
            disparity, unmatched = label_pair(predictor, *pair.load())
            signed = np.copysign(disparity, np.where(unmatched, -1, 1)).astype(np.float32)
            replace_file(path, cv2.imencode('.tiff', signed)[1].tobytes())
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


def load_taught(taught: TaughtPair, height: int, width: int) -> Batch:
    """Read a pair and its label at another size.

    Returns:
        left, right (3, height, width) in [0, 1]; disparity (1, height, width), pixels, NaN where
        unknown, and disparity_right, NaN everywhere; occluded (1, height, width) bool.
    """
    disparity, unmatched = taught.read_label()
    scale = width / disparity.shape[1]
    images = {name: torch.from_numpy(resize(image, (height, width))).permute(2, 0, 1) / 255
              for name, image in zip(('left', 'right'), taught.pair.load())}
    return {**images,
            'disparity': torch.from_numpy(_resize(disparity, height, width))[None] * scale,
            'disparity_right': torch.full((1, height, width), torch.nan),
            'occluded': torch.from_numpy(_resize(unmatched, height, width))[None]}


def _unknown_objects(height: int, width: int) -> tuple[LabelledBoxes, StereoCamera]:
    """Say that nobody knows what objects an image shows; the camera then does not matter."""
    whole = np.array([[0, 0, width - 1, height - 1]], np.float32)
    boxes = LabelledBoxes(np.full((1, 7), np.nan, np.float32), [DONT_CARE], whole,
                          np.full(1, -1, np.float32), np.full(1, -1))
    camera = StereoCamera(fx=width, fy=width, cx=width / 2, cy=height / 2, baseline=0.1,
                          width=width, height=height)
    return boxes, camera
