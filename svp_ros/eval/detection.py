"""`svp evaluate detection`: score the 3D boxes of a model on labelled stereo pairs.

Protocol: KITTI's average precision (see `svp_ros.eval.average_precision`) over all detections
that the predictor returns; its 2D boxes are the projected 3D boxes, clipped to the image. Recall,
depth errors and false alarms by distance are those of the detections from a score threshold on.
"""

import argparse
from collections.abc import Iterable, Sequence
import logging
from pathlib import Path
import sys
from typing import Optional

from tqdm import tqdm

from svp_ros.arguments import parse_arguments, parse_size
from svp_ros.box_pictures import show_errors
from svp_ros.data.formats import read_image, write_image
from svp_ros.data.kitti_object import read_results, write_results
from svp_ros.data.labelled_frames import find_frames
from svp_ros.engine.choose import ENGINES, PRECISIONS
from svp_ros.eval.average_precision import choose_classes
from svp_ros.eval.detection_report import detection_tables, write_report
from svp_ros.eval.detection_score import (
    detect_frames,
    DetectedFrame,
    score_detections,
    VISIBLE,
)
from svp_ros.eval.tables import format_text, spread
from svp_ros.frame import Limits
from svp_ros.predictor import NETWORK_SIZE, StereoPredictor
from svp_ros.provenance import describe_device, find_commit, find_versions

logger = logging.getLogger(__name__)


def choose_pictures(scores: dict, most: int) -> dict[str, list[str]]:
    """Choose at most `most` frames of each kind: the worst misses, false alarms, and any.

    A miss is the worse the nearer it is, a false alarm the surer it is.
    """
    misses = sorted((row for row in scores['objects'] if not row['located']),
                    key=lambda row: row['depth'])
    alarms = sorted(scores['false_alarms'], key=lambda row: -row['score'])
    return {'misses': list(dict.fromkeys(row['frame'] for row in misses))[:most],
            'false_alarms': list(dict.fromkeys(row['frame'] for row in alarms))[:most],
            'frames': [row['name'] for row in spread(scores['frames'], most)]}


def write_pictures(folder: Path, detected: Sequence[DetectedFrame], scores: dict,
                   names: Iterable[str]) -> dict[str, str]:
    """Write a PNG file for each named frame; returns the files' names by the frames' names."""
    files = {}
    for item in detected:
        name = item.frame.name
        if name in names:
            files[name] = name.replace('/', '_') + '.png'
            missed = [row['index'] for row in scores['objects']
                      if row['frame'] == name and not row['located']]
            alarms = [row['index'] for row in scores['false_alarms'] if row['frame'] == name]
            write_image(folder / files[name], show_errors(
                read_image(item.frame.left), item.camera, item.image.found, item.image.truth,
                scores['score_threshold'], missed, alarms))
    return files


def write_result_files(folder: Path, detected: Sequence[DetectedFrame]) -> None:
    """Write detections as KITTI's development kit reads them, a file per frame and no others."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob('*.txt'):  # of an earlier run, which may have had other frames
        if _is_result(path):
            path.unlink()
    stems = [item.frame.name.rpartition('/')[2] for item in detected]
    if len(set(stems)) < len(stems):
        stems = [item.frame.name.replace('/', '_') for item in detected]
    for stem, item in zip(stems, detected):
        write_results(folder / f'{stem}.txt', item.image.found, item.image.box2d,
                      item.frame.read_offset())


def _is_result(path: Path) -> bool:
    try:
        read_results(path)
    except ValueError:
        return False
    return True


def main(argv: Optional[list[str]] = None) -> int:
    """Run the command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = _parse(argv)
    frames = find_frames(arguments.data, arguments.split)
    if arguments.limit is not None:
        frames = spread(frames, arguments.limit)
    predictor = StereoPredictor.load(arguments.model, arguments.device, arguments.network_size,
                                     arguments.engine, arguments.precision)
    name = predictor.card['name']
    if not predictor.classes:
        raise ValueError(f'model {name} has no detection head; choose one that finds boxes (see '
                         '"svp info"), or train one with "svp finetune detection"')
    classes = choose_classes(name, predictor.classes, arguments.classes)
    detected = detect_frames(tqdm(frames, 'detecting', unit='pair'), predictor.predict, classes)
    scores = score_detections(detected, classes, arguments.score_threshold)
    _warn_without_truth(scores, detected)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_result_files(arguments.out / 'results', detected)
        chosen = choose_pictures(scores, arguments.pictures)
        files = write_pictures(arguments.out, detected, scores, set().union(*chosen.values()))
        write_report(arguments.out, {
            'command': 'svp evaluate detection ' + ' '.join(argv), 'commit': find_commit(),
            'device': describe_device(predictor.device), 'versions': find_versions(),
            'model': predictor.card, 'network_size': predictor.network_size, **scores,
            'pictures': {kind: {name: files[name] for name in names}
                         for kind, names in chosen.items()}})
    print(format_text(detection_tables(scores)))
    return 0


def _warn_without_truth(scores: dict, detected: Sequence[DetectedFrame]) -> None:
    if not scores['objects']:
        there = sorted({label for item in detected for label in item.image.truth.label})
        logger.warning('no visible object of the classes %s; the labels are %s (visible: '
                       'occlusion up to %d, truncation up to %g)', ', '.join(scores['classes']),
                       ', '.join(there) or 'empty', *VISIBLE[1:])


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        'svp evaluate detection', description=__doc__.split('\n\n')[1])
    parser.add_argument('--data', type=Path, required=True,
                        help='folder of KITTI object or tracking, or of scenes with labels, '
                        'such as those of "svp render"')
    parser.add_argument('--split', type=Path, metavar='FILE',
                        help='text file with the names of the frames to score (default: all)')
    parser.add_argument('--limit', type=int, metavar='N',
                        help='score only N frames, evenly spread over those found')
    parser.add_argument('--model', default='nano',
                        help='name in models/ or a .safetensors file (default: %(default)s)')
    parser.add_argument('--classes', nargs='+', metavar='NAME',
                        help='score only these (default: all that the model knows)')
    parser.add_argument('--score-threshold', type=float,
                        default=Limits.score_threshold, metavar='S',
                        help='least score for recall, depth errors, false alarms and pictures; '
                        'average precision takes every score (default: %(default)s)')
    parser.add_argument('--device', default='auto',
                        help='auto, cpu, cuda or cuda:N (default: %(default)s)')
    parser.add_argument('--network-size', type=parse_size, default=NETWORK_SIZE, metavar='HxW',
                        help='the images are resized to this (default: 480x640)')
    parser.add_argument('--engine', choices=('auto', *ENGINES), default='torch',
                        help='what runs the network (default: %(default)s)')
    parser.add_argument('--precision', choices=PRECISIONS, default='fp32',
                        help='of the network (default: %(default)s)')
    parser.add_argument('--out', type=Path, help='also write metrics.json, report.html, pictures '
                        'and results/ in the format of KITTI into this folder, instead of those '
                        'of an earlier run')
    parser.add_argument('--pictures', type=int, default=8, metavar='N',
                        help='at most N pictures each of misses, of false alarms and of frames '
                        'evenly spread (default: %(default)s)')
    arguments = parse_arguments(parser, argv)
    if not 0 <= arguments.score_threshold <= 1:
        raise ValueError('--score-threshold must be within 0 to 1, got '
                         f'{arguments.score_threshold:g}')
    return arguments
