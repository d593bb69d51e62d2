"""From a prediction to what is published: depth limits, confidence threshold, valid pixels."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional

import cv2
import numpy as np

from svp_ros.boxes import Boxes
from svp_ros.geometry import disparity_to_depth, StereoCamera


@dataclass(frozen=True)
class Limits:
    """Which pixels of a prediction are published; the defaults are those of the node.

    Args:
        min_depth: nearest depth, metres.
        max_depth: farthest depth, metres.
        confidence_threshold: pixels with a lower confidence are invalid.
        score_threshold: boxes with a lower score are left out.
        classes: of boxes, or all.
        max_detections: boxes at most, those with the best scores.

    Raises:
        ValueError: If nothing could be published.
    """

    min_depth: float = 0.3
    max_depth: float = 100.0
    confidence_threshold: float = 0.0
    score_threshold: float = 0.15
    classes: tuple[str, ...] = ('all',)
    max_detections: int = 50

    def __post_init__(self):
        if not 0 < self.min_depth < self.max_depth:
            raise ValueError(f'min_depth must be positive and below max_depth, got '
                             f'{self.min_depth:g} and {self.max_depth:g}')
        if not 0 <= self.confidence_threshold <= 1:
            raise ValueError('confidence_threshold must be between 0 and 1, got '
                             f'{self.confidence_threshold:g}')
        if not 0 <= self.score_threshold <= 1:
            raise ValueError(f'score_threshold must be between 0 and 1, got '
                             f'{self.score_threshold:g}')


@dataclass(frozen=True)
class Frame:
    """One processed pair.

    `image` is the left image (uint8), `disparity` (H, W) float32 is x_left - x_right with NaN
    wherever a threshold or the network says invalid, `confidence` (H, W) float32 lies in 0..1.
    The limits are those of DisparityImage (adjusted by cx_left - cx_right). Without a camera there
    are no limits of depth, no boxes and no `depth`.
    """

    header: object
    image: np.ndarray
    disparity: np.ndarray
    confidence: np.ndarray
    camera: Optional[StereoCamera]
    min_disparity: float
    max_disparity: float
    boxes: Optional[Boxes] = None

    @cached_property
    def depth(self) -> np.ndarray:
        """(H, W) float32 metres, NaN where invalid."""
        return disparity_to_depth(self.disparity, self.camera).astype(np.float32, copy=False)


def make_frame(header: Any, pair: Any, result: Any, settings: Any) -> Frame:
    """Apply the limits of depth, confidence and score to a prediction.

    Args:
        header: that of the left image.
        pair: what was predicted: left, camera and inside, as in RectifiedPair.
        result: what StereoPredictor.predict returned for it.
        settings: Limits, or anything with its attributes, such as NodeSettings.

    Raises:
        ValueError: If the network returned NaN or infinity.
    """
    if not np.isfinite(result.disparity_filled.sum() + result.confidence.sum()):
        raise ValueError('the network returned NaN or infinity; take a higher precision or '
                         'another model')
    camera = pair.camera
    low, high = (0.0, pair.left.shape[1] - 1.0) if camera is None else _limits(camera, settings)
    d = result.disparity - np.float32(camera.doffs if camera else 0)
    valid = (d >= low) & (d <= high) & (result.confidence >= settings.confidence_threshold)
    if pair.inside is not None:
        valid &= pair.inside
    disparity = np.full_like(result.disparity, np.nan)
    cv2.copyTo(result.disparity, valid.view(np.uint8), disparity)  # twice as fast as np.where
    return Frame(header, pair.left, disparity, result.confidence, camera, float(low),
                 float(max(low, high)),
                 None if result.boxes is None else choose_boxes(result.boxes, settings))


def _limits(camera: StereoCamera, settings: Any) -> tuple[np.float32, np.float32]:
    """Return the smallest and largest disparity within the depth limits, without doffs."""
    power = camera.fx * camera.baseline
    low = np.float32(power / settings.max_depth)
    if camera.doffs < -1:  # what lies farther than x_left = x_right collects at 0
        low = max(low, np.float32(1 - camera.doffs))
    return low, np.float32(min(power / settings.min_depth, camera.width - 1 - camera.doffs))


def choose_boxes(boxes: Boxes, settings: Any) -> Boxes:
    """Return the boxes within the depth limits that `settings` (as of `make_frame`) ask for."""
    z = boxes.box3d[:, 2]
    wanted = (boxes.score >= settings.score_threshold) & (z >= settings.min_depth) & (
        z <= settings.max_depth)
    if 'all' not in settings.classes:
        wanted &= np.array([label in settings.classes for label in boxes.label], bool)
    return boxes.select(np.flatnonzero(wanted)[:settings.max_detections])


def same_channels(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make both images grey if one is; grey against colour matches worse."""
    if left.ndim == right.ndim:
        return left, right
    return tuple(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
                 for image in (left, right))
