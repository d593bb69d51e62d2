"""Stereo pairs with labelled 3-D boxes below a folder, in four layouts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
import json
import logging
from pathlib import Path
from typing import Optional, Union

import numpy as np

from svp_ros.boxes import (
    clip_boxes,
    cut_share,
    DONT_CARE,
    LabelledBoxes,
    project_boxes,
    UNKNOWN_OCCLUSION,
)
from svp_ros.data import kitti_object
from svp_ros.data.datasets import folder as plain_folder
from svp_ros.data.datasets.scene import Folders, image_path, list_folders, relative_name
from svp_ros.data.formats import PathLike, read_image
from svp_ros.geometry import StereoCamera

EXPECTED = ('training/{image_2,image_3,calib,label_2}/NAME as KITTI object has it, '
            'training/{image_02,image_03,calib,label_02}/SEQUENCE as KITTI tracking has it, or '
            '[<set>/]<scene>/{left.png,right.png} (or .jpg) with calib.txt and label_2.txt of '
            'KITTI or with the camera.json and boxes.json of "svp render"')
TOLERANCE = 10  # pixels by which a 2D box may exceed the image

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledFrame:
    """One rectified pair with the boxes in it.

    Attributes:
        name: path below the root that tells this frame from the others.
        left: image file.
        right: image file.
        read_camera: called with height and width of the images, returns the rig; raises
            ValueError if the calibration is unreadable or belongs to another size.
        read_boxes: returns the ground truth in the frame of the left camera; raises ValueError
            if a label is broken.
        disparity: file of the left image's disparity, if there is one.
        read_offset: returns (3,) metres to take away again from boxes that are written for the
            tools of the data set; see `kitti_object.read_offset`.
    """

    name: str
    left: Path
    right: Path
    read_camera: Callable[[int, int], StereoCamera]
    read_boxes: Callable[[], LabelledBoxes]
    disparity: Optional[Path] = None
    read_offset: Callable[[], np.ndarray] = partial(np.zeros, 3)

    def load(self) -> tuple[np.ndarray, np.ndarray, StereoCamera, LabelledBoxes]:
        """Read the frame.

        Returns:
            left and right (H, W, 3) uint8 RGB, the camera and the boxes.

        Raises:
            ValueError: If images, calibration and labels do not belong together, or a file is
                unreadable.
        """
        left, right = read_image(self.left), read_image(self.right)
        if left.shape != right.shape:
            raise ValueError(f'{self.name}: left and right must be of one size, got '
                             f'{left.shape[:2]} and {right.shape[:2]}')
        H, W, _ = left.shape
        camera, boxes = self.read_camera(H, W), self.read_boxes()
        box2d = clip_boxes(boxes.box2d, W, H)
        excess = np.abs(box2d - boxes.box2d).max(initial=0)
        if excess > TOLERANCE:
            raise ValueError(f'{self.name}: a 2D box ends {excess:.0f} px outside of the image of '
                             f'{W}x{H}; labels must be of this size and clipped to it')
        return left, right, camera, boxes


def find_frames(root: PathLike, split: Union[PathLike, None] = None) -> list[LabelledFrame]:
    """Find every labelled frame at or below `root`, sorted by name.

    Frames that lack a file are left out and counted in a log message.

    Args:
        root: folder of one or several data sets.
        split: text file with the name of a frame (000123) per line, to take only those.

    Raises:
        FileNotFoundError: If there is no such folder or file, or no labelled frame in it.
        ValueError: If the split names a frame that is not there or lacks a file.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f'no folder {root}')
    wanted = _read_split(Path(split)) if split else None
    folders = list_folders(root)
    frames, lacking = {}, {}
    for frame, needed in _find(root, folders):
        missing = next((path for path in (frame.left, frame.right, *needed)
                        if path.name not in folders.get(path.parent, ())), None)
        if missing:
            lacking[frame.name] = missing.relative_to(root)
        else:
            frames[frame.name] = frame
    if not frames:
        raise FileNotFoundError(_explain(root, lacking))
    if wanted is not None:
        return _choose(frames, lacking, wanted, split)
    if lacking:
        name, missing = min(lacking.items())
        logger.info('left out %d of %d frames, which lack a file: %s has no %s',
                    len(lacking), len(lacking) + len(frames), name, missing)
    return [frames[name] for name in sorted(frames)]


def read_boxes_json(path: PathLike, camera_path: PathLike) -> LabelledBoxes:
    """Read the boxes that `svp render` wrote, and the camera that saw them.

    What older files do not say comes from the projection; their occlusion is unknown.

    Raises:
        FileNotFoundError: If one of the files is missing.
        ValueError: If it is not such a file or a box is degenerate.
    """
    entries = _read_json(path)
    try:
        box3d = np.array([entry['box3d'] for entry in entries], np.float32).reshape(-1, 7)
        label = [entry['label'] for entry in entries]
        instance = np.array([entry['instance'] for entry in entries], np.int64)
        if all('box2d' in entry for entry in entries):
            box2d = np.array([entry['box2d'] for entry in entries], np.float32).reshape(-1, 4)
            truncation = np.array([entry['truncation'] for entry in entries], np.float32)
            occlusion = np.array([entry['occlusion'] for entry in entries], np.int64)
        else:
            camera = StereoCamera(**_read_json(camera_path))
            whole = np.nan_to_num(project_boxes(box3d, camera))
            box2d = clip_boxes(whole, camera.width, camera.height)
            truncation = cut_share(whole, box2d)
            occlusion = np.full(len(entries), UNKNOWN_OCCLUSION)
        boxes = LabelledBoxes(box3d, label, box2d, truncation, occlusion, instance)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is no list of boxes of svp_ros: {error}') from None
    known = np.array(label, object) != DONT_CARE
    if not (np.isfinite(box3d[known]).all() and (box3d[known, 3:6] > 0).all()):
        raise ValueError(f'{path}: box3d must be finite with a positive length, height and width')
    if not (np.isfinite(box2d).all() and np.isfinite(truncation).all()):
        raise ValueError(f'{path}: box2d and truncation must be finite')
    return boxes


def _find(root: Path, folders: Folders) -> Iterator[tuple[LabelledFrame, tuple[Path, ...]]]:
    """Yield every frame that has labels, with the files that it needs beside its images."""
    for folder, names in folders.items():
        if folder.name == 'label_2':
            base = folder.parent
            for stem in (Path(name).stem for name in names if name.endswith('.txt')):
                calibration = base / 'calib' / f'{stem}.txt'
                yield _kitti_frame(
                    relative_name(base / stem, root), image_path(folders, base / 'image_2', stem),
                    image_path(folders, base / 'image_3', stem), calibration,
                    folder / f'{stem}.txt'), (calibration,)
            continue
        if folder.name == 'label_02':
            yield from _find_tracking(root, folders, folder)
            continue
        name = relative_name(folder, root)
        left, right = (image_path(folders, folder, eye) for eye in ('left', 'right'))
        disparity = folder / 'disp.pfm' if 'disp.pfm' in names else None
        if 'label_2.txt' in names:
            yield _kitti_frame(name, left, right, folder / 'calib.txt', folder / 'label_2.txt',
                               disparity), (folder / 'calib.txt',)
        elif 'boxes.json' in names:
            camera = folder / 'camera.json'
            yield LabelledFrame(
                name, left, right, partial(_read_camera_json, camera),
                partial(read_boxes_json, folder / 'boxes.json', camera), disparity), (camera,)


def _find_tracking(root: Path, folders: Folders, folder: Path
                   ) -> Iterator[tuple[LabelledFrame, tuple[Path, ...]]]:
    """Yield every image of the sequences that a folder of KITTI tracking has labels of."""
    base = folder.parent
    for labels in (folder / name for name in folders[folder] if name.endswith('.txt')):
        sequence, calibration = labels.stem, base / 'calib' / labels.name
        left, right = (base / eye / sequence for eye in ('image_02', 'image_03'))
        for stem in (Path(name).stem for name in folders.get(left, ())):
            if stem.isdigit():
                yield LabelledFrame(
                    relative_name(base / sequence / stem, root), image_path(folders, left, stem),
                    image_path(folders, right, stem),
                    partial(kitti_object.read_calibration, calibration),
                    partial(_read_frame_of_tracks, labels, calibration, int(stem)), None,
                    partial(kitti_object.read_offset, calibration)), (calibration,)


def _kitti_frame(name: str, left: Path, right: Path, calibration: Path, labels: Path,
                 disparity: Optional[Path] = None) -> LabelledFrame:
    return LabelledFrame(name, left, right, partial(kitti_object.read_calibration, calibration),
                         partial(_read_kitti_boxes, labels, calibration), disparity,
                         partial(kitti_object.read_offset, calibration))


def _read_kitti_boxes(labels: Path, calibration: Path) -> LabelledBoxes:
    return kitti_object.read_labels(labels, kitti_object.read_offset(calibration))


def _read_frame_of_tracks(labels: Path, calibration: Path, number: int) -> LabelledBoxes:
    boxes, frame = _read_sequence(labels, calibration)
    return boxes.select(frame == number)


@lru_cache(maxsize=32)
def _read_sequence(labels: Path, calibration: Path) -> tuple[LabelledBoxes, np.ndarray]:
    return kitti_object.read_tracks(labels, kitti_object.read_offset(calibration))


def _read_camera_json(path: Path, height: int, width: int) -> StereoCamera:
    return plain_folder.read_camera(path, height, width).camera


def _read_json(path: PathLike):
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no file {path}')
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f'{path} is not JSON: {error}') from None


def _read_split(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f'no split file {path}')
    wanted = path.read_text().split()
    if not wanted:
        raise ValueError(f'the split {path} names no frame')
    return wanted


def _choose(frames: dict[str, LabelledFrame], lacking: dict[str, Path], wanted: list[str],
            split: PathLike) -> list[LabelledFrame]:
    """Take the frames whose name, or its last part, is wanted."""
    chosen = {name for name in frames if {name, name.rpartition('/')[2]} & set(wanted)}
    found = chosen | {name.rpartition('/')[2] for name in chosen}
    absent = [name for name in wanted if name not in found]
    if absent:
        reason = next((f', which has no {missing}' for name, missing in sorted(lacking.items())
                       if absent[0] in (name, name.rpartition('/')[2])), '')
        raise ValueError(f'{len(absent)} of {len(wanted)} frames of the split {split} are not '
                         f'there, such as {absent[0]}{reason}; frames are named like '
                         f'{min(frames)}')
    return [frames[name] for name in sorted(chosen)]


def _explain(root: Path, lacking: dict[str, Path]) -> str:
    if not lacking:
        return f'no frame with labelled boxes below {root}; expected {EXPECTED}'
    name, missing = min(lacking.items())
    return (f'no complete frame with labelled boxes below {root}: {len(lacking)} lack a file, '
            f'such as {name}, which has no {missing}')
