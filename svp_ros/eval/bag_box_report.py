"""What `svp evaluate bag` shows of 3D boxes: tables, precision over recall, and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from svp_ros.box_pictures import show_boxes
from svp_ros.data.formats import write_image
from svp_ros.eval.average_precision import LEVELS, overlap_limits, POSITIONS
from svp_ros.eval.bag_pictures import write_name
from svp_ros.eval.bag_run import ScoredPair
from svp_ros.eval.box_score import ANY_OCCLUSION, BoxMatches, FOUND_WITHIN
from svp_ros.eval.detection_report import metric_name, NO_DATA
from svp_ros.eval.disparity_report import Table
from svp_ros.eval.plots import plot_curves
from svp_ros.eval.worst import Worst

BOX_COLOURS = (
    'Green: ground truth. Orange, blue, pink: cars, pedestrians and cyclists that were found, '
    'with their scores; other classes have other colours. The side that leads is tinted. Thick '
    'lines: objects that were missed, and false alarms.')


def box_tables(scores: Mapping[str, dict]) -> list[Table]:
    """Lay out `BoxScore.result` of the models, a column each; tables without rows are left out."""
    scores = {name: score for name, score in scores.items() if score}
    if not scores:
        return []
    models, first = list(scores), next(iter(scores.values()))
    classes = list(dict.fromkeys(label for score in scores.values()
                                 for label in score['average_precision']))
    precision_rows, object_rows = [], []
    for label in classes:
        metrics = [score['average_precision'].get(label, {}) for score in scores.values()]
        keys = list(dict.fromkeys(key for item in metrics for key in item))
        if all(level['ap'] is None for item in metrics for levels in item.values()
               for level in levels.values()):
            precision_rows.append([label, *[NO_DATA] * len(models)])
        else:
            precision_rows += [[f'{label}: {metric_name(key)}', *(
                _join_levels(item.get(key), 'ap', '{:.1f}') for item in metrics)] for key in keys]
            precision_rows.append([f'{label}: objects', *(
                _join_levels(item.get(keys[0]), 'truths', '{}') for item in metrics)])
        bands = sorted({(band['from_m'], band['to_m'] or np.inf) for score in scores.values()
                        for band in score['objects'].get(label, {}).get('bands', ())})
        for low, high in bands:
            distance = f'{low:g} to {high:g} m' if np.isfinite(high) else f'beyond {low:g} m'
            object_rows.append([f'{label}, {distance}', *(
                _describe_band(score, label, low) for score in scores.values())])
    levels = next(iter(next(iter(first['average_precision'].values())).values()))
    names = ' / '.join(levels) if ANY_OCCLUSION not in levels else ANY_OCCLUSION
    return [part for part in (
        (f'Average precision of boxes, %: {names}', ['', *models], precision_rows),
        (f'Boxes by distance, score at least {first["score_threshold"]:g}: found (centre within '
         f'{FOUND_WITHIN:g} m), median error of the centre, false alarms', ['', *models],
         object_rows)) if part[2]]


def summarise_boxes(scores: dict) -> str:
    """Return `BoxScore.result` as one line: AP of every class with objects, moderate ones."""
    parts = []
    for label, metrics in scores['average_precision'].items():
        strict, loose = (f'{limit:g}' for limit in overlap_limits(label))
        levels = [metrics[f'3d@{strict}'], metrics[f'bev@{loose}']]
        solid, flat = (item.get(LEVELS[1]) or item[ANY_OCCLUSION] for item in levels)
        if solid['ap'] is not None:
            parts.append(f'{label} AP {solid["ap"]:.1f} (3D, IoU {strict}), {flat["ap"]:.1f} '
                         f'(BEV, IoU {loose}) of {solid["truths"]} objects')
    return '; '.join(parts) or f'AP of boxes: {NO_DATA}'


def plot_box_precision(folder: Path, scores: Mapping[str, dict]) -> list[tuple[Path, str]]:
    """Plot precision over recall of every class that has data; returns paths and captions.

    Args:
        folder: exists.
        scores: `BoxScore.result` by model, or None.
    """
    scores = {name: score for name, score in scores.items() if score}
    recall = [100 * position / POSITIONS for position in range(POSITIONS + 1)]
    plots = []
    for label in dict.fromkeys(label for score in scores.values()
                               for label in score['average_precision']):
        strict, loose = overlap_limits(label)
        curves, truths = {}, 0
        for name, score in scores.items():
            for key in (f'3d@{strict:g}', f'bev@{loose:g}'):
                levels = score['average_precision'].get(label, {}).get(key, {})
                level, values = _middle(levels)
                if values and values['ap']:
                    title = metric_name(key)
                    curves[f'{name}, {title}' if len(scores) > 1 else title] = (
                        recall, values['precision'])
                    truths, shown = values['truths'], level
        if curves:
            path = folder / f'precision_{label.lower()}.png'
            plot_curves(path, curves, 'recall, %', 'precision, %', f'{label}, {shown}')
            plots.append((path, f'{label}: {truths} objects'))
    return plots


class BoxPictureTaker:
    """Keep pictures of boxes on the left image and from above: evenly, and the worst pairs.

    Args:
        models: their names, the first one decides which pairs are the worst.
        expected: number of pairs that will come.
        score_threshold: of the boxes to show.
        count: number of pictures of each kind.
    """

    def __init__(self, models: Sequence[str], expected: int, score_threshold: float,
                 count: int = 3):
        self._models = list(models)
        self._threshold = score_threshold
        self._shown = {int((index + 0.5) * expected / max(count, 1)) for index in range(count)}
        self._even: list[tuple[int, np.ndarray, str]] = []
        self._worst = Worst(count, expected // 20)

    def __call__(self, scored: ScoredPair) -> None:
        """Look at one pair."""
        models = [name for name in self._models
                  if name in scored.estimates and scored.estimates[name].boxes is not None]
        if not models:
            return

        def draw():
            return draw_box_pair(scored, models, self._threshold), describe_boxes(scored, models)

        if scored.index in self._shown:
            self._even.append((scored.index, *draw()))
        elif models[0] in scored.matches and scored.matches[models[0]].errors:
            self._worst.offer(scored.matches[models[0]].errors, scored.index, draw)

    def write(self, folder: Path) -> list[tuple[Path, str]]:
        """Write PNG files; returns (path, caption), the pairs evenly spread first."""
        folder.mkdir(parents=True, exist_ok=True)
        pictures = []
        for index, picture, caption in (*self._even, *self._worst.items()):
            pictures.append((folder / f'boxes_{index:06d}.png', caption))
            write_image(pictures[-1][0], picture)
        return pictures


def draw_box_pair(scored: ScoredPair, models: Sequence[str],
                  score_threshold: float) -> np.ndarray:
    """Draw the boxes of one pair on the left image and from above, a row per model."""
    left = scored.pair.left
    left = left if left.ndim == 3 else np.repeat(left[..., None], 3, axis=2)
    rows = []
    for name in models:
        found, matches = scored.estimates[name].boxes, scored.matches.get(name)
        kept = np.flatnonzero(found.score >= score_threshold).tolist()
        picture = show_boxes(
            left, scored.pair.camera, found.select(kept), scored.true_boxes,
            [kept.index(number) for number in matches.false_alarms] if matches else (),
            matches.missed if matches else ())
        rows.append(write_name(picture, name) if len(models) > 1 else picture)
    return np.vstack(rows)


def describe_boxes(scored: ScoredPair, models: Sequence[str]) -> str:
    """Say stamp and figures of the boxes of one pair in one line."""
    parts = []
    for name in models:
        text = f'{len(scored.estimates[name].boxes)} boxes'
        if name in scored.matches:
            text = describe_matches(scored.matches[name])
        parts.append(f'{name} {text}' if len(models) > 1 else text)
    return f'Pair {scored.index + 1}, stamp {scored.pair.stamp / 1e9:.3f} s: {"; ".join(parts)}.'


def describe_matches(matches: BoxMatches) -> str:
    """Say how many boxes are right."""
    text = (f'{len(matches.hits)} of {len(matches.hits) + len(matches.missed)} objects found, '
            f'{len(matches.false_alarms)} false alarms')
    if matches.hits:
        text += f', centres off by {np.mean([error for *_, error in matches.hits]):.2f} m'
    return text


def _middle(levels: dict) -> tuple[str, Optional[dict]]:
    """Moderate, or the only level."""
    name = LEVELS[1] if LEVELS[1] in levels else next(iter(levels), '')
    return name, levels.get(name)


def _join_levels(levels: Optional[dict], key: str, form: str) -> str:
    return ' / '.join('-' if level[key] is None else form.format(level[key])
                      for level in (levels or {}).values())


def _describe_band(score: dict, label: str, low: float) -> str:
    bands = score['objects'].get(label, {}).get('bands', ())
    band = next((band for band in bands if band['from_m'] == low), None)
    if band is None:
        return ''
    found = 'no object' if band['found'] is None else (
        f'{band["found"]:.0f} % of {band["objects"]}')
    error = '' if band['centre_error'] is None else f', {band["centre_error"]:.2f} m'
    return f'{found}{error}, {band["false_alarms"]} false'
