"""Stereo recordings: write pairs with ground truth as a rosbag2, read or unpack pairs of one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import hashlib
from itertools import islice
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Optional, Union

import numpy as np
from tqdm import tqdm

from svp_ros.calibration import Finding
from svp_ros.data import bag_messages
from svp_ros.data.bag_topics import find_stereo_topics, StereoTopics
from svp_ros.data.formats import write_image
from svp_ros.data.rosbag2 import BagReader, BagWriter, RawMessage
from svp_ros.geometry import StereoCamera
from svp_ros.image_messages import decode_compressed, decode_image
from svp_ros.rig import StereoRig

_log = logging.getLogger(__name__)


class StereoBagWriter:
    """Write rectified stereo pairs, with ground truth if there is any, as a rosbag2 folder.

    Topics: /left/camera_info, /right/camera_info, /left/image_rect, /right/image_rect,
    /ground_truth/disparity (DisparityImage), /ground_truth/markers (MarkerArray).

    Args:
        path: the folder to create.
        storage: 'mcap' or 'sqlite3'.
        frame_id: the left camera's optical frame, also of the ground truth.

    Raises:
        ValueError: If the path exists already or the storage is unknown.
    """

    def __init__(self, path: Union[str, Path], storage: str = 'mcap',
                 frame_id: str = 'left_camera_optical_frame'):
        self._bag = BagWriter(path, storage)
        self._frame_id = frame_id

    def __enter__(self) -> 'StereoBagWriter':
        self._bag.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bag.__exit__(*exception)

    def write(self, left: np.ndarray, right: np.ndarray, camera: StereoCamera, stamp: int,
              disparity: Optional[np.ndarray] = None, box3d: Optional[np.ndarray] = None,
              labels: Sequence[str] = ()) -> None:
        """Append one pair.

        Args:
            left: (H, W, 3) uint8 RGB or (H, W) uint8 grey.
            right: the same shape.
            camera: the rectified rig, of the images' size.
            stamp: capture time, nanoseconds.
            disparity: (H, W) ground truth x_left - x_right in pixels; not finite = unknown.
            box3d: (N, 7) ground-truth boxes x, y, z, l, h, w, ry in the left optical frame.
            labels: N class names, one per box.

        Raises:
            ValueError: If shapes, types or sizes do not fit together.
        """
        for name, image in (('left', left), ('right', right)):
            if image.dtype != np.uint8 or image.shape not in ((camera.height, camera.width),
                                                              (camera.height, camera.width, 3)):
                raise ValueError(f'{name} must be ({camera.height}, {camera.width}[, 3]) uint8 '
                                 f'as the camera says, got {image.shape} {image.dtype}')
        header = bag_messages.make_header(stamp, self._frame_id)
        left_info, right_info = bag_messages.make_camera_infos(camera, header)
        messages = {'/left/camera_info': left_info, '/right/camera_info': right_info,
                    '/left/image_rect': bag_messages.make_image(left, header),
                    '/right/image_rect': bag_messages.make_image(right, header)}
        if disparity is not None:
            messages['/ground_truth/disparity'] = bag_messages.make_disparity_image(
                disparity, camera, header)
        if box3d is not None:
            messages['/ground_truth/markers'] = bag_messages.make_box_markers(
                box3d, labels, header)
        for topic, message in messages.items():
            self._bag.write(topic, stamp, message)


@dataclass(frozen=True)
class StereoPair:
    """One rectified pair of a recording.

    Attributes:
        stamp: header stamp of the left image, nanoseconds.
        left: (H, W, 3) uint8 RGB or (H, W) uint8 grey.
        right: the same shape.
        camera: the rectified rig, from the first camera infos of the recording.
        frame_id: of the left image.
        inside: (H, W) bool, the left pixels that a raw pixel covers; None without rectification.
        rotation: (3, 3) from the frame of the left image as recorded to the rectified one.
        findings: remarks about the calibration.
    """

    stamp: int
    left: np.ndarray
    right: np.ndarray
    camera: StereoCamera
    frame_id: str
    inside: Optional[np.ndarray]
    rotation: np.ndarray
    findings: tuple[Finding, ...]


def read_stereo_pairs(path: Union[str, Path], rectify: str = 'auto', tolerance: int = 0,
                      baseline_override: float = 0.0, most: Optional[int] = None,
                      **topics: Optional[str]) -> Iterator[StereoPair]:
    """Yield the pairs of a recording whose left and right header stamps are equal, rectified.

    Args:
        path: rosbag2 folder, .mcap or .db3 file.
        rectify: 'on' rectifies with K, D, R and P of camera_info, 'off' takes the images as they
            are; 'auto' rectifies if camera_info has a distortion and the name of the image topic
            does not say "rect", see `is_rectified`.
        tolerance: nanoseconds by which the stamps of a pair may differ.
        baseline_override: metres; 0 takes the baseline of camera_info.
        most: yield about so many pairs, evenly spread; None yields all.
        topics: `left`, `right`, `left_info`, `right_info`, as for `find_stereo_topics`.

    Raises:
        FileNotFoundError: If there is no such recording.
        ValueError: If it cannot be read, lacks a topic or calibration, or holds no pair.
    """
    if rectify not in ('auto', 'on', 'off'):
        raise ValueError(f'rectify must be auto, on or off, got {rectify}')
    with BagReader(path) as bag:
        names = find_stereo_topics(bag, **topics)
        rig = StereoRig({
            'left/image_rect': names.left, 'left/camera_info': names.left_info,
            'right/image_rect': names.right, 'right/camera_info': names.right_info}, rectify,
            baseline_override)
        for side, topic in (('left', names.left_info), ('right', names.right_info)):
            raw = next(bag.raw([topic]), None)
            if raw is None:
                raise ValueError(f'{path}: {topic} has no message')
            info = bag.decode(raw)
            rig.update(side, info)
            if side == 'left':
                rotation = np.reshape(info.r, (3, 3))

        pair = None
        every = max(1, bag.counts[names.left] // most) if most else 1
        found = _pair_by_stamp(bag, names.left, names.right, tolerance)
        for left_raw, right_raw in islice(found, 0, None, every):
            left, right = bag.decode(left_raw), bag.decode(right_raw)
            try:
                rectified = rig.rectified_pair(_decode(left), _decode(right))
            except ValueError as error:
                raise ValueError(f'{path}: {error}') from error
            if pair is None:
                for finding in rig.findings:
                    _log.warning(finding.text)
            pair = StereoPair(
                left_raw.stamp, rectified.left, rectified.right, rectified.camera,
                left.header.frame_id, rectified.inside, rotation if rig.rectifies else np.eye(3),
                rig.findings)
            yield pair
        if pair is None:
            raise ValueError(f'{path} holds no pair: no images of {names.left} and {names.right} '
                             f'have equal header stamps{_nearest_stamps(bag, names, tolerance)}')


def _pair_by_stamp(bag: BagReader, left: str, right: str,
                   tolerance: int) -> Iterator[tuple[RawMessage, RawMessage]]:
    """Yield (left, right) whose stamps differ by `tolerance` nanoseconds at most, as they come."""
    waiting: dict[str, dict[int, RawMessage]] = {left: {}, right: {}}
    for raw in bag.raw([left, right]):
        others = waiting[right if raw.topic == left else left]
        nearest = min(others, key=lambda stamp: abs(stamp - raw.stamp), default=None)
        if nearest is None or abs(nearest - raw.stamp) > tolerance:
            waiting[raw.topic][raw.stamp] = raw
            continue
        other = others[nearest]
        yield (raw, other) if raw.topic == left else (other, raw)
        # Older images without a partner will not get one any more.
        newest = {raw.topic: raw.stamp, other.topic: nearest}
        waiting = {topic: {stamp: kept for stamp, kept in images.items() if stamp > newest[topic]}
                   for topic, images in waiting.items()}


def _decode(message: Any) -> np.ndarray:
    if message.__msgtype__ == bag_messages.COMPRESSED_IMAGE:
        return decode_compressed(message)
    return decode_image(message)


def _nearest_stamps(bag: BagReader, names: StereoTopics, tolerance: int) -> str:
    """Say how near the stamps of both eyes come, and what tolerance would pair them."""
    stamps = sorted((raw.stamp, raw.topic) for raw in bag.raw(names[:2]))
    gaps = [later - earlier for (earlier, one), (later, other) in zip(stamps, stamps[1:])
            if one != other]
    if not gaps:
        return (f'; {names.left} has {bag.counts[names.left]} messages, {names.right} has '
                f'{bag.counts[names.right]}')
    return (f' within {tolerance / 1e6:g} ms' if tolerance else '') + (
        f'; the nearest are {min(gaps) / 1e6:.3f} ms apart: synchronise the cameras, or allow '
        'that difference (tolerance)')


def unpack_recording(path: Union[str, Path], folder: Union[str, Path], rectify: str = 'auto',
                     tolerance: int = 0, most: Optional[int] = None,
                     **topics: Optional[str]) -> Path:
    """Write the rectified pairs of a recording as images, which can be read in any order.

    Args:
        path: as for `read_stereo_pairs`, which says what raises.
        folder: for all unpacked recordings.
        rectify: as for `read_stereo_pairs`.
        tolerance: as for `read_stereo_pairs`.
        most: as for `read_stereo_pairs`.
        topics: as for `read_stereo_pairs`.

    Returns:
        A folder with left/STAMP.png and right/STAMP.png, stamps in nanoseconds. The same
        recording (path, size, time of change) and settings find it again.
    """
    path = Path(path).resolve()
    if not path.exists():
        raise FileNotFoundError(f'no recording {path}')
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = path, states, rectify, tolerance, most, sorted(topics.items())
    unpacked = (Path(folder)
                / f'{path.stem}-{hashlib.sha256(repr(key).encode()).hexdigest()[:12]}')
    if unpacked.is_dir():
        return unpacked
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f'.{unpacked.name}-', dir=unpacked.parent) as temporary:
        complete = Path(temporary) / 'complete'
        for side in ('left', 'right'):
            (complete / side).mkdir(parents=True)
        pairs = read_stereo_pairs(path, rectify, tolerance, most=most, **topics)
        for pair in tqdm(pairs, unit='pair', desc=f'unpacking {path.name}', dynamic_ncols=True,
                         mininterval=5):
            write_image(complete / 'left' / f'{pair.stamp}.png', pair.left)
            write_image(complete / 'right' / f'{pair.stamp}.png', pair.right)
        try:
            complete.rename(unpacked)
        except OSError:
            if not unpacked.is_dir():  # unless another process was faster
                raise
    return unpacked
