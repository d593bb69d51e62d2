"""A labelled stereo pair on disk, whichever data set it belongs to."""

from collections.abc import Callable
from dataclasses import dataclass
import os
from pathlib import Path
from typing import Optional

import numpy as np

from svp_ros.data.formats import read_disparity, read_image
from svp_ros.geometry import StereoCamera

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.ppm', '.pgm')

Folders = dict[Path, frozenset[str]]


@dataclass(frozen=True)
class Calibration:
    """What a data set says about the cameras of a pair.

    Attributes:
        camera: the rig, in pixels of the pair's images and metres.
        search_range: published bound of the disparity in pixels, if there is one.
    """

    camera: StereoCamera
    search_range: Optional[int] = None


@dataclass(frozen=True)
class Scene:
    """One rectified pair with ground truth.

    Attributes:
        name: path below the root that tells this pair from the others.
        left: image file.
        right: image file.
        truth: file of the left image's disparity.
        read_truth: its reader; returns (H, W) float32 pixels and (H, W) bool, True where known.
        read_visible: returns (H, W) bool, True where the right camera sees the point too; None
            if the data set does not say.
        read_calibration: called with height and width of the images; None if unknown.
    """

    name: str
    left: Path
    right: Path
    truth: Path
    read_truth: Callable[[Path], tuple[np.ndarray, np.ndarray]] = read_disparity
    read_visible: Optional[Callable[[], np.ndarray]] = None
    read_calibration: Optional[Callable[[int, int], Calibration]] = None

    def load(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Read the scene.

        Returns:
            left and right (H, W, 3) uint8 RGB, disparity (H, W) float32 px, valid (H, W) bool.

        Raises:
            ValueError: If the images and the ground truth differ in size, one is unreadable, or
                no disparity is known.
        """
        left, right = read_image(self.left), read_image(self.right)
        disparity, valid = self.read_truth(self.truth)
        if not left.shape[:2] == right.shape[:2] == disparity.shape:
            raise ValueError(f'{self.name}: left, right and ground truth must be of one size, got '
                             f'{left.shape[:2]}, {right.shape[:2]} and {disparity.shape}')
        if not valid.any():
            raise ValueError(f'{self.name}: the ground truth has no known disparity')
        return left, right, disparity, valid

    def load_visible(self, height: int, width: int) -> Optional[np.ndarray]:
        """Read where the right camera sees the point too, (H, W) bool; None if unknown.

        Raises:
            ValueError: If the mask is unreadable or of another size.
        """
        if self.read_visible is None:
            return None
        visible = self.read_visible()
        if visible.shape != (height, width):
            raise ValueError(f'{self.name}: the mask of occlusions is of size {visible.shape}, '
                             f'the images are {(height, width)}')
        return visible

    def load_calibration(self, height: int, width: int) -> Optional[Calibration]:
        """Read the calibration for images of this size; None if unknown.

        Raises:
            ValueError: If it is unreadable or belongs to another size.
        """
        return self.read_calibration(height, width) if self.read_calibration else None


def list_folders(root: Path) -> Folders:
    """List the names of the files in `root` and in every folder below it."""
    return {Path(here): frozenset(files)
            for here, _, files in os.walk(root, followlinks=True)}


def image_path(folders: Folders, folder: Path, stem: str) -> Path:
    """Path of the image `stem` in a folder, whatever its suffix; .png if there is none."""
    names = folders.get(folder, ())
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if stem + suffix in names), '.png')
    return folder / f'{stem}{suffix}'


def relative_name(path: Path, root: Path) -> str:
    """Name of a scene from its path without suffix."""
    return path.relative_to(root).as_posix() if path != root else path.resolve().name
