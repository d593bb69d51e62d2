"""`svp evaluate disparity`: score a model on labelled pairs, with SGBM beside it.

Protocol: the predictor resizes both images to the network's size, the disparity goes back to
native size, and all pixels with ground truth count, occluded ones included. What the network
calls invalid is scored by its own best guess.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
import sys
from typing import Optional

import numpy as np
from tqdm import tqdm

from svp_ros.arguments import parse_arguments, parse_size
from svp_ros.data.formats import write_image
from svp_ros.data.labelled import AUTO, find_scenes, LAYOUTS, Scene
from svp_ros.eval.areas import left_right_difference, near_jumps
from svp_ros.eval.disparity_report import (
    make_picture,
    make_strip,
    score_tables,
    write_report,
)
from svp_ros.eval.metrics import DepthBandScore, DisparityScore, Reliability, Sparsification
from svp_ros.eval.sgbm import sgbm_disparity
from svp_ros.eval.tables import format_text, spread
from svp_ros.predictor import CONFIDENT_WITHIN, NETWORK_SIZE, StereoPredictor, StereoResult
from svp_ros.provenance import describe_device, find_commit, find_versions

METRICS = ('epe', 'bad_1', 'bad_2', 'bad_3', 'd1')

# Called with the scene's name, its arrays from Scene.load() and disparity by method.
OnScene = Callable[[str, tuple, dict], None]


def evaluate_scenes(predictor: StereoPredictor, scenes: Iterable[Scene], sgbm: bool = True,
                    on_scene: Optional[OnScene] = None, left_right: bool = False) -> dict:
    """Score a predictor on labelled scenes.

    Args:
        predictor: the model to score.
        scenes: labelled pairs of any sizes.
        sgbm: also score OpenCV's semi-global block matching, given the search range that the data
            set publishes or else the true largest disparity.
        on_scene: called after each scene with its name, arrays and disparities by method.
        left_right: also match right to left with the same network and compare.

    Returns:
        `scenes`: a list of {name, width, height, inference_ms, <method>: metrics, areas}; `mean`
        (over scenes) and `pooled` (over pixels): {<method>: metrics}. Methods are `model` and
        `sgbm`, metrics those of `DisparityScore.result()`. Beside them:
        `sets`: by first folder of the names, {scenes, mean};
        `areas`: {scenes, mean, pooled} of `non_occluded` pixels where the data set has a mask,
        `edges` (see `near_jumps`) and `smooth` ones, the others;
        `depth_bands`: by method, pooled `DepthBandScore.result()` of the calibrated scenes;
        `reliability`: pooled `Reliability.result()`, right meaning an error below 3 px of the
        network's input, as the confidence does; `sparsification`: {mean, pooled} of
        `Sparsification.result()`; `left_right`: see `compare_eyes`; `inference_ms`: the median.

    Raises:
        ValueError: If there is no scene, or one is unreadable.
    """
    rows, curves = [], []
    pooled: dict[str, dict[str, DisparityScore]] = {}
    bands: dict[str, DepthBandScore] = {}
    reliability, sparsification, consistency = Reliability(), Sparsification(), DisparityScore()
    for scene in scenes:
        left, right, truth, valid = arrays = scene.load()
        H, W = truth.shape
        calibration = scene.load_calibration(H, W)
        result = predictor.predict(left, right)
        disparities = {'model': result.disparity_filled}
        if sgbm:
            search = calibration and calibration.search_range or truth[valid].max()
            disparities['sgbm'] = sgbm_disparity(left, right, float(search))
        row = {'name': scene.name, 'width': W, 'height': H,
               'inference_ms': result.timing['inference'], 'areas': {}}
        for area, mask in find_areas(scene, truth, valid).items():
            scores = pooled.setdefault(area, {})
            target = row if area == 'all' else row['areas'].setdefault(area, {})
            for method, disparity in disparities.items():
                score = DisparityScore()
                score.update(disparity, truth, mask)
                target[method] = score.result()
                scores.setdefault(method, DisparityScore()).merge(score)
        if calibration:
            for method, disparity in disparities.items():
                bands.setdefault(method, DepthBandScore()).update(
                    disparity, truth, valid, calibration.camera)
        error = np.abs(result.disparity_filled - truth)[valid]
        confidence = result.confidence[valid]
        reliability.update(confidence, error * predictor.network_size[1] / W < CONFIDENT_WITHIN)
        curve = Sparsification()
        curve.update(confidence, error)
        curves.append(curve.result())
        sparsification.update(confidence, error)
        if left_right:
            score = compare_eyes(predictor, left, right, result)
            row['left_right'] = _difference(score)
            consistency.merge(score)
        rows.append(row)
        if on_scene:
            on_scene(scene.name, arrays, disparities)
    if not rows:
        raise ValueError('no scene to evaluate')
    scores = {
        'scenes': rows,
        'mean': _mean(rows, pooled['all']),
        'pooled': _results(pooled.pop('all')),
        'sets': _by_set(rows, disparities),
        'areas': {area: {'scenes': len(parts), 'mean': _mean(parts, methods),
                         'pooled': _results(methods)}
                  for area, methods in pooled.items()
                  for parts in [[row['areas'][area] for row in rows if area in row['areas']]]},
        'depth_bands': _results(bands),
        'reliability': reliability.result(),
        'sparsification': {
            'mean': [{'dropped': points[0]['dropped'],
                      'bad_3': float(np.mean([point['bad_3'] for point in points]))}
                     for points in zip(*curves)],
            'pooled': sparsification.result()},
        'inference_ms': float(np.median([row['inference_ms'] for row in rows])),
    }
    if consistency.pixels:
        scores['left_right'] = _difference(consistency)
    return scores


def find_areas(scene: Scene, truth: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (H, W) bool of the scored pixels by name of the area; empty areas are left out."""
    areas = {'all': valid}
    visible = scene.load_visible(*valid.shape)
    if visible is not None:
        areas['non_occluded'] = valid & visible
    near = near_jumps(truth, valid)
    areas |= {'edges': valid & near, 'smooth': valid & ~near}
    return {name: mask for name, mask in areas.items() if mask.any()}


def eye_difference(predictor: StereoPredictor, left: np.ndarray, right: np.ndarray,
                   result: StereoResult) -> np.ndarray:
    """Difference to the disparity of the right image from the same network, (H, W) pixels.

    A mirrored right image is the left image of a mirrored scene. NaN where the match is outside
    the right image or the network declares none.
    """
    mirrored = predictor.predict(*(np.ascontiguousarray(x[:, ::-1]) for x in (right, left)))
    difference = left_right_difference(result.disparity_filled,
                                       mirrored.disparity_filled[:, ::-1])
    return np.where(np.isfinite(result.disparity), difference, np.nan)


def compare_eyes(predictor: StereoPredictor, left: np.ndarray, right: np.ndarray,
                 result: StereoResult) -> DisparityScore:
    """Pool `eye_difference`, pixels of the image."""
    difference = eye_difference(predictor, left, right, result)
    valid = np.isfinite(difference)
    score = DisparityScore()
    if valid.any():
        score.update(difference, np.zeros_like(difference), valid)
    return score


def _difference(score: DisparityScore) -> Optional[dict]:
    """Mean difference in pixels and percentages above 1 and 3 px; None without pixels."""
    if not score.pixels:
        return None
    result = score.result()
    return {'difference': result['epe'], 'above_1': result['bad_1'], 'above_3': result['bad_3'],
            'pixels': result['pixels']}


def _results(scores: dict) -> dict:
    return {method: score.result() for method, score in scores.items()}


def _mean(rows: Sequence[dict], methods: Iterable[str]) -> dict:
    return {method: {metric: float(np.mean([row[method][metric] for row in rows]))
                     for metric in METRICS} for method in methods}


def _by_set(rows: Sequence[dict], methods: Iterable[str]) -> dict:
    sets: dict[str, list[dict]] = {}
    for row in rows:
        sets.setdefault(row['name'].partition('/')[0], []).append(row)
    return {name: {'scenes': len(part), 'mean': _mean(part, methods)}
            for name, part in sets.items()}


def describe_run(argv: list[str], predictor: StereoPredictor) -> dict:
    """Collect what is needed to repeat a measurement, from the command to versions."""
    return {'command': 'svp evaluate disparity ' + ' '.join(argv), 'commit': find_commit(),
            'device': describe_device(predictor.device), 'versions': find_versions(),
            'model': predictor.card}


def main(argv: Optional[list[str]] = None) -> int:
    """Run the command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        'svp evaluate disparity', description=__doc__.split('\n\n')[1])
    parser.add_argument('--data', type=Path, required=True,
                        help='folder of labelled data, such as [<set>/]<scene>/left.png, '
                        'right.png and disp.pfm, or KITTI as it is downloaded')
    parser.add_argument('--format', choices=(AUTO, *LAYOUTS), default=AUTO,
                        help='layout of the folder (default: what is found)')
    parser.add_argument('--limit', type=int, metavar='N',
                        help='score only N pairs, evenly spread over those found')
    parser.add_argument('--model', default='nano',
                        help='name in models/ or a .safetensors file (default: %(default)s)')
    parser.add_argument('--device', default='auto',
                        help='auto, cpu, cuda or cuda:N (default: %(default)s)')
    parser.add_argument('--network-size', type=parse_size, nargs='+', default=[NETWORK_SIZE],
                        metavar='HxW', help='the images are resized to this; with several sizes '
                        'the first is scored in full and all are compared (default: 480x640)')
    parser.add_argument('--no-sgbm', action='store_true', help='leave the baseline out')
    parser.add_argument('--left-right', action='store_true',
                        help='also compare with the disparity of the right image')
    parser.add_argument('--out', type=Path,
                        help='also write metrics.json, report.html and pictures into this folder')
    parser.add_argument('--pictures', type=int, default=40, metavar='N',
                        help='at most N pictures, evenly spread (default: %(default)s)')
    parser.add_argument('--strip', nargs='+', default=(), metavar='SCENE', help='also write '
                        'strip.jpg with left image, truth, SGBM and model of these scenes')
    arguments = parse_arguments(parser, argv)

    scenes = find_scenes(arguments.data, arguments.format)
    if arguments.limit is not None:
        scenes = spread(scenes, arguments.limit)
    predictors = [StereoPredictor.load(arguments.model, arguments.device, size)
                  for size in arguments.network_size]
    predictor = predictors[0]
    shown = {scene.name for scene in spread(scenes, arguments.pictures)}
    if arguments.strip and not arguments.out:
        raise ValueError('--strip writes a picture; say where with --out')
    unknown = set(arguments.strip) - {scene.name for scene in scenes}
    if unknown:
        raise ValueError(f'--strip names {", ".join(sorted(unknown))}, which is not among the '
                         f'{len(scenes)} scenes; they are named like {scenes[0].name}')
    pictures, strips = {}, {}

    def write_picture(name: str, arrays: tuple, disparities: dict) -> None:
        if name in shown:
            pictures[name] = name.replace('/', '_') + '.png'
            write_image(arguments.out / pictures[name], make_picture(arrays, disparities))
        if name in arguments.strip:
            strips[name] = make_strip(arrays, disparities)

    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
    scores = evaluate_scenes(predictor, tqdm(scenes, 'scoring', unit='pair'),
                             not arguments.no_sgbm, write_picture if arguments.out else None,
                             arguments.left_right)
    if len(predictors) > 1:
        scores['network_sizes'] = compare_sizes(predictors, scenes, scores)
    if arguments.out:
        for row in scores['scenes']:
            if row['name'] in pictures:
                row['picture'] = pictures[row['name']]
        if strips:
            write_image(arguments.out / 'strip.jpg',
                        np.vstack([strips[name] for name in arguments.strip]))
        report = {**describe_run(argv, predictor), 'network_size': predictor.network_size}
        write_report(arguments.out, {**report, **scores})
    print(format_text(score_tables(scores)))
    return 0


def compare_sizes(predictors: Sequence[StereoPredictor], scenes: Sequence[Scene],
                  first: dict) -> list[dict]:
    """Accuracy and cost of one model by the size of the network's input.

    Args:
        predictors: of one model, with different network sizes.
        scenes: what is scored.
        first: scores of the first predictor, from `evaluate_scenes`.

    Returns:
        For each predictor {network_size, inference_ms, mean, pooled}.
    """
    table = []
    for predictor in predictors:
        size = predictor.network_size
        scores = first if predictor is predictors[0] else evaluate_scenes(
            predictor, tqdm(scenes, f'scoring at {size[0]}x{size[1]}', unit='pair'), sgbm=False)
        table.append({'network_size': size, 'inference_ms': scores['inference_ms'],
                      'mean': scores['mean']['model'], 'pooled': scores['pooled']['model']})
    return table
