"""Properties that every rendered sample must have."""

import copy
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from svp_ros.boxes import CLASSES
from svp_ros.data.world import World, WorldConfig
from svp_ros.data.world.scene import Kind
from svp_ros.data.world.textures import make_texture_bank
from svp_ros.geometry import disparity_to_depth, unproject

H, W = 96, 144
KINDS = ('room', 'street', 'clutter', 'table')


@pytest.fixture(scope='module')
def world():
    return World()


@pytest.fixture(scope='module')
def plain_world(world):
    """The same scenes without what differs between the eyes."""
    return with_settings(world, effects=False, specular=False)


def with_settings(world, **settings):
    """A world with other settings and the same textures."""
    other = copy.copy(world)
    other.config = replace(world.config, **settings)
    return other


def warp(values, disparity):
    """Sample right-image values at x - disparity, linearly."""
    grid_x = torch.arange(W) - disparity
    grid_y = torch.arange(H)[:, None].expand(H, W).expand_as(grid_x)
    grid = torch.stack([2 * grid_x / (W - 1) - 1, 2 * grid_y / (H - 1) - 1], -1)
    return torch.nn.functional.grid_sample(values, grid[:, 0], align_corners=True,
                                           padding_mode='border')


def assert_equal(first, second):
    for name in ('left', 'right', 'disparity', 'disparity_right', 'occluded', 'instance'):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert first.cameras == second.cameras
    for one, other in zip(first.boxes, second.boxes):
        np.testing.assert_array_equal(one.box3d, other.box3d)
        assert one.label == other.label


def test_shapes_types_and_ranges(world):
    sample = world.sample(1, 3, H, W)
    for image in (sample.left, sample.right):
        assert image.shape == (3, 3, H, W) and image.dtype == torch.float32
        assert image.min() >= 0 and image.max() <= 1
    for truth, dtype in (('disparity', torch.float32), ('disparity_right', torch.float32),
                         ('occluded', torch.bool), ('instance', torch.int32)):
        assert getattr(sample, truth).shape == (3, 1, H, W)
        assert getattr(sample, truth).dtype == dtype
    assert torch.isfinite(sample.disparity).all() and sample.disparity.min() >= 0
    assert len(sample.cameras) == len(sample.boxes) == 3
    assert all((camera.width, camera.height) == (W, H) for camera in sample.cameras)


def test_seed_decides_everything(world):
    first = world.sample(5, 2, H, W)
    world.sample(6, 1, 40, 64, 'street')
    torch.manual_seed(123)
    np.random.seed(123)
    assert_equal(first, world.sample(5, 2, H, W))
    other = world.sample(6, 2, H, W)
    assert not torch.equal(first.disparity, other.disparity)


def test_another_world_renders_the_same(world):
    assert_equal(world.sample(7, 1, 40, 64), World().sample(7, 1, 40, 64))


def test_scenes_do_not_depend_on_their_batch(plain_world):
    four, two = plain_world.sample(8, 4, H, W), plain_world.sample(8, 2, H, W)
    torch.testing.assert_close(four.left[:2], two.left)
    torch.testing.assert_close(four.disparity[:2], two.disparity)


@pytest.mark.parametrize('kind', [*KINDS, 'field'])
def test_right_image_warped_by_disparity_is_the_left_one(plain_world, kind):
    if kind == 'field':
        sample = with_settings(plain_world, field_share=1.0).sample(11, 4, H, W, 'clutter')
    else:
        sample = plain_world.sample(11, 4, H, W, kind)
    seen = ~sample.occluded
    # fine foliage and fences alias differently in each eye: judge where disparity is smooth
    lowest = -torch.nn.functional.max_pool2d(-sample.disparity, 3, 1, 1)
    seen &= torch.nn.functional.max_pool2d(sample.disparity, 3, 1, 1) - lowest < 1

    def error(offset):
        difference = (warp(sample.right, sample.disparity + offset) - sample.left).abs()
        return difference.mean(1, keepdim=True)[seen].mean().item()

    assert seen.float().mean() > 0.4
    assert error(0) < 0.012
    assert error(2) > 2 * error(0) and error(-2) > 2 * error(0)


@pytest.mark.parametrize('kind', KINDS)
def test_left_and_right_disparities_agree_where_not_occluded(world, kind):
    sample = world.sample(12, 4, H, W, kind)
    other = warp(sample.disparity_right, sample.disparity)
    agree = (other - sample.disparity).abs() < 1 + 0.05 * sample.disparity
    assert agree[~sample.occluded].float().mean() > 0.97
    hidden = sample.occluded & (torch.arange(W) - sample.disparity >= 0)  # by something else
    assert agree[hidden].float().mean() < 0.3


def test_occlusion_covers_what_leaves_the_frame(world):
    sample = world.sample(13, 4, H, W)
    outside = torch.arange(W) - sample.disparity < 0
    assert outside.any()
    assert sample.occluded[outside].all()


def test_disparities_stay_in_the_configured_range(world):
    for kind in ('clutter', 'table'):
        largest = world.sample(14, 32, 48, 80, kind).disparity.flatten(1).amax(1) / 80
        low, high = world.config.max_disparity
        assert largest.max() < 1.02 * high  # tilted backdrops may come a little nearer
        assert largest.max() > 0.5 * high and largest.min() < 3 * low
    table = world.sample(15, 8, 48, 80, 'table').disparity
    assert (table > 0).all()  # always a backdrop


def instance_points(sample, index, instance):
    camera = sample.cameras[index]
    disparity = sample.disparity[index, 0].numpy()
    points = unproject(disparity_to_depth(disparity, camera), camera)
    return points[sample.instance[index, 0].numpy() == instance]


def test_points_of_things_lie_inside_their_boxes(world):
    sample = world.sample(16, 10, H, W, 'street')
    labels = set()
    for index, boxes in enumerate(sample.boxes):
        assert boxes.box3d.shape == (len(boxes.label), 7) and boxes.box3d.dtype == np.float32
        for (x, y, z, length, height, width, ry), label, instance in zip(
                boxes.box3d, boxes.label, boxes.instance):
            points = instance_points(sample, index, instance) - (x, y, z)
            assert len(points)
            forward = points @ (np.cos(ry), 0, -np.sin(ry))
            lateral = points @ (np.sin(ry), 0, np.cos(ry))
            # pitch and roll of the camera are small but not in the box: 7 cm in 4 m
            tolerance = 0.1 + 0.003 * z
            assert abs(forward).max() < length / 2 + tolerance
            assert abs(lateral).max() < width / 2 + tolerance
            assert abs(points[:, 1]).max() < height / 2 + tolerance
            labels.add(label)
    assert {'Car', 'Pedestrian', 'Cyclist'} <= labels <= {*CLASSES, 'Van', 'Truck'}


def test_boxes_stand_on_the_road(world):
    level = with_settings(world, street_pitch_degrees=(0.0, 0.0), street_camera_height=(1.6, 1.6))
    boxes = np.concatenate([boxes.box3d for boxes in level.sample(17, 8, 48, 80, 'street').boxes])
    bottom = boxes[:, 1] + boxes[:, 4] / 2
    # only the camera's small roll is left
    assert len(boxes) > 10
    assert (abs(bottom - 1.6) < 0.01 + 0.03 * np.hypot(boxes[:, 0], 0)).all()
    cars = boxes[boxes[:, 3] > 3]
    assert abs(cars[:, 3].mean() - 3.9) < 0.4 and abs(cars[:, 5].mean() - 1.64) < 0.2


def scenes(world, kind, count=6, **settings):
    other = with_settings(world, **settings)
    return [other._scene(np.random.default_rng(seed), H, W, kind) for seed in range(count)]


def share(scenes, test):
    primitives = [primitive for scene in scenes for primitive in scene.primitives]
    return np.mean([test(primitive) for primitive in primitives])


@pytest.mark.parametrize('name, kind, test', [
    ('curved_share', 'table', lambda item: item.kind is Kind.SHEET),
    ('curved_share', 'room', lambda item: item.kind is Kind.SHEET),
    ('foliage_share', 'street', lambda item: item.kind is Kind.FOLIAGE),
    ('reflective_share', 'street', lambda item: item.material.mirror or item.material.glass),
    ('reflective_share', 'table', lambda item: item.material.mirror > 0),
    ('gloss_share', 'clutter', lambda item: item.material.gloss > 0),
    ('plain_share', 'table', lambda item: item.material.plain > 0.9),
    ('thin_share', 'table', lambda item: min(item.half[:2]) < 0.06 * max(item.half)),
])
def test_a_share_of_zero_switches_a_group_off(world, name, kind, test):
    assert share(scenes(world, kind, **{name: 0.0}), test) == 0
    assert share(scenes(world, kind, **{name: 0.9}), test) > 0.01


@pytest.mark.parametrize('kind', KINDS)
def test_shadows_and_nights_are_groups_too(world, kind):
    for value in (0.0, 1.0):
        lights = [scene.light for scene in scenes(world, kind, shadow_share=value,
                                                  night_share=value)]
        assert all((light.shadow_radius > 0) == bool(value) for light in lights)
        bright = np.mean([light.colour.mean() * (light.ambient + (light.reach == np.inf))
                          for light in lights])
        assert bright < 0.35 if value else bright > 0.35


def test_natural_textures_and_repeated_motifs_are_groups(world):
    natural = {number for group in ('wood', 'stone', 'plaster', 'cloth', 'bark', 'grass')
               for number in world.textures.groups[group]}
    off, on = (share(scenes(world, 'clutter', field_share=0.0, thin_share=0.0, curved_share=0.0,
                            natural_share=value, repeat_share=0.0),
                     lambda item: item.material.texture in natural) for value in (0.0, 1.0))
    assert off < 0.02 < 0.3 < on
    finest = [max(scene.primitives[0].material.density[0] / scene.camera.fx
                  * scene.primitives[0].centre[2] for scene in scenes(
                      world, 'table', 12, repeat_share=value)) for value in (0.0, 1.0)]
    assert finest[0] < world.config.texels_per_pixel[1] < finest[1]  # backdrop, texels per pixel


def test_field_is_ground_below_and_sky_above(world):
    level = with_settings(world, field_share=1.0, field_pitch_degrees=(5.0, 15.0))
    for seed in range(3):
        disparity = level.sample(seed, 1, H, W, 'clutter').disparity[0, 0]
        rows = disparity.median(1).values
        assert rows[-1] > 1.2 * rows[H // 2] > 0
        low, high = level.config.max_disparity
        assert low < disparity.max() / W < 1.02 * high


def test_effects_change_pictures_but_not_the_truth(world, plain_world):
    with_effects, without = world.sample(18, 2, H, W), plain_world.sample(18, 2, H, W)
    assert torch.equal(with_effects.disparity, without.disparity)
    assert (with_effects.left - without.left).abs().mean() > 0.005
    # both eyes look alike, yet not exactly
    ratio = with_effects.left.mean(dim=(1, 2, 3)) / with_effects.right.mean(dim=(1, 2, 3))
    assert ((ratio > 0.6) & (ratio < 1.6)).all()


def test_sequence_moves_through_one_scene(world):
    frames = list(world.sequence(3, 3, H, W, rate=10.0))
    assert len(frames) == 3 and frames[0].left.shape == (1, 3, H, W)
    assert frames[0].cameras == frames[2].cameras
    shared = set(frames[0].boxes[0].instance) & set(frames[2].boxes[0].instance)
    assert shared

    def places(frame):
        boxes = frame.boxes[0]
        return dict(zip(boxes.instance, boxes.box3d))

    first, last = places(frames[0]), places(frames[2])
    for number in shared:
        np.testing.assert_array_equal(first[number][3:], last[number][3:])  # size and yaw
        assert 0 < np.linalg.norm(first[number][:3] - last[number][:3]) < 0.2 * 30
    # the road comes nearer at 5 to 10 m/s: the picture is another, the street is the same
    assert not torch.equal(frames[0].disparity, frames[2].disparity)
    assert_equal(frames[1], list(world.sequence(3, 2, H, W, rate=10.0))[1])


@pytest.mark.parametrize('kind', KINDS)
def test_any_size_and_kind(world, kind):
    assert world.sample(4, 1, 33, 50, kind).left.shape == (1, 3, 33, 50)


def test_photographs_become_textures(tmp_path, world):
    cv2.imwrite(str(tmp_path / 'red.png'), np.full((40, 60, 3), (0, 0, 255), np.uint8))
    red_world = World(photographs=tmp_path)
    bank = red_world.textures
    photo = torch.tensor([bank.groups['photo'][0]])
    centre = torch.tensor([100.0])
    colour = bank.colour(photo, centre, centre, torch.ones(1))
    torch.testing.assert_close(colour, torch.tensor([[1.0], [0.0], [0.0]]))
    red, ours = (each.sample(1, 2, 40, 64).left for each in (red_world, world))
    assert not torch.equal(red, ours)


def test_far_textures_fade_to_their_mean(world):
    bank = world.textures
    numbers = torch.tensor([group[0] for group in bank.groups.values()])
    u = torch.rand(len(numbers), generator=torch.manual_seed(0)) * 1000
    near = bank.colour(numbers, u, u, torch.ones(len(u)))
    far = [bank.colour(numbers, u + offset, u, torch.full((len(u),), 1e6)) for offset in (0, 77)]
    assert (far[0] - far[1]).abs().mean() < 0.25 * near.std(dim=1).mean()


@pytest.mark.parametrize('make, message', [
    (lambda folder: folder / 'nowhere', 'there is no folder'),
    (lambda folder: folder, r'holds no .jpg or .png image'),
])
def test_bad_folder_of_photographs(tmp_path, make, message):
    (tmp_path / 'notes.txt').write_text('no picture')
    with pytest.raises(FileNotFoundError, match=message):
        make_texture_bank(make(tmp_path))


def test_broken_photograph(tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(b'not a JPEG')
    with pytest.raises(ValueError, match=r'broken.jpg is not a readable image'):
        make_texture_bank(tmp_path)


@pytest.mark.parametrize('settings, message', [
    ({'focal_length': (2.0, 1.0)}, 'focal_length must be .low, high.'),
    ({'plain_share': 1.5}, r'plain_share must lie in \[0, 1\], got 1.5'),
    ({'room': 0.0, 'street': 0.0, 'clutter': 0.0, 'table': 0.0}, 'one must be positive'),
    ({'street': -1.0}, 'none may be negative'),
    ({'street_baseline': (0.0, 0.5)}, 'street_baseline must be positive'),
])
def test_config_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        WorldConfig(**settings)


def test_weights_choose_the_kinds(world):
    only = with_settings(world, room=0.0, clutter=0.0, table=0.0)
    sample = only.sample(20, 3, 48, 80)
    assert all(0.4 <= camera.baseline <= 0.65 for camera in sample.cameras)
    assert sum(len(boxes.label) for boxes in sample.boxes)


@pytest.mark.parametrize('arguments, message', [
    ((0, 1, 48, 80, 'moon'), 'kind must be one of room, street, clutter, table'),
    ((0, 0, 48, 80), 'must be positive'),
    ((-1, 1, 48, 80), 'seed must not be negative, got -1'),
])
def test_bad_arguments(world, arguments, message):
    with pytest.raises(ValueError, match=message):
        world.sample(*arguments)


def test_bad_rate(world):
    with pytest.raises(ValueError, match='rate must be positive, got 0'):
        world.sequence(0, 2, 48, 80, rate=0)

