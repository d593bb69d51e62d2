"""Where disparity and boxes of a pair come from: the network itself, or a recording of the node.

The network is run as the node runs it, on every pair, without ROS. A recording is what the node
published when the bag was played to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional, Protocol, Union

import cv2
import numpy as np

from svp_ros.boxes import Boxes
from svp_ros.data.bag_boxes import decode_solids, to_boxes
from svp_ros.data.bag_messages import DISPARITY_IMAGE
from svp_ros.data.bag_truth import scale_to
from svp_ros.data.bags import StereoPair
from svp_ros.data.rosbag2 import BagReader
from svp_ros.eval.disparity import compare_eyes
from svp_ros.eval.metrics import DisparityScore
from svp_ros.eval.node_reports import read_classes
from svp_ros.eval.recording import group_by_stamp, only_topic
from svp_ros.frame import Limits, make_frame, same_channels
from svp_ros.image_messages import decode_disparity, decode_image
from svp_ros.predictor import StereoPredictor


@dataclass(frozen=True)
class Estimate:
    """What is published for one pair, at the size of its images.

    Attributes:
        disparity: (H, W) float32 x_left - x_right, NaN where invalid.
        confidence: (H, W) float32 in 0..1, None if it was not recorded.
        min_disparity: of the DisparityImage (cx_left - cx_right subtracted).
        max_disparity: likewise.
        timing: milliseconds by stage.
        left_right: comparison with the disparity of the right image, None if that was not made.
        boxes: 3D boxes, their scores as the markers say them (0.01); None without a detection
            head, or if they were not recorded.
    """

    disparity: np.ndarray
    confidence: Optional[np.ndarray]
    min_disparity: float
    max_disparity: float
    timing: dict[str, float] = field(default_factory=dict)
    left_right: Optional[DisparityScore] = None
    boxes: Optional[Boxes] = None


class Source(Protocol):
    """Returns the estimate of a pair, None if there is none. Pairs come in order of time.

    Attributes:
        classes: of the boxes that it finds; none without a detection head.
    """

    classes: Sequence[str]

    def __call__(self, pair: StereoPair) -> Optional[Estimate]: ...


class NetworkSource:
    """Run a network on every pair, with the node's steps between images and messages.

    Args:
        predictor: the network.
        limits: which pixels are published.
        left_right: also compare with the disparity of the right image, which doubles the time.
    """

    def __init__(self, predictor: StereoPredictor, limits: Limits, left_right: bool = True):
        self._predictor = predictor
        self._limits = limits
        self._left_right = left_right
        self.classes = predictor.classes

    def __call__(self, pair: StereoPair) -> Estimate:
        """Predict one pair."""
        images = same_channels(pair.left, pair.right)
        result = self._predictor.predict(*images, pair.camera)
        frame = make_frame(None, pair, result, self._limits)
        timing = {**result.timing, 'total': sum(result.timing.values())}
        left_right = None
        if self._left_right:
            left_right = compare_eyes(self._predictor, *images, result)
        boxes = frame.boxes
        if boxes is not None:
            boxes = replace(boxes, score=np.round(boxes.score.astype(np.float64), 2))
        return Estimate(frame.disparity, frame.confidence, frame.min_disparity,
                        frame.max_disparity, timing, left_right, boxes)


class RecordingSource:
    """Look up what the node published in a recording; a context manager.

    Args:
        path: of the recording.
        topic: of the DisparityImages; None takes the only one. The confidence and the boxes
            (detections_3d, else markers) lie beside it.

    Raises:
        FileNotFoundError, ValueError: If the recording or the topic cannot be read.
    """

    def __init__(self, path: Union[str, Path], topic: Optional[str] = None):
        self.bag = BagReader(path)
        self.topic = self.bag.resolve(topic) if topic else only_topic(self.bag, DISPARITY_IMAGE)
        namespace = self.topic.rpartition('/')[0]
        self._confidence = f'{namespace}/confidence'
        self._boxes = next((name for name in (f'{namespace}/detections_3d', f'{namespace}/markers')
                            if name in self.bag.types), None)
        self.classes = read_classes(self.bag, self._boxes) if self._boxes else ()
        topics = [name for name in (self.topic, self._confidence, self._boxes)
                  if name in self.bag.types]
        self._groups = group_by_stamp(self.bag, topics)
        self._group = next(self._groups, None)

    def __enter__(self) -> 'RecordingSource':
        return self

    def __exit__(self, *exception: object) -> None:
        self.bag.__exit__(*exception)

    def __call__(self, pair: StereoPair) -> Optional[Estimate]:
        """Find the message with the stamp of the pair."""
        while self._group is not None and self._group[0] < pair.stamp:
            self._group = next(self._groups, None)
        if self._group is None or self._group[0] != pair.stamp:
            return None
        messages = self._group[1]
        if self.topic not in messages:
            return None
        message = self.bag.decode(messages[self.topic])
        disparity, camera = decode_disparity(message), pair.camera
        scale = scale_to(camera, message, str(self.bag.path))
        confidence = None
        if self._confidence in messages:
            confidence = _resize(decode_image(self.bag.decode(messages[self._confidence])), pair)
        boxes = None
        if self.classes and self._boxes in messages:
            boxes = to_boxes(decode_solids(self.bag, messages[self._boxes]), np.eye(4))
        return Estimate(
            _resize(disparity, pair) * np.float32(scale) + np.float32(camera.doffs), confidence,
            message.min_disparity * scale, message.max_disparity * scale, boxes=boxes)


def _resize(values: np.ndarray, pair: StereoPair) -> np.ndarray:
    size = pair.camera.width, pair.camera.height
    if values.shape == size[::-1]:
        return values
    return cv2.resize(values, size, interpolation=cv2.INTER_NEAREST)
