"""Score recordings of the node, each a section of one page, as the demo does."""

import json
import os
from pathlib import Path

import torch

from svp_ros.data.rosbag2 import BagReader
from svp_ros.eval.box_report import summarise_boxes
from svp_ros.eval.recording import score_recording
from svp_ros.eval.report import PictureTaker, Section, write_report
from svp_ros.provenance import describe_device, find_commit, find_versions


def score_section(section: Section, played: Path, recording: Path, pictures: Path,
                  count: int = 3, **topics: str) -> None:
    """Score one recording and draw some of its frames; fills `section`.

    Args:
        section: has a name and a description.
        played: recording that was played to the node, with ground truth.
        recording: what the node published.
        pictures: folder for the pictures.
        count: number of frames to show.
        topics: `truth_topic` and `disparity_topic` of `score_recording`, which says what raises.
    """
    with BagReader(recording) as bag:
        expected = max((bag.counts[topic] for topic in bag.topics_of(
            'stereo_msgs/msg/DisparityImage')), default=0)
    taker = PictureTaker(section, pictures, expected, count)
    section.scores = score_recording(played, recording, on_frame=taker, **topics)


def describe_run(command: str, scores: dict, device: str = 'cpu') -> dict:
    """Collect what is needed to repeat a run: command, commit, machine, versions and model."""
    network = next((values for name, values in scores['node'].items() if 'model' in values), {})
    return {**describe_machine(command, device),
            'model': {key: network[key] for key in ('model', 'sha256', 'device')
                      if key in network}}


def describe_machine(command: str, device: str) -> dict:
    """Return command, commit, hardware and versions of the packages."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    hardware = {'processor': describe_device(device), 'cores': os.cpu_count(), 'gpu': gpu}
    return {'command': command, 'commit': find_commit(), 'hardware': hardware,
            'versions': find_versions()}


def summarise(name: str, scores: dict) -> str:
    """Return the scores as one line, and those of boxes as a second one if there are true ones."""
    disparity, depth, frames = scores['disparity'], scores['depth'], scores['frames']
    line = (f'{name}: EPE {disparity["epe"]:.2f} px, bad-3 {disparity["bad_3"]:.1f} %, '
            f'depth error {100 * depth["mean_abs_rel"]:.1f} %, '
            f'density {disparity["density"]:.0f} %; '
            f'{frames["received"]} of {frames["played"]} pairs came back')
    total = scores['latency_ms'].get('total')
    line += f', {total["p50"]:.0f} ms per pair (p95 {total["p95"]:.0f})' if total else ''
    return line + (f'\n{name}: {summarise_boxes(scores["boxes"])}' if 'boxes' in scores else '')


def write_results(out: Path, title: str, sections: list[Section], run: dict) -> None:
    """Write metrics.json and report.html."""
    out.mkdir(parents=True, exist_ok=True)
    results = {section.name: section.scores for section in sections}
    (out / 'metrics.json').write_text(json.dumps({**run, 'results': results}, indent=2) + '\n')
    write_report(out / 'report.html', title, sections, run)
