"""The plain folder, which `svp render` also writes: left.png, right.png and disp.pfm.

Optional files beside them: occluded.png (not 0 where the right camera does not see the point) or
KITTI's disp_noc_0.png; camera.json (fields of StereoCamera) or KITTI's calib_cam_to_cam.txt.
"""

from collections.abc import Iterator
from functools import partial
import json
from pathlib import Path

from svp_ros.data.datasets.kitti import COLOUR_2015, read_calibration, read_visible
from svp_ros.data.datasets.scene import (
    Calibration,
    Folders,
    image_path,
    IMAGE_SUFFIXES,
    relative_name,
    Scene,
)
from svp_ros.data.formats import read_not_occluded
from svp_ros.geometry import StereoCamera

EXPECTED = '[<set>/]<scene>/left.png, right.png (or .jpg) and disp.pfm'


def find(root: Path, folders: Folders) -> Iterator[Scene]:
    """Yield every folder with a left and a right image."""
    for folder, names in folders.items():
        if not all(any(f'{eye}{suffix}' in names for suffix in IMAGE_SUFFIXES)
                   for eye in ('left', 'right')):
            continue
        visible = calibration = None
        if 'occluded.png' in names:
            visible = partial(read_not_occluded, folder / 'occluded.png')
        elif 'disp_noc_0.png' in names:
            visible = partial(read_visible, folder / 'disp_noc_0.png')
        if 'camera.json' in names:
            calibration = partial(read_camera, folder / 'camera.json')
        elif 'calib_cam_to_cam.txt' in names:
            calibration = partial(read_calibration, folder / 'calib_cam_to_cam.txt', *COLOUR_2015)
        yield Scene(relative_name(folder, root), image_path(folders, folder, 'left'),
                    image_path(folders, folder, 'right'), folder / 'disp.pfm',
                    read_visible=visible, read_calibration=calibration)


def read_camera(path: Path, height: int, width: int) -> Calibration:
    """Read the fields of a StereoCamera from JSON.

    Raises:
        ValueError: If they are no camera, or one of another image size.
    """
    try:
        camera = StereoCamera(**json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f'{path} is no camera of svp_ros: {error}') from None
    if (camera.height, camera.width) != (height, width):
        raise ValueError(f'{path} is of {camera.width}x{camera.height} images, these are '
                         f'{width}x{height}')
    return Calibration(camera)
