"""Find the topics of a stereo camera, and its ground truth, in a recording by type and name.

Names differ by driver: /left/image_rect (stereo_image_proc, Isaac, with camera_info_rect there),
/camera/camera/infra1/image_rect_raw (RealSense), /zed/zed_node/left/color/rect/image (ZED 5),
/oak/left/image_rect, /cam0/image_raw (EuRoC), /kitti/camera_color_left/image_raw (kitti2bag).
"""

import re
from typing import NamedTuple, Optional

from svp_ros.data.bag_messages import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    DETECTIONS,
    DISPARITY_IMAGE,
    IMAGE,
    MARKER_ARRAY,
    POINT_CLOUD,
)
from svp_ros.data.rosbag2 import BagReader
from svp_ros.rectification import is_rectified

# In what the names of left and right topics differ.
EYES = (('left', 'right'), ('infra1', 'infra2'), ('cam0', 'cam1'), ('cam_0', 'cam_1'),
        ('camera0', 'camera1'), ('camera_0', 'camera_1'), ('image_00', 'image_01'),
        ('image_02', 'image_03'))
# Words of image topics that do not hold what a camera saw.
_NO_CAMERA = re.compile('depth|disparity|confidence|ground_?truth|mask|segment|debug', re.I)
_TRUTH = re.compile('ground_?truth|(?<![a-z])gt(?![a-z])', re.I)


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

    Left and right are images (raw or compressed) whose names differ in one of EYES only; of
    several, rectified ones come before raw ones, uncompressed before compressed, colour before
    grey. Each camera_info lies beside its image or in a folder above.

    Raises:
        ValueError: If a topic is missing or more than one fits; the message lists candidates.
    """
    given = [bag.resolve(topic) if topic else None for topic in (left, right)]
    for topic in filter(None, given):
        if bag.types[topic] not in (IMAGE, COMPRESSED_IMAGE):
            raise ValueError(f'{topic} of {bag.path} holds {bag.types[topic]}, no images')
    if not all(given):
        given = _find_images(bag, *given)
    infos = [bag.resolve(info) if info else find_info(bag, image)
             for info, image in zip((left_info, right_info), given)]
    if infos[0] == infos[1]:
        raise ValueError(f'{bag.path}: {infos[0]} cannot be the camera_info of both eyes; name '
                         'that of each')
    return StereoTopics(*given, *infos)


def find_truth_topic(bag: BagReader) -> Optional[str]:
    """Return the topic that is called ground truth: disparity, else depth, else a cloud.

    What a sensor or another matcher measured is no truth by itself; the user has to name it.

    Raises:
        ValueError: If several of one type are called so.
    """
    return _find_truth(bag, (DISPARITY_IMAGE, IMAGE, POINT_CLOUD))


def find_boxes_topic(bag: BagReader) -> Optional[str]:
    """Return the topic of boxes that is called ground truth: detections, else markers.

    Raises:
        ValueError: If several of one type are called so.
    """
    return _find_truth(bag, (DETECTIONS, MARKER_ARRAY))


def _find_truth(bag: BagReader, types: tuple[str, ...]) -> Optional[str]:
    for type_ in types:
        names = [name for name in bag.topics_of(type_) if _TRUTH.search(name)
                 and (type_ != IMAGE or 'depth' in name)]
        if len(names) > 1:
            raise ValueError(f'{bag.path} has several ground truths, {", ".join(names)}; name one')
        if names:
            return names[0]
    return None


def _find_images(bag: BagReader, left: Optional[str], right: Optional[str]) -> tuple[str, str]:
    images = [topic for type_ in (IMAGE, COMPRESSED_IMAGE) for topic in bag.topics_of(type_)]
    if not images:
        listing = ', '.join(f'{name} ({type_})' for name, type_ in sorted(bag.types.items()))
        raise ValueError(f'{bag.path} has no topics of images (sensor_msgs Image or '
                         f'CompressedImage). Topics: {listing or "none"}')
    seen = [topic for topic in images if topic in (left, right) or not _NO_CAMERA.search(topic)]
    pairs = [(topic, other) for topic in seen for other in seen for eyes in EYES
             if bag.types[topic] == bag.types[other] and topic != other
             and other == _rename(topic, *eyes) and left in (None, topic)
             and right in (None, other)]
    best = min((_rank(bag, pair[0]) for pair in pairs), default=None)
    pairs = [pair for pair in pairs if _rank(bag, pair[0]) == best]
    if len(pairs) == 1:
        return pairs[0]
    if pairs:
        raise ValueError(f'{bag.path} has several stereo cameras, left images are '
                         f'{", ".join(pair[0] for pair in pairs)}; name one')
    listing = ', '.join(sorted(images))
    for topic in filter(None, (left, right)) if left or right else seen:
        for one, other in (*EYES, *(eyes[::-1] for eyes in EYES)):
            partner = _rename(topic, one, other)
            if partner != topic:
                raise ValueError(f'{bag.path} has {topic} but no {partner}: one eye is missing; '
                                 f'record both, or name both. Images: {listing}')
    raise ValueError(f'{bag.path} has no two image topics whose names differ only in '
                     f'{", ".join("/".join(eyes) for eyes in EYES[:3])} or the like; name left '
                     f'and right. Images: {listing}')


def find_info(bag: BagReader, image: str) -> str:
    """Find the camera_info in the folder of an image, else in the nearest folder above."""
    infos = bag.topics_of(CAMERA_INFO)
    folder = image.removesuffix('/compressed')
    rectified = is_rectified(folder.rpartition('/')[2])
    while folder:
        beside = [info for info in infos if info.rpartition('/')[0] == folder]
        alike = [info for info in beside
                 if is_rectified(info.rpartition('/')[2]) == rectified]
        if len(beside) == 1 or len(alike) == 1:
            return (alike or beside)[0]
        if beside:
            break
        folder = folder.rpartition('/')[0]
    raise ValueError(f'{bag.path} has no calibration for {image}: no camera_info lies beside it; '
                     'record that topic too, or name it. CameraInfo topics: '
                     f'{", ".join(infos) or "none"}')


def _rename(topic: str, old: str, new: str) -> str:
    return re.sub(f'(?<![A-Za-z0-9]){old}(?![A-Za-z0-9])', new, topic)


def _rank(bag: BagReader, topic: str) -> tuple[bool, bool, bool]:
    return (not is_rectified(topic), bag.types[topic] == COMPRESSED_IMAGE,
            bool(re.search('gray|grey|mono', topic)))
