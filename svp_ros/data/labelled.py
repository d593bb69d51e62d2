"""Labelled stereo pairs in folders: [<set>/]<scene>/{left,right}.png|jpg and disp.pfm."""

from dataclasses import dataclass
import logging
from pathlib import Path
from typing import Optional, Union

import numpy as np

from svp_ros.data.formats import read_disparity, read_image

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scene:
    """One rectified pair with ground truth; `name` is its folder below the root."""

    name: str
    left: Path
    right: Path
    truth: Path

    def load(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Read the scene.

        Returns:
            left and right (H, W, 3) uint8 RGB, disparity (H, W) float32 px, valid (H, W) bool.

        Raises:
            ValueError: If the images and the ground truth differ in size, one is unreadable, or
                no disparity is known.
        """
        left, right = read_image(self.left), read_image(self.right)
        disparity, valid = read_disparity(self.truth)
        if not left.shape[:2] == right.shape[:2] == disparity.shape:
            raise ValueError(f'{self.name}: left, right and ground truth must be of one size, got '
                             f'{left.shape[:2]}, {right.shape[:2]} and {disparity.shape}')
        if not valid.any():
            raise ValueError(f'{self.name}: the ground truth has no known disparity')
        return left, right, disparity, valid


def find_scenes(root: Union[str, Path]) -> list[Scene]:
    """Find every folder with a pair and its ground truth at or below `root`, sorted by name.

    Folders with a pair alone are left out and counted in a log message.

    Raises:
        FileNotFoundError: If there is no such folder or no labelled pair in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f'no folder {root}')
    scenes, unlabelled = [], []
    for folder in sorted({path.parent for path in root.rglob('left.*')}):
        left, right = _find_image(folder, 'left'), _find_image(folder, 'right')
        if left is None or right is None:
            continue
        name = folder.relative_to(root).as_posix() if folder != root else folder.name
        truth = folder / 'disp.pfm'
        if truth.is_file():
            scenes.append(Scene(name, left, right, truth))
        else:
            unlabelled.append(name)
    if not scenes:
        raise FileNotFoundError(f'no labelled pair below {root}; expected folders with left.png, '
                                f'right.png and disp.pfm ({len(unlabelled)} pairs without truth)')
    if unlabelled:
        logger.info('left out %d of %d pairs without disp.pfm: %s', len(unlabelled),
                    len(unlabelled) + len(scenes), ', '.join(unlabelled))
    return scenes


def _find_image(folder: Path, stem: str) -> Optional[Path]:
    for suffix in ('.png', '.jpg', '.jpeg'):
        if (folder / f'{stem}{suffix}').is_file():
            return folder / f'{stem}{suffix}'
    return None
