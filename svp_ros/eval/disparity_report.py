"""What `svp evaluate disparity` shows: tables, as text and HTML, plots and pictures."""

from collections.abc import Sequence
from html import escape
import json
from pathlib import Path

import cv2
import numpy as np

from svp_ros.eval.metrics import DisparityScore
from svp_ros.eval.page import figure, heading, note, paragraph, side_by_side, table, write_page
from svp_ros.eval.plots import plot_curves
from svp_ros.eval.tables import name_band, Table
from svp_ros.pictures import colour_disparity, colour_error, join_pictures

COLUMNS = {'epe': 'EPE', 'bad_1': 'bad-1', 'bad_2': 'bad-2', 'bad_3': 'bad-3', 'd1': 'D1'}
AREAS = {
    'non_occluded': 'non-occluded', 'edges': 'within 5 px of a disparity jump',
    'smooth': 'farther from jumps'}


def score_tables(scores: dict) -> list[Table]:
    """Lay out what `evaluate_scenes` returns; tables without rows are left out."""
    methods = list(scores['mean'])
    head = [f'{method} {COLUMNS["epe"]}' if key == 'epe' else label
            for method in methods for key, label in COLUMNS.items()]
    rows = [[row['name'], *_cells(row, methods), f'{row["inference_ms"]:.0f}']
            for row in scores['scenes']]
    rows += [[f'mean of {len(rows)} scenes', *_cells(scores['mean'], methods),
              f'{scores["inference_ms"]:.0f}'],
             ['pooled pixels', *_cells(scores['pooled'], methods), '']]
    tables = [('All pixels with ground truth; EPE in pixels, the others in percent',
               ['scene', *head, 'ms'], rows)]
    if len(scores['sets']) > 1:
        tables.append(('By set, mean of its scenes', ['set', *head, 'scenes'],
                       [[name, *_cells(part['mean'], methods), str(part['scenes'])]
                        for name, part in scores['sets'].items()]))
    tables.append(('By area, mean of the scenes that have it', ['area', *head, 'scenes'],
                   [[AREAS[name], *_cells(part['mean'], methods), str(part['scenes'])]
                    for name, part in scores['areas'].items()]))
    bands = [list(parts) for parts in zip(*scores['depth_bands'].values())]
    tables.append((
        'By true distance, pooled over the calibrated scenes; off: depth wrong by more than 10 %',
        ['distance', *(f'{method} {label}' for method in methods
                       for label in ('EPE', 'bad-3', 'D1', 'off')), 'pixels'],
        [[name_band(parts[0]['from_m'], parts[0]['to_m']), *(f'{part[key]:.2f}' for part in parts
                                 for key in ('epe', 'bad_3', 'd1', 'depth_off')),
          str(parts[0]['pixels'])] for parts in bands]))
    tables.append((
        'Confidence: stated and actual probability of an error below 3 px of the network input',
        ['confidence', 'stated %', 'right %', 'pixels'],
        [[f'{row["from"]:.2f} to {row["to"]:.2f}', f'{100 * row["mean_confidence"]:.1f}',
          f'{row["right"]:.1f}', str(row['pixels'])] for row in scores['reliability']]))
    curves = scores['sparsification']
    tables.append((
        'bad-3 of the rest after dropping the least confident pixels',
        ['dropped %', 'mean of scenes', 'pooled'],
        [[str(point['dropped']), f'{point["bad_3"]:.2f}', f'{other["bad_3"]:.2f}']
         for point, other in zip(curves['mean'], curves['pooled'])]))
    if scores.get('left_right'):
        score = scores['left_right']
        tables.append((
            'Disparity of the left and right image compared, pooled over matched pixels',
            ['', 'mean difference px', 'above 1 px %', 'above 3 px %', 'pixels'],
            [['left against right', f'{score["difference"]:.2f}', f'{score["above_1"]:.2f}',
              f'{score["above_3"]:.2f}', str(score['pixels'])]]))
    tables.append((
        'Accuracy (mean of scenes) and cost (median ms of inference) by network size',
        ['size', *COLUMNS.values(), 'ms'],
        [[f'{row["network_size"][0]}x{row["network_size"][1]}',
          *(f'{row["mean"][key]:.2f}' for key in COLUMNS), f'{row["inference_ms"]:.0f}']
         for row in scores.get('network_sizes', ())]))
    return [part for part in tables if part[2]]


def make_picture(arrays: tuple, disparities: dict) -> np.ndarray:
    """Show left image, ground truth, and each method with its error, as one uint8 RGB row."""
    left, _, truth, valid = arrays
    low, high = np.percentile(truth[valid], (1, 99))
    pictures = [('left', left),
                ('ground truth', colour_disparity(np.where(valid, truth, np.nan), low, high))]
    for method, disparity in disparities.items():
        error = np.where(valid, np.abs(disparity - truth), np.nan)
        pictures += [(method, colour_disparity(disparity, low, high)),
                     (f'{method} error, 0-10 px', colour_error(error))]
    return join_pictures(pictures)


def make_strip(arrays: tuple, disparities: dict, width: int = 300) -> np.ndarray:
    """Show left image, ground truth, SGBM and the model with their scores in one narrow row."""
    left, _, truth, valid = arrays
    low, high = np.percentile(truth[valid], (1, 99))
    pictures = [('left', left),
                ('ground truth', colour_disparity(np.where(valid, truth, np.nan), low, high))]
    for method in sorted(disparities, reverse=True):  # SGBM before the model
        score = DisparityScore()
        score.update(disparities[method], truth, valid)
        result = score.result()
        pictures.append((f'{method}: {result["epe"]:.2f} px, bad-3 {result["bad_3"]:.1f} %',
                         colour_disparity(disparities[method], low, high)))
    height = round(width * left.shape[0] / left.shape[1])
    return join_pictures([(title, cv2.resize(picture, (width, height),
                                             interpolation=cv2.INTER_AREA))
                          for title, picture in pictures], height)


def write_report(folder: Path, report: dict) -> None:
    """Write metrics.json, two plots, and a page with the tables, the plots and the pictures.

    Args:
        folder: exists, and holds the pictures.
        report: what `evaluate_scenes` returns, with `picture` in the scenes that have one, and
            `describe_run`.
    """
    (folder / 'metrics.json').write_text(json.dumps(report, indent=2) + '\n')
    plots = plot_confidence(folder, report)
    tables = [table(caption, rows, head) for caption, head, rows in score_tables(report)]
    pictures = ''.join(
        f'<h3>{escape(row["name"])}</h3>\n<img src="{escape(row["picture"])}">\n'
        for row in report['scenes'] if 'picture' in row)
    write_page(folder / 'report.html', f'Disparity of {report["model"]["name"]}', [
        *tables, heading('Confidence'),
        side_by_side([figure(path, caption, 640) for path, caption in plots]),
        heading('Scenes'), pictures, heading('Run'), paragraph(report['command']),
        note(f'Commit {report["commit"] or "unknown"}, {report["device"]}, network size '
             f'{report["network_size"][0]}x{report["network_size"][1]}.')])


def plot_confidence(folder: Path, report: dict) -> list[tuple[Path, str]]:
    """Plot reliability and bad-3 against dropped pixels; returns paths and captions."""
    name = report['model']['name']
    bins = report['reliability']
    reliability, sparsification = folder / 'reliability.png', folder / 'sparsification.png'
    plot_curves(
        reliability,
        {name: ([100 * row['mean_confidence'] for row in bins], [row['right'] for row in bins]),
         'exact': ((0, 100), (0, 100))},
        'stated probability of an error below 3 px, %', 'pixels where that is true, %',
        'Reliability of the confidence')
    curves = report['sparsification']
    plot_curves(
        sparsification,
        {label: ([point['dropped'] for point in curve], [point['bad_3'] for point in curve])
         for label, curve in (('mean of scenes', curves['mean']), ('pooled', curves['pooled']))},
        'least confident pixels dropped, %', 'bad-3 of the others, %',
        'Errors that the confidence finds')
    return [(reliability, 'On the line, the confidence is exact; below it, too high.'),
            (sparsification, 'The faster the curve falls, the better the confidence finds the '
                             'errors.')]


def _cells(scores: dict, methods: Sequence[str]) -> list[str]:
    return [f'{scores[method][key]:.2f}' for method in methods for key in COLUMNS]
