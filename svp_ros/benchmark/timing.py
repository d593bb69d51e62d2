"""Time several functions in turn, so that a busy machine slows all of them alike."""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
import time

import cv2
import numpy as np
import torch

SLOW = 8  # times the median contender; those beyond run in every fourth round only


def interleave(contenders: Mapping[str, Callable[[], object]],
               rounds: int = 20) -> dict[str, list[float]]:
    """Run every contender once per round, after one round that is not counted.

    Args:
        contenders: functions by name, which return when their work is done.
        rounds: times that each runs; slow ones run less often.

    Returns:
        Milliseconds of each run by name.
    """
    times = {name: [] for name in contenders}
    if not contenders:
        return {}
    first = {name: _time(run) for name, run in contenders.items()}
    slow = {name for name, value in first.items()
            if value > SLOW * np.median(list(first.values()))}
    for index in range(rounds):
        for name, run in contenders.items():
            if name not in slow or index % 4 == 0:
                times[name].append(1000 * _time(run))
    return times


def percentiles(milliseconds: list[float]) -> dict:
    """Summarise runs: median, p95 and p99, the best, and how many they were."""
    p50, p95, p99 = np.percentile(milliseconds, (50, 95, 99))
    return {'p50_ms': float(p50), 'p95_ms': float(p95), 'p99_ms': float(p99),
            'best_ms': float(min(milliseconds)), 'runs': len(milliseconds)}


def add_ratios(rows: list[dict], baselines: Mapping[str, dict]) -> None:
    """Write beside each row how many times as long as each baseline it takes (medians)."""
    for row in rows:
        row['ratios'] = {name: row['p50_ms'] / baseline['p50_ms']
                         for name, baseline in baselines.items()}


@contextmanager
def threads(count: int):
    """Limit torch and OpenCV, and so the engines, to a number of CPU threads."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _time(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
