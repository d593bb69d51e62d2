"""Unlabelled rectified stereo pairs in folders, by sequence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import re
from typing import Union

import numpy as np

from svp_ros.data.formats import read_image

SUFFIXES = ('.jpg', '.jpeg', '.png')
# What the folders of the eyes are called; the last four are KITTI's.
EYES = (('left', 'right'), ('image_2', 'image_3'), ('image_02', 'image_03'),
        ('image_0', 'image_1'), ('image_00', 'image_01'))
LAYOUTS = ('<sequence>/left/NAME.png and <sequence>/right/NAME.png, or '
           '<sequence>/<scene>/left.png and right.png, or the folders of KITTI (image_2 and '
           'image_3, image_02/data and image_03/data); .jpg and .png')
SHORTEST_SPLIT = 5  # pairs; shorter sequences stay whole


@dataclass(frozen=True)
class Pair:
    """Two rectified images; names of one sequence are in order of time."""

    sequence: str
    name: str
    left: Path
    right: Path

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Read both images, (H, W, 3) uint8 RGB.

        Raises:
            FileNotFoundError: If one is gone.
            ValueError: If one is unreadable or their sizes differ.
        """
        left, right = read_image(self.left), read_image(self.right)
        if left.shape != right.shape:
            sizes = ' and '.join(f'{image.shape[1]}x{image.shape[0]}' for image in (left, right))
            raise ValueError(f'{self.left} and {self.right} must be of one size, got {sizes}; '
                             'rectify the pair')
        return left, right


def find_pairs(root: Union[str, Path]) -> list[Pair]:
    """Find all pairs at or below `root`, sorted by sequence and name (numbers by value).

    Raises:
        FileNotFoundError: If there is no such folder or no pair in it.
        ValueError: If an image has no partner.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f'no folder {root}')
    lefts, rights = {}, {}
    for key, left, right in _images(root):
        for images, path in ((lefts, left), (rights, right)):
            if path:
                images[key] = path
    if not lefts and not rights:
        raise FileNotFoundError(f'no stereo pairs below {root}; expected {LAYOUTS}')
    _check_partners(root, lefts, rights)
    pairs = [Pair(*key[:2], left, rights[key]) for key, left in lefts.items()]
    return sorted(pairs, key=lambda pair: (pair.sequence, _in_time(pair.name), pair.left))


def split_pairs(pairs: Sequence[Pair], tail: float = 0.2,
                held_out: Sequence[str] = ()) -> tuple[list[Pair], list[Pair]]:
    """Split by sequence and time, never at random: neighbouring frames are almost equal.

    Args:
        pairs: of `find_pairs`.
        tail: share of every sequence of at least 5 pairs, at its end, that validates.
        held_out: sequences that validate as a whole.

    Returns:
        The pairs for training and those for validation.

    Raises:
        ValueError: If a sequence is unknown, `tail` is not a share or a part would be empty.
    """
    sequences = sorted({pair.sequence for pair in pairs})
    unknown = sorted(set(held_out) - set(sequences))
    if unknown:
        raise ValueError(f'no sequence {", ".join(unknown)} to hold out; there are '
                         f'{", ".join(sequences)}')
    if not 0 <= tail < 1:
        raise ValueError(f'tail must be a share from 0 to less than 1, got {tail}')
    training, validation = [], []
    for sequence in sequences:
        part = [pair for pair in pairs if pair.sequence == sequence]
        names = list(dict.fromkeys(pair.name for pair in part))
        count = 0
        if sequence in held_out:
            count = len(names)
        elif tail and len(names) >= SHORTEST_SPLIT:
            count = min(max(round(tail * len(names)), 1), len(names) - 1)
        last = set(names[len(names) - count:])
        for pair in part:
            (validation if pair.name in last else training).append(pair)
    for name, part in (('training', training), ('validation', validation)):
        if not part:
            raise ValueError(
                f'no pair is left for {name}: tail {tail:g} and held_out '
                f'{", ".join(held_out) or "nothing"} of {len(pairs)} pairs in {len(sequences)} '
                f'sequences; those of fewer than {SHORTEST_SPLIT} pairs are not split')
    return training, validation


def _images(root: Path) -> Iterator[tuple]:
    """Yield ((sequence, name, folder of the left eye), left or None, right or None)."""
    for here, folders, files in os.walk(root, followlinks=True):
        here = Path(here)
        for left_name, right_name in EYES:
            left, right = (here / name / 'data' if (here / name / 'data').is_dir()
                           else here / name for name in (left_name, right_name))
            for path in _images_in(left):
                yield (_sequence(here, root), path.stem, left), path, None
            for path in _images_in(right):
                yield (_sequence(here, root), path.stem, left), None, path
        eyes = {name for names in EYES for name in names}
        folders[:] = sorted(name for name in folders if name not in eyes)
        for path in sorted(here / name for name in files):
            if path.stem in EYES[0] and path.suffix.lower() in SUFFIXES:
                key = _sequence(root if here == root else here.parent, root), here.name, here
                yield (key, path, None) if path.stem == 'left' else (key, None, path)


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir()
                  if path.suffix.lower() in SUFFIXES and not path.name.startswith('.'))


def _sequence(folder: Path, root: Path) -> str:
    return root.resolve().name if folder == root else folder.relative_to(root).as_posix()


def _in_time(name: str) -> list:
    """Key that sorts frame_9 before frame_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r'([0-9]+)', name)]


def _check_partners(root: Path, lefts: dict, rights: dict) -> None:
    for side, images, other, partners in (('left', lefts, 'right', rights),
                                          ('right', rights, 'left', lefts)):
        if not partners:
            raise ValueError(f'{root} has {len(images)} {side} images but no {other} ones; '
                             f'expected {LAYOUTS}')
        alone = [path for key, path in images.items() if key not in partners]
        if alone:
            raise ValueError(f'{len(alone)} of {len(images)} {side} images below {root} have no '
                             f'{other} image of the same name, for example {alone[0]}; add or '
                             'remove it')
