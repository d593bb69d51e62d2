"""3D boxes of recordings in reports: tables, precision over recall, pictures, one line."""

from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Optional

import numpy as np

from svp_ros.eval.average_precision import LEVELS, overlap_limits
from svp_ros.eval.box_score import ANY_OCCLUSION, BoxMatches, FOUND_WITHIN
from svp_ros.eval.detection_report import draw_precision, metric_name, NO_DATA
from svp_ros.eval.tables import name_band, Table

NO_HEAD = 'the model has no detection head: no boxes are scored'
BOX_NOTE = (
    'Average precision: KITTI, 40 recall positions, over all boxes that were published. By '
    f'distance: found are objects with a box of their class within {FOUND_WITHIN:g} m of their '
    'centre on the ground; then the median distance of the centres, and the boxes without an '
    'object.')


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
        bands = {(band['from_m'], band['to_m']) for score in scores.values()
                 for band in score['objects'].get(label, {}).get('bands', ())}
        for low, high in sorted(bands, key=itemgetter(0)):
            object_rows.append([f'{label}, {name_band(low, high)}', *(
                _describe_band(score, label, low) for score in scores.values())])
    precision_rows.append(['pairs scored', *(str(score['pairs']) for score in scores.values())])
    levels = next(iter(next(iter(first['average_precision'].values())).values()))
    names = ' / '.join(levels) if ANY_OCCLUSION not in levels else ANY_OCCLUSION
    return [part for part in (
        (f'Average precision of boxes, %: {names}', ['', *models], precision_rows),
        (f'Boxes by distance, score from {first["score_threshold"]:g} on: found, error of the '
         'centre, false alarms', ['', *models], object_rows)) if part[2]]


def summarise_boxes(scores: Optional[dict]) -> str:
    """Return `BoxScore.result` as one line: AP of every class with objects, moderate ones."""
    if scores is None:
        return NO_HEAD
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
                        values['precision'])
                    truths, shown = values['truths'], level
        if curves:
            plots.append((draw_precision(folder, label, shown, curves),
                          f'{label}: {truths} objects'))
    return plots


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
