"""Pictures of 3D boxes: on the left image, and seen from above (bird's-eye view)."""

from collections.abc import Sequence
from typing import Optional
import zlib

import cv2
import numpy as np

from svp_ros.boxes import Boxes, corners, EDGES, LabelledBoxes, NEAR
from svp_ros.geometry import project, StereoCamera

TRUTH = (60, 220, 90)
COLOURS = {'Car': (255, 140, 0), 'Pedestrian': (60, 190, 255), 'Cyclist': (255, 90, 220)}
OTHERS = ((255, 225, 60), (170, 130, 255), (255, 90, 90), (120, 235, 220))
FRONT = [4, 5, 7, 6]                # corners around the side that leads
OUTLINE = [0, 4, 5, 1]              # corners around the top: rear, front, front, rear
GROUND, GRID, VIEW = (28, 30, 34), (58, 62, 68), (110, 116, 124)
TINT = 0.3                          # opacity of the fronts
RANGES = (20, 40, 60, 80)           # metres
FRACTION = 4                        # bits of a pixel in OpenCV's coordinates
FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.4)
LEGEND = (
    'Green: ground truth. Orange, blue, pink: cars, pedestrians and cyclists that were found, '
    'with their scores; other classes have other colours. The side that leads is tinted. Thick '
    'lines: objects that were missed, and false alarms.')


def class_colour(label: str) -> tuple[int, int, int]:
    """Return the RGB colour, 0 to 255, in which detections of a class are drawn."""
    return COLOURS.get(label, OTHERS[zlib.crc32(label.encode()) % len(OTHERS)])


def draw_boxes(image: np.ndarray, box3d: np.ndarray, label: Sequence[str],
               score: Optional[np.ndarray], camera: StereoCamera,
               marked: Sequence[int] = ()) -> np.ndarray:
    """Draw boxes as wire frames, their fronts tinted, on a copy of the left image.

    Args:
        image: (H, W, 3) uint8 RGB.
        box3d: (N, 7); rows with a NaN are left out.
        label: N names of classes.
        score: (N,), written beside the class; None for ground truth, which is green and silent.
        camera: rig of this image.
        marked: numbers of the boxes to draw in thick lines.
    """
    box3d = np.asarray(box3d, np.float64).reshape(-1, 7)
    order = [n for n in np.argsort(-box3d[:, 2]).tolist() if np.isfinite(box3d[n]).all()]
    colours = [TRUTH if score is None else class_colour(name) for name in label]
    points = corners(box3d)
    whole = [n for n in order if points[n, :, 2].min() > NEAR]
    picture = np.ascontiguousarray(image).copy()
    for n in whole:
        front = np.round(project(points[n, FRONT], camera)[:, :2]).astype(np.int32)
        cv2.fillConvexPoly(picture, front, colours[n])
    picture = cv2.addWeighted(picture, TINT, image, 1 - TINT, 0)
    for n in order:  # the far ones first
        _draw_lines(picture, _seen_part(points[n, EDGES], camera), colours[n],
                    3 if n in marked else 1)
    texts = []
    for n in reversed(whole) if score is not None else ():  # the near ones choose their place
        x, y = project(points[n], camera)[:, :2].min(0)
        _write(picture, f'{label[n]} {score[n]:.2f}', x, y - 3, colours[n], texts)
    return picture


def draw_birds_eye(camera: StereoCamera, found: Optional[Boxes] = None,
                   truth: Optional[LabelledBoxes] = None, height: int = 480,
                   far: Optional[float] = None, marked_found: Sequence[int] = (),
                   marked_truth: Sequence[int] = ()) -> np.ndarray:
    """Draw boxes from above, the camera below, with a line from each centre to its front.

    Args:
        camera: rig whose field of view is shown.
        found: detections, in the colours of their classes with their scores.
        truth: ground truth, in green.
        height: of the picture, which is square, pixels.
        far: metres from the lower to the upper edge; None fits the boxes.
        marked_found: numbers of the detections to draw in thick lines.
        marked_truth: likewise of the truths.

    Returns:
        (height, height, 3) uint8 RGB.
    """
    layers = [(part.box3d, part.label, score, marked)
              for part, score, marked in ((truth, None, marked_truth),
                                          (found, getattr(found, 'score', None), marked_found))
              if part is not None]
    if far is None:
        farthest = max((np.nanmax(box3d[:, 2], initial=0) for box3d, *_ in layers), default=0)
        far = next((limit for limit in RANGES if limit > farthest + 2), RANGES[-1])
    scale = height / far
    picture = _draw_ground(camera, height, far)
    texts = []
    for box3d, label, score, marked in layers:
        box3d = np.asarray(box3d, np.float64).reshape(-1, 7)
        for n in np.flatnonzero(np.isfinite(box3d).all(1)).tolist():
            colour = TRUTH if score is None else class_colour(label[n])
            outline = corners(box3d[n:n + 1])[0, OUTLINE][:, [0, 2]]
            front = outline[1:3].mean(0)
            lines = np.concatenate([np.stack([outline, np.roll(outline, -1, axis=0)], 1),
                                    [[box3d[n, [0, 2]], front]]])
            lines = np.array([height / 2, height]) + scale * lines * [1, -1]
            _draw_lines(picture, lines, colour, 3 if n in marked else 1)
            if score is not None:
                x, y = lines[:, 0].max(0)
                _write(picture, f'{score[n]:.2f}', x + 2, y, colour, texts)
    return picture


def show_boxes(image: np.ndarray, camera: StereoCamera, found: Optional[Boxes],
               truth: Optional[LabelledBoxes] = None, marked_found: Sequence[int] = (),
               marked_truth: Sequence[int] = ()) -> np.ndarray:
    """Show boxes on the left image and, beside it, from above; arguments as those above.

    Returns:
        (H, W, 3) uint8 RGB, at least 400 pixels high.
    """
    H, W = image.shape[:2]
    height = max(H, 400)
    left = cv2.resize(image, (round(W * height / H), height), interpolation=cv2.INTER_CUBIC)
    scaled = camera.scaled(left.shape[1] / W, height / H)
    for boxes, score, marked in ((truth, None, marked_truth),
                                 (found, getattr(found, 'score', None), marked_found)):
        if boxes is not None:
            left = draw_boxes(left, boxes.box3d, boxes.label, score, scaled, marked)
    above = draw_birds_eye(camera, found, truth, height, None, marked_found, marked_truth)
    return np.hstack([left, np.full((height, 4, 3), 255, np.uint8), above])


def show_errors(image: np.ndarray, camera: StereoCamera, found: Boxes,
                truth: Optional[LabelledBoxes], score_threshold: float,
                missed: Sequence[int] = (), false_alarms: Sequence[int] = ()) -> np.ndarray:
    """Show the boxes from a score on, misses and false alarms in thick lines; see `show_boxes`.

    Args:
        image: (H, W, 3) uint8 RGB or (H, W) uint8 grey.
        camera: rig of this image.
        found: detections.
        truth: ground truth, if it is known.
        score_threshold: of the detections to show.
        missed: numbers of truths.
        false_alarms: numbers of detections, none below the threshold.
    """
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    kept = np.flatnonzero(found.score >= score_threshold).tolist()
    return show_boxes(image, camera, found.select(kept), truth,
                      [kept.index(number) for number in false_alarms], missed)


def _draw_ground(camera: StereoCamera, height: int, far: float) -> np.ndarray:
    """Empty ground with distances every 10 m, or 5 m, and the edges of the field of view."""
    picture = np.full((height, height, 3), GROUND, np.uint8)
    scale = height / far
    step = 5 if far <= 20 else 10
    for distance in range(step, int(far) + 1, step):
        y = height - scale * distance
        _draw_lines(picture, np.array([[[0, y], [height, y]]]), GRID)
        _write(picture, f'{distance} m', 3, y + 12, VIEW)
    for column in (0, camera.width - 1):
        x = far * (column - camera.cx) / camera.fx
        _draw_lines(picture, np.array([[[height / 2, height],
                                        [height / 2 + scale * x, 0]]]), VIEW)
    return picture


def _seen_part(lines: np.ndarray, camera: StereoCamera) -> np.ndarray:
    """Lines (N, 2, 3) in metres -> their parts (M, 2, 2) in pixels that are before the camera."""
    lines = lines[lines[:, :, 2].max(1) > NEAR]
    near, far = np.take_along_axis(lines, np.argsort(lines[..., 2:], 1), 1).swapaxes(0, 1)
    share = np.clip((NEAR - near[:, 2]) / np.maximum(far[:, 2] - near[:, 2], 1e-9), 0, 1)
    near = near + share[:, None] * (far - near)
    return project(np.stack([near, far], 1), camera)[..., :2]


def _draw_lines(picture: np.ndarray, lines: np.ndarray, colour: Sequence[int],
                width: int = 1) -> None:
    """Draw lines (N, 2, 2) in pixels, centres at integers, as far as they are in the picture."""
    for start, end in np.round(lines * 2 ** FRACTION).astype(np.int64).tolist():
        cv2.line(picture, start, end, colour, width, cv2.LINE_AA, FRACTION)


def _write(picture: np.ndarray, text: str, x: float, y: float, colour: Sequence[int],
           others: Optional[list[tuple[int, int, int]]] = None) -> None:
    """Write text with its lower left corner at (x, y), moved into the picture.

    What is behind gets dark. The text is moved up until it covers none of the `others` (left,
    bottom, right), which it joins.
    """
    (width, height), _ = cv2.getTextSize(text, *FONT, 1)
    x = int(np.clip(x, 0, max(picture.shape[1] - width - 1, 0)))
    y = int(np.clip(y, height + 1, picture.shape[0] - 2))
    for left, bottom, right in sorted(others or (), key=lambda item: -item[1]):
        if left < x + width and x < right and abs(bottom - y) < height + 5:
            y = bottom - height - 5
    if others is not None:
        others.append((x, y, x + width))
    picture[max(y - height - 2, 0):y + 3, max(x - 1, 0):x + width + 1] //= 4
    cv2.putText(picture, text, (x, y), *FONT, colour, 1, cv2.LINE_AA)
