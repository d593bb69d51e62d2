"""Score what one model says about the pairs of a recording, with and without truth."""

from collections.abc import Sequence
from typing import Optional

import numpy as np

from svp_ros.boxes import LabelledBoxes
from svp_ros.data.bags import StereoPair
from svp_ros.eval.bag_metrics import flicker, Motion, photometric_error
from svp_ros.eval.bag_sources import Estimate
from svp_ros.eval.box_score import BoxMatches, BoxScore, SCORE_THRESHOLD
from svp_ros.eval.metrics import DisparityScore
from svp_ros.eval.node_reports import percentiles
from svp_ros.eval.recording import DepthScore
from svp_ros.geometry import disparity_to_depth


class ModelScore:
    """Collect what is known about the estimates of one model, pair by pair.

    Args:
        classes: of the boxes that it finds, none without a detection head.
        score_threshold: of the boxes that are more than a point of a curve.
    """

    def __init__(self, classes: Sequence[str] = (), score_threshold: float = SCORE_THRESHOLD):
        self._rows: list[dict[str, float]] = []
        self._timing: dict[str, list[float]] = {}
        self._disparity, self._depth = DisparityScore(), DepthScore()
        self._left_right, self._flicker = DisparityScore(), DisparityScore()
        self._boxes, self._threshold = BoxScore(classes, score_threshold), score_threshold
        self._before: Optional[np.ndarray] = None

    def add(self, pair: StereoPair, estimate: Optional[Estimate], truth: Optional[np.ndarray],
            motion: Optional[Motion]) -> tuple[dict[str, float], Optional[np.ndarray]]:
        """Score one pair.

        Args:
            pair: the images.
            estimate: what was published, None if nothing was.
            truth: (H, W) x_left - x_right, NaN where unknown, or None.
            motion: since the pair before, or None.

        Returns:
            The figures of this pair, of those in `FIGURES` that it has, and the map of its
            photometric error; an empty row and None without an estimate.
        """
        before, self._before = self._before, estimate and estimate.disparity
        if estimate is None:
            return {}, None
        known = np.isfinite(estimate.disparity)
        error = photometric_error(pair.left, pair.right, estimate.disparity, pair.inside)
        row = {'density': 100 * float(known.mean())}
        if estimate.confidence is not None:
            row['confidence'] = float(estimate.confidence.mean())
        if np.isfinite(error).any():
            row['photometric_error'] = float(np.nanmean(error))
        if before is not None and motion is not None:
            row |= _differences('flicker', flicker(estimate.disparity, before, motion),
                                self._flicker)
        if estimate.left_right is not None and estimate.left_right.pixels:
            self._left_right.merge(estimate.left_right)
            row['left_right'] = estimate.left_right.result()['epe']
        if truth is not None:
            row |= self._compare(pair, estimate.disparity, truth)
        for stage, value in estimate.timing.items():
            self._timing.setdefault(stage, []).append(value)
        if 'total' in estimate.timing:
            row['latency_ms'] = estimate.timing['total']
        self._rows.append(row)
        return row, error

    def add_boxes(self, pair: StereoPair, estimate: Estimate, truth: Optional[LabelledBoxes],
                  graded: bool) -> tuple[dict[str, float], Optional[BoxMatches]]:
        """Score the boxes of one pair.

        Args:
            pair: the images.
            estimate: what was published.
            truth: boxes that the image shows, None if they are not known.
            graded: whether it is known what hides them.

        Returns:
            The figures of this pair, as `add` does, and which boxes are right, with truth.
        """
        found = estimate.boxes
        if found is None:
            return {}, None
        row = {'boxes': float((found.score >= self._threshold).sum())}
        if truth is None:
            return row, None
        matches = self._boxes.add(truth, found, pair.camera, graded)
        row['false_alarms'] = float(len(matches.false_alarms))
        objects = len(matches.hits) + len(matches.missed)
        if objects:
            row['objects_found'] = 100 * len(matches.hits) / objects
        if matches.hits:
            row['centre_error'] = float(np.mean([error for *_, error in matches.hits]))
        return row, matches

    def _compare(self, pair: StereoPair, disparity: np.ndarray,
                 truth: np.ndarray) -> dict[str, float]:
        known, valid = np.isfinite(truth), np.isfinite(disparity)
        if not known.any():
            return {}
        row = {'coverage': 100 * float(valid[known].mean())}
        if (known & valid).any():
            score = DisparityScore()
            score.update(disparity, truth, known & valid)
            self._disparity.merge(score)
            self._depth.update(*(disparity_to_depth(x, pair.camera) for x in (disparity, truth)))
            row |= {key: score.result()[key] for key in ('epe', 'bad_3')}
        return row

    def result(self) -> dict:
        """Return the means over the pairs, and pooled pixels where pixels are compared.

        `pairs`; `density` (percent) and `confidence`; `photometric_error` (grey levels of 255);
        `flicker` and `left_right` (difference in pixels, percentages above 1 and 3 px);
        `disparity` (epe, bad_n, d1, pixels, coverage) and `depth` (see DepthScore) with truth;
        `boxes` (see BoxScore) with true boxes;
        `latency_ms` by stage. What was not measured is left out.

        Raises:
            ValueError: If nothing was published, or nowhere where the truth is known.
        """
        if not self._rows:
            raise ValueError('no pair has a disparity')
        scores = {'pairs': len(self._rows)}
        for key in ('density', 'confidence', 'photometric_error'):
            values = [row[key] for row in self._rows if key in row]
            if values:
                scores[key] = float(np.mean(values))
        for key, score in (('flicker', self._flicker), ('left_right', self._left_right)):
            if score.pixels:
                result = score.result()
                scores[key] = {'difference': result['epe'], 'above_1': result['bad_1'],
                               'above_3': result['bad_3'], 'pixels': result['pixels']}
        coverage = [row['coverage'] for row in self._rows if 'coverage' in row]
        if coverage:
            if not self._disparity.pixels:
                raise ValueError('no published pixel is valid where the ground truth is known')
            scores['disparity'] = {**self._disparity.result(),
                                   'coverage': float(np.mean(coverage)), 'pairs': len(coverage)}
            scores['depth'] = self._depth.result()
        if self._boxes.pairs:
            scores['boxes'] = self._boxes.result()
        if self._timing:
            scores['latency_ms'] = {stage: percentiles(values)
                                    for stage, values in self._timing.items()}
        return scores


def _differences(name: str, values: np.ndarray, pooled: DisparityScore) -> dict[str, float]:
    """Pool a map of absolute differences; returns its mean as a figure of the pair."""
    known = np.isfinite(values)
    if not known.any():
        return {}
    pooled.update(values, np.zeros_like(values), known)
    return {name: float(values[known].mean())}
