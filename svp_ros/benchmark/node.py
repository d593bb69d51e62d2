"""Time the node end to end over DDS: from the stamp of a pair to the arrival of its disparity.

The node is one process; another publishes pairs and receives disparities, so both ways cross
processes and all times are of one clock. After ros2_benchmark: first the highest rate at which
less than 1 % of the pairs stay without an answer, then fixed rates.
"""

import json
import logging
import os
from pathlib import Path
from tempfile import TemporaryDirectory
import time

import numpy as np

from svp_ros.processes import ModuleProcess, ros_environment

logger = logging.getLogger(__name__)
DROP_BAR = 0.01
FIXED_HZ = 10.0, 30.0, 60.0
SEARCH_STEPS = 6
START_S = 120.0


def measure_node(model: str, device: str, engine: str, precision: str, size: tuple[int, int],
                 input_size: tuple[int, int], threads: int, seconds: float) -> list[dict]:
    """Run the trials.

    Args:
        model: of the node.
        device: of the node.
        engine: of the node.
        precision: of the node.
        size: (height, width) of the network's input.
        input_size: (height, width) of the published images.
        threads: CPU threads of the network.
        seconds: length of each trial.

    Returns:
        A row per kept trial, the highest rate first: published_hz, received_hz, drops (0..1),
        p50_ms, p95_ms, p99_ms (None without answers), cpu_share (1 is a core), rss_mib, highest.

    Raises:
        OSError: If the node or the load fails.
    """
    settings = {'model': model, 'device': device, 'engine': engine, 'precision': precision,
                'network_height': size[0], 'network_width': size[1], 'num_threads': threads}
    arguments = [word for name, value in settings.items() for word in ('-p', f'{name}:={value}')]
    with TemporaryDirectory() as temporary:
        environment = ros_environment()
        logs = Path(temporary)
        with ModuleProcess('svp_ros.ros.node', ['--ros-args', *arguments], logs / 'node.log',
                           environment) as node:
            try:
                node.wait_for('waiting for', START_S)
                return _trials(node, logs, environment, input_size, seconds)
            except RuntimeError as error:
                raise OSError(str(error)) from error


def _trials(node: ModuleProcess, logs: Path, environment: dict[str, str],
            input_size: tuple[int, int], seconds: float) -> list[dict]:
    def trial(rate: float) -> dict:
        before = _cpu_seconds(node.pid), time.monotonic()
        with ModuleProcess('svp_ros.ros.load', [
                '--rate', rate, '--seconds', seconds, '--size', *input_size],
                logs / 'load.log', environment) as load:
            load.finish(START_S + 2 * seconds, [node])
            output = json.loads(load.output().splitlines()[-1])
        share = (_cpu_seconds(node.pid) - before[0]) / (time.monotonic() - before[1])
        row = {**summarise(output['published'], output['received']), 'cpu_share': share,
               'rss_mib': _rss_mib(node.pid), 'highest': False}
        logger.info('%.1f Hz: %.1f %% dropped', rate, 100 * row['drops'])
        return row
    best = find_highest(trial)
    return [*([{**best, 'highest': True}] if best else []), *map(trial, FIXED_HZ)]


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
