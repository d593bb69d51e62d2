"""`svp benchmark`: time the network, the predictor and the node, with baselines in the same run.

Everything that is compared runs in turn, round by round, so that a busy machine slows all alike:
trust the ratios. Engines that are not installed are listed with the command that installs them.
"""

import argparse
import json
from pathlib import Path
import platform
import shlex
import sys
from typing import Optional

from svp_ros.arguments import parse_arguments, parse_size
from svp_ros.engine.choose import ENGINES, PRECISIONS
from svp_ros.predictor import choose_device, NETWORK_SIZE
from svp_ros.provenance import describe_device, find_commit

PARTS = ('network', 'predictor', 'node')
PACKAGES = ('numpy', 'onnxruntime', 'opencv-python-headless', 'openvino', 'nncf', 'timm', 'torch')


def main(argv: Optional[list[str]] = None) -> int:
    """Run the command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = _parse(argv)
    device = choose_device(arguments.device)
    old = _read(arguments.compare) if arguments.compare else None
    from svp_ros.benchmark.report import compare, to_markdown
    from svp_ros.benchmark.timing import threads
    with threads(arguments.threads):
        result = {'command': 'svp benchmark ' + shlex.join(
            Path(word).name if word.startswith('/') else word for word in argv),
            'commit': find_commit(), 'device': describe_device(device),
            'threads': arguments.threads, 'python': platform.python_version(),
            'versions': _versions(), **_measure(arguments, device)}
    markdown = to_markdown(result)
    print(markdown, end='')
    if old:
        print('\n' + compare(result, old), end='')
    for path, text in ((arguments.json, json.dumps(result, indent=2) + '\n'),
                       (arguments.markdown, markdown)):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 0


def _measure(arguments: argparse.Namespace, device: str) -> dict:
    configurations = [(engine, precision) for engine in arguments.engines
                      for precision in arguments.precisions]
    result = {}
    size = arguments.network_size[0]
    if arguments.profile:
        from svp_ros.benchmark.profile import profile_layers
        arguments.profile.parent.mkdir(parents=True, exist_ok=True)
        arguments.profile.write_text(json.dumps(
            profile_layers(arguments.model[0], size, device, arguments.rounds), indent=2) + '\n')
    if 'network' in arguments.parts:
        from svp_ros.benchmark.network import measure_networks
        result |= measure_networks(arguments.model, configurations, arguments.network_size,
                                   arguments.batch, device, arguments.rounds,
                                   not arguments.no_stand_in)
    if 'predictor' in arguments.parts:
        from svp_ros.benchmark.network import measure_predictor
        result['predictor'] = []
        for model in arguments.model:
            try:
                result['predictor'] += measure_predictor(
                    model, device, size, arguments.engines[0], arguments.precisions[0],
                    arguments.input_size, arguments.rounds)
            except (FileNotFoundError, ValueError) as error:
                result.setdefault('not_measured', {})[f'predictor {model}'] = str(error)
    if arguments.accuracy:
        from svp_ros.benchmark.accuracy import measure_accuracy
        from svp_ros.data.labelled import find_scenes
        scenes = find_scenes(arguments.accuracy)
        scenes = scenes[::-(-len(scenes) // arguments.scenes) if arguments.scenes else 1]
        rows, missing = measure_accuracy(arguments.model[0], configurations, scenes, size, device)
        result['accuracy'] = rows
        result['not_measured'] = result.get('not_measured', {}) | missing
    if 'node' in arguments.parts:
        from svp_ros.benchmark.node import measure_node
        result['node'] = measure_node(
            arguments.model[0], device, arguments.engines[0], arguments.precisions[0], size,
            arguments.input_size[0], arguments.threads, arguments.seconds)
    return result


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


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
        help='names in models/, .safetensors files, or sizes of the network (random weights)')
    add('--parts', nargs='*', choices=PARTS, default=['network', 'predictor'],
        help='what is timed; node needs ROS 2')
    add('--engines', nargs='+', choices=ENGINES, default=list(ENGINES), help='engines')
    add('--precisions', nargs='+', choices=PRECISIONS, default=['fp32', 'bf16'],
        help='precisions; int8 calibrates a network the first time')
    add('--network-size', type=parse_size, nargs='+', default=[NETWORK_SIZE], metavar='HxW',
        help="sizes of the network's input, multiples of 32")
    add('--input-size', type=parse_size, nargs='+', default=[(480, 640), (720, 1280)],
        metavar='HxW', help='sizes of the camera images for predictor and node')
    add('--batch', type=int, nargs='+', default=[1], help='pairs per call')
    add('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    add('--threads', type=int, default=1, help='CPU threads of everything')
    add('--rounds', type=int, default=20, help='measurements of each')
    add('--no-stand-in', action='store_true', help='leave the network of 211 GFLOP out')
    add('--accuracy', type=Path, metavar='DIR',
        help='also score every engine and precision on these labelled scenes')
    add('--scenes', type=int, default=0, metavar='N',
        help='with --accuracy: about N of them, evenly spread; 0 is all')
    add('--seconds', type=float, default=10.0, help='length of each trial of the node')
    add('--profile', type=Path, metavar='FILE', help='also write the time of each layer')
    add('--json', type=Path, metavar='FILE', help='write the figures')
    add('--markdown', type=Path, metavar='FILE', help='write the tables')
    add('--compare', type=Path, metavar='OLD.json', help='compare with an earlier --json')
    arguments = parse_arguments(parser, argv)
    if min(arguments.threads, arguments.rounds, *arguments.batch) < 1:
        raise ValueError('--threads, --rounds and --batch must be at least 1')
    if not arguments.seconds > 0:
        raise ValueError(f'--seconds must be positive, got {arguments.seconds:g}')
    return arguments
