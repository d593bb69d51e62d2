"""`svp finetune detection`: on the world, on a user's labels, resumed, and refused."""

import csv
from dataclasses import replace
import json
import re

import numpy as np
import pytest
import torch
from training_process import assert_equal_states, load_state, TrainingProcess
import yaml

from svp_ros.boxes import project_boxes
from svp_ros.cli import main as cli_main
from svp_ros.data import labelled_frames
from svp_ros.data.labelled_frames import find_frames
from svp_ros.data.labelled_stream import LabelledStream, load_frame
from svp_ros.data.stream import StreamConfig
from svp_ros.data.transforms import AugmentConfig
from svp_ros.model.build import build_model, get_size, ObjectClass, save_checkpoint
from svp_ros.predictor import StereoPredictor
from svp_ros.train.detection import losses_of_batch
from svp_ros.train.own_labels import describe_labels, measure_classes

STREETS = {'street': 1.0, 'room': 0.0, 'clutter': 0.0, 'table': 0.0}
FAST = {
    'size': 'nano', 'precision': '32-true', 'validation_pairs': 4, 'validation_streets': 2,
    'data_batch': 1,
    'stream': {'height': 64, 'width': 96, 'render_height': 96, 'render_width': 128, 'batch': 1,
               'pairs': 8, 'world': STREETS},
    'loop': {'steps': 4, 'validate_every': 4, 'log_every': 1, 'save_every_s': 0.0}}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'fast.yaml'
    path.write_text(yaml.safe_dump(FAST))
    return path


@pytest.fixture(scope='module')
def frames(tmp_path_factory):
    """Rendered streets as a user's labelled folder, one of them without disparity."""
    out = tmp_path_factory.mktemp('frames')
    assert cli_main(['render', '--out', str(out), '--count', '3', '--size', '128x256',
                     '--kind', 'street', '--seed', '3']) == 0
    next(iter(sorted(out.rglob('disp.pfm')))).unlink()
    return out


def start(config, out, *more):
    return TrainingProcess('finetune', 'detection', '--config', config,
                           '--cache', out.parent / 'cache', *more, out=out)


def test_a_stopped_run_continues_bit_exactly_and_the_weights_give_boxes(config, tmp_path):
    whole = start(config, tmp_path / 'whole')
    assert whole.wait() == 0, whole.output()
    killed = start(config, tmp_path / 'killed')
    killed.wait_for_steps(2)
    killed.kill()
    resumed = start(config, tmp_path / 'killed', '--resume')
    assert resumed.wait() == 0, resumed.output()
    assert_equal_states(load_state(tmp_path / 'whole'), load_state(tmp_path / 'killed'))

    with (tmp_path / 'whole' / 'validate.csv').open() as file:
        row = list(csv.DictReader(file))[-1]
    assert float(row['epe']) > 0 and 'car_3d' in row
    assert (tmp_path / 'whole' / 'boxes.png').stat().st_size > 1000
    predictor = StereoPredictor.load(tmp_path / 'whole' / 'average.safetensors', 'cpu', (64, 96))
    assert predictor.classes == ('Car', 'Pedestrian', 'Cyclist')


def test_own_labels_bring_their_classes(config, frames, tmp_path):
    run = start(config, tmp_path / 'own', '--data', frames, '--classes', 'Car')
    assert run.wait() == 0, run.output()
    predictor = StereoPredictor.load(tmp_path / 'own' / 'average.safetensors', 'cpu', (64, 96))
    assert predictor.classes == ('Car',)
    sizes = [box for frame in find_frames(frames) for box, label in zip(
        frame.read_boxes().box3d, frame.read_boxes().label) if label == 'Car']
    mean = np.mean(sizes, axis=0)[3:6]
    np.testing.assert_allclose(predictor.config.classes[0].size, mean, rtol=1e-4)


def test_unknown_classes_name_those_that_are_labelled(config, frames, tmp_path, capsys):
    assert cli_main(['finetune', 'detection', '--config', str(config), '--data', str(frames),
                     '--classes', 'Forklift', '--out', str(tmp_path / 'run')]) == 2
    assert 'no 3D box is labelled Forklift; the labels have Car (' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


def test_labels_are_read_once(config, frames, tmp_path, capsys, monkeypatch):
    read, read_boxes = [], labelled_frames.read_boxes_json
    monkeypatch.setattr(labelled_frames, 'read_boxes_json', lambda path, camera: (
        read.append(path), read_boxes(path, camera))[1])
    assert cli_main(['finetune', 'detection', '--config', str(config), '--data', str(frames),
                     '--classes', 'Car', '--accelerator', 'none', '--out',
                     str(tmp_path / 'run')]) == 2
    assert '--accelerator must be' in capsys.readouterr().err  # what comes after the labels
    assert sorted(read) == sorted(frames.rglob('boxes.json'))


def test_classes_need_labels(config, tmp_path, capsys):
    assert cli_main(['finetune', 'detection', '--config', str(config), '--classes', 'Car',
                     '--out', str(tmp_path / 'run')]) == 2
    assert 'name their folder with --data' in capsys.readouterr().err


def stream_config(**changes):
    quiet = AugmentConfig(flip=0, upside_down=0, photometric=0, erase=0, misalign=0, grey=0,
                          zoom=(0, 0), stretch=(0, 0))
    return StreamConfig(height=64, width=128, render_height=64, render_width=128, batch=1,
                        boxes=('Car', 'Pedestrian', 'Cyclist'),
                        augment=replace(quiet, **changes))


def test_a_resumed_run_keeps_its_teacher(config, frames, tmp_path):
    network = get_size('nano')
    first = tmp_path / 'start.safetensors'
    save_checkpoint(first, build_model(network).state_dict(), network)
    options = ['--data', str(frames), '--start', str(first)]
    whole = start(config, tmp_path / 'whole', *options)
    assert whole.wait() == 0, whole.output()
    killed = start(config, tmp_path / 'killed', *options)
    killed.wait_for_steps(2)
    killed.kill()
    first.unlink()
    resumed = TrainingProcess('finetune', 'detection', '--cache', tmp_path / 'cache', '--resume',
                              out=tmp_path / 'killed')
    assert resumed.wait() == 0, resumed.output()
    assert_equal_states(load_state(tmp_path / 'whole'), load_state(tmp_path / 'killed'))


def test_labels_that_teach_nothing_are_refused(frames):
    found = [frame.read_boxes() for frame in find_frames(frames)]
    text = describe_labels(found, ['Car'])
    assert text.startswith('3 labelled frames show ') and 'other classes: ' in text
    with pytest.raises(ValueError, match='nothing to learn: 3 labelled frames show 0 Tram'):
        describe_labels(found, ['Tram'])
    unknown = replace(found[0], occlusion=np.full(len(found[0]), 3))
    with pytest.raises(ValueError, match='nothing to learn'):
        describe_labels([unknown], ['Car', 'Pedestrian', 'Cyclist'])


def test_frames_at_another_size_keep_boxes_over_their_objects(frames):
    for frame in find_frames(frames):
        sample = load_frame(frame, 64, 128)
        whole = project_boxes(sample['boxes'].box3d, sample['camera'])
        inside = sample['boxes'].truncation < 0.01
        np.testing.assert_allclose(sample['boxes'].box2d[inside], whole[inside], atol=1.0)
        known = sample['disparity'].isfinite().numpy()
        assert known.all() if frame.disparity else not known.any()


@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_disparity_is_used_if_both_eyes_have_it(frames, flip, tmp_path):
    frame = next(frame for frame in find_frames(frames) if frame.disparity)
    batch = LabelledStream([frame], stream_config(flip=flip), 1, seed=0)[0]
    assert batch['valid'].all() and 0 < batch['occluded'].float().mean() < 0.5
    alone = tmp_path / 'disp.pfm'
    alone.write_bytes(frame.disparity.read_bytes())
    batch = LabelledStream([replace(frame, disparity=alone)], stream_config(flip=flip), 1, 0)[0]
    assert not batch['valid'].any() and batch['disparity'].isfinite().all()


def test_what_has_no_disparity_is_taught_what_the_start_is_sure_of(frames):
    frame = next(frame for frame in find_frames(frames) if not frame.disparity)
    batch = LabelledStream([frame], stream_config(), 1, seed=0)[0]
    torch.manual_seed(0)
    classes = tuple(ObjectClass(name, 2, 2, 1) for name in ('Car', 'Pedestrian', 'Cyclist'))
    network = replace(get_size('nano'), classes=classes)
    sizes = torch.tensor([item.size for item in classes])
    model, teacher = build_model(network), build_model(network).eval()
    assert losses_of_batch(model, batch, sizes, 1.0)['full'] == 0
    torch.nn.init.constant_(teacher.head.residual4.bias[1], -3.0)  # always sure
    assert losses_of_batch(model, batch, sizes, 1.0, teacher)['full'] > 0
    torch.nn.init.constant_(teacher.head.residual4.bias[1], 3.0)  # never
    assert losses_of_batch(model, batch, sizes, 1.0, teacher)['full'] == 0


def test_degenerate_and_missing_boxes_do_not_count_as_sizes(frames):
    boxes = find_frames(frames)[0].read_boxes()
    broken = boxes.box3d.copy()
    broken[0, 3:6] = 0
    label = boxes.label[0]
    others = [box[3:6] for box, name in zip(boxes.box3d[1:], boxes.label[1:]) if name == label]
    if others:
        found = measure_classes([replace(boxes, box3d=broken)], [label])[0]
        np.testing.assert_allclose(found.size, np.mean(others, axis=0), rtol=1e-5)
    else:
        with pytest.raises(ValueError, match='no 3D box is labelled'):
            measure_classes([replace(boxes, box3d=broken)], [label])


def test_a_disparity_network_is_the_start(config, tmp_path):
    network = get_size('nano')
    weights = build_model(network).state_dict()
    save_checkpoint(tmp_path / 'start.safetensors', weights, network, samples='40')
    run = start(config, tmp_path / 'run', '--start', tmp_path / 'start.safetensors')
    assert run.wait() == 0, run.output()
    counts = re.search(r'starting from (\d+) of (\d+) tensors', run.output())
    assert len(weights) == int(counts[1]) < int(counts[2])
    predictor = StereoPredictor.load(tmp_path / 'run' / 'average.safetensors', 'cpu', (64, 96))
    assert int(predictor.card['samples']) == 44
    assert json.loads(json.dumps(predictor.card))['name'] == 'average'
