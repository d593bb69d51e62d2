"""Detection head: maps <-> boxes, losses, and the predictor's boxes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from svp_ros.geometry import camera_row, project, StereoCamera
from svp_ros.model.build import (
    build_model,
    load_checkpoint,
    load_start,
    NetworkConfig,
    ObjectClass,
    save_checkpoint,
    SIZES,
)
from svp_ros.model.detection import CELL, decode_boxes, DetectionMaps, PARTS
from svp_ros.predictor import StereoPredictor
from svp_ros.train.detection_losses import detection_losses, detection_targets, heat_loss

CLASSES = (ObjectClass('Car', 3.9, 1.53, 1.63), ObjectClass('Pedestrian', 0.8, 1.75, 0.65))
MEAN_SIZES = torch.tensor([item.size for item in CLASSES])
TINY = NetworkConfig(channels=(8, 8, 16, 32), blocks=(0, 0, 0, 0), heads=2, encoder_depth=1,
                     attention_depth=1, decoder_depth=1, cost_channels=16, refine_channels=16,
                     max_disparity=64, classes=CLASSES)
CAMERA = StereoCamera(180.0, 200.0, 130.0, 60.0, 0.54, 256, 128)
# x, y, z, l, h, w, ry: ahead, to the left and facing back, and partly right of the image
BOX3D = torch.tensor([[0.5, 1.0, 12.0, 4.2, 1.5, 1.7, -1.5],
                      [-4.0, 0.8, 9.0, 0.7, 1.8, 0.6, 2.9],
                      [9.5, 0.9, 14.0, 3.6, 1.4, 1.6, 0.3]])
LABELS = (0, 1, 0)


def batch_of(box3d=BOX3D, labels=LABELS, camera=CAMERA, ignore=0):
    """(1, N + 1, 13) boxes with one row of padding, and (1, 6) camera."""
    boxes = torch.full((1, len(box3d) + 1, 13), -1.0)
    centre = project(box3d[:, :3].double(), camera).float()
    half = camera.fx * 1.5 / box3d[:, 2:3] * torch.tensor([[1.0, 0.6]])
    for i, label in enumerate(labels):
        boxes[0, i, 0] = label
        boxes[0, i, 1:8] = box3d[i]
        boxes[0, i, 8:10] = centre[i, :2] - half[i]
        boxes[0, i, 10:12] = centre[i, :2] + half[i]
        boxes[0, i, 12] = ignore
    return boxes, torch.tensor([camera_row(camera)])


def perfect_maps(boxes, camera):
    """Maps of a head that knows the truth and splits the depth between its two parts."""
    t = detection_targets(boxes, camera, MEAN_SIZES, CAMERA.height // CELL, CAMERA.width // CELL)
    behind = 1.3
    near = t.reach / (t.reach / t.disparity - behind) + camera[:, 5].view(-1, 1, 1, 1)
    alpha = t.alpha
    parts = {'offset': t.offset, 'near': near, 'depth_offset': torch.full_like(near, behind),
             'log_scale': torch.full_like(near, -3.0), 'size': t.size,
             'axis': torch.cat((torch.cos(2 * alpha), torch.sin(2 * alpha)), dim=1),
             'heading': torch.cat((torch.cos(alpha), torch.sin(alpha)), dim=1)}
    heat = torch.logit(t.heat.clamp(1e-6, 1 - 1e-6))
    return torch.cat((heat, *(parts[name] for name in PARTS)), dim=1)


def decode(maps, camera, least=0.5):
    box3d, score, label = (x[0] for x in decode_boxes(maps, camera, MEAN_SIZES))
    return box3d[score > least], label[score > least]


@pytest.mark.parametrize('cx_right', [130.0, 118.0])
def test_truth_through_the_maps_and_back(cx_right):
    camera = replace(CAMERA, cx_right=cx_right)
    box3d, label = decode(perfect_maps(*batch_of(camera=camera)),
                          torch.tensor([camera_row(camera)]))
    order = [int((box3d[:, 0] - x).abs().argmin()) for x in BOX3D[:, 0]]
    torch.testing.assert_close(box3d[order], BOX3D, atol=2e-3, rtol=1e-3)
    assert [int(label[i]) for i in order] == list(LABELS)


def test_one_object_in_two_cameras_has_the_same_metres():
    """The head's pixels differ with the lens, the boxes that come out do not."""
    wide = replace(CAMERA, fx=120.0, fy=90.0, cx=100.0, cy=70.0, baseline=0.2)
    boxes = [decode(perfect_maps(*batch_of(BOX3D[:2], LABELS[:2], camera)),
                    torch.tensor([camera_row(camera)]))[0] for camera in (CAMERA, wide)]
    boxes = [x[x[:, 0].argsort()] for x in boxes]
    torch.testing.assert_close(*boxes, atol=2e-3, rtol=1e-3)


def test_truth_costs_nothing_but_its_entropy():
    boxes, camera = batch_of()
    targets = detection_targets(boxes, camera, MEAN_SIZES, 32, 64)
    maps = perfect_maps(boxes, camera)
    near = DetectionMaps.split(maps).near
    losses = detection_losses(maps, targets, camera, near, torch.ones_like(near, dtype=torch.bool))
    for name in ('offset', 'near', 'centre', 'size', 'axis', 'heading'):
        assert losses[name] < 1e-4, name
    assert losses['heat'] < heat_loss(torch.zeros_like(targets.heat), targets.heat,
                                      targets.asked) / 20


def test_every_object_weighs_the_same():
    targets = detection_targets(*batch_of(), MEAN_SIZES, 32, 64)
    assert targets.weight.sum() == pytest.approx(3, abs=1e-4)
    assert (targets.heat[0, 0] > 0.999).sum() == 2 and (targets.heat[0, 1] > 0.999).sum() == 1


def test_ignored_objects_are_neither_asked_for_nor_false_alarms():
    boxes, camera = batch_of(ignore=1)
    targets = detection_targets(boxes, camera, MEAN_SIZES, 32, 64)
    assert targets.weight.sum() == 0 and targets.heat.max() == 0
    alarm = torch.full((1, 2, 32, 64), -9.0)
    u, v = (project(BOX3D[:1, :3].double(), CAMERA)[0, :2] / CELL).int().tolist()
    alarm[0, 0, v, u] = 5.0
    assert heat_loss(alarm, targets.heat, targets.asked) < 0.01
    alarm[0, 1, v, u] = 5.0  # the ignored object is a car, no pedestrian
    assert heat_loss(alarm, targets.heat, targets.asked) > 1


def test_of_equal_neighbours_one_is_a_box():
    """Low precision rounds the top of a wide peak to one value."""
    boxes, camera = batch_of()
    maps = perfect_maps(boxes, camera)
    box3d, _ = decode(maps, camera)
    maps[:, :2] = (maps[:, :2] / 4).round() * 4
    rounded, _ = decode(maps, camera)
    assert len(rounded) == len(box3d) == 3


def test_a_box_that_repeats_a_better_one_has_no_score():
    twice = BOX3D[[0, 0, 0, 1]].clone()
    twice[1, 2] += 1.0  # a metre behind: no place for another car
    twice[2, 0] += 2.0  # two metres beside: the next lane
    boxes, camera = batch_of(twice, (0, 0, 0, 1))
    maps = perfect_maps(boxes, camera)
    box3d, _ = decode(maps, camera)
    assert len(box3d) == 3
    box3d, score, _ = (x[0] for x in decode_boxes(maps, camera, MEAN_SIZES))
    assert (score[:4] > 0.5).sum() == 3 and (score[:4] == 0).sum() == 1


def test_batch_without_objects_has_finite_losses():
    boxes, camera = torch.full((1, 3, 13), -1.0), torch.tensor([camera_row(CAMERA)])
    targets = detection_targets(boxes, camera, MEAN_SIZES, 32, 64)
    maps = torch.randn(1, 14, 32, 64)
    losses = detection_losses(maps, targets, camera, torch.rand(1, 1, 32, 64),
                              torch.ones(1, 1, 32, 64, dtype=torch.bool))
    assert all(x.isfinite() for x in losses.values())
    assert sum(losses[name] for name in losses if name != 'heat') == 0


def test_all_weights_learn_and_one_pair_can_be_learnt():
    torch.manual_seed(0)
    model = build_model(TINY)
    left, right = torch.rand(2, 1, 3, 128, 256)
    boxes, camera = batch_of()
    targets = detection_targets(boxes, camera, MEAN_SIZES, 32, 64)
    disparity = torch.full((1, 1, 32, 64), 9.0)
    valid = torch.ones_like(disparity, dtype=torch.bool)
    optimizer = torch.optim.AdamW(model.detection.parameters(), 3e-3)
    for step in range(300):
        output = model(left, right)
        losses = detection_losses(output.detection, targets, camera, disparity, valid)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        if step == 0:
            silent = [name for name, p in model.detection.named_parameters()
                      if p.grad is None or not p.grad.any()]
            assert not silent
        optimizer.step()
    with torch.no_grad():
        box3d, label = decode(model(left, right).detection, camera, least=0.2)
    for box, kind in zip(BOX3D, LABELS):
        distance = (box3d[:, :3] - box[:3]).norm(dim=1)
        best = int(distance.argmin())
        assert distance[best] < 0.7 and int(label[best]) == kind


def test_checkpoint_keeps_its_classes_and_their_sizes(tmp_path):
    model = build_model(TINY).eval()
    save_checkpoint(tmp_path / 'a.safetensors', model.state_dict(), TINY, half=False)
    loaded, config, _ = load_checkpoint(tmp_path / 'a.safetensors')
    assert config == TINY and config.class_names == ('Car', 'Pedestrian')
    pair = torch.rand(2, 1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(loaded(*pair).detection, model(*pair).detection)


def test_detection_starts_from_disparity_and_from_other_classes(tmp_path):
    plain = replace(TINY, classes=())
    save_checkpoint(tmp_path / 'plain.safetensors', build_model(plain).state_dict(), plain)
    model = build_model(TINY)
    count, _ = load_start(model, TINY, tmp_path / 'plain.safetensors')
    assert count == sum(not name.startswith('detection.') for name in model.state_dict())
    save_checkpoint(tmp_path / 'two.safetensors', model.state_dict(), TINY)
    for classes in (CLASSES[:1], ()):  # another head, no head
        config = replace(TINY, classes=classes)
        assert load_start(build_model(config), config, tmp_path / 'two.safetensors')[0] == count


def test_classes_must_differ_and_have_a_size():
    with pytest.raises(ValueError, match='classes must differ, got Car, Car'):
        replace(TINY, classes=CLASSES[:1] * 2)
    with pytest.raises(ValueError, match='positive length, height and width'):
        ObjectClass('Car', 4, 0, 1)


@pytest.fixture
def detector(tmp_path):
    torch.manual_seed(1)
    model = build_model(TINY)
    torch.nn.init.constant_(model.detection.maps.bias[:2], 1.0)  # sees things everywhere
    path = tmp_path / 'detector.safetensors'
    save_checkpoint(path, model.state_dict(), TINY)
    return path


def make_pair(height, width):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (2, height, width, 3), np.uint8)


def test_predictor_gives_boxes_with_a_camera_only(detector):
    predictor = StereoPredictor.load(detector, 'cpu', (128, 256))
    left, right = make_pair(100, 300)
    camera = StereoCamera(210.0, 190.0, 150.0, 50.0, 0.3, 300, 100)
    assert predictor.classes == ('Car', 'Pedestrian')
    assert predictor.predict(left, right).boxes is None
    boxes = predictor.predict(left, right, camera).boxes
    assert boxes.box3d.shape == (len(boxes), 7) and boxes.box3d.dtype == np.float32
    assert len(boxes) and set(boxes.label) <= {'Car', 'Pedestrian'}
    assert (np.diff(boxes.score) <= 0).all() and (boxes.box3d[:, 2] > 0).all()
    assert (np.abs(boxes.box3d[:, 6]) <= np.pi).all()


def test_boxes_do_not_depend_on_how_the_images_were_scaled_before(detector):
    """Images of the network's size, or twice as large: the metres are those of the camera."""
    predictor = StereoPredictor.load(detector, 'cpu', (128, 256))
    left, right = make_pair(128, 256)
    camera = StereoCamera(210.0, 190.0, 130.0, 60.0, 0.3, 256, 128)
    large = [np.repeat(np.repeat(image, 2, 0), 2, 1) for image in (left, right)]
    one = predictor.predict(left, right, camera).boxes
    other = predictor.predict(*large, camera.scaled(2, 2)).boxes
    np.testing.assert_allclose(one.box3d, other.box3d, rtol=1e-4, atol=1e-4)


def test_padding_holds_no_boxes(detector):
    predictor = StereoPredictor.load(detector, 'cpu', (100, 200))
    left, right = make_pair(100, 200)
    camera = StereoCamera(210.0, 190.0, 100.0, 50.0, 0.3, 200, 100)
    with torch.inference_mode():
        maps = predictor.engine(*predictor._pair.fill(left, right))[3].clone()
        assert maps.shape[2:] == (32, 56)
        maps[:, :2] = -9
        maps[:, :2, 30] = maps[:, :2, :, 53] = 9  # below and right of the image
        assert len(predictor._boxes(maps, camera)) == 0


def test_predictor_without_detection_head_gives_no_boxes(tiny_model):
    predictor = StereoPredictor.load(tiny_model, 'cpu', (64, 96))
    camera = StereoCamera(90.0, 90.0, 48.0, 32.0, 0.3, 96, 64)
    assert predictor.classes == ()
    assert predictor.predict(*make_pair(64, 96), camera).boxes is None


@pytest.mark.parametrize('engine', ['onnx', 'openvino'])
def test_engines_give_the_same_boxes(detector, engine):
    pytest.importorskip('onnxruntime' if engine == 'onnx' else engine)
    camera = StereoCamera(210.0, 190.0, 130.0, 60.0, 0.3, 256, 128)
    pair = make_pair(128, 256)
    boxes = [StereoPredictor.load(detector, 'cpu', (128, 256), name).predict(*pair, camera).boxes
             for name in ('torch', engine)]
    np.testing.assert_allclose(boxes[0].score[:10], boxes[1].score[:10], atol=1e-3)
    np.testing.assert_allclose(boxes[0].box3d[0], boxes[1].box3d[0], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize('name', SIZES)
def test_detection_costs_at_most_15_percent(name):
    from torch.utils.flop_counter import FlopCounterMode
    flops = []
    for classes in ((), CLASSES):
        model = build_model(replace(SIZES[name], classes=classes)).eval()
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(*torch.rand(2, 1, 3, 96, 128))
        flops.append(counter.get_total_flops())
    assert flops[1] <= 1.15 * flops[0]
