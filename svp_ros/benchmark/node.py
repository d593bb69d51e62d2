"""Time the node end to end over DDS: from the stamp of a pair to the arrival of its disparity.

Each node is a process; for each another publishes pairs and receives disparities, so both ways
cross processes and all times are of one clock. After ros2_benchmark: fixed rates, and the highest
rate at which less than 1 % of the pairs stay without an answer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, ExitStack
import json
import logging
import os
from pathlib import Path
import random
from tempfile import TemporaryDirectory
import time

import numpy as np

from svp_ros.processes import ModuleProcess, ProcessError, ros_environment

logger = logging.getLogger(__name__)
DROP_BAR = 0.01
FIXED_HZ = 10.0, 30.0, 60.0
OVERLOAD_HZ = 30.0
SEARCH_STEPS = 6
START_S = 120.0
OUTPUTS = ('disparity', 'depth'), ('disparity', 'depth', 'points2')


def measure_node(settings: dict, input_size: tuple[int, int], seconds: float) -> list[dict]:
    """Publish at fixed rates, then search the highest rate without drops.

    Args:
        settings: parameters of the node.
        input_size: (height, width) of the published images.
        seconds: length of each trial.

    Returns:
        A row per kept trial, the highest rate last: published_hz, received_hz, drops (0..1),
        p50_ms, p95_ms, p99_ms (None without answers), cpu_share (1 is a core), rss_mib, highest,
        start_s (from the start of the process until it waits for images).

    Raises:
        OSError: If a node or a load fails.
    """
    with _running_nodes(settings, 1) as (nodes, start_s):
        def trial(rate: float) -> dict:
            row = {**_describe(settings, input_size), 'start_s': start_s, 'highest': False,
                   **_trial(nodes, rate, input_size, seconds)[0]}
            logger.info('%.1f Hz: %.1f %% dropped', rate, 100 * row['drops'])
            return row
        rows = [trial(rate) for rate in FIXED_HZ]
        best = find_highest(trial, max(0.5, rows[-1]['received_hz'] / 2))
    return [*rows, *([{**best, 'highest': True}] if best else [])]


def measure_cameras(settings: dict, counts: Sequence[int], input_size: tuple[int, int],
                    seconds: float) -> list[dict]:
    """Let several cameras send more than can be managed.

    Each has a node of its own, as with `cameras` of the launch file.

    Returns:
        A row per number of cameras: total_hz of all results, p95_ms of the worst camera,
        cpu_share of all nodes (1 is a core) and rss_mib of each.

    Raises:
        OSError: If a node or a load fails.
    """
    rows = []
    for count in counts:
        with _running_nodes(settings, count) as (nodes, _):
            trials = _trial(nodes, OVERLOAD_HZ, input_size, seconds)
        latencies = [row['p95_ms'] for row in trials]
        rows.append({**_describe(settings, input_size), 'cameras': count,
                     'published_hz': sum(row['published_hz'] for row in trials),
                     'total_hz': sum(row['received_hz'] for row in trials),
                     'p95_ms': None if None in latencies else max(latencies),
                     'cpu_share': sum(row['cpu_share'] for row in trials),
                     'rss_mib': float(np.mean([row['rss_mib'] for row in trials]))})
        logger.info('%d cameras: %.1f pairs/s', count, rows[-1]['total_hz'])
    return rows


def measure_overhead(settings: dict, predictor_rows: Sequence[dict],
                     seconds: float) -> tuple[list[dict], dict[str, str]]:
    """Measure what receiving, converting and publishing add to the predictor.

    From the latency until the last output is here, the time of the network of that pair is taken
    off, and the median of the predictor's stages before and after it. Pairs come so slowly that
    none should wait.

    Args:
        settings: parameters of the node.
        predictor_rows: of `measure_predictor` with the same settings, one per image size.
        seconds: length of each trial.

    Returns:
        Rows with input, outputs, p50_ms, p95_ms; and why others are missing, by name.

    Raises:
        OSError: If the node fails.
    """
    rows, missing = [], {}
    with _running_nodes(settings, 1) as (nodes, _):
        for predictor in predictor_rows:
            stages_ms = predictor['preprocess_ms'] + predictor['postprocess_ms']
            rate = min(5.0, 200 / predictor['p95_ms'])
            for outputs in OUTPUTS:
                row = {**_describe(settings, predictor['input']), 'outputs': list(outputs)}
                try:
                    output, = _run_loads(nodes, 'svp_ros.ros.overhead', rate, seconds, [
                        '--size', *predictor['input'], '--outputs', *outputs])
                except ProcessError as error:
                    nodes[0][0].check()
                    missing[f'overhead {" + ".join(outputs)}'] = str(error).splitlines()[-1]
                    continue
                extra = np.subtract(output['latency_ms'], output['inference_ms']) - stages_ms
                p50, p95 = np.percentile(extra, (50, 95)).tolist()
                rows.append({**row, 'pairs': len(extra), 'p50_ms': p50, 'p95_ms': p95})
                logger.info('%s: %.1f ms beyond the predictor', ' + '.join(outputs), p95)
    return rows, missing


@contextmanager
def _running_nodes(settings: dict, count: int) -> Iterator[tuple[list, float]]:
    """Start nodes that do not see each other.

    Yields:
        Each node with its environment, and the seconds until the last one waited for images.
    """
    words = [word for name, value in settings.items() for word in ('-p', f'{name}:={value}')]
    domains = random.SystemRandom().sample(range(1, 102), count)
    with TemporaryDirectory() as logs, ExitStack() as stack:
        try:
            start = time.monotonic()
            nodes = []
            for domain in domains:
                environment = ros_environment(domain)
                nodes.append((stack.enter_context(ModuleProcess(
                    'svp_ros.ros.node', ['--ros-args', *words],
                    Path(logs) / f'{domain}.log', environment)), environment))
            for node, _ in nodes:
                node.wait_for('waiting for', START_S)
            yield nodes, time.monotonic() - start
        except ProcessError as error:
            raise OSError(str(error)) from error


def _trial(nodes: list, rate: float, input_size: Sequence[int], seconds: float) -> list[dict]:
    """Publish to all nodes at once; a row for each."""
    before = [_cpu_seconds(node.pid) for node, _ in nodes]
    outputs = _run_loads(nodes, 'svp_ros.ros.load', rate, seconds, ['--size', *input_size])
    published_s = max(1, round(rate * seconds)) / rate  # a load also starts and ends
    return [{**summarise(output['published'], output['received']),
             'cpu_share': (_cpu_seconds(node.pid) - used) / published_s,
             'rss_mib': _rss_mib(node.pid)}
            for (node, _), output, used in zip(nodes, outputs, before)]


def _run_loads(nodes: list, module: str, rate: float, seconds: float,
               arguments: Sequence[object]) -> list[dict]:
    """Run a load beside each node; returns what they print."""
    with TemporaryDirectory() as logs, ExitStack() as stack:
        loads = [stack.enter_context(ModuleProcess(
            module, ['--rate', rate, '--seconds', seconds, *arguments],
            Path(logs) / f'{node.pid}.log', environment)) for node, environment in nodes]
        for load in loads:
            load.finish(START_S + 2 * seconds, [node for node, _ in nodes])
        return [json.loads(load.output().splitlines()[-1]) for load in loads]


def _describe(settings: dict, input_size: Sequence[int]) -> dict:
    return {'model': Path(settings['model']).stem, 'engine': settings['engine'],
            'precision': settings['precision'], 'input': list(input_size)}


def find_highest(trial, low: float = 0.5, high: float = 120.0):
    """Search the highest rate whose trial stays below DROP_BAR.

    Args:
        trial: rate -> row with `drops`.
        low: hertz, where the search begins; it doubles until pairs are dropped.
        high: hertz, the most that is tried.

    Returns:
        The row of the highest rate that passed; None if even `low` drops pairs.
    """
    best, rate = None, low
    while True:
        row = trial(rate)
        if row['drops'] >= DROP_BAR:
            break
        if rate == high:
            return row
        best, low, rate = row, rate, min(2 * rate, high)
    if best is None:
        return None
    high = rate
    for _ in range(SEARCH_STEPS - 2):
        rate = (low + high) / 2
        row = trial(rate)
        if row['drops'] < DROP_BAR:
            best, low = row, rate
        else:
            high = rate
    return best


def summarise(published: list[int], received: list[list[int]]) -> dict:
    """Rates, drops and latencies of a trial.

    Args:
        published: stamps, nanoseconds.
        received: [stamp, arrival] of each answer, nanoseconds.
    """
    stamps = set(published)
    arrivals = {stamp: arrival for stamp, arrival in received if stamp in stamps}
    latencies = [(arrival - stamp) / 1e6 for stamp, arrival in arrivals.items()]
    duration_s = max((published[-1] - published[0]) / 1e9, 1e-9)
    p50, p95, p99 = (np.percentile(latencies, (50, 95, 99)).tolist() if latencies
                     else (None, None, None))
    rate = (len(published) - 1) / duration_s
    return {'published_hz': rate, 'received_hz': rate * len(arrivals) / len(published),
            'drops': 1 - len(arrivals) / len(published), 'pairs': len(published),
            'p50_ms': p50, 'p95_ms': p95, 'p99_ms': p99}


def _cpu_seconds(pid: int) -> float:
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def _rss_mib(pid: int) -> float:
    pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2 ** 20
