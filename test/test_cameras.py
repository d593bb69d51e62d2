"""Two cameras at once: a process for each, and both in one process."""

import os
from pathlib import Path
import signal
import subprocess
import sys

from life_cycle import change, state
import pytest
from stereo_rig import random_pair, reliable_inputs, Rig

from svp_ros.image_messages import decode_disparity

pytestmark = pytest.mark.alone

HERE = Path(__file__).parent
NAMES = 'front', 'rear'


def arguments(model):
    return ['-p', f'model:={model}', '-p', 'network_height:=64', '-p', 'network_width:=96']


@pytest.fixture(params=['a process for each', 'one process'])
def rigs(request, tiny_model, tmp_path):
    """The cameras front and rear."""
    process, log = None, tmp_path / 'stderr'
    if request.param == 'one process':
        process = subprocess.Popen(
            [sys.executable, HERE / 'two_nodes.py', '--ros-args', *arguments(tiny_model), '-p',
             'device:=cpu', *(text for name in NAMES for text in reliable_inputs(name))],
            stderr=log.open('w'), env={**os.environ, 'ROS_DOMAIN_ID': str(1 + os.getpid() % 101)})
    rigs = []
    try:
        for name in NAMES:
            rigs.append(Rig(*arguments(tiny_model), log=log if process else tmp_path / name,
                            namespace=name, process=process))
        for rig in rigs:
            rig.wait_until_ready()
            rig.listen('disparity')
        yield rigs
    finally:
        for rig in rigs:
            rig.close()


def test_each_camera_gets_its_own_answers_and_life(rigs):
    front, rear = rigs
    front.exchange([1])
    rear.exchange([101])
    for number in range(2, 6):
        for rig, seed in ((front, number), (rear, 100 + number)):
            rig.send_infos()
            rig.send_pair(seed, random_pair(seed))
        for rig, seed in ((front, number), (rear, 100 + number)):
            assert rig.spin_until(lambda rig=rig, seed=seed: seed in rig.stamps('disparity'))
    assert front.stamps('disparity') == [1, 2, 3, 4, 5]
    assert rear.stamps('disparity') == [101, 102, 103, 104, 105]
    assert all((decode_disparity(a) != decode_disparity(b)).any() for a, b in zip(
        front.received['disparity'], rear.received['disparity']))

    assert rear.set_parameter('max_depth', 5.0).successful
    rear.exchange([106])
    front.exchange([6])
    assert front.received['disparity'][-1].min_disparity == pytest.approx(0.18)
    assert rear.received['disparity'][-1].min_disparity == pytest.approx(3.6)

    assert change(front, 'deactivate') and change(front, 'cleanup')
    assert (state(front), state(rear)) == ('unconfigured', 'active')
    rear.exchange([107])
    assert change(front, 'configure') and change(front, 'activate')
    front.wait_until_ready()
    front.exchange([7])
    for rig in rigs:
        if rig.process.poll() is None:
            rig.process.send_signal(signal.SIGINT)
            assert rig.process.wait(20) == 0
        assert 'Traceback' not in rig.log.read_text()
