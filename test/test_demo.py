import json

import cv2
from finder import save_finder
import numpy as np
import pytest

from svp_ros.data.bags import read_stereo_pairs
from svp_ros.data.rosbag2 import BagReader
from svp_ros.demo import main, MOTORCYCLE, write_motorcycle
from svp_ros.geometry import disparity_to_depth

pytestmark = pytest.mark.alone

SMALL = ['--frames', '3', '--seconds', '0.4', '--street-size', '144x256',
         '--network-size', '96x128']


def stamps_of(path, topic):
    with BagReader(path) as bag:
        return [raw.stamp for raw in bag.raw([topic])]


def test_the_truth_of_the_motorcycle_warps_right_onto_left():
    from skimage.data import stereo_motorcycle
    left, right, disparity = stereo_motorcycle()
    known = np.isfinite(disparity)
    x, y = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in disparity.shape[::-1]))

    def error(shift):
        columns = x - np.where(known, disparity, 0).astype(np.float32) + shift
        warped = cv2.remap(right, columns, y, cv2.INTER_LINEAR)
        inside = known & (columns >= 0) & (columns < right.shape[1])
        return np.abs(warped.astype(float) - left)[inside].mean()

    assert error(0) < 10
    for shift in (MOTORCYCLE.doffs, -MOTORCYCLE.doffs):
        assert error(np.float32(shift)) > 30
    depth = disparity_to_depth(disparity[known], MOTORCYCLE)
    assert 2.0 < depth.min() < depth.max() < 6.0


def test_the_motorcycle_recording_has_its_calibration(tmp_path):
    write_motorcycle(tmp_path / 'bag', 2)
    pairs = list(read_stereo_pairs(tmp_path / 'bag'))
    assert [pair.stamp for pair in pairs] == [1_000_000_000, 1_500_000_000]
    assert pairs[0].camera == MOTORCYCLE
    assert pairs[0].camera.doffs == pytest.approx(-31.086)
    with BagReader(tmp_path / 'bag') as bag:
        _, _, truth = next(bag.messages(['/ground_truth/disparity']))
    assert truth.max_disparity == pytest.approx(59.909 + 31.086, abs=0.01)


def test_the_whole_chain_in_small(tmp_path, capsys):
    out, model = tmp_path / 'demo', save_finder(tmp_path / 'finder.safetensors')
    arguments = ['--out', str(out), '--model', str(model), '--device', 'cpu', *SMALL]
    assert main(arguments) == 0, capsys.readouterr().err
    metrics = json.loads((out / 'metrics.json').read_text())
    assert {'command', 'commit', 'hardware', 'versions', 'model', 'results'} <= metrics.keys()
    assert metrics['model']['model'] == 'finder' and len(metrics['model']['sha256']) == 64
    for name, frames in (('motorcycle', 3), ('street', 4)):
        scores = metrics['results'][name]
        counts = scores['frames']
        assert counts['played'] == frames
        assert 1 <= counts['received'] == counts['scored'] == counts['published'] <= frames
        assert counts['published'] + counts['replaced'] == frames
        assert scores['stamps'] == {'equal': True, 'unknown': 0, 'repeated': 0}
        assert set(stamps_of(out / 'recording' / name, '/disparity')) <= set(
            stamps_of(out / 'bags' / name, '/left/image_rect'))
        assert scores['received']['/depth'] == scores['received']['/confidence'] == (
            counts['received'])
        assert {'epe', 'bad_1', 'bad_2', 'bad_3', 'd1', 'density'} <= scores['disparity'].keys()
        assert scores['disparity']['epe'] > 0 and scores['depth']['mean_abs_rel'] > 0
        for stage in ('preprocess', 'inference', 'postprocess', 'total', 'age', 'round_trip'):
            latency = scores['latency_ms'][stage]
            assert latency['count'] == counts['received']
            assert latency['p50'] <= latency['p95'] <= latency['p99']
        # Both clocks measure the way of one pair; a busy recorder notes the arrivals late.
        total, trip = (scores['latency_ms'][stage] for stage in ('total', 'round_trip'))
        assert 0 < total['p50'] < trip['max'] + 500
        assert list((out / 'pictures').glob(f'{name}_*.png'))
        assert scores['received']['/markers'] == counts['received']
    assert (out / 'report.html').stat().st_size > 100_000
    assert 'boxes' not in metrics['results']['motorcycle']
    assert metrics['results']['street']['boxes']['pairs'] == counts['received']
    assert list((out / 'pictures').glob('street_*_boxes.png'))
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith('motorcycle: EPE') for line in lines) == 1
    assert sum(line.startswith('street: ') and ' AP ' in f' {line}' for line in lines) == 1


def test_a_node_that_dies_fails_the_demo_with_its_last_words(tmp_path, capsys):
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(b'no weights')
    out = tmp_path / 'demo'
    assert main(['--out', str(out), '--model', str(broken), '--device', 'cpu', *SMALL]) == 1
    error = capsys.readouterr().err
    assert 'svp demo: svp_ros.ros.node ended with exit code 1' in error
    assert '| stereo_node: ' in error and 'broken.safetensors' in error
    assert (out / 'logs' / 'motorcycle' / 'node.log').is_file()
    assert not (out / 'metrics.json').exists()


@pytest.mark.parametrize('arguments, message', [
    (['--model', 'huge'], 'no model "huge"'), (['--frames', '0'], 'must be positive')])
def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main(['--out', str(tmp_path / 'demo'), *arguments])
    assert not (tmp_path / 'demo').exists()
