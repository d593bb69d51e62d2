"""DrivingStereo: disparity as 16-bit PNG, times 256 at half size, times 128 at full size.

The baseline is the length of T_103: in the calibration of half-size images the translation of
P_rect_103 is that of the full size.

Source: https://drivingstereo-dataset.github.io/, Yang et al. 2019.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from svp_ros.data.datasets.scene import (
    Calibration,
    Folders,
    image_path,
    relative_name,
    Scene,
)
from svp_ros.data.formats import read_named_numbers, read_scaled_disparity
from svp_ros.geometry import StereoCamera

EXPECTED = ('{left-image,right-image,disparity-map}-half-size/NAME.png, or the same with train- '
            'or test- before it and sequences below it')
TRUTH, LEFT, RIGHT = 'disparity-map', 'left-image', 'right-image'


def find(root: Path, folders: Folders) -> Iterator[Scene]:
    """Yield every ground truth, at half or full size."""
    calibrations = {(folder.name, Path(name).stem): folder / name
                    for folder, names in folders.items()
                    if folder.name.endswith('-image-calib') for name in names}
    for folder, names in folders.items():
        place = folder.relative_to(root).as_posix()
        if TRUTH not in place:
            continue
        size = 'full' if 'full-size' in place else 'half'
        for name in names:
            stem, suffix = Path(name).stem, Path(name).suffix
            if suffix != '.png':
                continue
            left, right = (image_path(folders, root / place.replace(TRUTH, eye), stem)
                           for eye in (LEFT, RIGHT))
            # a picture is called <sequence>_<time>
            calibration = calibrations.get((f'{size}-image-calib', stem.partition('_')[0]))
            yield Scene(
                relative_name(left.with_suffix(''), root), left, right, folder / name,
                partial(read_scaled_disparity, scale=128 if size == 'full' else 256),
                read_calibration=calibration and partial(read_calibration, calibration))


def read_calibration(path: Path, height: int, width: int) -> Calibration:
    """Read the rectified cameras 101 (left) and 103 (right).

    Raises:
        ValueError: If an entry is missing or broken.
    """
    left, right, translation = read_named_numbers(
        path, {'P_rect_101': 12, 'P_rect_103': 12, 'T_103': 3})
    return Calibration(StereoCamera(left[0], left[5], left[2], left[6],
                                    float(np.linalg.norm(translation)), width, height, right[2]))
