"""ETH3D low-resolution two-view stereo: the files of Middlebury 2014, truth in its own folder.

Source: https://www.eth3d.net/documentation, Schoeps et al. 2017.
"""

from collections.abc import Iterator
from pathlib import Path

from svp_ros.data.datasets.middlebury import calibrated_scene
from svp_ros.data.datasets.scene import Folders, Scene

EXPECTED = ('two_view_training/<scene>/im0.png, im1.png, calib.txt and '
            'two_view_training_gt/<scene>/disp0GT.pfm, mask0nocc.png')


def find(root: Path, folders: Folders) -> Iterator[Scene]:
    """Yield every scene whose truth is in the folder of the same name with `_gt`."""
    for folder in folders:
        views = folder.parent
        truth = views.parent / f'{views.name}_gt' / folder.name / 'disp0GT.pfm'
        if truth.name in folders.get(truth.parent, ()):
            yield calibrated_scene(root, folders, folder, truth)
