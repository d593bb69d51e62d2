"""`svp benchmark`: time the network, the predictor and the node, with baselines in the same run.

Everything that is compared runs in turn, round by round, so that a busy machine slows all alike:
trust the ratios. Engines that are not installed are listed with the command that installs them.
"""

import argparse
import json
import os
from pathlib import Path
import shlex
import sys
from typing import Optional

import torch

from svp_ros.arguments import parse_arguments, parse_size
from svp_ros.engine.choose import ENGINES, PRECISIONS
from svp_ros.files import replace_file
from svp_ros.model.network import STRIDE
from svp_ros.predictor import choose_device, NETWORK_SIZE
from svp_ros.provenance import describe_device, find_commit, find_versions

PARTS = ('network', 'predictor', 'scaling', 'node')


def main(argv: Optional[list[str]] = None) -> int:
    """Run the command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = _parse(argv)
    old = _read(arguments.compare) if arguments.compare else None
    from svp_ros.benchmark.report import compare, to_markdown
    result = _read(arguments.show) if arguments.show else _measure(arguments, argv)
    markdown = to_markdown(result)
    print(markdown, end='')
    if old:
        print('\n' + compare(result, old), end='')
    for path, text in ((arguments.json, json.dumps(result, indent=2) + '\n'),
                       (arguments.markdown, markdown)):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if arguments.plot:
        from svp_ros.benchmark.plot import plot_scaling
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        plot_scaling(result, arguments.plot)
    if arguments.readme:
        from svp_ros.benchmark.readme import update_readme
        link = os.path.relpath(arguments.show or arguments.json, arguments.readme.parent)
        text = update_readme(arguments.readme.read_text(), result, link)
        replace_file(arguments.readme, text.encode())
    return 0


def _measure(arguments: argparse.Namespace, argv: list[str]) -> dict:
    from svp_ros.benchmark.run import Benchmark
    from svp_ros.benchmark.timing import threads
    device = choose_device(arguments.device)
    with threads(arguments.threads):
        return Benchmark(arguments, device, {
            'command': 'svp benchmark ' + shlex.join(
                Path(word).name if word.startswith('/') else word for word in argv),
            'commit': find_commit(), 'device': describe_device(device),
            'device_type': torch.device(device).type, 'threads': arguments.threads,
            'versions': find_versions()}).run()


def _read(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f'no benchmark {path}')
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is no benchmark: {error}') from error


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        'svp benchmark', description=__doc__.split('\n\n')[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add('--model', nargs='+', default=['nano'],
        help='names in models/, .safetensors files, or sizes of the network (random weights); '
        'scaling, node and accuracy take the first')
    add('--parts', nargs='*', choices=PARTS, default=['network', 'predictor'],
        help='what is timed, in this order; predictor, scaling and node take the first engine and '
        'precision, and the fastest of network, scaling not in int8; node needs ROS 2')
    add('--engines', nargs='+', choices=ENGINES, default=list(ENGINES), help='engines')
    add('--precisions', nargs='+', choices=PRECISIONS, default=['fp32', 'bf16'],
        help='precisions; int8 calibrates a network the first time')
    add('--network-size', type=parse_size, nargs='+', default=[NETWORK_SIZE], metavar='HxW',
        help="sizes of the network's input, multiples of 32; all but the first are for scaling")
    add('--input-size', type=parse_size, nargs='+', default=[(480, 640), (720, 1280)],
        metavar='HxW', help='sizes of the camera images for predictor and node')
    add('--batch', type=int, nargs='+', default=[1, 2, 4],
        help='pairs in one pass, for scaling')
    add('--cameras', type=int, nargs='+', default=[1, 2],
        help='cameras, with a node each, for node')
    add('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    add('--threads', type=int, default=1, help='CPU threads of everything')
    add('--rounds', type=int, default=20, help='measurements of each')
    add('--no-stand-in', action='store_true', help='leave the network of 211 GFLOP out')
    add('--peers', nargs='+', default=[], metavar='MODULE:FUNCTION',
        help='other networks as baselines: function(device) returns a callable that takes left '
        'and right, (1, 3, H, W) float32 RGB in [0, 1]')
    add('--accuracy', type=Path, metavar='DIR',
        help='also score every engine and precision on these labelled scenes')
    add('--scenes', type=int, default=0, metavar='N',
        help='with --accuracy: about N of them, evenly spread; 0 is all')
    add('--seconds', type=float, default=10.0, help='length of each trial of the node')
    add('--profile', type=Path, metavar='FILE', help='also write the time of each layer')
    add('--json', type=Path, metavar='FILE', help='write the figures')
    add('--markdown', type=Path, metavar='FILE', help='write the tables')
    add('--plot', type=Path, metavar='FILE', help='draw the scaling')
    add('--readme', type=Path, metavar='FILE',
        help='renew the tables between its marks "<!-- benchmark cpu -->" (or cuda) and '
        '"<!-- end -->"')
    add('--compare', type=Path, metavar='OLD.json', help='compare with an earlier --json')
    add('--show', type=Path, metavar='FILE.json', help='measure nothing, take an earlier --json')
    arguments = parse_arguments(parser, argv)
    if min(arguments.threads, arguments.rounds, *arguments.batch, *arguments.cameras) < 1:
        raise ValueError('--threads, --rounds, --batch and --cameras must be at least 1')
    for height, width in arguments.network_size:
        if height % STRIDE or width % STRIDE:
            raise ValueError(f'--network-size must be multiples of {STRIDE}, got '
                             f'{height}x{width}')
    if not arguments.seconds > 0:
        raise ValueError(f'--seconds must be positive, got {arguments.seconds:g}')
    if arguments.readme and not arguments.readme.is_file():
        raise FileNotFoundError(f'no file {arguments.readme}')
    if arguments.readme and not (arguments.json or arguments.show):
        raise ValueError('--readme needs --json or --show, which it links to')
    return arguments
