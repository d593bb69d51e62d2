"""Labelled stereo pairs below a folder, in any of the layouts of `svp_ros.data.datasets`."""

from collections import Counter
import logging
from pathlib import Path
from typing import Union

from svp_ros.data.datasets import (
    drivingstereo,
    eth3d,
    folder,
    kitti,
    middlebury,
    sceneflow,
    unrealstereo,
    virtual_kitti,
)
from svp_ros.data.datasets.scene import Folders, list_folders, Scene

__all__ = ['find_scenes', 'LAYOUTS', 'Scene']

LAYOUTS = {
    'folder': folder, 'kitti': kitti, 'sceneflow': sceneflow, 'middlebury': middlebury,
    'eth3d': eth3d, 'unrealstereo': unrealstereo, 'drivingstereo': drivingstereo,
    'virtual_kitti': virtual_kitti}
AUTO = 'auto'

logger = logging.getLogger(__name__)


def find_scenes(root: Union[str, Path], layout: str = AUTO) -> list[Scene]:
    """Find every pair with its ground truth at or below `root`, sorted by name.

    Pairs that lack a file are left out and counted in a log message.

    Args:
        root: folder of one or several data sets.
        layout: a key of LAYOUTS; auto takes whatever is found.

    Raises:
        FileNotFoundError: If there is no such folder or no labelled pair in it.
        ValueError: If the layout is unknown.
    """
    root = Path(root)
    if layout not in (AUTO, *LAYOUTS):
        raise ValueError(f'layout must be {AUTO} or one of {", ".join(LAYOUTS)}, got "{layout}"')
    if not root.is_dir():
        raise FileNotFoundError(f'no folder {root}')
    folders = list_folders(root)
    scenes, lacking = [], {}
    for name in LAYOUTS if layout == AUTO else (layout,):
        for scene in LAYOUTS[name].find(root, folders):
            missing = next((path for path in (scene.left, scene.right, scene.truth)
                            if path.name not in folders.get(path.parent, ())), None)
            if missing:
                lacking[scene.name] = missing.relative_to(root)
            else:
                scenes.append(scene)
    if not scenes:
        raise FileNotFoundError(_explain(root, layout, folders, lacking))
    if lacking:
        name, missing = min(lacking.items())
        logger.info('left out %d of %d pairs, which lack a file: %s has no %s',
                    len(lacking), len(lacking) + len(scenes), name, missing)
    return sorted(scenes, key=lambda scene: scene.name)


def _explain(root: Path, layout: str, folders: Folders, lacking: dict[str, Path]) -> str:
    """Say in one sentence what is there and what would work."""
    if lacking:
        name, missing = min(lacking.items())
        found = f'{len(lacking)} pairs lack a file, such as {name}, which has no {missing}'
    elif not any(folders.values()):
        found = 'it is empty'
    else:
        kinds = Counter(Path(name).suffix or 'other' for names in folders.values()
                        for name in names)
        kinds = kinds.most_common(3)
        example = min(path / name for path, names in folders.items() for name in names
                      if (Path(name).suffix or 'other') == kinds[0][0])
        found = ('found ' + ', '.join(f'{count} {kind}' for kind, count in kinds)
                 + f' files, such as {example.relative_to(root).as_posix()}')
    expected = LAYOUTS['folder' if layout == AUTO else layout].EXPECTED
    if layout == AUTO:
        others = ', '.join(name for name in LAYOUTS if name != 'folder')
        expected += (f', or a data set as it is downloaded: {others} (name it as the format, to '
                     'be told its files)')
    return f'no labelled pair below {root}: {found}; expected {expected}'
