"""`svp evaluate bag`: score a recording of a node's output against the recording it was fed.

Nothing is played: both recordings are read, frames are matched by stamp, and metrics.json,
report.html and pictures are written.
"""

import argparse
from importlib import metadata
import json
import os
from pathlib import Path
import platform
import sys
from typing import Optional

import torch

import svp_ros
from svp_ros.arguments import parse_arguments
from svp_ros.data.rosbag2 import BagReader
from svp_ros.eval.recording import score_recording, TRUTH_TOPIC
from svp_ros.eval.report import PictureTaker, Section, write_report
from svp_ros.provenance import describe_device, find_commit

PACKAGES = ('numpy', 'opencv-python-headless', 'opencv-python', 'rosbags', 'torch', 'ros-rclpy',
            'rclpy')


def score_section(section: Section, played: Path, recording: Path, pictures: Path,
                  count: int = 3, **topics: str) -> None:
    """Score one recording and draw some of its frames; fills `section`.

    Args:
        section: has a name and a description.
        played: recording that was played to the node, with ground truth.
        recording: what the node published.
        pictures: folder for the pictures.
        count: number of pictures.
        topics: `truth_topic` and `disparity_topic` of `score_recording`, which says what raises.
    """
    with BagReader(recording) as bag:
        expected = max((bag.counts[topic] for topic in bag.topics_of(
            'stereo_msgs/msg/DisparityImage')), default=0)
    taker = PictureTaker(section, pictures, expected, count)
    section.scores = score_recording(played, recording, on_frame=taker, **topics)


def describe_run(command: str, scores: dict, device: str = 'cpu') -> dict:
    """Collect what is needed to repeat a run: command, commit, machine, versions and model."""
    versions = {'python': platform.python_version(), 'svp_ros': svp_ros.__version__}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    network = next((values for name, values in scores['node'].items() if 'model' in values), {})
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    hardware = {'processor': describe_device(device), 'cores': os.cpu_count(), 'gpu': gpu}
    return {'command': command, 'commit': find_commit(), 'hardware': hardware,
            'versions': versions,
            'model': {key: network[key] for key in ('model', 'sha256', 'device')
                      if key in network}}


def summarise(name: str, scores: dict) -> str:
    """Return the scores as one line."""
    disparity, depth, frames = scores['disparity'], scores['depth'], scores['frames']
    line = (f'{name}: EPE {disparity["epe"]:.2f} px, bad-3 {disparity["bad_3"]:.1f} %, '
            f'depth error {100 * depth["mean_abs_rel"]:.1f} %, '
            f'density {disparity["density"]:.0f} %; '
            f'{frames["received"]} of {frames["played"]} pairs came back')
    total = scores['latency_ms'].get('total')
    return line + (f', {total["p50"]:.0f} ms per pair (p95 {total["p95"]:.0f})' if total else '')


def main(argv: Optional[list[str]] = None) -> int:
    """Run the command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        'svp evaluate bag', description=__doc__.split('\n\n')[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--bag', type=Path, required=True,
                        help='recording that was played, with ground-truth DisparityImages')
    parser.add_argument('--recording', type=Path, required=True,
                        help='recording of what the node published')
    parser.add_argument('--out', type=Path, required=True,
                        help='folder for metrics.json, report.html and pictures/')
    parser.add_argument('--truth-topic', default=TRUTH_TOPIC, help='ground truth in --bag')
    parser.add_argument('--disparity-topic',
                        help='in --recording; default: its only DisparityImage topic')
    parser.add_argument('--pictures', type=int, default=3, help='number of frames to show')
    arguments = parse_arguments(parser, argv)
    section = Section(arguments.recording.stem or 'recording',
                      f'{arguments.recording} against {arguments.bag}')
    score_section(section, arguments.bag, arguments.recording, arguments.out / 'pictures',
                  arguments.pictures, truth_topic=arguments.truth_topic,
                  disparity_topic=arguments.disparity_topic)
    run = describe_run('svp evaluate bag ' + ' '.join(argv), section.scores)
    write_results(arguments.out, 'svp_ros: scores of a recording', [section], run)
    print(summarise(section.name, section.scores))
    print(f'report: {arguments.out / "report.html"}')
    return 0


def write_results(out: Path, title: str, sections: list[Section], run: dict) -> None:
    """Write metrics.json and report.html."""
    out.mkdir(parents=True, exist_ok=True)
    results = {section.name: section.scores for section in sections}
    (out / 'metrics.json').write_text(json.dumps({**run, 'results': results}, indent=2) + '\n')
    write_report(out / 'report.html', title, sections, run)
