"""Score what a node published (a recording) against the recording that was played to it.

Disparities are compared in the convention of DisparityImage, x_left - x_right - (cx_left -
cx_right). Only valid published pixels have an error; `density` and `coverage` say how many there
are. The network's own guess at invalid pixels is not in the message and cannot be scored here.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Union

import cv2
import numpy as np

from svp_ros.boxes import Boxes, LabelledBoxes
from svp_ros.data import bag_messages
from svp_ros.data.bag_boxes import decode_solids, to_boxes
from svp_ros.data.bag_topics import find_stereo_topics
from svp_ros.data.rosbag2 import BagReader, RawMessage
from svp_ros.eval.box_score import BoxMatches
from svp_ros.eval.metrics import DEPTH_BANDS, DisparityScore
from svp_ros.eval.node_reports import (
    node_total,
    read_classes,
    read_diagnostics,
    read_latencies,
)
from svp_ros.eval.recorded_boxes import RecordedBoxes
from svp_ros.geometry import StereoCamera
from svp_ros.image_messages import decode_disparity, decode_image

TRUTH_TOPIC = '/ground_truth/disparity'


@dataclass(frozen=True)
class ScoredFrame:
    """One published frame beside its ground truth; all maps have the size of the truth.

    Attributes:
        index: number of the frame among the scored ones.
        stamp: nanoseconds.
        left: (H, W, 3) uint8 RGB or (H, W) uint8.
        truth: (H, W) float32 disparity in pixels, NaN where unknown.
        disparity: (H, W) float32 published disparity, NaN where invalid.
        true_depth: (H, W) float32 metres, NaN where unknown, inf at infinity.
        depth: (H, W) float32 published depth in metres, NaN where invalid.
        confidence: (H, W) float32 in 0..1, or None if it was not recorded.
        boxes: published 3D boxes, or None if they were not recorded.
        true_boxes: that the image shows, or None if they are not known or not asked for.
        matches: of the two.
        camera: the rectified rig, if there are true boxes.
    """

    index: int
    stamp: int
    left: np.ndarray
    truth: np.ndarray
    disparity: np.ndarray
    true_depth: np.ndarray
    depth: np.ndarray
    confidence: Optional[np.ndarray]
    boxes: Optional[Boxes] = None
    true_boxes: Optional[LabelledBoxes] = None
    matches: Optional[BoxMatches] = None
    camera: Optional[StereoCamera] = None


class DepthScore:
    """Pool depth errors, in metres and relative to the truth, overall and by range."""

    def __init__(self, bands: Sequence[float] = DEPTH_BANDS):
        self._edges = [*bands, np.inf]
        self._sums = np.zeros((len(bands), 3))  # pixels, metres, relative

    def update(self, depth: np.ndarray, truth: np.ndarray) -> None:
        """Add one map of depth, metres; pixels that are not finite in both do not count."""
        valid = np.isfinite(depth) & np.isfinite(truth)
        truth = truth[valid].astype(np.float64)
        error = np.abs(depth[valid] - truth)
        band = np.digitize(truth, self._edges) - 1
        for column, weights in enumerate((None, error, error / truth)):
            self._sums[:, column] += np.bincount(band, weights, len(self._sums))

    def result(self) -> dict:
        """Return pixels, mean_abs_m and mean_abs_rel, and the same per band of true depth.

        Raises:
            ValueError: If nothing was added.
        """
        if not self._sums[:, 0].any():
            raise ValueError('no pixel with published and true depth')
        bands = [{'from_m': low, 'to_m': None if np.isinf(high) else high, **_means(sums)}
                 for low, high, sums in zip(self._edges, self._edges[1:], self._sums, strict=False)
                 if sums[0]]
        return {**_means(self._sums.sum(axis=0)), 'bands': bands}


def score_recording(played: Union[str, Path], recording: Union[str, Path],
                    truth_topic: str = TRUTH_TOPIC, disparity_topic: Optional[str] = None,
                    on_frame: Optional[Callable[[ScoredFrame], None]] = None) -> dict:
    """Score a recording of a node's output.

    Depth, confidence and boxes (markers) are read from the topics beside the disparity. Without a
    recorded depth topic, depth is computed from the disparity message.

    Args:
        played: the recording with the images and ground-truth DisparityImages.
        recording: what the node published meanwhile.
        truth_topic: of the ground truth in `played`.
        disparity_topic: of the node in `recording`; None takes the only DisparityImage topic.
        on_frame: called with each frame that was published and has ground truth.

    Returns:
        `frames` (played, received, scored; by the node's own count published, replaced by a newer
        pair before their turn, dropped), `stamps` (equal, unknown, repeated), `disparity` (epe,
        bad_n, d1, pixels, density, coverage), `depth`, `boxes` (only with true boxes; see
        BoxScore; None if the node's network has no detection head), `latency_ms` by stage (p50,
        p95, p99, max, count), `received` by topic, `node` (last diagnostics).

    Raises:
        FileNotFoundError, ValueError: If a recording or topic is missing or unreadable, or if
            there is nothing to score: "no data" never becomes a number.
    """
    with BagReader(played) as truth_bag, BagReader(recording) as bag, ExitStack() as stack:
        left_topic = find_stereo_topics(truth_bag).left
        truth_topic = truth_bag.resolve(truth_topic)
        disparity_topic = (bag.resolve(disparity_topic) if disparity_topic
                           else only_topic(bag, bag_messages.DISPARITY_IMAGE))
        boxes_topic = disparity_topic.rpartition('/')[0] + '/markers'
        classes = read_classes(bag, boxes_topic) if boxes_topic in bag.types else None
        boxes = stack.enter_context(RecordedBoxes(played, classes))
        score, depth_score = DisparityScore(), DepthScore()
        density, coverage, scored = [], [], 0
        for frame in _join(truth_bag, left_topic, truth_topic, bag, disparity_topic, boxes_topic):
            scored += 1
            known, valid = np.isfinite(frame.truth), np.isfinite(frame.disparity)
            density.append(valid.mean())
            coverage.append(valid[known].mean())
            if (known & valid).any():
                score.update(frame.disparity, frame.truth, known & valid)
                depth_score.update(frame.depth, frame.true_depth)
            frame = replace(frame, **boxes.compare(frame.stamp, frame.boxes, frame.truth))
            if on_frame:
                on_frame(frame)
        played_stamps = [raw.stamp for raw in truth_bag.raw([left_topic])]
        stamps = [raw.stamp for raw in bag.raw([disparity_topic])]
        if not scored:
            raise ValueError(
                f'{recording}: none of the {len(stamps)} messages of {disparity_topic} has the '
                f'stamp of one of the {truth_bag.counts[truth_topic]} ground truths in {played}')
        if not score.pixels:
            raise ValueError(f'{recording}: no published pixel of {disparity_topic} is valid '
                             'where the ground truth is known')
        unknown = len(set(stamps) - set(played_stamps))
        node = read_diagnostics(bag)
        return {
            'frames': {'played': len(played_stamps), 'published': node_total(node, 'processed'),
                       'replaced': node_total(node, 'replaced'),
                       'dropped': node_total(node, 'dropped'),
                       'received': len(stamps), 'scored': scored},
            'stamps': {'equal': unknown == 0, 'unknown': unknown,
                       'repeated': len(stamps) - len(set(stamps))},
            'disparity': {**score.result(), 'density': 100 * float(np.mean(density)),
                          'coverage': 100 * float(np.mean(coverage))},
            'depth': depth_score.result(),
            **boxes.result(),
            'latency_ms': read_latencies(bag, disparity_topic,
                                         left_topic.rpartition('/')[0] + '/camera_info'),
            'received': dict(sorted(bag.counts.items())),
            'node': node,
        }


def _join(truth_bag: BagReader, left_topic: str, truth_topic: str, bag: BagReader,
          disparity_topic: str, boxes_topic: str) -> Iterator[ScoredFrame]:
    """Yield the frames whose disparity and ground truth have the same stamp, in order of time."""
    namespace = disparity_topic.rpartition('/')[0]
    depth_topic, confidence_topic = f'{namespace}/depth', f'{namespace}/confidence'
    outputs = [topic for topic in (disparity_topic, depth_topic, confidence_topic, boxes_topic)
               if topic in bag.types]
    published = group_by_stamp(bag, outputs)
    stamp, group = next(published, (None, {}))
    index = 0
    for truth_stamp, truths in group_by_stamp(truth_bag, [left_topic, truth_topic]):
        while stamp is not None and stamp < truth_stamp:
            stamp, group = next(published, (None, {}))
        if stamp != truth_stamp or len(truths) < 2 or disparity_topic not in group:
            continue
        truth_message = truth_bag.decode(truths[truth_topic])
        truth = decode_disparity(truth_message)
        if not np.isfinite(truth).any():
            continue
        message = bag.decode(group[disparity_topic])
        disparity = decode_disparity(message)
        scale = truth.shape[1] / disparity.shape[1]
        if not np.allclose((message.f * scale, message.t), (truth_message.f, truth_message.t),
                           rtol=0.01):
            raise ValueError(
                f'{bag.path} belongs to another camera than {truth_bag.path}: focal length '
                f'{message.f * scale:.1f} px and baseline {message.t:.4f} m, but the truth has '
                f'{truth_message.f:.1f} px and {truth_message.t:.4f} m')
        if depth_topic in group:
            depth = decode_image(bag.decode(group[depth_topic]))
        else:
            depth = _depth(disparity, message)
        confidence = None
        if confidence_topic in group:
            confidence = decode_image(bag.decode(group[confidence_topic]))
        boxes = None
        if boxes_topic in group:
            boxes = to_boxes(decode_solids(bag, group[boxes_topic]), np.eye(4))
        yield ScoredFrame(
            index, stamp, decode_image(truth_bag.decode(truths[left_topic])), truth,
            _resize(disparity, truth.shape) * scale,
            _depth(truth, truth_message), _resize(depth, truth.shape),
            None if confidence is None else _resize(confidence, truth.shape), boxes)
        index += 1


def group_by_stamp(bag: BagReader, topics: Sequence[str],
                    window: int = 20) -> Iterator[tuple[int, dict[str, RawMessage]]]:
    """Yield (stamp, message by topic) in order of stamps, each stamp once.

    Messages of one stamp may lie up to `window` stamps apart in the recording; later ones, such
    as those of a second loop of the player, are left out.
    """
    waiting, last = {}, -1
    for raw in bag.raw(topics):
        if raw.stamp <= last:
            continue
        waiting.setdefault(raw.stamp, {}).setdefault(raw.topic, raw)
        if len(waiting) > window:
            last = min(waiting)
            yield last, waiting.pop(last)
    for stamp in sorted(waiting):
        yield stamp, waiting[stamp]


def only_topic(bag: BagReader, type_: str) -> str:
    """Return the only topic of a type.

    Raises:
        ValueError: If there is none or more than one.
    """
    topics = bag.topics_of(type_)
    if len(topics) != 1:
        raise ValueError(f'{bag.path} has {len(topics) or "no"} topics of type '
                         f'{type_.rpartition("/")[2]}; name one. Topics: '
                         f'{", ".join(sorted(bag.types)) or "none"}')
    return topics[0]


def _depth(disparity: np.ndarray, message: object) -> np.ndarray:
    with np.errstate(divide='ignore'):
        return np.float32(message.f * message.t) / disparity


def _resize(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if values.shape == shape:
        return values
    return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_NEAREST)


def _means(sums: np.ndarray) -> dict:
    pixels, metres, relative = sums
    return {'pixels': int(pixels), 'mean_abs_m': metres / pixels,
            'mean_abs_rel': relative / pixels}
