"""`svp adapt`: labels without truth, a network that gets better with them, and what is refused."""

import csv
from dataclasses import replace
import json

from conftest import TINY
import numpy as np
import pytest
from skimage.data import stereo_motorcycle
import torch
from training_process import assert_equal_states, load_state, TrainingProcess
import yaml

from svp_ros.cli import main
from svp_ros.config import load_config
from svp_ros.data.formats import read_image, write_image
from svp_ros.data.pairs import find_pairs
from svp_ros.data.stream import StreamConfig
from svp_ros.eval.adaptation import describe_change, HeldOutPairs, judge
from svp_ros.eval.metrics import bad
from svp_ros.geometry import StereoCamera
from svp_ros.model.build import build_model, load_checkpoint, ObjectClass, save_checkpoint
from svp_ros.model.detection import CELL
from svp_ros.predictor import StereoPredictor
from svp_ros.resources import find_resource
from svp_ros.train.adapt import AdaptConfig
from svp_ros.train.block_labels import label_pair, label_pairs, load_taught, TaughtStream
from svp_ros.train.detection import KITTI_CLASSES
from svp_ros.train.detection_losses import detection_targets

FAST = {
    'pairs': 6, 'held_out_pairs': 2, 'rendered_pairs': 4, 'data_batch': 1,
    'network_height': 96, 'network_width': 128,
    'stream': {'height': 64, 'width': 96, 'batch': 1, 'render_height': 96, 'render_width': 128,
               'pairs': 8},
    'loop': {'steps': 4, 'validate_every': 4, 'log_every': 1, 'save_every_s': 0.0}}


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


def matches(predictor, left, right):
    disparity, unmatched = label_pair(predictor, left, right)
    return np.where(unmatched, np.nan, disparity)


def start(config, out, *more):
    return TrainingProcess('adapt', '--config', config, '--cache', out.parent / 'cache', *more,
                           out=out)


def test_labels_are_better_than_the_network_and_none_where_nobody_knows(nano, motorcycle):
    left, right, truth = motorcycle
    label = matches(nano, left, right)
    known = np.isfinite(label) & np.isfinite(truth)
    assert 0.5 < known.mean() < 0.95
    network = nano.predict(left, right).disparity_filled
    assert bad(label, truth, known, 1) < 0.7 * bad(network, truth, known, 1)
    assert bad(label, truth, known, 3) < bad(network, truth, known, 3)
    assert (np.arange(left.shape[1]) - label >= 0)[np.isfinite(label)].all()


def test_the_network_goes_on_saying_that_there_is_no_match(nano, motorcycle, pairs, tmp_path):
    disparity, unmatched = label_pair(nano, *motorcycle[:2])
    result = nano.predict(*motorcycle[:2])
    assert unmatched.mean() > 0.01 and np.isnan(result.disparity[unmatched]).all()
    assert np.array_equal(disparity[unmatched], result.disparity_filled[unmatched])

    pair = find_pairs(pairs)[0]
    taught, = label_pairs(nano, [pair], tmp_path)
    read, expected = taught.read_label(), label_pair(nano, *pair.load())
    assert all(np.array_equal(*both, equal_nan=True) for both in zip(read, expected))
    sample = load_taught(taught, 240, 400)
    assert np.array_equal(sample['occluded'][0].numpy(), expected[1])
    assert sample['disparity'][sample['occluded']].isfinite().all()


def test_what_is_nearer_than_the_search_has_no_label(nano, motorcycle, monkeypatch):
    """Else block matching would find something else there and be believed."""
    left, right, truth = motorcycle
    monkeypatch.setattr('svp_ros.train.block_labels.REACH', 0.5)
    monkeypatch.setattr('svp_ros.train.block_labels.MARGIN', 0.0)
    label = matches(nano, left, right)
    search = 0.5 * np.percentile(nano.predict(left, right).disparity_filled, 99)
    near = np.nan_to_num(truth) > search + 10
    assert near.mean() > 0.1 and np.isfinite(label[near]).mean() < 0.1
    assert np.isfinite(label[~near & np.isfinite(truth)]).mean() > 0.4


def test_black_borders_have_no_label_and_wide_images_are_matched_smaller(nano, motorcycle):
    left, right, truth = (x.copy() for x in motorcycle)
    left[:40] = 0
    right[-30:] = 0
    label = matches(nano, left, right)
    assert np.isnan(label[:40]).all() and np.isnan(label[-30:]).all()
    wide = [np.repeat(np.repeat(image, 2, 0), 2, 1) for image in motorcycle[:2]]
    label = matches(nano, *wide)
    assert label.shape == wide[0].shape[:2]
    known = np.isfinite(label[::2, ::2]) & np.isfinite(truth)
    assert bad(label[::2, ::2] / 2, truth, known, 3) < 15


def test_labels_are_kept_by_image_and_network_and_scale_with_the_images(nano, pairs, tmp_path):
    found = find_pairs(pairs)[:2]
    taught = label_pairs(nano, found, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 2 and label_pairs(nano, found, tmp_path) == taught
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    other = StereoPredictor.load('nano', 'cpu', (288, 448))
    assert label_pairs(other, found[:1], tmp_path)[0].label not in files
    found[0].left.touch()
    assert label_pairs(nano, found[:1], tmp_path)[0].label not in files

    whole, half = (load_taught(taught[1], 240, width) for width in (400, 200))
    assert half['left'].shape == (3, 240, 200) and whole['disparity'].shape == (1, 240, 400)
    medians = [np.nanmedian(sample['disparity']) for sample in (whole, half)]
    assert medians[0] == pytest.approx(2 * medians[1], rel=0.02)
    taught[1].label.unlink()
    with pytest.raises(ValueError, match='tiff is missing or broken'):
        load_taught(taught[1], 240, 400)


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
    assert result['verdict'] == judge(result['before'], result['after'])
    assert result['start']['name'] == 'nano'
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
    (['--data', '{pairs}', '--tolerance', '1'], 'no --data is a recording; leave out --tolerance'),
    (['--data', '{pairs}', '--network-size', '192x640'], 'crops of 256x512 do not fit into 192x'),
    (['--resume', '--data', '{pairs}'], '--resume without --config keeps the settings'),
])
def test_what_cannot_work_is_explained(argv, message, pairs, tmp_path, capsys):
    argv = [word.format(tmp=tmp_path, pairs=pairs) for word in argv]
    assert main(['adapt', *argv, '--out', str(tmp_path / 'run'), '--accelerator', 'cpu']) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('svp adapt: ') and message in error


def test_a_config_changes_what_it_names_only(tmp_path):
    path = tmp_path / 'some.yaml'
    path.write_text('loop: {steps: 7}\nstream: {pairs: 40}\n')
    config, default = load_config(AdaptConfig, path), AdaptConfig()
    assert (config.loop.steps, config.stream.pairs) == (7, 40)
    assert replace(config.loop, steps=default.loop.steps) == default.loop
    assert replace(config.stream, pairs=default.stream.pairs) == default.stream
    assert load_config(AdaptConfig, find_resource('config/train/adapt.yaml')) == default


def test_classes_that_are_not_rendered_would_be_forgotten(pairs, tmp_path, capsys):
    network = replace(TINY, classes=(ObjectClass('Forklift', 2.0, 2.0, 1.0),))
    start = tmp_path / 'mine.safetensors'
    save_checkpoint(start, build_model(network).state_dict(), network)
    assert main(['adapt', '--data', str(pairs), '--start', str(start), '--accelerator', 'cpu',
                 '--out', str(tmp_path / 'run')]) == 2
    assert f'{start} finds Forklift, which is not rendered' in capsys.readouterr().err


def test_swapped_eyes_are_noticed(config, motorcycle, tmp_path, capsys, caplog):
    for name, image in zip(('right', 'left'), motorcycle):
        (tmp_path / 'drive' / name).mkdir(parents=True)
        for i in range(6):
            write_image(tmp_path / 'drive' / name / f'{i}.png', image[30 * i:30 * i + 240, 100:])
    assert main(['adapt', '--config', str(config), '--data', str(tmp_path / 'drive'), '--out',
                 str(tmp_path / 'run'), '--accelerator', 'cpu']) == 2
    assert 'left and right images are swapped' in caplog.text
    assert 'check that left and right are not swapped' in capsys.readouterr().err


def verdict(photometric, left_right):
    before = {'photometric_errors': [5.0, 5.0, 5.0], 'left_rights': [1.0, 1.0, None]}
    return judge(before, {'photometric_errors': photometric, 'left_rights': left_right})


def test_the_verdict_needs_most_pairs_by_both_measures():
    assert verdict([4, 4, 6], [0.5, 0.9, None]) == 'better'
    assert verdict([4, 6, 6], [0.5, 0.9, None]) == 'no clear change'
    assert verdict([4, 4, 4], [1.5, 1.2, 0.1]) == 'no clear change'
    assert verdict([6, 6, 6], [1.5, 1.2, None]) == 'worse'
    assert verdict([5, 5, 5], [1.0, 1.0, None]) == 'no clear change'
    assert verdict([4, 4, 4], [None, None, None]) == 'no clear change'


def test_networks_are_scored_on_the_same_pixels(nano, pairs, tmp_path):
    own = HeldOutPairs(label_pairs(nano, find_pairs(pairs)[:2], tmp_path))
    other = StereoPredictor.load('nano', 'cpu', (192, 256))
    alone = own.compare({'own': nano})['own']
    both = own.compare({'own': nano, 'other': other, 'again': nano})
    assert both['own'] == both['again'] != both['other']
    assert alone['bad_3'] == both['own']['bad_3'] < 20
    assert alone['photometric_error'] != both['own']['photometric_error']
    assert own.picture(nano, other).shape[2] == 3
    text = describe_change(both['own'], both['again'])
    assert 'photometric error, grey levels' in text and 'no clear change: compare' in text
