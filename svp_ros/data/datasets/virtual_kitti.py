"""Virtual KITTI 2: depth in centimetres as 16-bit PNG, one camera rig for all scenes.

Source: https://europe.naverlabs.com/proxy-virtual-worlds-vkitti-2/, Cabon et al. 2020.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from svp_ros.data.datasets.scene import (
    Calibration,
    Folders,
    image_path,
    relative_name,
    Scene,
)
from svp_ros.data.formats import read_grey
from svp_ros.geometry import StereoCamera

EXPECTED = ('Scene01/<variation>/frames/rgb/{Camera_0,Camera_1}/rgb_NAME.jpg and '
            'frames/depth/Camera_0/depth_NAME.png')
FOCAL_LENGTH, CX, CY, BASELINE = 725.0087, 620.5, 187.0, 0.532725
SKY = 65535


def find(root: Path, folders: Folders) -> Iterator[Scene]:
    """Yield every depth map of the left camera."""
    for folder, names in folders.items():
        if folder.name != 'Camera_0' or folder.parent.name != 'depth':
            continue
        frames = folder.parent.parent
        for name in names:
            stem = Path(name).stem.replace('depth', 'rgb')
            if Path(name).suffix != '.png':
                continue
            left, right = (image_path(folders, frames / 'rgb' / eye, stem)
                           for eye in ('Camera_0', 'Camera_1'))
            yield Scene(relative_name(frames.parent / stem, root), left, right, folder / name,
                        read_truth, read_calibration=read_calibration)


def read_truth(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Turn depth into disparity; the sky, beyond 655.34 m, is unknown."""
    raw = read_grey(path, np.uint16)
    valid = (raw > 0) & (raw < SKY)
    depth = np.where(valid, raw, 1).astype(np.float32) / 100
    disparity = np.where(valid, np.float32(FOCAL_LENGTH * BASELINE) / depth, np.float32(0))
    return disparity, valid


def read_calibration(height: int, width: int) -> Calibration:
    """Return the rig that all sequences share."""
    return Calibration(StereoCamera(FOCAL_LENGTH, FOCAL_LENGTH, CX, CY, BASELINE, width, height))
