"""`svp evaluate bag`: score models on a stereo recording, with or without ground truth.

The pairs of the recording go through the same steps as in the node: every pair, read from the
file (--mode read), or played to the real node over ROS 2, which takes the pairs it has time for
(--mode live). Writes metrics.json, report.html, frames.csv (figures of every pair), results.mcap
(disparity, depth, boxes, ... for RViz and Foxglove) and pictures.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, ExitStack
from itertools import islice
import json
from pathlib import Path
import re
import sys
from typing import Optional

import numpy as np
from tqdm import tqdm

from svp_ros.arguments import add_recording_options, parse_arguments, parse_size
from svp_ros.data.bag_boxes import BagBoxes
from svp_ros.data.bag_topics import (
    find_boxes_topic,
    find_stereo_topics,
    find_truth_topic,
    StereoTopics,
)
from svp_ros.data.bag_transforms import make_transform
from svp_ros.data.bag_truth import BagTruth
from svp_ros.data.bags import read_stereo_pairs
from svp_ros.data.rosbag2 import BagReader
from svp_ros.eval.average_precision import choose_classes
from svp_ros.eval.bag_box_pictures import BoxPictureTaker
from svp_ros.eval.bag_live import play_through_node
from svp_ros.eval.bag_pictures import PictureTaker
from svp_ros.eval.bag_report import score_tables, SeriesWriter, write_bag_report
from svp_ros.eval.bag_results import ResultsWriter
from svp_ros.eval.bag_run import describe_images, evaluate_pairs
from svp_ros.eval.bag_sections import describe_machine
from svp_ros.eval.bag_sources import NetworkSource, RecordingSource, Source
from svp_ros.eval.box_report import NO_HEAD, plot_box_precision
from svp_ros.eval.node_reports import node_total, read_diagnostics, read_latencies
from svp_ros.eval.tables import format_text
from svp_ros.frame import Limits
from svp_ros.predictor import (
    choose_device,
    find_model,
    LEAST_SCORE,
    NETWORK_SIZE,
    StereoPredictor,
)
from svp_ros.processes import ProcessError, ros_environment

NO_TRUTH = 'none'


def main(argv: Optional[list[str]] = None) -> int:
    """Run the command; returns the exit code, 1 if the node failed."""
    argv = list(sys.argv[1:] if argv is None else argv)
    # launch files cannot leave an argument out, only empty
    arguments = _parse([word for word in argv if not re.fullmatch('--[a-z-]+=', word)])
    models = [arguments.model, *filter(None, [arguments.compare])]
    with BagReader(arguments.bag) as bag:
        topics = find_stereo_topics(bag, arguments.left, arguments.right, arguments.left_info,
                                    arguments.right_info)
        truth_topic = arguments.truth_topic or find_truth_topic(bag)
        boxes_topic = arguments.truth_boxes or find_boxes_topic(bag)
        images = describe_images(bag, topics)
    names = _name_models(models, arguments.recording)
    if len(set(names)) < len(names):
        raise ValueError(f'--model and --compare are both called {names[0]}; give two models '
                         'with different names')
    arguments.out.mkdir(parents=True, exist_ok=True)
    pairs = read_stereo_pairs(
        arguments.bag, arguments.rectify, round(arguments.tolerance * 1e9),
        arguments.baseline_override, **topics._asdict())
    expected = min(images['left'], images['right'], arguments.limit or sys.maxsize)
    pairs = tqdm(islice(pairs, expected), 'scoring', expected, unit='pair', disable=None)
    threshold = arguments.score_threshold
    series, taker = SeriesWriter(names), PictureTaker(names, expected, arguments.pictures)
    box_taker = BoxPictureTaker(names, expected, threshold, arguments.pictures)
    try:
        with ExitStack() as stack:
            sources, nodes = stack.enter_context(
                _open_sources(arguments, dict(zip(names, models)), topics, images))
            for name, source in sources.items():
                if source.classes:
                    source.classes = choose_classes(name, source.classes, arguments.classes)
            writer = stack.enter_context(
                ResultsWriter(arguments.out / 'results.mcap', names, threshold))
            tolerance = arguments.truth_tolerance and round(arguments.truth_tolerance * 1e9)
            truth = true_boxes = None
            if truth_topic not in (None, NO_TRUTH):
                truth = BagTruth(stack.enter_context(BagReader(arguments.bag)), truth_topic,
                                 tolerance, arguments.truth_transform)
            without_boxes = []
            if boxes_topic not in (None, NO_TRUTH):
                reason = 'no boxes were recorded' if arguments.recording else NO_HEAD
                without_boxes = [f'{name}: {reason}' for name, source in sources.items()
                                 if not source.classes]
                if len(without_boxes) < len(sources):
                    true_boxes = BagBoxes(stack.enter_context(BagReader(arguments.bag)),
                                          boxes_topic, tolerance or 0, arguments.truth_transform)

            def on_pair(scored):
                for observer in (series, taker, box_taker, writer):
                    observer(scored)

            results = evaluate_pairs(pairs, sources, truth, true_boxes, threshold, on_pair)
    except ProcessError as error:
        print(f'svp evaluate bag: {error}\nall logs are in {arguments.out / "live"}',
              file=sys.stderr)
        return 1
    for name, node in nodes.items():
        results['models'][name] |= node
    results = {
        **describe_machine('svp evaluate bag ' + ' '.join(argv), choose_device(arguments.device)),
        'bag': {'name': arguments.bag.stem, 'how': _describe_mode(arguments),
                'topics': topics._asdict(), 'images': images, 'truth': truth and truth.topic,
                'true_boxes': true_boxes and true_boxes.topic},
        'network_size': arguments.network_size, 'without_boxes': without_boxes, **results}
    _write(arguments.out, results, series, taker, box_taker)
    print('\n'.join([format_text(score_tables(results)), *without_boxes]))
    print(f'\nreport: {arguments.out / "report.html"}')
    return 0


def _name_models(models: list[str], recording: Optional[Path]) -> list[str]:
    """Names of the models; of a recorded node that in its diagnostics, if they were recorded."""
    if recording:
        with BagReader(recording) as bag:
            recorded = [status['model'] for status in read_diagnostics(bag).values()
                        if 'model' in status]
        if recorded:
            return recorded[:1]
    names = [Path(model).stem for model in models]
    if len(set(names)) < len(names):  # trainings all write average.safetensors
        names = [f'{Path(model).absolute().parent.name}_{Path(model).stem}' for model in models]
    return names


@contextmanager
def _open_sources(arguments: argparse.Namespace, models: dict[str, str], topics: StereoTopics,
                  images: dict) -> Iterator[tuple[dict[str, Source], dict[str, dict]]]:
    """Yield the source of each model, and what is known besides: its card, the node's counts."""
    limits = Limits(arguments.min_depth, arguments.max_depth, arguments.confidence_threshold,
                    LEAST_SCORE)
    sources: dict[str, Source] = {}
    known: dict[str, dict] = {}
    with ExitStack() as stack:
        recordings = {}
        if arguments.recording:
            recordings = dict.fromkeys(models, arguments.recording)
        elif arguments.mode == 'live':
            environment = ros_environment()
            for name, model in models.items():
                folder = arguments.out / 'live' / name
                folder.mkdir(parents=True, exist_ok=True)
                recordings[name] = folder / 'recording'
                print(f'playing {arguments.bag} to the node with {name}', flush=True)
                play_through_node(
                    arguments.bag, topics, recordings[name], _node_parameters(arguments, model),
                    folder, environment, images['duration_s'], arguments.rate)
        for name, model in models.items():
            if name in recordings:
                source = RecordingSource(recordings[name], arguments.disparity_topic)
                sources[name] = stack.enter_context(source)
                node = read_diagnostics(source.bag)
                known[name] = {
                    'latency_ms': read_latencies(source.bag, source.topic, topics.left_info),
                    'node': {key: node_total(node, key)
                             for key in ('processed', 'replaced', 'dropped')}}
            else:
                predictor = StereoPredictor.load(model, arguments.device, arguments.network_size)
                sources[name] = NetworkSource(predictor, limits, not arguments.no_left_right)
                known[name] = {'card': predictor.card}
        yield sources, known


def _node_parameters(arguments: argparse.Namespace, model: str) -> dict[str, object]:
    height, width = arguments.network_size
    return {'model': find_model(model), 'device': arguments.device, 'network_height': height,
            'network_width': width, 'rectify': arguments.rectify,
            'baseline_override': arguments.baseline_override,
            'approximate_sync': str(arguments.tolerance > 0).lower(),
            'approximate_sync_tolerance': arguments.tolerance, 'min_depth': arguments.min_depth,
            'max_depth': arguments.max_depth,
            'confidence_threshold': arguments.confidence_threshold,
            'score_threshold': LEAST_SCORE}


def _describe_mode(arguments: argparse.Namespace) -> str:
    if arguments.recording:
        return f'What the node published in {arguments.recording}.'
    if arguments.mode == 'live':
        return (f'Played to the node over ROS 2 at {arguments.rate:g} times its speed; the node '
                'takes the newest pair whenever it is ready.')
    return 'Every pair, read from the recording and processed as in the node.'


def _write(out: Path, results: dict, series: SeriesWriter, taker: PictureTaker,
           box_taker: BoxPictureTaker) -> None:
    (out / 'metrics.json').write_text(json.dumps(results, indent=2) + '\n')
    series.write(out / 'frames.csv')
    pictures = out / 'pictures'
    worst, sheet = taker.write(pictures)
    precision = plot_box_precision(pictures, {
        name: score.get('boxes') for name, score in results['models'].items()})
    write_bag_report(out, results, series.plot(pictures), worst, sheet, precision,
                     box_taker.write(pictures))


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        'svp evaluate bag', description=__doc__.split('\n\n', 1)[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('bag', type=Path, help='rosbag2 folder, .mcap or .db3 file')
    parser.add_argument('--out', type=Path, required=True, help='folder for all that is written')
    parser.add_argument('--model', default='nano', help='name in models/ or a .safetensors file')
    parser.add_argument('--compare', metavar='MODEL', help='score another model beside it')
    parser.add_argument('--mode', choices=('read', 'live'), default='read',
                        help='read every pair, or play to the real node over ROS 2')
    parser.add_argument('--rate', type=float, default=1.0, help='speed of playing, live')
    parser.add_argument('--recording', type=Path,
                        help='score this recording of the node instead of running it')
    parser.add_argument('--disparity-topic',
                        help='in the recording of the node; default: its only DisparityImage')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--network-size', type=parse_size, default=NETWORK_SIZE, metavar='HxW',
                        help='the images are resized to this')
    add_recording_options(parser)
    parser.add_argument('--baseline-override', type=float, default=0.0, metavar='METRES',
                        help='instead of that of camera_info')
    for entry in ('min_depth', 'max_depth', 'confidence_threshold'):
        parser.add_argument(f'--{entry.replace("_", "-")}', type=float,
                            default=getattr(Limits, entry), help='as of the node')
    parser.add_argument('--truth-topic', metavar='TOPIC',
                        help='ground truth: DisparityImage, depth Image or PointCloud2; default: '
                        'what is called ground truth; none ignores it')
    parser.add_argument('--truth-boxes', metavar='TOPIC',
                        help='true 3D boxes: MarkerArray (cubes) or Detection3DArray; default: '
                        'what is called ground truth; none ignores it')
    parser.add_argument('--classes', nargs='+', metavar='NAME',
                        help='score only boxes of these, such as those that the parameter classes '
                        'of a recorded node named; default: all that the model finds')
    parser.add_argument('--score-threshold', type=float, default=Limits.score_threshold,
                        metavar='S',
                        help='least score of the boxes that are shown and whose centres are '
                        'compared; average precision takes every score')
    parser.add_argument('--truth-tolerance', type=float, metavar='SECONDS',
                        help='between an image and its truth; default: 0.05 for clouds, else 0')
    parser.add_argument('--truth-transform', type=float, nargs=7,
                        metavar=('X', 'Y', 'Z', 'QX', 'QY', 'QZ', 'QW'),
                        help='from the frame of the truth to that of the left image; default: '
                        'from /tf_static')
    parser.add_argument('--limit', type=int, metavar='N', help='score only the first N pairs')
    parser.add_argument('--pictures', type=int, default=3, metavar='N',
                        help='number of worst pairs to show')
    parser.add_argument('--no-left-right', action='store_true',
                        help='do not compare with the disparity of the right image, which takes '
                        'as long as the disparity itself')
    arguments = parse_arguments(parser, argv)
    if arguments.limit is not None and arguments.limit < 1:
        raise ValueError(f'--limit must be positive, got {arguments.limit}')
    if not 0 <= arguments.score_threshold <= 1:
        raise ValueError('--score-threshold must be within 0 to 1, got '
                         f'{arguments.score_threshold:g}')
    if not arguments.rate > 0 or arguments.tolerance < 0:
        raise ValueError(f'--rate must be positive and --tolerance not negative, got '
                         f'{arguments.rate:g} and {arguments.tolerance:g}')
    if arguments.recording and arguments.compare:
        raise ValueError('--recording holds what one model published; it cannot be compared')
    if arguments.truth_transform:
        arguments.truth_transform = make_transform(np.array(arguments.truth_transform[:3]),
                                                   np.array(arguments.truth_transform[3:]))
    return arguments
