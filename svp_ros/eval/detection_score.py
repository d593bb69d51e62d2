"""Score the 3D boxes that a predictor finds in labelled stereo pairs.

Average precision takes every detection; recall, depth errors and false alarms by distance are
those of the detections from a score threshold on.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from svp_ros.boxes import DIFFICULTIES, project_inside
from svp_ros.data.labelled_frames import LabelledFrame
from svp_ros.eval.average_precision import (
    Matcher,
    overlap_limits,
    score_classes,
    ScoredImage,
    spell_labels,
)
from svp_ros.geometry import StereoCamera
from svp_ros.predictor import StereoResult

BANDS = (0, 10, 20, 30, 50)  # metres
VISIBLE = (0, *DIFFICULTIES[-1][1:])  # the limits of "hard", but any height
IMAGE_OVERLAP = 0.5  # of 2D boxes, from which on an object counts as seen

# Called with left and right image and the camera.
Predict = Callable[[np.ndarray, np.ndarray, StereoCamera], StereoResult]


@dataclass(frozen=True)
class DetectedFrame:
    """A labelled frame, its camera, its boxes and what a model says about it."""

    frame: LabelledFrame
    camera: StereoCamera
    image: ScoredImage
    inference_ms: float


def detect_frames(frames: Iterable[LabelledFrame], predict: Predict,
                  classes: Sequence[str]) -> list[DetectedFrame]:
    """Run a predictor over labelled frames and keep its boxes of the given classes.

    The labels may differ from the classes in case.

    Raises:
        ValueError: If there is no frame, one is unreadable, or the network returned NaN.
    """
    detected = []
    for frame in frames:
        left, right, camera, truth = frame.load()
        result = predict(left, right, camera)
        if not np.isfinite(result.disparity_filled).all():
            raise ValueError(f'{frame.name}: the network returned NaN or infinity; take a higher '
                             'precision or another model')
        found = result.boxes.select([label in classes for label in result.boxes.label])
        box2d = project_inside(found.box3d, camera)
        image = ScoredImage(spell_labels(truth, classes), found, box2d)
        detected.append(DetectedFrame(frame, camera, image, result.timing['inference']))
    if not detected:
        raise ValueError('no frame to evaluate')
    return detected


def score_detections(detected: Sequence[DetectedFrame], classes: Sequence[str],
                     score_threshold: float) -> dict:
    """Score detections.

    Args:
        detected: from `detect_frames`.
        classes: what is scored.
        score_threshold: of the detections that are more than a point of a curve.

    Returns:
        `frames`: a list of {name, width, height, inference_ms, detections}; `average_precision`:
        see `score_classes`; `objects`: one row for every visible object and `false_alarms`, see
        `match_frame`; `distance_bands`: by class, see `score_bands`; `score_threshold`;
        `inference_ms`: the median.
    """
    rows = [match_frame(item, label, score_threshold) for item in detected for label in classes]
    objects, false_alarms = ([row for part in parts for row in part] for parts in zip(*rows))
    return {
        'classes': list(classes),
        'score_threshold': score_threshold,
        'average_precision': score_classes([item.image for item in detected], classes),
        'distance_bands': {label: score_bands(
            [row for row in objects if row['label'] == label],
            [row for row in false_alarms if row['label'] == label]) for label in classes},
        'inference_ms': float(np.median([item.inference_ms for item in detected])),
        'frames': [{'name': item.frame.name, 'width': item.camera.width,
                    'height': item.camera.height, 'inference_ms': item.inference_ms,
                    'detections': int((item.image.found.score >= score_threshold).sum())}
                   for item in detected],
        'objects': objects,
        'false_alarms': false_alarms,
    }


def match_frame(detected: DetectedFrame, label: str,
                score_threshold: float) -> tuple[list[dict], list[dict]]:
    """List the visible objects of one class in one frame, and the false alarms.

    An object is `seen` if the 2D boxes overlap by more than half, and `located` if the boxes
    overlap from above by more than the looser limit of its class. A false alarm does neither
    with any object of the class or its neighbour, nor lies in a DontCare region.

    Returns:
        Objects {frame, index, label, depth (m), height (px), occlusion, truncation, seen,
        located, score, overlap_bev and depth_error (m, positive: found too far)}, the last three
        those of its detection and None without one; false alarms {frame, index, label, score,
        depth}. `index` is the number among the frame's truths or detections.
    """
    image = detected.image
    truth, found = image.truth, image.found
    seen, located = (
        Matcher(image, label, metric, VISIBLE, overlap).match(score_threshold)
        for metric, overlap in (('2d', IMAGE_OVERLAP), ('bev', overlap_limits(label)[1])))
    detection_of = dict(seen.hits) | dict(located.hits)
    objects = []
    for index in sorted([index for index, _ in located.hits] + located.missed):
        row = {'frame': detected.frame.name, 'index': index, 'label': label,
               'depth': float(truth.box3d[index, 2]),
               'height': float(truth.box2d[index, 3] - truth.box2d[index, 1]),
               'occlusion': int(truth.occlusion[index]),
               'truncation': float(truth.truncation[index]),
               'seen': index in dict(seen.hits), 'located': index in dict(located.hits),
               'score': None, 'overlap_bev': None, 'depth_error': None}
        if index in detection_of:
            number = detection_of[index]
            row |= {'score': float(found.score[number]),
                    'overlap_bev': float(image.overlaps['bev'][number, index]),
                    'depth_error': float(found.box3d[number, 2] - truth.box3d[index, 2])}
        objects.append(row)
    false_alarms = [
        {'frame': detected.frame.name, 'index': number, 'label': label,
         'score': float(found.score[number]), 'depth': float(found.box3d[number, 2])}
        for number in sorted(set(seen.false_alarms) & set(located.false_alarms))]
    return objects, false_alarms


def score_bands(objects: Sequence[dict], false_alarms: Sequence[dict]) -> list[dict]:
    """Score the objects and false alarms of one class by depth; empty bands are left out.

    Returns:
        {from_m, to_m (None: no end), objects, seen and located (percent of them), false_alarms,
        depth_error (median, m) and depth_error_percent (median, of the true depth) of those with
        a detection, None without one}.
    """
    bands = []
    for low, high in zip(BANDS, (*BANDS[1:], np.inf)):
        inside = [row for row in objects if low <= row['depth'] < high]
        alarms = sum(low <= row['depth'] < high for row in false_alarms)
        if not inside and not alarms:
            continue
        errors = np.array([(abs(row['depth_error']), 100 * abs(row['depth_error']) / row['depth'])
                           for row in inside if row['depth_error'] is not None]).reshape(-1, 2)
        absolute, relative = np.median(errors, 0).tolist() if len(errors) else (None, None)
        bands.append({
            'from_m': low, 'to_m': high if np.isfinite(high) else None, 'objects': len(inside),
            **{key: 100 * float(np.mean([row[key] for row in inside])) if inside else None
               for key in ('seen', 'located')},
            'false_alarms': alarms, 'depth_error': absolute, 'depth_error_percent': relative})
    return bands
