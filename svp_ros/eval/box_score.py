"""Score the 3D boxes of one model over the pairs of a recording: AP, and distances of centres.

Average precision is that of `average_precision`, over all boxes that were published. Where
nothing says what is hidden, its levels of difficulty make no sense, and there is one level for
all objects. Distances of centres are those of the boxes from a score threshold on; as in nuScenes
(Caesar et al. 2020), boxes and objects belong together by the distance of their centres, so that
the error is known where the overlap is nil.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from svp_ros.boxes import Boxes, LabelledBoxes, project_inside
from svp_ros.eval.average_precision import (
    LEVELS,
    NEIGHBOURS,
    score_classes,
    ScoredImage,
    spell_labels,
)
from svp_ros.eval.detection_score import BANDS, VISIBLE
from svp_ros.frame import Limits
from svp_ros.geometry import StereoCamera

SCORE_THRESHOLD = Limits.score_threshold
FOUND_WITHIN = 2.0  # metres on the ground between the centres
_, WORST_OCCLUSION, LARGEST_TRUNCATION = VISIBLE  # of the objects that count
ANY_OCCLUSION = 'any occlusion'


@dataclass(frozen=True)
class BoxMatches:
    """Which boxes of one pair are right, by their numbers.

    Attributes:
        hits: truth, detection, and metres between their centres.
        missed: truths.
        false_alarms: detections.
    """

    hits: list[tuple[int, int, float]]
    missed: list[int]
    false_alarms: list[int]

    @property
    def errors(self) -> int:
        """Number of misses and false alarms."""
        return len(self.missed) + len(self.false_alarms)


class BoxScore:
    """Collect boxes of one model beside the truth, pair by pair.

    Args:
        classes: that the model finds; the names of the truth may differ from them in case.
        score_threshold: of the boxes that are more than a point of a curve.
    """

    def __init__(self, classes: Sequence[str], score_threshold: float = SCORE_THRESHOLD):
        self.classes = tuple(classes)
        self._threshold = score_threshold
        self._images: list[ScoredImage] = []
        self._rows: list[tuple[str, str, float, float]] = []  # class, kind, depth, error
        self._graded = False

    @property
    def pairs(self) -> int:
        """Number of pairs with true boxes."""
        return len(self._images)

    def add(self, truth: LabelledBoxes, found: Boxes, camera: StereoCamera,
            graded: bool = True) -> BoxMatches:
        """Compare the boxes of one pair.

        Args:
            truth: ground truth.
            found: what was published, whatever its score.
            camera: the rectified rig.
            graded: whether the occlusion of the truth is known.

        Returns:
            Which boxes of the classes are right; the numbers are those of `truth` and `found`.
        """
        truth = spell_labels(truth, self.classes)
        known = found.select([name in self.classes for name in found.label])
        self._graded |= graded
        box2d = project_inside(known.box3d, camera)
        self._images.append(ScoredImage(truth, known, box2d))
        matches = [match_boxes(truth, found, label, self._threshold, graded)
                   for label in self.classes]
        joined = BoxMatches(*([item for match in matches for item in getattr(match, kind)]
                              for kind in ('hits', 'missed', 'false_alarms')))
        depth = truth.box3d[:, 2].tolist()
        self._rows += [(truth.label[n], 'hit', depth[n], error) for n, _, error in joined.hits]
        self._rows += [(truth.label[n], 'miss', depth[n], np.nan) for n in joined.missed]
        self._rows += [(found.label[n], 'false alarm', float(found.box3d[n, 2]), np.nan)
                       for n in joined.false_alarms]
        return joined

    def result(self) -> dict:
        """Return the scores of all pairs.

        `pairs`; `score_threshold`; `average_precision`: see `score_classes`, its levels easy,
        moderate and hard or, if no occlusion is known, `any occlusion`; `objects`: by class, see
        `summarise_rows`, and by distance in its `bands`.
        """
        images = self._images
        if not self._graded:
            images = [replace(image, truth=replace(
                image.truth, occlusion=np.zeros_like(image.truth.occlusion))) for image in images]
        precision = score_classes(images, self.classes)
        if not self._graded:  # what is left are the limits of height and truncation
            precision = {label: {key: {ANY_OCCLUSION: levels[LEVELS[-1]]}
                                 for key, levels in metrics.items()}
                         for label, metrics in precision.items()}
        objects = {}
        for label in self.classes:
            rows = [row[1:] for row in self._rows if row[0] == label]
            bands = [{'from_m': low, 'to_m': high if np.isfinite(high) else None,
                      **summarise_rows(row for row in rows if low <= row[1] < high)}
                     for low, high in zip(BANDS, (*BANDS[1:], np.inf))]
            objects[label] = {**summarise_rows(rows), 'bands': [
                band for band in bands if band['objects'] or band['false_alarms']]}
        return {'pairs': len(images), 'score_threshold': self._threshold,
                'average_precision': precision, 'objects': objects}


def match_boxes(truth: LabelledBoxes, found: Boxes, label: str, score_threshold: float,
                graded: bool = True) -> BoxMatches:
    """Give each detection of a class, the surest first, the nearest object that is left.

    Objects that are hidden or cut off too much, and those of the neighbouring class, are neither
    hit nor missed, but take a detection.
    """
    own = np.array(truth.label, object) == label
    counts = own & (truth.truncation <= LARGEST_TRUNCATION)
    if graded:
        counts &= truth.occlusion <= WORST_OCCLUSION
    free = own | (np.array(truth.label, object) == NEIGHBOURS.get(label.lower()))
    hits, false_alarms = [], []
    for number in np.argsort(-found.score, kind='stable').tolist():
        if found.label[number] != label or found.score[number] < score_threshold:
            continue
        offset = (truth.box3d[:, :3] - found.box3d[number, :3]).astype(np.float64)
        distance = np.where(free, np.hypot(offset[:, 0], offset[:, 2]), np.inf)
        nearest = int(distance.argmin()) if len(distance) else -1
        if nearest < 0 or distance[nearest] > FOUND_WITHIN:
            false_alarms.append(number)
            continue
        free[nearest] = False
        if counts[nearest]:
            hits.append((nearest, number, float(np.linalg.norm(offset[nearest]))))
    hit = {nearest for nearest, _, _ in hits}
    return BoxMatches(hits, [n for n in np.flatnonzero(counts).tolist() if n not in hit],
                      false_alarms)


def summarise_rows(rows: Iterable[tuple[str, float, float]]) -> dict:
    """Count (kind, depth, error) of objects that were hit or missed, and of false alarms.

    Returns:
        `objects`; `found`, percent of them, None without one; `centre_error`, the median distance
        of the centres in metres, None without a hit; `false_alarms`.
    """
    rows = list(rows)
    errors = [error for kind, _, error in rows if kind == 'hit']
    false_alarms = sum(kind == 'false alarm' for kind, _, _ in rows)
    objects = len(rows) - false_alarms
    return {'objects': objects, 'found': 100 * len(errors) / objects if objects else None,
            'centre_error': float(np.median(errors)) if errors else None,
            'false_alarms': false_alarms}
