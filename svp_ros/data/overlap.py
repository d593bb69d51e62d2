"""Frames of labelled scenes among unlabelled pairs, which would be trained on and scored on."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from svp_ros.data.formats import read_image
from svp_ros.data.labelled import Scene
from svp_ros.data.pairs import Pair

SIZE = (32, 16)  # width and height of the thumbnails
# Grey levels, root of the mean square. The same frame, compressed twice, differs by 0.2; the
# frame a tenth of a second later, in the KITTI 2012 multi-view sequences, by 20.
SAME = 4.0


def find_overlap(pairs: Sequence[Pair], scenes: Sequence[Scene]) -> list[Pair]:
    """Find the pairs whose left image is one of a labelled scene."""
    labelled = np.stack([_thumbnail(path) for scene in scenes
                         for path in (scene.left, scene.right)])

    def is_labelled(pair: Pair) -> bool:
        difference = np.square(labelled - _thumbnail(pair.left)).mean(axis=(1, 2))
        return difference.min() < SAME ** 2
    return [pair for pair in pairs if is_labelled(pair)]


def _thumbnail(path: Path) -> np.ndarray:
    grey = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
