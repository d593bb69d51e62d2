"""Stereo recordings: write pairs with ground truth as a rosbag2, read pairs from one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from svp_ros.data import bag_messages
from svp_ros.data.rosbag2 import BagReader, BagWriter
from svp_ros.geometry import StereoCamera
from svp_ros.image_messages import decode_image
from svp_ros.rectification import wants_rectification


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


def read_stereo_pairs(path: Union[str, Path], **topics: str) -> Iterator[StereoPair]:
    """Yield the pairs of a recording whose left and right header stamps are equal.

    Args:
        path: rosbag2 folder, .mcap or .db3 file.
        topics: `left`, `right`, `left_info`, `right_info`, as for `find_stereo_topics`.

    Raises:
        FileNotFoundError: If there is no such recording.
        ValueError: If it cannot be read, lacks a topic, holds no pair, or its images look
            unrectified (distortion in camera_info, no "rect" in the name).
    """
    with BagReader(path) as bag:
        names = find_stereo_topics(bag, **topics)
        infos = []
        for topic in (names.left_info, names.right_info):
            raw = next(bag.raw([topic]), None)
            if raw is None:
                raise ValueError(f'{path}: {topic} has no message')
            infos.append(bag.decode(raw))
        if any(wants_rectification('auto', topic, info)
               for topic, info in zip((names.left, names.right), infos)):
            raise ValueError(f'{path}: images of {names.left} look unrectified (camera_info has '
                             'distortion D); record rectified images')
        camera = bag_messages.camera_from_infos(*infos)

        waiting, found = {}, False
        for raw in bag.raw([names.left, names.right]):
            pair = waiting.setdefault(raw.stamp, {})
            pair[raw.topic] = raw
            if len(pair) < 2:
                continue
            found = True
            left, right = (decode_image(bag.decode(pair[topic]))
                           for topic in (names.left, names.right))
            yield StereoPair(raw.stamp, left, right, camera)
            # Older images without a partner will not get one any more.
            waiting = {stamp: kept for stamp, kept in waiting.items() if stamp > raw.stamp}
        if not found:
            raise ValueError(f'{path} holds no pair: no images of {names.left} and {names.right} '
                             'have equal header stamps')
