"""Score models on the stereo pairs of a recording, pair by pair."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Optional

import numpy as np

from svp_ros.boxes import LabelledBoxes
from svp_ros.data.bag_boxes import BagBoxes
from svp_ros.data.bag_topics import StereoTopics
from svp_ros.data.bag_truth import BagTruth
from svp_ros.data.bags import StereoPair
from svp_ros.data.rosbag2 import BagReader
from svp_ros.eval.bag_metrics import MotionEstimator, Rectification
from svp_ros.eval.bag_score import ModelScore
from svp_ros.eval.bag_sources import Estimate, Source
from svp_ros.eval.box_score import BoxMatches, SCORE_THRESHOLD
from svp_ros.row_alignment import alignment_findings


@dataclass(frozen=True)
class ScoredPair:
    """One pair with what all models say about it.

    Attributes:
        index: number of the pair.
        pair: rectified images.
        truth: (H, W) x_left - x_right, NaN where unknown, or None.
        estimates: by model; models without an estimate for this pair are missing.
        rows: figures by model, see `ModelScore.add`.
        errors: (H, W) photometric error by model.
        true_boxes: that the image shows, or None.
        matches: which boxes are right, by model, if true boxes are known.
    """

    index: int
    pair: StereoPair
    truth: Optional[np.ndarray]
    estimates: dict[str, Estimate]
    rows: dict[str, dict[str, float]]
    errors: dict[str, np.ndarray]
    true_boxes: Optional[LabelledBoxes]
    matches: dict[str, BoxMatches]


def evaluate_pairs(pairs: Iterable[StereoPair], sources: Mapping[str, Source],
                   truth: Optional[BagTruth] = None, true_boxes: Optional[BagBoxes] = None,
                   score_threshold: float = SCORE_THRESHOLD,
                   on_pair: Optional[Callable[[ScoredPair], None]] = None) -> dict:
    """Score models on pairs.

    Args:
        pairs: in order of time.
        sources: of disparity and boxes, by name of the model.
        truth: of the same recording, if it has any.
        true_boxes: likewise.
        score_threshold: of the boxes that are more than a point of a curve.
        on_pair: called with each pair.

    Returns:
        `camera` (of the rectified images), `calibration` (findings), `rectification` (offset,
        error, matches; None without an estimate), `pairs` (their number), `truth` and
        `true_boxes` (number of pairs that have them), `models`: by name, see `ModelScore.result`.

    Raises:
        ValueError: If a model has nothing to score.
    """
    scores = {name: ModelScore(source.classes, score_threshold)
              for name, source in sources.items()}
    motion, rectification = MotionEstimator(), Rectification()
    pair, count, with_truth, with_boxes = None, 0, 0, 0
    for pair in pairs:
        known = truth.at(pair) if truth else None
        with_truth += known is not None
        boxes = true_boxes.at(pair, known) if true_boxes else None
        with_boxes += boxes is not None
        moved = motion.step(pair)
        alignment = rectification.add(pair)
        estimates, rows, errors, matches = {}, {}, {}, {}
        for name, source in sources.items():
            estimate = source(pair)
            row, error = scores[name].add(pair, estimate, known, moved)
            if estimate is not None:
                estimates[name], errors[name] = estimate, error
                figures, matched = scores[name].add_boxes(pair, estimate, boxes,
                                                          known is not None)
                row |= figures
                if matched is not None:
                    matches[name] = matched
                if alignment:
                    row['rows'] = alignment.error
                rows[name] = row
        if on_pair:
            on_pair(ScoredPair(count, pair, known, estimates, rows, errors, boxes, matches))
        count += 1
    results = {}
    for name, score in scores.items():
        try:
            results[name] = score.result()
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from error
    for source, found in ((truth, with_truth), (true_boxes, with_boxes)):
        if source and not found:
            raise ValueError(f'none of the {count} pairs has a ground truth of its time on '
                             f'{source.topic}; allow a difference of the stamps (truth tolerance) '
                             'or leave it out')
    alignment = rectification.result()
    return {
        'camera': {name: getattr(pair.camera, name) for name in (
            'fx', 'fy', 'cx', 'cy', 'cx_right', 'baseline', 'width', 'height')},
        'rectified_here': pair.inside is not None,
        'calibration': [finding.text
                        for finding in (*pair.findings, *alignment_findings(alignment))],
        'rectification': alignment and {
            'mean_offset': alignment.offset, 'error': alignment.error,
            'matches': alignment.matches},
        'pairs': count, 'truth': with_truth, 'true_boxes': with_boxes, 'models': results}


def describe_images(bag: BagReader, topics: StereoTopics) -> dict:
    """Count the images of a recording and find gaps in time.

    Returns:
        `left` and `right` (numbers of images), `duration_s`, `rate_hz` (of the left images) and
        `longest_gap_ms` (between left images; None with less than two).
    """
    stamps = np.sort([raw.stamp for raw in bag.raw([topics.left])])
    gaps = np.diff(stamps)
    moving = gaps[gaps > 0]
    return {'left': bag.counts[topics.left], 'right': bag.counts[topics.right],
            'duration_s': float(stamps[-1] - stamps[0]) / 1e9 if stamps.size else 0.0,
            'rate_hz': 1e9 / float(np.median(moving)) if moving.size else None,
            'longest_gap_ms': float(gaps.max()) / 1e6 if gaps.size else None}
