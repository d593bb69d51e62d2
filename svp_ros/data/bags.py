"""Stereo recordings: write pairs with ground truth as a rosbag2, read or unpack pairs of one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import hashlib
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from svp_ros.data import bag_messages
from svp_ros.data.formats import write_image
from svp_ros.data.rosbag2 import BagReader, BagWriter
from svp_ros.geometry import StereoCamera
from svp_ros.image_messages import decode_image
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
    """

    stamp: int
    left: np.ndarray
    right: np.ndarray
    camera: StereoCamera


class StereoTopics(NamedTuple):
    """Names of the four topics of a stereo camera."""

    left: str
    right: str
    left_info: str
    right_info: str


def find_stereo_topics(bag: BagReader, left: Optional[str] = None, right: Optional[str] = None,
                       left_info: Optional[str] = None,
                       right_info: Optional[str] = None) -> StereoTopics:
    """Find the topics of the stereo camera by type and name; arguments that are given win.

    Images are those of type Image with `left` or `right` in their names (`image_rect...` before
    others); each camera_info lies beside its image.

    Raises:
        ValueError: If a topic is missing or more than one fits; the message lists candidates.
    """
    def find_image(side: str) -> str:
        names = [name for name in bag.topics_of(bag_messages.IMAGE) if side in name]
        rectified = [name for name in names if name.rpartition('/')[2].startswith('image_rect')]
        names = rectified or names
        if len(names) != 1:
            listing = ', '.join(f'{name} ({type_})' for name, type_ in sorted(bag.types.items()))
            raise ValueError(f'{bag.path} has {len(names) or "no"} topics that could be the '
                             f'{side} image; name it. Topics: {listing or "none"}')
        return names[0]

    left = bag.resolve(left) if left else find_image('left')
    right = bag.resolve(right) if right else find_image('right')
    return StereoTopics(
        left, right,
        bag.resolve(left_info or left.rpartition('/')[0] + '/camera_info'),
        bag.resolve(right_info or right.rpartition('/')[0] + '/camera_info'))


def read_stereo_pairs(path: Union[str, Path], rectify: str = 'auto',
                      **topics: Optional[str]) -> Iterator[StereoPair]:
    """Yield the pairs of a recording whose left and right header stamps are equal, rectified.

    Args:
        path: rosbag2 folder, .mcap or .db3 file.
        rectify: 'on' rectifies with K, D, R and P of camera_info, 'off' takes the images as they
            are; 'auto' rectifies if camera_info has a distortion and no "rect" is in the name of
            the image topic.
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
            'right/image_rect': names.right, 'right/camera_info': names.right_info}, rectify)
        for side, topic in (('left', names.left_info), ('right', names.right_info)):
            raw = next(bag.raw([topic]), None)
            if raw is None:
                raise ValueError(f'{path}: {topic} has no message')
            rig.update(side, bag.decode(raw))

        waiting, found = {}, False
        for raw in bag.raw([names.left, names.right]):
            pair = waiting.setdefault(raw.stamp, {})
            pair[raw.topic] = raw
            if len(pair) < 2:
                continue
            left, right = (decode_image(bag.decode(pair[topic]))
                           for topic in (names.left, names.right))
            try:
                rectified = rig.rectified_pair(left, right)
            except ValueError as error:
                raise ValueError(f'{path}: {error}') from error
            if not found:
                for finding in rig.findings:
                    _log.warning(finding.text)
            found = True
            yield StereoPair(raw.stamp, rectified.left, rectified.right, rectified.camera)
            # Older images without a partner will not get one any more.
            waiting = {stamp: kept for stamp, kept in waiting.items() if stamp > raw.stamp}
        if not found:
            raise ValueError(f'{path} holds no pair: no images of {names.left} and {names.right} '
                             'have equal header stamps')


def unpack_recording(path: Union[str, Path], folder: Union[str, Path], rectify: str = 'auto',
                     **topics: Optional[str]) -> Path:
    """Write the rectified pairs of a recording as images, which can be read in any order.

    Args:
        path: as for `read_stereo_pairs`, which says what raises.
        folder: for all unpacked recordings.
        rectify: as for `read_stereo_pairs`.
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
    key = path, states, rectify, sorted(topics.items())
    unpacked = (Path(folder)
                / f'{path.stem}-{hashlib.sha256(repr(key).encode()).hexdigest()[:12]}')
    if unpacked.is_dir():
        return unpacked
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f'.{unpacked.name}-', dir=unpacked.parent) as temporary:
        complete = Path(temporary) / 'complete'
        for side in ('left', 'right'):
            (complete / side).mkdir(parents=True)
        for pair in read_stereo_pairs(path, rectify, **topics):
            write_image(complete / 'left' / f'{pair.stamp}.png', pair.left)
            write_image(complete / 'right' / f'{pair.stamp}.png', pair.right)
        try:
            complete.rename(unpacked)
        except OSError:
            if not unpacked.is_dir():  # unless another process was faster
                raise
    return unpacked
