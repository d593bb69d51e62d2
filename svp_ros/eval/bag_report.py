"""What `svp evaluate bag` leaves behind: tables, curves over time, one page, figures per pair."""

from collections.abc import Sequence
import csv
from pathlib import Path

from svp_ros.box_pictures import LEGEND
from svp_ros.eval.bag_run import ScoredPair
from svp_ros.eval.box_report import BOX_NOTE, box_tables
from svp_ros.eval.page import figure, heading, note, paragraph, side_by_side, table, write_page
from svp_ros.eval.plots import plot_curves
from svp_ros.eval.tables import name_band, Table

# Figures of a pair: label of the curve's axis, and title.
FIGURES = {
    'epe': ('pixels', 'End-point error'),
    'bad_3': ('% of the published pixels', 'Errors above 3 px (bad-3)'),
    'coverage': ('% of the pixels with truth', 'Coverage of the ground truth'),
    'photometric_error': ('grey levels of 255', 'Photometric error'),
    'left_right': ('pixels', 'Left against right'),
    'flicker': ('pixels', 'Flicker'),
    'density': ('% of all pixels', 'Density'),
    'confidence': ('mean of all pixels', 'Confidence'),
    'rows': ('pixels', 'Rows that do not line up'),
    'objects_found': ('% of the objects', 'Objects whose box was found'),
    'centre_error': ('metres', 'Distance of the centres of found boxes'),
    'false_alarms': ('boxes per pair', 'Boxes without an object'),
    'boxes': ('boxes per pair', 'Boxes'),
    'latency_ms': ('ms per pair', 'Processing time'),
}
NOTES = (
    'Errors against ground truth are those of published pixels; coverage says how many of the '
    'pixels with truth these are.',
    'Photometric error: the right image, moved by the disparity, against the left one, after '
    'taking out a constant difference in brightness. It is not zero for a perfect disparity: '
    'occlusions, reflections and noise remain.',
    'Left against right: the disparity of the left image against that of the right one, from the '
    'same network, where both see the point.',
    'Flicker: the disparity against that of the pair before, along the optical flow. When the '
    'camera moves, the true disparity changes too: compare models, not recordings.')

Picture = tuple[Path, str]  # with its caption
# Pairs and figures of a model, in order of time.
Series = dict[str, list[tuple[int, int, dict[str, float]]]]


class SeriesWriter:
    """Keep the figures of every pair by model; write them as frames.csv and as curves."""

    def __init__(self, models: Sequence[str]):
        self.series: Series = {name: [] for name in models}

    def __call__(self, scored: ScoredPair) -> None:
        """Take the figures of one pair."""
        for name, row in scored.rows.items():
            self.series[name].append((scored.index, scored.pair.stamp, row))

    def write(self, path: Path) -> None:
        """Write one line per pair and model; figures that it lacks are empty."""
        with path.open('w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow(['model', 'pair', 'stamp', *FIGURES])
            for name, rows in self.series.items():
                for index, stamp, row in rows:
                    writer.writerow([name, index, stamp,
                                     *(f'{row[key]:.6g}' if key in row else ''
                                       for key in FIGURES)])

    def plot(self, folder: Path) -> list[tuple[Path, str]]:
        """Plot each figure over time that at least two pairs have and that is not 0 always."""
        folder.mkdir(parents=True, exist_ok=True)
        start = min(rows[0][1] for rows in self.series.values() if rows)
        plots = []
        for key, (unit, title) in FIGURES.items():
            curves = {name: [((stamp - start) / 1e9, row[key])
                             for _, stamp, row in rows if key in row]
                      for name, rows in self.series.items()}
            curves = {name: tuple(zip(*points)) for name, points in curves.items()
                      if len(points) > 1}
            if any(any(y) for _, y in curves.values()):
                if key == 'rows':  # of the images, whatever the model
                    curves = {'pair': next(iter(curves.values()))}
                plots.append((folder / f'{key}.png', title))
                plot_curves(plots[-1][0], curves, 'time, s', unit, title)
        return plots


def score_tables(results: dict) -> list[Table]:
    """Lay out the scores of the models, a column each; tables without rows are left out."""
    models = list(results['models'])
    scores = list(results['models'].values())

    def rows(*lines):
        cells = [[label, *(_look_up(score, *path, digits=digits, factor=factor)
                           for score in scores)] for label, path, digits, factor in lines]
        return [line for line in cells if any(line[1:])]

    bands = {(band['from_m'], band['to_m']) for score in scores if 'depth' in score
             for band in score['depth']['bands']}
    depth = rows(('all: mean error, m', ('depth', 'mean_abs_m'), 3, 1),
                 ('all: relative, %', ('depth', 'mean_abs_rel'), 1, 100))
    for low, high in sorted(bands, key=lambda band: band[0]):
        found = [next((band for band in score.get('depth', {}).get('bands', ())
                       if band['from_m'] == low), None) for score in scores]
        depth.append([f'{name_band(low, high)}: relative, %', *(
            f'{100 * band["mean_abs_rel"]:.1f}' if band else '' for band in found)])
    stages = list(dict.fromkeys(stage for score in scores
                                for stage in score.get('latency_ms', ())))
    return [part for part in (
        ('Against the ground truth', ['', *models], rows(
            ('EPE, px', ('disparity', 'epe'), 3, 1),
            *((f'bad-{n}, %', ('disparity', f'bad_{n}'), 2, 1) for n in (1, 2, 3)),
            ('D1, %', ('disparity', 'd1'), 2, 1),
            ('coverage of true pixels, %', ('disparity', 'coverage'), 1, 1),
            ('pairs with truth', ('disparity', 'pairs'), 0, 1))),
        ('Depth error by true depth', ['', *models], depth),
        *box_tables({name: score.get('boxes') for name, score in results['models'].items()}),
        ('From the images alone', ['', *models], rows(
            ('photometric error, grey levels', ('photometric_error',), 2, 1),
            ('left against right, px', ('left_right', 'difference'), 3, 1),
            ('left against right, % above 1 px', ('left_right', 'above_1'), 1, 1),
            ('flicker, px', ('flicker', 'difference'), 3, 1),
            ('flicker, % above 1 px', ('flicker', 'above_1'), 1, 1),
            ('density, %', ('density',), 1, 1), ('mean confidence', ('confidence',), 3, 1),
            ('pairs', ('pairs',), 0, 1))),
        ('Time per pair, ms: p50 / p95 / p99', ['', *models], [
            [stage.replace('_', ' '), *(
                ' / '.join(f'{score["latency_ms"][stage][p]:.0f}' for p in ('p50', 'p95', 'p99'))
                if stage in score.get('latency_ms', ()) else '' for score in scores)]
            for stage in stages]),
        ('The node', ['', *models], rows(
            ('pairs published', ('node', 'processed'), 0, 1),
            ('pairs replaced by newer ones', ('node', 'replaced'), 0, 1),
            ('pairs dropped as bad', ('node', 'dropped'), 0, 1))),
    ) if part[2]]


def describe_bag(results: dict) -> list[tuple[str, str]]:
    """List what is known about the recording."""
    bag, camera, rectification = (results[key] for key in ('bag', 'camera', 'rectification'))
    images, topics = bag['images'], bag['topics']
    rows = [
        ('images', f'{topics["left"]}, {topics["right"]}'),
        ('size', f'{camera["width"]}x{camera["height"]}, '
         + ('raw, rectified here' if results['rectified_here'] else 'rectified')),
        ('camera', f'focal length {camera["fx"]:.1f} px, baseline {camera["baseline"]:.4f} m'),
        ('images left, right, pairs',
         f'{images["left"]}, {images["right"]}, {results["pairs"]}'),
        ('duration', f'{images["duration_s"]:.1f} s'
         + (f' at {images["rate_hz"]:.1f} Hz' if images['rate_hz'] else '')),
        ('ground truth', f'{bag["truth"]}, for {results["truth"]} pairs' if bag['truth']
         else 'none')]
    if images['longest_gap_ms'] is not None:
        rows.insert(5, ('longest gap', f'{images["longest_gap_ms"]:.0f} ms'))
    if bag['true_boxes']:
        rows.append(('true boxes', f'{bag["true_boxes"]}, for {results["true_boxes"]} pairs'))
    rows.append(('rows line up within', 'not known: too few corners' if rectification is None else
                 f'{rectification["error"]:.2f} px (mean {rectification["mean_offset"]:+.2f} px, '
                 f'{rectification["matches"]} corners)'))
    return rows


def write_bag_report(folder: Path, results: dict, plots: Sequence[Picture],
                     worst: Sequence[Picture], sheet: Sequence[Picture],
                     precision: Sequence[Picture], boxes: Sequence[Picture]) -> None:
    """Write report.html with all pictures inside.

    Args:
        folder: for the page.
        results: what metrics.json holds.
        plots: curves over time.
        worst: the worst pairs.
        sheet: the contact sheet.
        precision: precision over recall of the boxes.
        boxes: boxes of some pairs.
    """
    models = ' and '.join(results['models'])
    machine = results['hardware']['processor']
    write_page(folder / 'report.html', f'{results["bag"]["name"]}: {models}', [
        paragraph(results['bag']['how']),
        *(paragraph(f'Calibration: {text}') for text in results['calibration']),
        side_by_side([table(caption, rows, head)
                      for caption, head, rows in score_tables(results)]),
        table('Recording', describe_bag(results)), *map(note, NOTES),
        heading('Over time'), side_by_side([figure(path, title, 460) for path, title in plots]),
        *_show_boxes(results, precision, boxes),
        heading('Worst pairs'), *(figure(path, caption) for path, caption in worst),
        heading('Contact sheet'), *(figure(path, caption) for path, caption in sheet),
        heading('Run'), paragraph(results['command']),
        note(f'Commit {results["commit"] or "unknown"}, {machine}.')])


def _show_boxes(results: dict, precision: Sequence[Picture],
                boxes: Sequence[Picture]) -> list[str]:
    """Section of the page; empty without boxes."""
    if not (boxes or precision):
        return [note(text + '.') for text in results['without_boxes']]
    return [heading('3D boxes'), *map(paragraph, results['without_boxes']),
            side_by_side([figure(path, caption, 460) for path, caption in precision]),
            *(figure(path, caption) for path, caption in boxes), note(LEGEND),
            note(BOX_NOTE)]


def _look_up(score: dict, *path: str, digits: int, factor: float) -> str:
    """Format a value inside a nested dictionary; empty if it is not there."""
    value = score
    for key in path:
        if not isinstance(value, dict) or value.get(key) is None:
            return ''
        value = value[key]
    return f'{factor * value:.{digits}f}'
