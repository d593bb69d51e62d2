"""UnrealStereo4K (disparity as .npy) and UnrealStereo10k (as .pfm).

Source: https://github.com/fabiotosi92/SMD-Nets, Tosi et al. 2021; Zhang et al. 2018.
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
from svp_ros.geometry import StereoCamera

EXPECTED = ('<sequence>/{Image0,Image1}/NAME.png and Disp0/NAME.npy (4K) or '
            '<sequence>/{imL,imR}/NAME.png and dispL_occ_pfm/NAME.pfm (10k)')
# Folders of the truth, left and right images, and suffix of the truth.
LAYOUTS = (('Disp0', 'Image0', 'Image1', '.npy'), ('dispL_occ_pfm', 'imL', 'imR', '.pfm'))


def find(root: Path, folders: Folders) -> Iterator[Scene]:
    """Yield every ground truth of a left image."""
    for folder, names in folders.items():
        base = folder.parent
        for truth, left, right, suffix in LAYOUTS:
            if folder.name != truth:
                continue
            for name in names:
                stem = Path(name).stem
                if Path(name).suffix != suffix:
                    continue
                cameras = [base / f'Extrinsics{eye}' / f'{stem}.txt' for eye in (0, 1)]
                known = all(path.name in folders.get(path.parent, ()) for path in cameras)
                yield Scene(relative_name(base / stem, root),
                            *(image_path(folders, base / eye, stem) for eye in (left, right)),
                            folder / name, read_calibration=(
                                partial(read_calibration, *cameras) if known else None))


def read_calibration(left: Path, right: Path, height: int, width: int) -> Calibration:
    """Read intrinsics (3x3) and extrinsics (3x4, world to camera), one line each, of both eyes.

    Raises:
        ValueError: If a file is broken.
    """
    try:
        (K, pose), (K_right, pose_right) = (
            [np.array(line.split(), float) for line in path.read_text().strip().splitlines()]
            for path in (left, right))
        K, K_right, pose, pose_right = (
            values.reshape(3, -1) for values in (K, K_right, pose, pose_right))
        # the centre of a camera with world-to-camera pose [R | t] is -R^T t
        centres = [-camera[:, :3].T @ camera[:, 3] for camera in (pose, pose_right)]
    except (ValueError, IndexError) as error:
        raise ValueError(f'{left} and {right} must hold a line of 9 and one of 12 numbers: '
                         f'{error}') from None
    baseline = float(np.linalg.norm(centres[0] - centres[1]))
    fx, fy, cx, cy, cx_right = map(
        float, (K[0, 0], K[1, 1], K[0, 2], K[1, 2], K_right[0, 2]))
    return Calibration(StereoCamera(fx, fy, cx, cy, baseline, width, height, cx_right))
