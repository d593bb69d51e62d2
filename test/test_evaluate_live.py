"""`svp evaluate bag --mode live`: over real DDS the same pairs give the same results."""

import csv
import json
import os
import time

import cv2
import numpy as np
import pytest

from svp_ros.data import bag_messages
from svp_ros.data.rosbag2 import BagReader, BagWriter
from svp_ros.eval.bag import main
from svp_ros.eval.bag_live import _wait_until_idle
from svp_ros.geometry import StereoCamera
from svp_ros.image_messages import decode_disparity, decode_image
from svp_ros.processes import ModuleProcess

pytestmark = pytest.mark.alone

H, W = 96, 128
CAMERA = StereoCamera(fx=90.0, fy=90.0, cx=63.5, cy=47.5, baseline=0.2, width=W, height=H)
STAMPS = [1_700_000_000_000_000_000 + index * 500_000_000 for index in range(6)]


def write_raw_bag(path):
    """Grey, distorted images under names of their own, as EuRoC has them: the node rectifies."""
    generator = np.random.default_rng(0)
    with BagWriter(path, 'sqlite3') as bag:
        for stamp in STAMPS:
            noise = generator.uniform(0, 1, (H, W + 9)).astype(np.float32)
            wall = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255,
                                 cv2.NORM_MINMAX).astype(np.uint8)
            header = bag_messages.make_header(stamp, 'cam0')
            infos = bag_messages.make_camera_infos(CAMERA, header)
            for name, info, image in zip(('cam0', 'cam1'), infos, (wall[:, :W], wall[:, 9:])):
                info.d = np.array([-0.1, 0.01, 0.0, 0.0, 0.0])
                bag.write(f'/rig/{name}/camera_info', stamp, info)
                bag.write(f'/rig/{name}/image_raw', stamp + 1_000_000,
                          bag_messages.make_image(image, header))
    return path


def read_results(out):
    """disparity and confidence by stamp, and the figures of every pair."""
    maps = {}
    with BagReader(out / 'results.mcap') as bag:
        for topic, time, message in bag.messages(['/disparity', '/confidence']):
            maps.setdefault(time, {})[topic] = (
                decode_disparity(message) if topic == '/disparity' else decode_image(message))
    with (out / 'frames.csv').open() as file:
        return maps, {int(row['stamp']): row for row in csv.DictReader(file)}


def test_live_and_read_agree_on_the_same_pairs(tmp_path, tiny_model):
    bag = write_raw_bag(tmp_path / 'bag')
    arguments = [str(bag), '--model', str(tiny_model), '--device', 'cpu', '--network-size',
                 '64x96', '--max-depth', '50', '--confidence-threshold', '0.01',
                 '--no-left-right']
    for mode in ('read', 'live'):
        assert main([*arguments, '--mode', mode, '--out', str(tmp_path / mode)]) == 0
    read, rows = read_results(tmp_path / 'read')
    live, live_rows = read_results(tmp_path / 'live')
    assert list(read) == STAMPS
    # The node takes the newest pair whenever it is ready; on a busy machine some are missing.
    assert live and set(live) <= set(read)
    for stamp, maps in live.items():
        assert np.isfinite(maps['/disparity']).mean() > 0.05
        for topic, values in maps.items():
            np.testing.assert_allclose(values, read[stamp][topic], rtol=1e-4, atol=1e-4)
        for key in ('density', 'confidence', 'photometric_error', 'rows'):
            assert float(live_rows[stamp][key]) == pytest.approx(
                float(rows[stamp][key]), rel=1e-3, abs=1e-3), key

    metrics = json.loads((tmp_path / 'live' / 'metrics.json').read_text())
    assert metrics['rectified_here'] and metrics['pairs'] == 6
    scores = metrics['models']['tiny']
    assert scores['pairs'] == len(live) and scores['node']['processed'] >= len(live)
    assert {'inference', 'total', 'round_trip'} <= scores['latency_ms'].keys()
    assert (tmp_path / 'live' / 'live' / 'tiny' / 'node.log').is_file()


def test_a_node_that_cannot_run_is_reported_with_its_log(tmp_path, tiny_model, capsys):
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(tiny_model.read_bytes()[:1000])
    bag = write_raw_bag(tmp_path / 'bag')
    assert main([str(bag), '--model', str(broken), '--mode', 'live', '--out',
                 str(tmp_path / 'out'), '--device', 'cpu']) == 1
    error = capsys.readouterr().err
    assert 'svp_ros.ros.node ended with exit code 1' in error and 'all logs are in' in error
    assert not (tmp_path / 'out' / 'metrics.json').exists()


def test_waiting_for_an_idle_process_lasts_as_long_as_it_computes(tmp_path):
    code = ('import time; print("started", flush=True); end = time.process_time() + 1.5\n'
            'while time.process_time() < end: pass\n'
            'print("done", flush=True); time.sleep(60)')
    (tmp_path / 'busy.py').write_text(code)
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    with ModuleProcess('busy', [], tmp_path / 'log', environment) as process:
        process.wait_for('started', 60)
        _wait_until_idle(process.pid, 60)
        assert 'done' in process.output()
        start = time.monotonic()
        _wait_until_idle(process.pid, 0.3)
        assert time.monotonic() - start < 10
