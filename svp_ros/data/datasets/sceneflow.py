"""SceneFlow: FlyingThings3D, its subset, Driving and Monkaa; clean and final pass, PFM.

Depth is in units of Blender, not metres, so there is no calibration.

Source: https://lmb.informatik.uni-freiburg.de/resources/datasets/SceneFlowDatasets.en.html,
Mayer et al. 2016. The FlyingThings3D subset stores left disparities with a minus sign.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from svp_ros.data.datasets.scene import Folders, image_path, relative_name, Scene
from svp_ros.data.formats import read_not_occluded, read_pfm

EXPECTED = ('frames_cleanpass or frames_finalpass/.../{left,right}/NAME.png and '
            'disparity/.../left/NAME.pfm (image_clean, image_final in the subset)')
PASSES = ('frames_cleanpass', 'frames_finalpass', 'image_clean', 'image_final')


def find(root: Path, folders: Folders) -> Iterator[Scene]:
    """Yield every ground truth of a left image, with each pass that is there."""
    for folder, names in folders.items():
        parts = folder.relative_to(root).parts
        if folder.name != 'left' or 'disparity' not in parts:
            continue
        occlusions, *passes = (
            root.joinpath(*(kind if part == 'disparity' else part for part in parts))
            for kind in ('disparity_occlusions', *PASSES))
        passes = [left for left in passes if left in folders] or passes[:1]
        for name in names:
            stem, suffix = Path(name).stem, Path(name).suffix
            if suffix != '.pfm':
                continue
            visible = (partial(read_not_occluded, occlusions / f'{stem}.png')
                       if f'{stem}.png' in folders.get(occlusions, ()) else None)
            for left in passes:
                yield Scene(relative_name(left / stem, root), image_path(folders, left, stem),
                            image_path(folders, left.parent / 'right', stem), folder / name,
                            read_truth, visible)


def read_truth(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read disparity, whose sign is negative in the FlyingThings3D subset, and where known."""
    disparity = read_pfm(path)
    valid = np.isfinite(disparity)
    if (disparity[valid] < 0).any():
        if (disparity[valid] > 0).any():
            raise ValueError(f'{path} holds disparities of both signs')
        disparity = -disparity
    return np.where(valid, disparity, np.float32(0)), valid
