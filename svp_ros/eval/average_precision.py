"""KITTI's average precision of boxes in the image (2d), seen from above (bev) and in space (3d).

The rules are those of KITTI's development kit for the object benchmark, with its 40 recall
positions (https://www.cvlibs.net/datasets/kitti/eval_object.php). One is ours: the kit leaves the
recall positions above the number of truths empty, so that a perfect detector of 5 cars gets 10;
with 40 truths or fewer, each position here takes the first score that reaches it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from typing import Optional

import numpy as np

from svp_ros.boxes import (
    box2d_area,
    Boxes,
    DIFFICULTIES,
    DONT_CARE,
    iou_2d,
    iou_3d,
    iou_bev,
    LabelledBoxes,
)

LEVELS = ('easy', 'moderate', 'hard')
METRICS = {'2d': iou_2d, 'bev': iou_bev, '3d': iou_3d}
POSITIONS = 40
NEIGHBOURS = {'car': 'Van', 'pedestrian': 'Person_sitting'}  # by class in lower case

Limits = tuple[float, int, float]  # least height in pixels, worst occlusion, largest truncation


@dataclass(frozen=True)
class ScoredImage:
    """Truth and detections of one image.

    Attributes:
        truth: every labelled object, whatever its class, and the DontCare regions.
        found: what the detector says, whatever its score.
        box2d: (N, 4) pixels of the detections in the image, clipped to it.

    Raises:
        ValueError: If `box2d` has not one row per detection.
    """

    truth: LabelledBoxes
    found: Boxes
    box2d: np.ndarray

    def __post_init__(self):
        if np.shape(self.box2d) != (len(self.found), 4):
            raise ValueError(f'box2d of {len(self.found)} detections must be '
                             f'({len(self.found)}, 4), got {np.shape(self.box2d)}')

    @cached_property
    def overlaps(self) -> dict[str, np.ndarray]:
        """Overlap (detections, truths) by metric."""
        found, truth = self.found, self.truth
        return {name: overlap(self.box2d, truth.box2d) if name == '2d'
                else overlap(found.box3d, truth.box3d) for name, overlap in METRICS.items()}

    @cached_property
    def dont_care(self) -> np.ndarray:
        """Largest share (detections,) of a detection's 2D box within one DontCare region."""
        regions = self.truth.box2d[np.array([label == DONT_CARE for label in self.truth.label],
                                            bool)]
        common = np.concatenate([np.maximum(self.box2d[:, None, :2], regions[:, :2]),
                                 np.minimum(self.box2d[:, None, 2:], regions[:, 2:])], -1)
        area = np.maximum(box2d_area(self.box2d), 1e-9)
        return (box2d_area(common) / area[:, None]).max(1, initial=0)


@dataclass(frozen=True)
class Matches:
    """Numbers of truths and detections of one image."""

    hits: list[tuple[int, int]]  # truth, detection
    missed: list[int]
    false_alarms: list[int]


class Matcher:
    """Gives the truths of one class in one image to its detections.

    Truths of the class within the limits count. The others of the class and those of its
    neighbour are neither hit nor missed, but may take a detection. Detections less high than the
    least height, of any class, may take a truth, but are neither right nor wrong.

    Args:
        image: truth and detections.
        label: the class.
        metric: 2d, bev or 3d.
        limits: of the truths that count; a truth must be higher than the least height.
        min_overlap: a detection must overlap a truth by more.
    """

    def __init__(self, image: ScoredImage, label: str, metric: str, limits: Limits,
                 min_overlap: float):
        truth, box2d = image.truth, image.box2d
        least, occlusion, truncation = limits
        counts = ((truth.box2d[:, 3] - truth.box2d[:, 1] > least)
                  & (truth.occlusion <= occlusion) & (truth.truncation <= truncation))
        self.score = image.found.score.tolist()
        small = box2d[:, 3] - box2d[:, 1] < least
        own = np.array([name == label for name in image.found.label], bool)
        enough = (image.overlaps[metric] > min_overlap) & (own | small)[:, None]
        self.small = small.tolist()
        self.right_or_wrong = np.flatnonzero(own & ~small).tolist()
        # the kit knows DontCare regions in the image alone
        self.excused = set(np.flatnonzero(image.dont_care > min_overlap).tolist()
                           if metric == '2d' else ())
        # number, whether it counts, and (overlap, number) of the detections that overlap enough
        self.truths = [
            (number, name == label and bool(counts[number]),
             [(image.overlaps[metric][other, number], other)
              for other in np.flatnonzero(enough[:, number]).tolist()])
            for number, name in enumerate(truth.label)
            if name in (label, NEIGHBOURS.get(label.lower()))]

    @property
    def count(self) -> int:
        """Number of truths that count."""
        return sum(counts for _, counts, _ in self.truths)

    def hit_scores(self) -> list[float]:
        """Return the scores of the hits if each truth takes the best score that is left."""
        taken, scores = set(), []
        for _, counts, candidates in self.truths:
            free = [number for _, number in candidates if number not in taken]
            if not free:
                continue
            best = max(free, key=self.score.__getitem__)
            taken.add(best)
            if counts and not self.small[best]:
                scores.append(self.score[best])
        return scores

    def match(self, threshold: float) -> Matches:
        """Give each truth the largest overlap that is left among scores from `threshold` on."""
        taken, hits, missed = set(), [], []
        for truth, counts, candidates in self.truths:
            free = [candidate for candidate in candidates
                    if candidate[1] not in taken and self.score[candidate[1]] >= threshold]
            if not free:
                if counts:
                    missed.append(truth)
                continue
            large = [candidate for candidate in free if not self.small[candidate[1]]]
            _, best = max(large, key=itemgetter(0)) if large else free[0]
            taken.add(best)
            if counts and large:
                hits.append((truth, best))
        taken |= self.excused
        return Matches(hits, missed, [
            number for number in self.right_or_wrong
            if self.score[number] >= threshold and number not in taken])

    def count_at(self, thresholds: Sequence[float]) -> np.ndarray:
        """Count hits and false alarms (2, T) at every threshold."""
        taking_part = {number for _, _, candidates in self.truths for _, number in candidates}
        scores = sorted(self.score[number] for number in taking_part.union(self.right_or_wrong))
        # thresholds between two scores see the same detections
        below = np.searchsorted(scores, thresholds)
        _, first, which = np.unique(below, return_index=True, return_inverse=True)
        matches = [self.match(thresholds[index]) for index in first]
        return np.array([[len(match.hits), len(match.false_alarms)]
                         for match in matches]).reshape(-1, 2)[which].T


def average_precision(images: Iterable[ScoredImage], label: str, metric: str, limits: Limits,
                      min_overlap: float) -> dict:
    """Average precision of one class over all images; arguments as those of `Matcher`.

    Returns:
        `ap`: mean precision at the recalls 1/40, 2/40, ... 1 in percent, None without a truth
        that counts; `truths`: how many count; `precision`: percent at the recalls 0, 1/40, ... 1,
        each the highest from there on.
    """
    matchers = [Matcher(image, label, metric, limits, min_overlap) for image in images]
    truths = sum(matcher.count for matcher in matchers)
    if not truths:
        return {'ap': None, 'truths': 0, 'precision': []}
    thresholds = recall_thresholds(
        [score for matcher in matchers for score in matcher.hit_scores()], truths)
    hits, false_alarms = np.sum([matcher.count_at(thresholds) for matcher in matchers], axis=0)
    precision = np.zeros(POSITIONS + 1)
    precision[:len(thresholds)] = 100 * hits / np.maximum(hits + false_alarms, 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return {'ap': float(precision[1:].mean()), 'truths': truths, 'precision': precision.tolist()}


def recall_thresholds(scores: Sequence[float], truths: int) -> list[float]:
    """Scores at which the recall comes nearest to 0, 1/40, ... 1, as far as it gets.

    Args:
        scores: of the truths that were hit.
        truths: number of truths, hit or missed.
    """
    scores = sorted(scores, reverse=True)
    if truths <= POSITIONS:
        hits = (max(-(-position * truths // POSITIONS), 1) for position in range(POSITIONS + 1))
        return [scores[number - 1] for number in hits if number <= len(scores)]
    thresholds, recall = [], 0.0
    for hits, score in enumerate(scores, 1):
        if hits == len(scores) or (hits + 1) / truths - recall >= recall - hits / truths:
            thresholds.append(score)
            recall += 1 / POSITIONS  # added up, so that ties are rounded as in the kit
    return thresholds


def spell_labels(truth: LabelledBoxes, classes: Iterable[str]) -> LabelledBoxes:
    """Spell labels that differ from `classes` or their neighbours in case alone as these."""
    spelt = {name.lower(): name for name in (*NEIGHBOURS.values(), *classes)}
    return replace(truth, label=[spelt.get(name.lower(), name) for name in truth.label])


def choose_classes(model: str, known: Sequence[str],
                   wanted: Optional[Sequence[str]]) -> list[str]:
    """Return the classes to score: those wanted, or all that the model knows.

    Raises:
        ValueError: If the model does not know a class.
    """
    unknown = [label for label in wanted or () if label not in known]
    if unknown:
        raise ValueError(f'model {model} does not know the class "{unknown[0]}"; it knows '
                         f'{", ".join(known) or "none"}')
    return list(dict.fromkeys(wanted or known))


def overlap_limits(label: str) -> tuple[float, float]:
    """KITTI's overlap that makes a hit, and the looser one that is reported beside it."""
    return (0.7, 0.5) if label.lower() == 'car' else (0.5, 0.25)


def score_classes(images: Sequence[ScoredImage], labels: Iterable[str]) -> dict:
    """Average precision by class, by metric and overlap such as `3d@0.7`, and by level.

    Returns:
        {label: {metric@overlap: {level: result of `average_precision`}}}; the looser overlap is
        asked of bev and 3d.
    """
    return {label: {
        f'{metric}@{overlap:g}': {
            level: average_precision(images, label, metric, limits, overlap)
            for level, limits in zip(LEVELS, DIFFICULTIES)}
        for overlap in overlap_limits(label) for metric in METRICS
        if metric != '2d' or overlap == overlap_limits(label)[0]} for label in labels}
