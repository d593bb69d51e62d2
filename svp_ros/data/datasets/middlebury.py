"""Middlebury stereo: 2001, 2003, 2005, 2006, 2014, 2021 and the benchmark (MiddEval3).

Source: https://vision.middlebury.edu/stereo/data/; Scharstein and Szeliski 2002 and 2003,
Scharstein and Pal 2007, Hirschmueller and Scharstein 2007, Scharstein et al. 2014.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
import re

import numpy as np

from svp_ros.data.datasets.scene import (
    Calibration,
    Folders,
    image_path,
    relative_name,
    Scene,
)
from svp_ros.data.formats import read_grey, read_scaled_disparity
from svp_ros.geometry import StereoCamera

EXPECTED = ('<scene>/im0.png, im1.png, calib.txt and disp0.pfm or disp0GT.pfm (2014, 2021, '
            'benchmark), <scene>/view1.png, view5.png and disp1.png (2005, 2006), '
            '<scene>/im2.ppm, im6.ppm and disp2.pgm (2001, 2003; .png too)')
TSUKUBA = ('scene1.row3.col3', 'scene1.row3.col4', 'truedisp.row3.col3')
TSUKUBA_SCALE = 16
# Grey levels per pixel of disparity by size of the image, in 2003; in 2001 always 8.
SCALES_2003 = {(375, 450): 4, (750, 900): 2, (1500, 1800): 1}
SCALE_2001 = 8
# 2005 and 2006: all images are 1110 rows high, or a half or third of that.
FULL_HEIGHT = 1110
FOCAL_LENGTH, BASELINE = 3740.0, 0.16  # of the full size, pixels; between views 1 and 5, metres


def find(root: Path, folders: Folders) -> Iterator[Scene]:
    """Yield the ground truths of all years; of 2005 and 2006 every light and exposure."""
    for folder, names in folders.items():
        stems = {Path(name).stem for name in names}
        truth = next((name for name in ('disp0GT.pfm', 'disp0.pfm') if name in names), None)
        if truth and 'im0' in stems:
            yield calibrated_scene(root, folders, folder, folder / truth)
        if {'view1', 'view5'} <= stems:
            yield from _view_scene(root, folders, folder)
        for left, right, truth, read_truth in (
                ('im2', 'im6', 'disp2', read_2001_2003),
                (*TSUKUBA, partial(read_scaled_disparity, scale=TSUKUBA_SCALE))):
            if {left, truth} <= stems:
                yield Scene(relative_name(folder, root),
                            *(image_path(folders, folder, stem) for stem in (left, right, truth)),
                            read_truth)


def calibrated_scene(root: Path, folders: Folders, folder: Path, truth: Path) -> Scene:
    """Scene of im0, im1 and calib.txt, with mask0nocc.png beside the truth if it is there."""
    visible = calibration = None
    if 'mask0nocc.png' in folders[truth.parent]:
        visible = partial(read_visible, truth.parent / 'mask0nocc.png')
    if 'calib.txt' in folders[folder]:
        calibration = partial(read_calibration, folder / 'calib.txt')
    return Scene(relative_name(folder, root), image_path(folders, folder, 'im0'),
                 image_path(folders, folder, 'im1'), truth, read_visible=visible,
                 read_calibration=calibration)


def read_visible(path: Path) -> np.ndarray:
    """(H, W) bool of a mask with 255 where both cameras see the point, 128 where only one."""
    return read_grey(path) == 255


def read_calibration(path: Path, height: int, width: int) -> Calibration:
    """Read a calib.txt; its doffs is cx_right - cx_left, the opposite of ours, baseline in mm.

    Raises:
        ValueError: If an entry is missing or broken, or the images have another size.
    """
    entries = dict(re.findall(r'^(\w+)\s*=\s*(.*?)\s*$', path.read_text(), re.MULTILINE))
    try:
        fx, _, cx, _, fy, cy, *_ = map(float, re.split(r'[;\s]+', entries['cam0'].strip('[] ')))
        baseline, doffs = float(entries['baseline']) / 1000, float(entries['doffs'])
        size = int(entries['height']), int(entries['width'])
        search_range = int(entries['ndisp']) if 'ndisp' in entries else None
    except (KeyError, ValueError) as error:
        raise ValueError(f'{path} is no calibration of Middlebury or ETH3D with cam0, '
                         f'doffs, baseline, width and height: {error}') from None
    if size != (height, width):
        raise ValueError(f'{path} is of {size[1]}x{size[0]} images, these are {width}x{height}')
    camera = StereoCamera(fx, fy, cx, cy, baseline, width, height, cx + doffs)
    return Calibration(camera, search_range)


def read_2001_2003(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read disparity as grey levels, whose scale follows from the size, and where it is known."""
    scale = SCALES_2003.get(read_grey(path).shape, SCALE_2001)
    return read_scaled_disparity(path, scale)


def read_2005_2006(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read disparity as grey levels in pixels of the full size, and where it is known.

    Raises:
        ValueError: If the map is not of full, half or third size.
    """
    return read_scaled_disparity(path, _reduction(read_grey(path).shape[0], path))


def read_dmin(path: Path, truth: Path, height: int, width: int) -> Calibration:
    """Calibration of 2005 and 2006; dmin.txt says how much the crop took from the disparity.

    Depth is focal length * baseline / (disparity + dmin); the principal point is not published.
    """
    reduction = _reduction(height, truth)
    try:
        dmin = float(path.read_text()) / reduction
    except ValueError:
        raise ValueError(f'{path} must hold one number') from None
    f, cx, cy = FOCAL_LENGTH / reduction, (width - 1) / 2, (height - 1) / 2
    return Calibration(StereoCamera(f, f, cx, cy, BASELINE, width, height, cx + dmin))


def _view_scene(root: Path, folders: Folders, folder: Path) -> Iterator[Scene]:
    """Scene of view1 and view5, whose truth is there or, with lights, two folders above."""
    for place in (folder, *folder.parents[:2]):
        if 'disp1.png' in folders.get(place, ()):
            truth = place / 'disp1.png'
            calibration = (partial(read_dmin, place / 'dmin.txt', truth)
                           if 'dmin.txt' in folders[place] else None)
            yield Scene(relative_name(folder, root), image_path(folders, folder, 'view1'),
                        image_path(folders, folder, 'view5'), truth, read_2005_2006,
                        read_calibration=calibration)
            return


def _reduction(height: int, path: Path) -> int:
    reduction = FULL_HEIGHT // max(height, 1)
    if reduction not in (1, 2, 3) or reduction * height != FULL_HEIGHT:
        raise ValueError(f'{path} has {height} rows; Middlebury 2005 and 2006 have '
                         f'{FULL_HEIGHT}, {FULL_HEIGHT // 2} or {FULL_HEIGHT // 3}')
    return reduction
