"""`svp demo`: play stereo recordings through the node over ROS 2, record, score and report.

A real photograph pair with measured depth and a rendered street sequence are written as
rosbag2 recordings. Each is played by one process into the node, another process, while a third
records what the node publishes. The recordings are scored against the ground truth; 3D boxes
in the street, if the model has a detection head.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path
import shutil
import sys
import time
from typing import Optional

import numpy as np

from svp_ros.arguments import parse_arguments, parse_size
from svp_ros.data.bag_topics import StereoTopics
from svp_ros.data.bags import StereoBagWriter
from svp_ros.data.render import write_bag
from svp_ros.eval.bag_live import play_through_node
from svp_ros.eval.bag_sections import describe_run, score_section, summarise, write_results
from svp_ros.eval.report import Section
from svp_ros.geometry import StereoCamera
from svp_ros.predictor import choose_device, find_model, LEAST_SCORE
from svp_ros.processes import ProcessError, ros_environment

# Middlebury 2014 "Motorcycle" as in scikit-image; its disparity is x_left - x_right.
MOTORCYCLE = StereoCamera(fx=994.978, fy=994.978, cx=311.193, cy=254.877, cx_right=342.279,
                          baseline=0.193001, width=741, height=500)
MOTORCYCLE_RATE = 2.0
STREET_RATE = 10.0
STREET_SEED = 6
INPUTS = StereoTopics('/left/image_rect', '/right/image_rect', '/left/camera_info',
                      '/right/camera_info')


def main(argv: Optional[list[str]] = None) -> int:
    """Run the demo; returns 0, or 1 if a process failed or there was nothing to score."""
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = _parse(argv)
    if find_spec('rclpy') is None:
        raise ModuleNotFoundError('the demo needs ROS 2', name='rclpy')
    device = choose_device(arguments.device)
    model = find_model(arguments.model)
    out = arguments.out
    _make_room(out)
    height, width = arguments.street_size
    sections = [
        Section('motorcycle', 'A real photograph pair with measured depth (Middlebury 2014, from '
                f'scikit-image), {arguments.frames} frames at {MOTORCYCLE_RATE:g} Hz.'),
        Section('street', f'A rendered street, {arguments.seconds:g} s at {STREET_RATE:g} Hz, '
                f'{width}x{height}.')]
    start_s = time.monotonic()
    print('writing the photograph pair and rendering the street', flush=True)
    write_motorcycle(out / 'bags' / 'motorcycle', arguments.frames)
    write_street(out / 'bags' / 'street', arguments.seconds, height, width, device)
    network_height, network_width = arguments.network_size
    parameters = {'model': model, 'device': device, 'network_height': network_height,
                  'network_width': network_width, 'score_threshold': LEAST_SCORE}
    try:
        environment = ros_environment()
        for section in sections:
            print(f'playing {section.name} through the node', flush=True)
            bag, recording = out / 'bags' / section.name, out / 'recording' / section.name
            play_through_node(bag, INPUTS, recording, parameters, out / 'logs' / section.name,
                              environment)
            score_section(section, bag, recording, out / 'pictures',
                          1 if section.name == 'motorcycle' else 3)
    except (ProcessError, ValueError) as error:
        print(f'svp demo: {error}\nall logs are in {out / "logs"}', file=sys.stderr)
        return 1
    run = describe_run('svp demo ' + ' '.join(argv), sections[-1].scores, device)
    write_results(out, 'svp_ros demo', sections, run)
    for section in sections:
        print(summarise(section.name, section.scores))
    print(f'model {model.stem} on {device}, {time.monotonic() - start_s:.0f} s; '
          f'report: {out / "report.html"}')
    return 0


def write_motorcycle(path: Path, frames: int) -> None:
    """Write scikit-image's stereo photographs as a recording of `frames` equal pairs."""
    from skimage.data import stereo_motorcycle
    left, right, disparity = stereo_motorcycle()
    disparity = np.where(np.isfinite(disparity), disparity, np.float32(np.nan))
    with StereoBagWriter(path) as writer:
        for index in range(frames):
            stamp = round(1e9 * (1 + index / MOTORCYCLE_RATE))
            writer.write(left, right, MOTORCYCLE, stamp, disparity)


def write_street(path: Path, seconds: float, height: int, width: int, device: str) -> None:
    """Render a drive along a street as a recording with ground truth."""
    import torch

    from svp_ros.data.world import World
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors are small; more threads are slower, much so on a busy CPU
    try:
        world = World(device=device)
        frames = max(1, round(seconds * STREET_RATE))
        samples = world.sequence(STREET_SEED, frames, height, width, 'street', STREET_RATE)
        for _ in write_bag(path, samples, 'mcap', STREET_RATE):
            pass
    finally:
        torch.set_num_threads(threads)


def _make_room(out: Path) -> None:
    """Remove what an earlier demo left in this folder.

    Raises:
        ValueError: If the folder holds something else.
    """
    marker = out / '.svp_demo'
    if out.is_dir() and any(out.iterdir()) and not marker.exists():
        raise ValueError(f'{out} is not empty and was not written by svp demo; choose another '
                         '--out')
    out.mkdir(parents=True, exist_ok=True)
    marker.touch()
    for name in ('bags', 'recording', 'pictures', 'logs'):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in ('metrics.json', 'report.html'):
        (out / name).unlink(missing_ok=True)
    for name in ('bags', 'recording'):
        (out / name).mkdir(parents=True)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        'svp demo', description=__doc__.split('\n\n')[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('out/demo'),
                        help='folder for report.html, metrics.json, pictures and recordings')
    parser.add_argument('--model', default='nano', help='name in models/ or a .safetensors file')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--network-size', type=parse_size, default='480x640', metavar='HxW',
                        help='the node resizes images to this, multiples of 32')
    parser.add_argument('--frames', type=int, default=10, help='frames of the photograph pair')
    parser.add_argument('--seconds', type=float, default=5.0, help='length of the street')
    parser.add_argument('--street-size', type=parse_size, default='384x512', metavar='HxW',
                        help='size of the rendered images')
    arguments = parse_arguments(parser, argv)
    if arguments.frames < 1 or not arguments.seconds > 0:
        raise ValueError('--frames and --seconds must be positive, got '
                         f'{arguments.frames} and {arguments.seconds:g}')
    return arguments
