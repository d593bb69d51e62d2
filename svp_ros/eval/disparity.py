"""`svp evaluate disparity`: score a model on labelled pairs, with SGBM beside it.

Protocol: the predictor resizes both images to the network's size, the disparity goes back to
native size, and all pixels with ground truth count, occluded ones included. What the network
calls invalid is scored by its own best guess.
"""

import argparse
from collections.abc import Callable, Iterable
from html import escape
import json
from pathlib import Path
import sys
from typing import Optional

import numpy as np
from tqdm import tqdm

from svp_ros.arguments import parse_arguments, parse_size
from svp_ros.data.formats import write_image
from svp_ros.data.labelled import find_scenes, Scene
from svp_ros.eval.metrics import DisparityScore, Reliability
from svp_ros.eval.sgbm import sgbm_disparity
from svp_ros.pictures import colour_disparity, colour_error, join_pictures
from svp_ros.predictor import CONFIDENT_WITHIN, StereoPredictor
from svp_ros.provenance import describe_device, find_commit

METRICS = ('epe', 'bad_1', 'bad_2', 'bad_3', 'd1')

# Called with the scene's name, its arrays from Scene.load() and disparity by method.
OnScene = Callable[[str, tuple, dict], None]


def evaluate_scenes(predictor: StereoPredictor, scenes: Iterable[Scene], sgbm: bool = True,
                    on_scene: Optional[OnScene] = None) -> dict:
    """Score a predictor on labelled scenes.

    Args:
        predictor: the model to score.
        scenes: labelled pairs of any sizes.
        sgbm: also score OpenCV's semi-global block matching, given the true largest disparity.
        on_scene: called after each scene with its name, arrays and disparities by method.

    Returns:
        `scenes`: a list of {name, width, height, inference_ms, <method>: metrics}; `mean` (over
        scenes) and `pooled` (over pixels): {<method>: metrics}. Methods are `model` and `sgbm`,
        metrics those of `DisparityScore.result()`. `reliability`: pooled `Reliability.result()`,
        right meaning an error below 3 px of the network's input, as the confidence does.

    Raises:
        ValueError: If there is no scene, or one is unreadable.
    """
    rows, pooled, reliability = [], {}, Reliability()
    for scene in scenes:
        left, right, truth, valid = arrays = scene.load()
        result = predictor.predict(left, right)
        disparities = {'model': result.disparity_filled}
        if sgbm:
            disparities['sgbm'] = sgbm_disparity(left, right, float(truth[valid].max()))
        error = np.abs(result.disparity_filled - truth)[valid]
        reliability.update(
            result.confidence[valid],
            error * predictor.network_size[1] / left.shape[1] < CONFIDENT_WITHIN)
        row = {'name': scene.name, 'width': left.shape[1], 'height': left.shape[0],
               'inference_ms': result.timing['inference']}
        for method, disparity in disparities.items():
            score = DisparityScore()
            score.update(disparity, truth, valid)
            row[method] = score.result()
            pooled.setdefault(method, DisparityScore()).update(disparity, truth, valid)
        rows.append(row)
        if on_scene:
            on_scene(scene.name, arrays, disparities)
    if not rows:
        raise ValueError('no scene to evaluate')
    return {
        'scenes': rows,
        'mean': {method: {metric: float(np.mean([row[method][metric] for row in rows]))
                          for metric in METRICS} for method in pooled},
        'pooled': {method: score.result() for method, score in pooled.items()},
        'reliability': reliability.result(),
    }


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


def format_table(scores: dict) -> str:
    """Lay out per-scene, mean and pooled scores as fixed-width text."""
    methods = list(scores['mean'])
    rows = [(row['name'], row) for row in scores['scenes']]
    rows += [(f'mean of {len(rows)} scenes', scores['mean']), ('pooled pixels', scores['pooled'])]
    width = max(len(name) for name, _ in rows)
    lines = [' ' * width + ''.join(f'{method:>{8 * len(METRICS)}}' for method in methods),
             ' ' * width + ''.join(f'{metric:>8}' for metric in METRICS) * len(methods)]
    for name, row in rows:
        lines.append(f'{name:{width}}' + ''.join(
            f'{row[method][metric]:8.2f}' for method in methods for metric in METRICS))
    return '\n'.join(lines)


def format_reliability(scores: dict) -> str:
    """Lay out how often the disparity was right, by confidence."""
    lines = [f'{row["from"]:.2f} to {row["to"]:.2f}  {row["right"]:5.1f} %  {row["pixels"]:9d}'
             for row in scores['reliability']]
    return '\n'.join(['confidence      right     pixels', *lines])


def write_report(folder: Path, report: dict) -> None:
    """Write metrics.json and a page that shows the table above the pictures."""
    (folder / 'metrics.json').write_text(json.dumps(report, indent=2) + '\n')
    pictures = ''.join(f'<h3>{escape(row["name"])}</h3>\n<img src="{escape(row["picture"])}">\n'
                       for row in report['scenes'])
    (folder / 'report.html').write_text(
        '<!DOCTYPE html>\n<meta charset="utf-8"><title>svp evaluate disparity</title>\n'
        '<style>body {font-family: sans-serif} img {max-width: 100%}</style>\n'
        f'<h1>Disparity of {escape(report["model"]["name"])}</h1>\n'
        f'<pre>{escape(format_table(report))}\n\n{escape(format_reliability(report))}</pre>\n'
        f'<p><code>{escape(report["command"])}</code>, '
        f'commit {escape(report["commit"] or "unknown")}, {escape(report["device"])}</p>\n'
        f'{pictures}')


def describe_run(argv: list[str], predictor: StereoPredictor) -> dict:
    """Collect what is needed to repeat a measurement: command, commit, model and machine."""
    return {'command': 'svp evaluate disparity ' + ' '.join(argv), 'commit': find_commit(),
            'device': describe_device(predictor.device), 'model': predictor.card}


def main(argv: Optional[list[str]] = None) -> int:
    """Run the command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        'svp evaluate disparity', description=__doc__.split('\n\n')[1])
    parser.add_argument('--data', type=Path, required=True,
                        help='folder with [<set>/]<scene>/{left,right}.png|jpg and disp.pfm')
    parser.add_argument('--model', default='nano',
                        help='name in models/ or a .safetensors file (default: %(default)s)')
    parser.add_argument('--device', default='auto',
                        help='auto, cpu, cuda or cuda:N (default: %(default)s)')
    parser.add_argument('--network-size', type=parse_size, default='480x640', metavar='HxW',
                        help='the images are resized to this (default: %(default)s)')
    parser.add_argument('--no-sgbm', action='store_true', help='leave the baseline out')
    parser.add_argument('--out', type=Path,
                        help='also write metrics.json, report.html and pictures into this folder')
    arguments = parse_arguments(parser, argv)

    scenes = find_scenes(arguments.data)
    predictor = StereoPredictor.load(arguments.model, arguments.device, arguments.network_size)
    pictures = {}

    def write_picture(name: str, arrays: tuple, disparities: dict) -> None:
        pictures[name] = name.replace('/', '_') + '.png'
        write_image(arguments.out / pictures[name], make_picture(arrays, disparities))

    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
    scores = evaluate_scenes(predictor, tqdm(scenes, 'scoring', unit='pair'),
                             not arguments.no_sgbm, write_picture if arguments.out else None)
    print(format_table(scores), format_reliability(scores), sep='\n\n')
    if arguments.out:
        for row in scores['scenes']:
            row['picture'] = pictures[row['name']]
        report = {**describe_run(argv, predictor), 'network_size': arguments.network_size}
        write_report(arguments.out, {**report, **scores})
    return 0
