"""The proof of masked stereo pre-training as pictures, tables and one HTML page."""

from collections.abc import Iterable
import csv
from pathlib import Path
from typing import Any

import numpy as np

from svp_ros.data.formats import write_image
from svp_ros.eval.page import figure, heading, note, paragraph, table, write_page
from svp_ros.eval.plots import plot_curves
from svp_ros.eval.pretraining_pictures import (
    attention_picture,
    disparity_rows,
    reconstruction_rows,
)
from svp_ros.eval.pretraining_report import EXPLANATION, read_columns
from svp_ros.eval.reconstruction import FixedPairs, spread_indices
from svp_ros.model.build import load_reconstruction

PICTURES = 8
TITLES = {'stereo': 'stereo', 'left_only': 'left_only', 'none': 'no pre-training'}
SETS = {'world': 'world, held out', 'new_kind': 'world, a kind that was not trained',
        'real_tail': 'real, ends of the sequences', 'real_sequence': 'real, another sequence',
        'real_labelled': 'real, labelled scenes'}


def write_proof(out: Path, result: dict[str, Any], sets: dict[str, FixedPairs],
                ratio: float) -> None:
    """Write curves.csv, pictures and report.html into the folder of a finished proof.

    Args:
        out: folder that holds the runs.
        result: of `measure`, with command, commit and device.
        sets: validation pairs by name.
        ratio: share of hidden patches.
    """
    curves = read_curves(out, result['reconstruction'])
    with (out / 'curves.csv').open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['run', 'step', 'set', 'error', 'value'])
        writer.writerows((run, step, *name.split('_', 1), value)
                         for (run, name), points in curves.items() for step, value in points)
    parts = [paragraph(f'{result["command"]}, commit {result["commit"]}, {result["device"]}'),
             note(f'{len(result["left_out"])} pairs on disk were left out, because they are '
                  'images of the labelled scenes.'),
             heading('Does the right image help?'), _ratio_table(result),
             note(f'{EXPLANATION} The networks of left_only get zeros instead of the right '
                  'features; ratios are stereo by left_only.')]
    parts += _loss_plots(out, curves)
    models = {}
    for source in ('world', 'real'):
        if f'{source}_stereo' in result['reconstruction']:
            models[source] = {mode: load_reconstruction(
                out / f'{source}_{mode}' / 'average.safetensors')[0]
                for mode in ('stereo', 'left_only')}
    for source, key in (('world', 'world'), ('real', 'real_sequence')):
        if source in models and key in sets:
            pairs, shown = sets[key], spread_indices(len(sets[key].left), PICTURES)
            rows = reconstruction_rows(
                {'stereo': (models[source]['stereo'], False),
                 'left_only': (models[source]['left_only'], True)}, pairs, shown, ratio)
            parts.append(_picture(out, f'reconstruction_{source}', rows,
                                  f'{SETS[key]}: {100 * ratio:.0f} % of the left image hidden'))
    parts += [heading('What does it know about depth, without a label?'), _depth_table(result)]
    stereo = models['world']['stereo']
    for key in ('world', 'real_labelled'):
        if key in sets:
            shown = spread_indices(len(sets[key].left), PICTURES)
            parts.append(_picture(out, f'disparity_{key}',
                                  disparity_rows(stereo, sets[key], shown),
                                  f'{SETS[key]}: disparity without labels'))
            parts.append(_picture(out, f'attention_{key}',
                                  attention_picture(stereo, sets[key], shown[0]),
                                  f'{SETS[key]}: where rows of the left image look'))
    parts += [heading('What is it worth?'), _finetuning_table(result)]
    parts += [*_finetuning_plots(out, result), _learning_plot(out, result)]
    write_page(out / 'report.html', 'Masked stereo pre-training: the proof', parts)


def read_curves(out: Path,
                runs: Iterable[str]) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """Validation errors of runs below `out`: lists of (step, value) by run and name."""
    curves = {}
    for run in runs:
        columns = read_columns(out / run / 'validate.csv')
        steps = [int(step) for step in columns.pop('step', [])]
        for name, values in columns.items():
            curves[run, name] = list(zip(steps, values))
    return curves


def _loss_plots(out: Path, curves: dict) -> list[str]:
    parts = []
    for source, of in (('world', 'world'), ('real', 'data')):
        drawn = {}
        for mode in ('stereo', 'left_only'):
            points = curves.get((f'{source}_{mode}', f'{of}_colours'))
            if points:
                drawn[TITLES[mode]] = tuple(zip(*points))
        other = curves.get((f'{source}_stereo', f'{of}_other_colours'))
        if other:
            drawn['stereo, right image of another scene'] = tuple(zip(*other))
        if drawn:
            path = out / f'loss_{source}.png'
            plot_curves(path, drawn, 'steps', 'error of the colours',
                        f'Rebuilding hidden pixels of {source} pairs')
            parts.append(figure(path, 'Validation, hidden pixels only', 700))
    return parts


def _finetuning_plots(out: Path, result: dict) -> list[str]:
    parts = []
    for metric, label in (('epe', 'EPE, px'), ('bad_3', 'bad-3, %')):
        curves, bands = {}, {}
        for start, title in TITLES.items():
            by_budget: dict[int, list[float]] = {}
            for row in result['finetuning']:
                if row['start'] == start:
                    by_budget.setdefault(row['budget'], []).append(row[metric])
            x = sorted(by_budget)
            curves[title] = x, [float(np.mean(by_budget[b])) for b in x]
            bands[title] = x, [min(by_budget[b]) for b in x], [max(by_budget[b]) for b in x]
        path = out / f'finetune_{metric}.png'
        plot_curves(path, curves, 'labelled pairs', label,
                    'Fine-tuning, equal steps, mean and range of the seeds', log_x=True,
                    bands=bands)
        parts.append(figure(path, label, 700))
    return parts


def _learning_plot(out: Path, result: dict) -> str:
    budget = min(row['budget'] for row in result['finetuning'])
    curves = {}
    for start, title in TITLES.items():
        runs = [row['curve'] for row in result['finetuning']
                if (row['start'], row['budget']) == (start, budget)]
        curves[title] = runs[0]['step'], list(np.mean([run['epe'] for run in runs], axis=0))
    path = out / 'finetune_steps.png'
    plot_curves(path, curves, 'steps', 'EPE, px',
                f'Fine-tuning with {budget} labelled pairs, mean of the seeds')
    return figure(path, 'The averaged weights, on held-out scenes, while they learn', 700)


def _ratio_table(result: dict) -> str:
    rows = []
    for source, by_set in result['ratio'].items():
        for key, ratio in by_set.items():
            both, left = (result['reconstruction'][f'{source}_{mode}'][key]
                          for mode in ('stereo', 'left_only'))
            rows.append((source, SETS[key], f'{both["colours"]:.4f}', f'{left["colours"]:.4f}',
                         f'{ratio["colours"]:.3f}',
                         f'{both["other_colours"]:.4f}' if 'other_colours' in both else '-',
                         f'{ratio["structure"]:.3f}'))
    return table('Error of hidden pixels', rows, (
        'trained on', 'measured on', 'colours: stereo', 'left_only', 'ratio',
        'stereo, right image of another scene', 'structure: ratio'))


def _depth_table(result: dict) -> str:
    rows = [(SETS[key], name.replace('_', ' '), f'{score["epe"]:.2f}', f'{score["bad_3"]:.1f}')
            for key, scores in result['depth'].items() for name, score in scores.items()]
    return table("Disparity without labels, pixels of the network's input (the crop)", rows,
                 ('measured on', 'who', 'EPE px', 'bad-3 %'))


def _finetuning_table(result: dict) -> str:
    rows = [(TITLES[row['start']], row['budget'], row['seed'], f'{row["epe"]:.2f}',
             f'{row["bad_3"]:.1f}') for row in result['finetuning']]
    return table('Held-out scenes after fine-tuning', rows,
                 ('start', 'labelled pairs', 'seed', 'EPE px', 'bad-3 %'))


def _picture(out: Path, name: str, image: np.ndarray, caption: str) -> str:
    path = out / f'{name}.png'
    write_image(path, image)
    return figure(path, caption)
