"""Overload: 60 pairs per second into a network that manages a few of them."""

from pathlib import Path
import subprocess
import sys
from threading import Thread
import time

import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import QoSProfile
from std_msgs.msg import Float32
from stereo_rig import Rig

from svp_ros.ros.pacer import Pacer

pytestmark = pytest.mark.alone

RATE = 60
CALLS = 60


@pytest.fixture(scope='module')
def rig(tmp_path_factory):
    rig = Rig('-p', 'model:=nano', log=tmp_path_factory.mktemp('real_time') / 'stderr')
    try:
        rig.wait_until_ready()
        rig.listen('disparity')
        yield rig
    finally:
        rig.close()


@pytest.fixture(scope='module')
def camera(rig):
    """A camera that runs until the overload test stops it."""
    process = subprocess.Popen([sys.executable, Path(__file__).parent / 'busy_camera.py',
                                f'/{rig.namespace}', str(RATE), '120'])
    yield process
    process.kill()
    process.wait()


def test_a_target_rate_holds(rig, camera):
    assert rig.set_parameter('target_rate', 1.0).successful
    rig.received['disparity'].clear()
    assert rig.spin_until(lambda: len(rig.received['disparity']) >= 2, 60)
    rig.received['disparity'].clear()
    rig.spin_for(3)
    assert 1 <= len(rig.received['disparity']) <= 4
    assert rig.set_parameter('target_rate', 0.0).successful


def test_overload_neither_ages_results_nor_blocks_parameters_and_every_drop_is_counted(rig,
                                                                                       camera):
    latencies = {'age': [], 'total': []}
    for stage, values in latencies.items():
        rig.node.create_subscription(Float32, f'stereo_node/debug/{stage}_ms',
                                     lambda message, values=values: values.append(message.data),
                                     QoSProfile(depth=100))
    assert rig.spin_until(lambda: latencies['age'], 60)
    answers_ms = []
    timer = call_parameters(rig, answers_ms)
    assert rig.spin_until(lambda: len(latencies['age']) >= 12 and len(answers_ms) >= CALLS, 90)
    rig.node.destroy_timer(timer)
    assert rig.spin_until(lambda: np.isfinite(answers_ms).all()), 'a parameter call got lost'
    pairs = min(map(len, latencies.values()))
    age, total = (np.array(latencies[stage][:pairs]) for stage in ('age', 'total'))
    waited = age - total  # arrival and the wait for the pair before
    print(f'\n{1e3 / np.median(total):.1f} pairs/s, waited {np.median(waited):.1f} ms, '
          f'parameters answered within {np.percentile(answers_ms, [50, 90, 100]).round(1)} ms '
          f'(50, 90 and 100 % of {len(answers_ms)})')
    assert np.median(waited) < 100, f'waited {waited} ms'  # an inference takes longer
    assert np.median(waited[-4:]) < np.median(waited[:4]) + 100, f'waited {waited} ms'
    assert np.percentile(answers_ms, 90) < 100, f'answered within {answers_ms} ms'

    camera.kill()
    assert rig.spin_until(lambda: float(
        rig.diagnostic('images')[2]['seconds since the last pair']) > 1.5)
    values = rig.diagnostic('images')[2]
    paired, replaced, processed = (int(values[f'{name} in total'])
                                   for name in ('paired', 'replaced', 'processed'))
    skipped, dropped = (int(values[f'{name} in total']) for name in ('skipped', 'dropped'))
    assert paired == replaced + processed + skipped + dropped
    assert replaced > processed > 0


def call_parameters(rig, answers_ms):
    """Set and get parameters alternately ten times a second, and note how long that takes.

    The next call does not wait for the answer to the one before: a node that is busy for a second
    is late with ten of them. What is not answered yet counts as infinity.
    """
    client = AsyncParameterClient(rig.node, 'stereo_node')
    assert client.wait_for_services(10)

    def call():
        number, start = len(answers_ms), time.perf_counter()

        def note(future):
            answers_ms[number] = 1e3 * (time.perf_counter() - start)

        answers_ms.append(np.inf)
        future = (client.set_parameters([Parameter('confidence_threshold', value=1e-4 * number)])
                  if number % 2 else client.get_parameters(['max_depth']))
        future.add_done_callback(note)

    return rig.node.create_timer(0.1, call)


@pytest.mark.parametrize('rate, expected', [(50.0, 10), (0.0, None)])
def test_a_pacer_lets_as_many_rounds_begin_as_asked(rate, expected):
    pacer, rounds, end = Pacer(lambda: rate), 0, time.perf_counter() + 0.2
    while time.perf_counter() < end and pacer.wait():
        rounds += 1
    assert rounds <= expected + 6 if expected else rounds > 100


def test_a_pacer_wakes_up_for_another_rate_and_for_the_end():
    rate = [0.01]
    pacer = Pacer(lambda: rate[0])
    assert pacer.wait()
    answers = []
    thread = Thread(target=lambda: answers.extend(iter(pacer.wait, False)))
    thread.start()
    time.sleep(0.05)
    assert answers == []
    rate[0] = 20.0
    deadline = time.monotonic() + 10
    while len(answers) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pacer.stop()
    thread.join(5)
    assert not thread.is_alive() and not pacer.wait()
