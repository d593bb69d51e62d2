"""What `svp evaluate detection` shows: tables, precision-recall curves and pictures."""

from collections.abc import Mapping, Sequence
from html import escape
import json
from pathlib import Path
from typing import Optional

from svp_ros.box_pictures import LEGEND
from svp_ros.eval.average_precision import LEVELS, POSITIONS
from svp_ros.eval.detection_score import IMAGE_OVERLAP
from svp_ros.eval.page import figure, heading, note, paragraph, side_by_side, table, write_page
from svp_ros.eval.plots import plot_curves
from svp_ros.eval.tables import name_band, Table

METRIC_NAMES = {'2d': '2D', 'bev': 'BEV', '3d': '3D'}
NO_DATA = 'no data'
MOST_OBJECTS = 40  # that the report lists one by one

PRECISION_NOTE = (
    'Average precision as in the development kit of KITTI, except for 40 objects or fewer: the '
    'kit leaves the recall positions above their number at 0, here they count.')
PICTURES = {
    'misses': 'The nearest objects that were not located',
    'false_alarms': 'The surest false alarms',
    'frames': 'Frames, evenly spread'}


def detection_tables(scores: dict) -> list[Table]:
    """Lay out what `score_detections` returns; tables without rows are left out."""
    precision_rows, band_rows = [], []
    for label, metrics in scores['average_precision'].items():
        precision_rows += [[label, metric_name(key), *(_number(levels[level]['ap'], NO_DATA)
                                                       for level in LEVELS)]
                           for key, levels in metrics.items()]
        levels = next(iter(metrics.values()))
        precision_rows.append([label, 'objects', *(str(levels[level]['truths'])
                                                   for level in LEVELS)])
        band_rows += [[label, name_band(band['from_m'], band['to_m']), str(band['objects']),
                       _number(band['seen']), _number(band['located']),
                       _number(band['depth_error'], digits=2),
                       _number(band['depth_error_percent']), str(band['false_alarms'])]
                      for band in scores['distance_bands'][label]]
    tables = [
        (f'Average precision at {POSITIONS} recall positions, percent',
         ['class', 'overlap', *LEVELS], precision_rows),
        (f'Visible objects by distance; score at least {scores["score_threshold"]:g}; seen: 2D '
         f'IoU above {IMAGE_OVERLAP:g}, located: BEV IoU above the looser limit',
         ['class', 'distance', 'objects', 'seen %', 'located %', 'median depth error m',
          'median %', 'false alarms'], band_rows)]
    if len(scores['objects']) <= MOST_OBJECTS:
        tables.append((
            'Visible objects one by one',
            ['frame', 'class', 'depth m', 'height px', 'occlusion', 'score', 'BEV IoU',
             'depth error m'],
            [[row['frame'], row['label'], f'{row["depth"]:.1f}', f'{row["height"]:.0f}',
              str(row['occlusion']), _number(row['score'], 'not found', 2),
              _number(row['overlap_bev'], digits=2), _number(row['depth_error'], digits=2)]
             for row in scores['objects']]))
    return [part for part in tables if part[2]]


def metric_name(key: str) -> str:
    """Return "3D, IoU 0.7" for "3d@0.7"."""
    metric, _, overlap = key.partition('@')
    return f'{METRIC_NAMES[metric]}, IoU {overlap}'


def write_report(folder: Path, report: dict) -> None:
    """Write metrics.json, plots, and a page with the tables, the plots and the pictures.

    Args:
        folder: exists, and holds the pictures.
        report: what `score_detections` returns, with `pictures`, file by name of the frame for
            every key of PICTURES, and `command`, `commit`, `device`, `model` and `network_size`.
    """
    (folder / 'metrics.json').write_text(json.dumps(report, indent=2) + '\n')
    tables = [table(caption, rows, head) for caption, head, rows in detection_tables(report)]
    plots = [figure(path, caption, 640) for path, caption in plot_precision(folder, report)]
    pictures = [heading(PICTURES[kind]) + ''.join(
        f'<h3>{escape(name)}</h3>\n<img src="{escape(file)}">\n{_list_errors(report, name)}'
        for name, file in files.items()) for kind, files in report['pictures'].items() if files]
    write_page(folder / 'report.html', f'3D boxes of {report["model"]["name"]}', [
        *tables, note(PRECISION_NOTE), heading('Precision and recall'), side_by_side(plots),
        note(LEGEND), *pictures, heading('Run'), paragraph(report['command']),
        note(f'Commit {report["commit"] or "unknown"}, {report["device"]}, network size '
             f'{report["network_size"][0]}x{report["network_size"][1]}, median inference '
             f'{report["inference_ms"]:.0f} ms.')])


def plot_precision(folder: Path, report: dict) -> list[tuple[Path, str]]:
    """Plot precision over recall of every class that has data; returns paths and captions."""
    plots = []
    for label, metrics in report['average_precision'].items():
        curves = {metric_name(key): levels['moderate']['precision']
                  for key, levels in metrics.items() if levels['moderate']['ap']}
        if curves:
            path = draw_precision(folder, label, 'moderate', curves)
            count = next(iter(metrics.values()))['moderate']['truths']
            plots.append((path, f'{label}: {count} objects. Precision is the highest from each '
                                'recall on, as average precision takes it.'))
    return plots


def draw_precision(folder: Path, label: str, level: str,
                   curves: Mapping[str, Sequence[float]]) -> Path:
    """Plot precision over recall of one class; returns the path.

    Args:
        folder: exists.
        label: the class.
        level: of difficulty, for the title.
        curves: precision at the recalls 0, 1/40, ... 1 by name, percent.
    """
    path = folder / f'precision_{label.lower().replace("/", "_")}.png'
    recall = [100 * position / POSITIONS for position in range(POSITIONS + 1)]
    plot_curves(path, {name: (recall, precision) for name, precision in curves.items()},
                'recall, %', 'precision, %', f'{label}, {level}')
    return path


def _list_errors(report: dict, frame: str) -> str:
    """One line in grey for the errors of a frame."""
    objects = sorted(report['objects'], key=lambda row: row['depth'])
    false_alarms = sorted(report['false_alarms'], key=lambda row: -row['score'])
    missed = [f'{row["label"]} at {row["depth"]:.1f} m'
              + (f' found {abs(row["depth_error"]):.1f} m too '
                 f'{"far" if row["depth_error"] > 0 else "near"}' if row['seen'] else ' not found')
              for row in objects if row['frame'] == frame and not row['located']]
    alarms = [f'{row["label"]} {row["score"]:.2f} at {row["depth"]:.1f} m'
              for row in false_alarms if row['frame'] == frame]
    texts = [f'{title}: {", ".join(rows)}.'
             for title, rows in (('Not located', missed), ('False alarms', alarms)) if rows]
    return note(' '.join(texts) or 'No error.')


def _number(value: Optional[float], otherwise: str = '', digits: int = 1) -> str:
    return otherwise if value is None else f'{value:.{digits}f}'
