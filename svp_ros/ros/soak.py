"""Soak test of stereo_node: more pairs than it manages, as long as you like, measured throughout.

`python -m svp_ros.ros.soak --minutes 60 --out soak.json` plays a photographed pair to the node in
a process of its own, and asks it for a parameter every second. Exit code 1 if something got lost:
memory, a service call, the age of the results, or the node.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
import json
import os
from pathlib import Path
import re
import sys
from tempfile import TemporaryDirectory
import time
from typing import Optional

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rcl_interfaces.srv import GetParameters
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from svp_ros.arguments import parse_arguments, parse_size
from svp_ros.predictor import choose_device, find_model
from svp_ros.processes import ModuleProcess, ProcessError, ros_environment
from svp_ros.provenance import describe_device, find_commit

START_S = 300.0  # a cold disk reads the libraries slowly
ANSWER_S = 5.0  # a service call that takes longer is lost
PERIOD_S = 1.0
WARM_UP = 0.1  # share of the time that memory needs to settle
MAX_SAMPLES = 60  # kept in the JSON
COUNTS = ('left', 'right', 'paired', 'processed', 'replaced', 'dropped', 'unpaired left',
          'unpaired right', 'late')


@dataclass(frozen=True)
class Sample:
    """What was measured at one time; parameter_ms is None for a call that was lost."""

    time_s: float
    rss_mb: float
    parameter_ms: Optional[float]


class Monitor:
    """Samples a node from outside; use as a context manager.

    Args:
        pid: its process.
    """

    def __init__(self, pid: int):
        self.samples: list[Sample] = []
        self.counts: dict[str, int] = {}
        self._pid = pid
        self._start = 0.0

    def __enter__(self) -> 'Monitor':
        rclpy.init(args=[])
        self._node = Node('soak_monitor')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 5)
        self._client = self._node.create_client(GetParameters, '/stereo_node/get_parameters')
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown()

    def sample(self) -> None:
        """Measure once, then wait until the next time."""
        begun = time.monotonic()
        future = self._client.call_async(GetParameters.Request(names=['max_depth']))
        while not future.done() and time.monotonic() < begun + ANSWER_S:
            self._executor.spin_once(timeout_sec=0.1)
        answer_ms = 1e3 * (time.monotonic() - begun) if future.done() else None
        self._client.remove_pending_request(future)
        self._start = self._start if self.samples else begun
        self.samples.append(Sample(begun - self._start, read_rss(self._pid), answer_ms))
        self.wait(begun + PERIOD_S)

    def wait(self, until: float) -> None:
        """Take diagnostics until a time (time.monotonic)."""
        while time.monotonic() < until:
            self._executor.spin_once(timeout_sec=max(0.0, until - time.monotonic()))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        values = {item.key: item.value for status in message.status for item in status.values}
        self.counts = {name: int(values[f'{name} in total']) for name in COUNTS}


def read_rss(pid: int) -> float:
    """Return the resident memory of a process, MB; NaN if it has ended."""
    resident = re.search(r'VmRSS:\s+(\d+) kB', Path(f'/proc/{pid}/status').read_text())
    return int(resident[1]) / 1024 if resident else float('nan')


def summarise_memory(samples: Sequence[Sample]) -> dict[str, float]:
    """Growth of memory after the warm-up: of the medians at both ends, and as a slope."""
    settled = samples[round(WARM_UP * len(samples)):]
    hours = np.array([sample.time_s for sample in settled]) / 3600
    rss = np.array([sample.rss_mb for sample in settled])
    tenth = max(1, len(settled) // 10)
    start, end = np.median(rss[:tenth]), np.median(rss[-tenth:])
    slope = np.polyfit(hours, rss, 1)[0] if len(settled) > 2 else 0.0
    return {'start': float(start), 'end': float(end), 'largest': float(rss.max()),
            'growth_percent': float(100 * (end / start - 1)),
            'growth_mb_per_hour': float(slope)}


def summarise_ages(received: Sequence[Sequence[int]]) -> dict[str, float]:
    """Age of results when they arrive, ms; also the medians of the first and the last fifth.

    Args:
        received: stamp and arrival of each, nanoseconds.
    """
    ages = np.array([arrival - stamp for stamp, arrival in received]) / 1e6
    if not ages.size:
        return {}
    fifth = max(1, ages.size // 5)
    return {'p50': float(np.median(ages)), 'p95': float(np.percentile(ages, 95)),
            'max': float(ages.max()), 'p50_first_fifth': float(np.median(ages[:fifth])),
            'p50_last_fifth': float(np.median(ages[-fifth:]))}


def summarise_calls(samples: Sequence[Sample]) -> dict[str, float]:
    """Latency of the parameter calls, ms."""
    answered = [sample.parameter_ms for sample in samples if sample.parameter_ms is not None]
    summary = {'calls': len(samples), 'lost': len(samples) - len(answered)}
    if answered:
        summary.update(p50=float(np.median(answered)), p99=float(np.percentile(answered, 99)),
                       max=max(answered))
    return summary


def find_failures(report: dict, max_growth: float) -> list[str]:
    """Say what a run shows that must not be.

    Args:
        report: with rss_mb, age_ms, parameter_ms, exceptions and pairs.
        max_growth: of memory, percent.
    """
    failures = []
    growth, age = report['rss_mb']['growth_percent'], report['age_ms']
    if growth > max_growth:
        failures.append(f'memory grew by {growth:.2f} %, more than {max_growth:g} %')
    if report['parameter_ms']['lost']:
        failures.append(f'{report["parameter_ms"]["lost"]} parameter calls were not answered '
                        f'within {ANSWER_S:g} s')
    if report['exceptions']:
        failures.append(f'the log of the node has {report["exceptions"]} exceptions or errors')
    if not age:
        failures.append('no pair was answered')
    elif age['p50_last_fifth'] > 1.5 * age['p50_first_fifth'] + 100:
        failures.append(f'results got older, from {age["p50_first_fifth"]:.0f} to '
                        f'{age["p50_last_fifth"]:.0f} ms')
    if report['pairs'].get('dropped'):
        failures.append(f'{report["pairs"]["dropped"]} pairs were dropped as bad')
    return failures


def soak(arguments: argparse.Namespace, folder: Path) -> dict:
    """Run the node under load and measure it; logs go to `folder`.

    Raises:
        ProcessError: If the node or the load ends early.
    """
    environment = {**ros_environment(), 'OMP_NUM_THREADS': str(arguments.threads)}
    os.environ.update(environment)
    height, width = arguments.network_size
    parameters = {'model': find_model(arguments.model), 'device': arguments.device,
                  'network_height': height, 'network_width': width,
                  'num_threads': arguments.threads}
    seconds = 60 * arguments.minutes
    node = ModuleProcess('svp_ros.ros.node', ['--ros-args', *(
        text for name, value in parameters.items() for text in ('-p', f'{name}:={value}'))],
        folder / 'node.log', environment)
    load = None
    with node, Monitor(node.pid) as monitor:
        node.wait_for('waiting for', START_S)
        with ModuleProcess('svp_ros.ros.load', [
                '--rate', arguments.rate, '--seconds', seconds], folder / 'load.log',
                environment) as load:
            while not monitor.counts.get('processed'):
                monitor.wait(time.monotonic() + 0.2)
                node.check()
                load.check()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                monitor.sample()
                node.check()
            load.finish(60, [node])
        monitor.wait(time.monotonic() + 2.5)  # diagnostics count the last pair
        node.interrupt()
    played = json.loads(load.output().splitlines()[-1])
    errors = re.findall(r'^Traceback|\[ERROR\].*', node.output(), re.MULTILINE)
    step = -(-len(monitor.samples) // MAX_SAMPLES)
    return {
        'pairs': {'published': len(played['published']), 'answered': len(played['received']),
                  'answered_per_second': len(played['received']) / seconds, **monitor.counts},
        'rss_mb': summarise_memory(monitor.samples), 'age_ms': summarise_ages(played['received']),
        'parameter_ms': summarise_calls(monitor.samples), 'exceptions': len(errors),
        'samples': [{name: value and round(value, 2) for name, value in asdict(sample).items()}
                    for sample in monitor.samples[::step]]}


def main(argv: Optional[list[str]] = None) -> int:
    """Run the soak test; 0 if nothing got lost, 1 if something did, 2 for wrong arguments."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = _parse(argv)
        arguments.device = choose_device(arguments.device)
        with TemporaryDirectory() as folder:
            report = soak(arguments, Path(folder))
    except (ValueError, FileNotFoundError) as error:
        print(f'soak: {error}', file=sys.stderr)
        return 2
    except ProcessError as error:
        print(f'soak: {error}', file=sys.stderr)
        return 1
    failures = find_failures(report, arguments.max_growth)
    report = {
        'command': 'python -m svp_ros.ros.soak ' + ' '.join(argv), 'commit': find_commit(),
        'device': describe_device(arguments.device), 'model': Path(arguments.model).stem,
        'network_size': list(arguments.network_size), 'threads': arguments.threads,
        'rate': arguments.rate, 'minutes': arguments.minutes, 'failures': failures, **report}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + '\n')
    rss, calls, pairs = report['rss_mb'], report['parameter_ms'], report['pairs']
    print(f'{pairs["answered"]} of {pairs["published"]} pairs answered, memory '
          f'{rss["start"]:.1f} -> {rss["end"]:.1f} MB ({rss["growth_percent"]:+.2f} %), '
          f'{calls["lost"]} of {calls["calls"]} calls lost; {arguments.out}')
    for failure in failures:
        print(f'soak: {failure}', file=sys.stderr)
    return 1 if failures else 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser('soak', description=__doc__.split('\n\n')[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--rate', type=float, default=30.0, help='pairs per second')
    parser.add_argument('--model', default='nano', help='name in models/ or a .safetensors file')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--network-size', type=parse_size, default='480x640', metavar='HxW')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads of the network')
    parser.add_argument('--max-growth', type=float, default=1.0, metavar='PERCENT',
                        help='of the memory after the first tenth of the time')
    parser.add_argument('--out', type=Path, required=True, help='JSON file to write')
    arguments = parse_arguments(parser, argv)
    if not (arguments.minutes > 0 and arguments.rate > 0 and arguments.threads > 0):
        raise ValueError('--minutes, --rate and --threads must be positive, got '
                         f'{arguments.minutes:g}, {arguments.rate:g} and {arguments.threads}')
    return arguments


if __name__ == '__main__':
    sys.exit(main())
