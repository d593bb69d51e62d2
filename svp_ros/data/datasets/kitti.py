"""KITTI 2012 and 2015 stereo: disparity as 16-bit PNG times 256, 0 where unknown.

disp_occ holds all known pixels, disp_noc those that the right camera sees too.

Source: devkits of https://www.cvlibs.net/datasets/kitti/eval_stereo_flow.php and
eval_scene_flow.php; Geiger et al. 2012, Menze and Geiger 2015.
"""

from collections.abc import Iterator
from functools import partial
import math
from pathlib import Path

import numpy as np

from svp_ros.data.datasets.scene import (
    Calibration,
    Folders,
    image_path,
    relative_name,
    Scene,
)
from svp_ros.data.formats import read_disparity, read_named_numbers
from svp_ros.geometry import StereoCamera

EXPECTED = ('training/{image_2,image_3,disp_occ_0}/NAME_10.png (2015) or '
            'training/{colored_0,colored_1 or image_0,image_1; disp_occ}/NAME_10.png (2012)')
# Keys of the rectified projection matrices of the left and right camera.
COLOUR_2015 = ('P_rect_02', 'P_rect_03')


def find(root: Path, folders: Folders) -> Iterator[Scene]:
    """Yield every ground truth of both benchmarks; colour images of 2012 if they are there."""
    for folder, names in folders.items():
        base = folder.parent
        if folder.name == 'disp_occ_0':
            eyes, calibrations, keys = ('image_2', 'image_3'), 'calib_cam_to_cam', COLOUR_2015
        elif folder.name == 'disp_occ' and base / 'colored_0' in folders:
            eyes, calibrations, keys = ('colored_0', 'colored_1'), 'calib', ('P2', 'P3')
        elif folder.name == 'disp_occ':
            eyes, calibrations, keys = ('image_0', 'image_1'), 'calib', ('P0', 'P1')
        else:
            continue
        visible = base / folder.name.replace('occ', 'noc')
        for name in names:
            stem, suffix = Path(name).stem, Path(name).suffix
            if suffix != '.png':
                continue
            calibration = base / calibrations / f'{stem.partition("_")[0]}.txt'
            has_calibration = calibration.name in folders.get(calibration.parent, ())
            yield Scene(
                relative_name(base / stem, root),
                *(image_path(folders, base / eye, stem) for eye in eyes), folder / name,
                read_visible=(partial(read_visible, visible / name)
                              if name in folders.get(visible, ()) else None),
                read_calibration=(partial(read_calibration, calibration, *keys)
                                  if has_calibration else None))


def read_visible(path: Path) -> np.ndarray:
    """(H, W) bool, True where the disparity of a point that both cameras see is known."""
    return read_disparity(path)[1]


def read_calibration(path: Path, left_key: str, right_key: str, height: int,
                     width: int) -> Calibration:
    """Read the rectified 3x4 projection matrices of the two cameras.

    Raises:
        ValueError: If a matrix is missing or broken.
    """
    left, right = read_named_numbers(path, {left_key: 12, right_key: 12})
    # -fx * x of the camera; the left one of the colour pair is not the origin
    baseline = (left[3] - right[3]) / (left[0] or math.nan)
    try:
        return Calibration(StereoCamera(left[0], left[5], left[2], left[6], baseline, width,
                                        height, right[2]))
    except ValueError as error:
        raise ValueError(f'{path} is of no rectified pair: {error}') from None
