"""`svp adapt`: labels without truth, a network that gets better with them, and what is refused."""

import csv
import json

import numpy as np
import pytest
from skimage.data import stereo_motorcycle
import torch
from training_process import assert_equal_states, load_state, TrainingProcess
import yaml

from svp_ros.cli import main
from svp_ros.data.formats import read_image, write_image
from svp_ros.data.pairs import find_pairs
from svp_ros.data.stream import StreamConfig
from svp_ros.eval.adaptation import describe_change, HeldOutPairs
from svp_ros.eval.metrics import bad
from svp_ros.geometry import StereoCamera
from svp_ros.model.build import load_checkpoint
from svp_ros.model.detection import CELL
from svp_ros.predictor import StereoPredictor
from svp_ros.train.block_labels import label_pair, label_pairs, load_taught, TaughtStream
from svp_ros.train.detection import KITTI_CLASSES
from svp_ros.train.detection_losses import detection_targets

FAST = {
    'pairs': 6, 'held_out_pairs': 2, 'rendered_pairs': 4, 'data_batch': 1,
    'network_height': 96, 'network_width': 128,
    'stream': {'height': 64, 'width': 96, 'batch': 1, 'render_height': 96, 'render_width': 128,
               'pairs': 8},
    'loop': {'steps': 4, 'validate_every': 4, 'log_every': 1, 'save_every_s': 0.0,
             'freeze_statistics': 1}}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'fast.yaml'
    path.write_text(yaml.safe_dump(FAST))
    return path


@pytest.fixture(scope='module')
def motorcycle():
    """Real pair with truth, at half its size."""
    left, right, disparity = stereo_motorcycle()
    truth = np.where(np.isfinite(disparity), disparity, np.nan).astype(np.float32)
    return left, right, truth


@pytest.fixture(scope='module')
def pairs(tmp_path_factory, motorcycle):
    """Windows of the real pair as a recording's folder."""
    root = tmp_path_factory.mktemp('pairs') / 'drive'
    for name, image in zip(('left', 'right'), motorcycle):
        (root / name).mkdir(parents=True)
        for i in range(10):
            write_image(root / name / f'{i}.png', image[20 * i:20 * i + 240, 30 * i:30 * i + 400])
    return root


@pytest.fixture(scope='module')
def nano():
    return StereoPredictor.load('nano', 'cpu', (288, 416))


def start(config, out, *more):
    return TrainingProcess('adapt', '--config', config, '--cache', out.parent / 'cache', *more,
                           out=out)


def test_labels_are_better_than_the_network_and_none_where_nobody_knows(nano, motorcycle):
    left, right, truth = motorcycle
    label = label_pair(nano, left, right)
    known = np.isfinite(label) & np.isfinite(truth)
    assert 0.5 < known.mean() < 0.95
    network = nano.predict(left, right).disparity_filled
    assert bad(label, truth, known, 1) < 0.7 * bad(network, truth, known, 1)
    assert bad(label, truth, known, 3) < bad(network, truth, known, 3)
    assert (np.arange(left.shape[1]) - label >= 0)[np.isfinite(label)].all()


def test_labels_are_kept_and_scale_with_the_images(nano, pairs, tmp_path):
    found = find_pairs(pairs)[:2]
    taught = label_pairs(nano, found, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 2 and label_pairs(None, found, tmp_path) == taught
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    whole, half = (load_taught(taught[0], 240, width) for width in (400, 200))
    assert half['left'].shape == (3, 240, 200) and whole['disparity'].shape == (1, 240, 400)
    medians = [np.nanmedian(sample['disparity']) for sample in (whole, half)]
    assert medians[0] == pytest.approx(2 * medians[1], rel=0.02)


def test_batches_ask_for_no_object_and_repeat(nano, pairs, tmp_path):
    taught = label_pairs(nano, find_pairs(pairs)[:2], tmp_path)
    names = tuple(item.name for item in KITTI_CLASSES)
    stream = TaughtStream([taught], [1.0], (288, 416), StreamConfig(
        height=192, width=256, boxes=names), 2, seed=3)
    batch = stream[5]
    assert all(torch.equal(x, stream[5][name]) for name, x in batch.items())
    assert batch['valid'].float().mean() > 0.3 and batch['disparity'].isfinite().all()
    # what lies outside the right crop cannot be matched
    outside = torch.arange(256) + 2 < batch['disparity']
    assert batch['occluded'][batch['valid'] & outside].all()
    sizes = torch.tensor([item.size for item in KITTI_CLASSES])
    targets = detection_targets(batch['boxes'], batch['camera'], sizes, 192 // CELL, 256 // CELL)
    assert not targets.asked.any() and not targets.weight.any()


def test_a_stopped_run_continues_bit_exactly_and_reports(config, pairs, tmp_path):
    whole = start(config, tmp_path / 'whole', '--data', pairs)
    assert whole.wait() == 0, whole.output()
    killed = start(config, tmp_path / 'killed', '--data', pairs)
    killed.wait_for_steps(2)
    killed.kill()
    resumed = TrainingProcess('adapt', '--resume', '--cache', tmp_path / 'cache',
                              out=tmp_path / 'killed')
    assert resumed.wait() == 0, resumed.output()
    assert_equal_states(load_state(tmp_path / 'whole'), load_state(tmp_path / 'killed'))

    result = json.loads((tmp_path / 'whole' / 'adaptation.json').read_text())
    with (tmp_path / 'whole' / 'validate.csv').open() as file:
        row = list(csv.DictReader(file))[-1]
    assert float(row['own_epe']) == pytest.approx(result['after']['epe'], rel=1e-4)
    assert result['held_out_pairs'] == 2 and result['before'] != result['after']
    assert read_image(tmp_path / 'whole' / 'adaptation.png').shape[1] > 1200
    assert 'photometric error, grey levels' in whole.output()
    _, network, _ = load_checkpoint(tmp_path / 'whole' / 'average.safetensors')
    assert network.class_names == ('Car', 'Pedestrian', 'Cyclist'), 'the boxes were lost'


def test_recordings_whose_stamps_differ_need_a_tolerance(config, motorcycle, tmp_path, capsys):
    from svp_ros.data import bag_messages
    from svp_ros.data.rosbag2 import BagWriter
    left, right, _ = motorcycle
    camera = StereoCamera(fx=400, fy=400, cx=200, cy=120, baseline=0.2, width=400, height=240)
    with BagWriter(tmp_path / 'bag', 'mcap') as bag:
        for i in range(6):
            stamps = 10 ** 9 + i * 10 ** 8, 10 ** 9 + i * 10 ** 8 + 4 * 10 ** 6
            headers = [bag_messages.make_header(stamp, 'left') for stamp in stamps]
            infos = bag_messages.make_camera_infos(camera, headers[0])
            for eye, image, header, info in zip(('left', 'right'), (left, right), headers, infos):
                window = image[20 * i:20 * i + 240, 30 * i:30 * i + 400]
                bag.write(f'/{eye}/camera_info', stamps[0], info)
                bag.write(f'/{eye}/image_rect', stamps[0],
                          bag_messages.make_image(np.ascontiguousarray(window), header))
    argv = ['adapt', '--config', str(config), '--data', str(tmp_path / 'bag'), '--out',
            str(tmp_path / 'run'), '--accelerator', 'cpu', '--workers', '0']
    assert main(argv) == 2
    assert 'the nearest are 4.000 ms apart' in capsys.readouterr().err
    assert main([*argv, '--tolerance', '0.005']) == 0
    assert 'held-out pairs of the recording' in capsys.readouterr().out


@pytest.mark.parametrize('argv, message', [
    ([], 'nothing to adapt to: name a recording or a folder of pairs with --data'),
    (['--data', '{tmp}'], 'no stereo pairs below '),
    (['--data', '{tmp}/nothing'], 'no folder '),
    (['--data', '{pairs}', '--start', 'nano_pretrained'], 'nano_pretrained is a pre-trained'),
    (['--data', '{pairs}', '--start', 'nothing'], 'no model "nothing"'),
    (['--data', '{pairs}', '--tolerance', '-1'], 'tolerance must not be negative, got -1'),
    (['--resume', '--data', '{pairs}'], '--resume without --config keeps the settings'),
])
def test_what_cannot_work_is_explained(argv, message, pairs, tmp_path, capsys):
    argv = [word.format(tmp=tmp_path, pairs=pairs) for word in argv]
    assert main(['adapt', *argv, '--out', str(tmp_path / 'run'), '--accelerator', 'cpu']) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('svp adapt: ') and message in error


def test_the_verdict_follows_from_what_needs_no_label():
    before = {'photometric_error': 5.0, 'left_right': 1.0, 'epe': 1.0}
    text = describe_change(before, {'photometric_error': 4.5, 'left_right': 1.0, 'epe': 2.0})
    assert text.endswith('take it') and 'photometric error, grey levels' in text
    text = describe_change(before, {'photometric_error': 4.5, 'left_right': 1.1, 'epe': 0.5})
    assert 'keep the network it came from' in text


def test_score_of_a_network_against_itself(nano, pairs, tmp_path):
    own = HeldOutPairs(label_pairs(nano, find_pairs(pairs)[:2], tmp_path))
    scores = own.score(nano)
    assert scores == own.score(nano)
    assert scores['bad_3'] < 20 and 0 < scores['photometric_error'] < 30
    assert own.picture(nano, nano).shape[2] == 3
