"""KITTI object and tracking: labels, results, calibration on disk <-> our boxes and camera.

A line of a file is: type, truncated, occluded, alpha, left, top, right, bottom, height, width,
length, x, y, z, rotation_y and, in a result, score. There (x, y, z) is the centre of the
*bottom*, in the frame of rectified camera 0, the left grey one. Ours is that of camera 2, the
left colour one: the fourth column of P2 says how it is displaced, about 6 cm to the left. Tracking
has one file per sequence, the numbers of frame and track before the type, and grades truncation.

Source: development kits of https://www.cvlibs.net/datasets/kitti/eval_object.php and
eval_tracking.php; Geiger et al. 2012, "Are we ready for autonomous driving?".
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Union

import numpy as np

from svp_ros.boxes import Boxes, DONT_CARE, LabelledBoxes, observation_angle, wrap_angle
from svp_ros.data.datasets import kitti
from svp_ros.data.formats import PathLike, read_named_numbers
from svp_ros.geometry import StereoCamera

LABEL_COLUMNS = 15
RESULT_COLUMNS = 16
TRACK_COLUMNS = 2  # before those of a label
TRUNCATIONS = np.array([0.0, 0.3, 0.5, -1.0])  # of the grades 0, 1, 2 and -1: easy, moderate, hard
SITTING = 'Person_sitting'  # called Person in tracking
NO_OFFSET = (0.0, 0.0, 0.0)
BORDER = 0.05  # of an image; no principal point is there, but that of an image twice as large
# What the development kit writes where nothing is known: alpha, size, location and yaw.
UNKNOWN_ALPHA, UNKNOWN_SIZE, UNKNOWN_PLACE = -10, -1, -1000


def read_calibration(path: PathLike, height: int, width: int) -> StereoCamera:
    """Read the rig of the colour cameras, image_2 and image_3.

    Args:
        path: calib/NAME.txt.
        height: of the images, which the file does not say.
        width: of the images.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If P2 or P3 is missing or broken, or belongs to images of another size.
    """
    camera = kitti.read_calibration(Path(path), 'P2', 'P3', height, width).camera
    margin_x, margin_y = BORDER * width, BORDER * height
    if not (margin_x < camera.cx < width - margin_x and margin_y < camera.cy < height - margin_y):
        raise ValueError(
            f'{path} belongs to larger images: its principal point ({camera.cx:.1f}, '
            f'{camera.cy:.1f}) is at or beyond the border of these, which are {width}x{height}')
    return camera


def read_offset(path: PathLike) -> np.ndarray:
    """Read what to add to points of rectified camera 0 to have them in the frame of camera 2.

    Args:
        path: calib/NAME.txt.

    Returns:
        (3,) metres: K^-1 times the fourth column of P2 = K [I | offset].

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If P2 is missing or broken.
    """
    projection = np.reshape(read_named_numbers(path, {'P2': 12})[0], (3, 4))
    try:
        return np.linalg.solve(projection[:, :3], projection[:, 3])
    except np.linalg.LinAlgError:
        raise ValueError(f'{path}: P2 is no projection, its left part has no inverse') from None


def read_labels(path: PathLike, offset: Iterable[float] = NO_OFFSET) -> LabelledBoxes:
    """Read ground truth; every class stays, DontCare included.

    Args:
        path: label_2/NAME.txt.
        offset: that of `read_offset`, for boxes in the frame of the left colour camera.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line cannot be understood or its box is degenerate.
    """
    return _read_labelled(*_read_lines(path, LABEL_COLUMNS), offset)


def read_tracks(path: PathLike, offset: Iterable[float] = NO_OFFSET
                ) -> tuple[LabelledBoxes, np.ndarray]:
    """Read ground truth of KITTI tracking, label_02/SEQUENCE.txt.

    Returns:
        All boxes of the sequence, and the number (N,) of the frame that each is in; arguments,
        errors as `read_labels`.
    """
    label, values = _read_lines(path, LABEL_COLUMNS, TRACK_COLUMNS)
    frame, values = values[:, 0], values[:, TRACK_COLUMNS:]
    if not np.isin(values[:, 0], (-1, 0, 1, 2)).all():
        raise ValueError(f'{path}: truncated must be 0, 1, 2 or -1 in KITTI tracking')
    values[:, 0] = TRUNCATIONS[values[:, 0].astype(int)]
    label = [SITTING if name == 'Person' else name for name in label]
    return _read_labelled(label, values, offset), frame


def read_results(path: PathLike,
                 offset: Iterable[float] = NO_OFFSET) -> tuple[Boxes, np.ndarray]:
    """Read detections and their 2D boxes (N, 4) float32; arguments, errors as `read_labels`."""
    label, values = _read_lines(path, RESULT_COLUMNS)
    boxes = Boxes(_read_box3d(label, values, offset), label, values[:, 14].astype(np.float32))
    return boxes, values[:, 3:7].astype(np.float32)


def write_labels(path: PathLike, boxes: LabelledBoxes,
                 offset: Iterable[float] = NO_OFFSET) -> None:
    """Write ground truth; `offset` as in `read_labels`."""
    _write_lines(path, boxes, boxes.box2d, boxes.truncation, boxes.occlusion, offset)


def write_results(path: PathLike, boxes: Boxes, box2d: np.ndarray,
                  offset: Iterable[float] = NO_OFFSET) -> None:
    """Write detections with their scores and 2D boxes (N, 4); `offset` as in `read_labels`."""
    unknown = np.full(len(boxes), -1)
    _write_lines(path, boxes, box2d, unknown, unknown, offset, boxes.score)


def _read_labelled(label: list[str], values: np.ndarray, offset: Iterable[float]
                   ) -> LabelledBoxes:
    return LabelledBoxes(_read_box3d(label, values, offset), label,
                         values[:, 3:7].astype(np.float32), values[:, 0].astype(np.float32),
                         values[:, 1].astype(np.int64))


def _read_lines(path: PathLike, columns: int, before: int = 0) -> tuple[list[str], np.ndarray]:
    """Read the types and the other columns (N, before + columns - 1) float64.

    Args:
        path: of the file.
        columns: from the type on.
        before: columns of numbers before the type.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no file {path}')
    label, values = [], []
    for number, line in enumerate(path.read_text(errors='replace').splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            values.append([*map(float, words[:before]), *_parse(words[before:], columns)])
        except ValueError as error:
            raise ValueError(f'{path}, line {number}: {error}') from None
        label.append(words[before])
    return label, np.reshape(values, (-1, before + columns - 1)).astype(np.float64)


def _parse(words: list[str], columns: int) -> list[float]:
    if len(words) != columns:
        hint = {LABEL_COLUMNS: 'the ground truth of KITTI', RESULT_COLUMNS: 'a result with score'}
        raise ValueError(f'{hint[columns]} has {columns} columns, got {len(words)}'
                         + (f'; that is {hint[len(words)]}' if len(words) in hint else ''))
    values = [float(word) for word in words[1:]]
    _, occlusion, _, left, top, right, bottom, *size = values[:10]
    if not np.isfinite(values).all():
        raise ValueError('all columns after the type must be finite numbers')
    if occlusion not in (-1, 0, 1, 2, 3):
        raise ValueError(f'occluded must be 0, 1, 2, 3 or -1, got {words[2]}')
    if right < left or bottom < top:
        raise ValueError('left, top, right, bottom of the 2D box must be in this order, got '
                         + ', '.join(words[4:8]))
    if words[0] != DONT_CARE and min(size) <= 0:
        raise ValueError('height, width and length must be positive, got ' + ', '.join(words[8:11])
                         + f'; a region without a 3D box is of type {DONT_CARE}')
    return values


def _read_box3d(label: list[str], values: np.ndarray, offset: Iterable[float]) -> np.ndarray:
    h, w, length, x, y, z, ry = values[:, 7:14].T
    centre = np.stack([x, y - h / 2, z], -1) + np.array(offset)
    box3d = np.column_stack([centre, length, h, w, wrap_angle(ry)]).astype(np.float32)
    box3d[np.array(label, object) == DONT_CARE] = np.nan
    return box3d


def _write_lines(path: PathLike, boxes: Union[Boxes, LabelledBoxes], box2d: np.ndarray,
                 truncation: np.ndarray, occlusion: np.ndarray, offset: Iterable[float],
                 score: Iterable[float] = ()) -> None:
    alpha = observation_angle(boxes.box3d)
    bottom = boxes.box3d[:, :3] - np.array(offset)
    bottom[:, 1] += boxes.box3d[:, 4] / 2
    values = np.column_stack([alpha, box2d, boxes.box3d[:, [4, 5, 3]], bottom, boxes.box3d[:, 6]])
    unknown = np.isnan(boxes.box3d).any(1)
    values[unknown, 0] = UNKNOWN_ALPHA
    values[unknown, 5:8] = UNKNOWN_SIZE
    values[unknown, 8:11] = UNKNOWN_PLACE
    values[unknown, 11] = UNKNOWN_ALPHA
    lines = [
        f'{"_".join(name.split())} {truncated:.2f} {occluded:d} {row[0]:.4f} '
        + ' '.join(f'{number:.2f}' for number in row[1:5]) + ' '
        + ' '.join(f'{number:.4f}' for number in row[5:])
        for name, truncated, occluded, row in zip(boxes.label, truncation, occlusion, values)]
    for index, number in enumerate(score):
        lines[index] += f' {number:.6f}'
    Path(path).write_text(''.join(f'{line}\n' for line in lines))
