"""How old a pair is when the work on it begins: one frame at most, however slow the network is."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from svp_ros.ros.parameters import NodeSettings
from svp_ros.ros.sync import PairSynchronizer
from svp_ros.ros.worker import Worker

pytestmark = pytest.mark.alone

FRAMES, PERIOD_S, WORK_S = 200, 0.01, 0.063
SLACK_S = 0.01  # a thread that wakes up waits for a core, and up to 5 ms for Python's lock


class SlowWorker(Worker):
    """The worker, with its pacer, that works WORK_S on a pair; an image is its arrival here."""

    def __init__(self, *arguments):
        self.waits_s = []
        super().__init__(*arguments)

    def _process(self, left, right, predictor):
        self.waits_s.append(time.perf_counter() - right)
        time.sleep(WORK_S)


@pytest.mark.parametrize('target_rate', [0.0, 9.0])
def test_work_begins_on_a_pair_that_is_one_frame_old_at_most(target_rate):
    """So a result is never older than the work on it and one frame: none waits for another pair.

    One in ten may, because the other programs of this machine hold up both threads at times.
    """
    sync = PairSynchronizer()
    node = SimpleNamespace(settings=NodeSettings(target_rate=target_rate), get_logger=lambda: None)
    worker = SlowWorker(node, SimpleNamespace(sync=sync), SimpleNamespace(predictor=None), None,
                        None)
    start = time.perf_counter()
    for frame in range(FRAMES):
        time.sleep(max(0.0, start + frame * PERIOD_S - time.perf_counter()))
        for side in ('left', 'right'):
            sync.add(side, frame, time.perf_counter())
    worker.stop()
    assert worker.wait(10)
    waits_s = np.array(worker.waits_s)
    assert np.percentile(waits_s, 90) <= PERIOD_S + SLACK_S, f'waited {waits_s} s'
    assert sync.counts['paired'] == FRAMES == sync.counts['replaced'] + waits_s.size
    assert 10 < waits_s.size < FRAMES / 2  # pairs came faster than they were worked on
