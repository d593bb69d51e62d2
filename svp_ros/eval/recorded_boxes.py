"""Boxes that a node published beside those of the recording that was played to it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from svp_ros.boxes import Boxes
from svp_ros.data.bag_boxes import BagBoxes
from svp_ros.data.bag_topics import find_boxes_topic
from svp_ros.data.bags import read_stereo_pairs
from svp_ros.data.rosbag2 import BagReader
from svp_ros.eval.box_score import BoxScore


class RecordedBoxes:
    """Compare published boxes with the truth, frame by frame; a context manager.

    Args:
        played: the recording with rectified images and the truth.
        classes: that the node finds, none without a detection head; None if its boxes were not
            recorded.
    """

    def __init__(self, played: Union[str, Path], classes: Optional[Sequence[str]]):
        self._classes = classes
        self._score = BoxScore(classes or ())
        self._truth: Optional[BagBoxes] = None
        self._bag = BagReader(played)
        topic = find_boxes_topic(self._bag)
        if topic:
            self._truth = BagBoxes(self._bag, topic)
            self._pair = next(read_stereo_pairs(played))

    def __enter__(self) -> 'RecordedBoxes':
        return self

    def __exit__(self, *exception: object) -> None:
        self._bag.__exit__(*exception)

    def compare(self, stamp: int, found: Optional[Boxes], disparity: np.ndarray) -> dict[str, Any]:
        """Compare the boxes of one frame; frames come in order of time.

        Args:
            stamp: nanoseconds.
            found: what was published, None if nothing was.
            disparity: (H, W) true x_left - x_right - (cx_left - cx_right), NaN where unknown.

        Returns:
            `true_boxes`, `matches` and `camera`; nothing without both kinds of boxes.
        """
        if self._truth is None or found is None or not self._classes:
            return {}
        camera = self._pair.camera
        truth = self._truth.at(replace(self._pair, stamp=stamp), disparity + camera.doffs)
        if truth is None:
            return {}
        return {'true_boxes': truth, 'matches': self._score.add(truth, found, camera),
                'camera': camera}

    def result(self) -> dict:
        """Return {'boxes': result of BoxScore, None without classes}; {} if there is nothing."""
        if self._truth is not None and self._classes == ():
            return {'boxes': None}
        return {'boxes': self._score.result()} if self._score.pairs else {}
