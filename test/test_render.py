import json

import numpy as np
import pytest
import torch

from svp_ros.cli import main
from svp_ros.data.bags import read_stereo_pairs
from svp_ros.data.formats import read_image, read_pfm
from svp_ros.data.labelled import find_scenes
from svp_ros.data.render import render_scenes, to_image
from svp_ros.data.rosbag2 import BagReader
from svp_ros.data.world import World
from svp_ros.geometry import StereoCamera

H, W = 48, 64
SIZE = ['--size', f'{H}x{W}']


@pytest.fixture(scope='module')
def world():
    return World()


@pytest.fixture(scope='module')
def seed(world):
    """A seed whose first street has traffic."""
    return next(seed for seed in range(20)
                if next(render_scenes(world, seed, 1, H, W, 'street')).boxes[0].label)


@pytest.fixture(scope='module')
def street(seed, tmp_path_factory):
    """A folder of two street scenes, with a preview."""
    out = tmp_path_factory.mktemp('render') / 'street'
    assert main(['render', '--out', str(out), '--count', '2', '--kind', 'street', '--seed',
                 str(seed), *SIZE, '--preview', str(out.parent / 'new' / 'preview.png')]) == 0
    return out


def test_folder_is_labelled_data_of_the_world(street, world, seed):
    scenes = find_scenes(street)
    assert [scene.name for scene in scenes] == ['scene_000000', 'scene_000001']
    for scene, sample in zip(scenes, render_scenes(world, seed, 2, H, W, 'street')):
        left, right, disparity, valid = scene.load()
        np.testing.assert_array_equal(left, to_image(sample.left))
        np.testing.assert_array_equal(right, to_image(sample.right))
        np.testing.assert_array_equal(disparity, sample.disparity[0, 0])
        assert valid.all() and left.shape == (H, W, 3) and left.std() > 5
        folder = scene.left.parent
        np.testing.assert_array_equal(read_pfm(folder / 'disp_right.pfm'),
                                      sample.disparity_right[0, 0])
        np.testing.assert_array_equal(read_image(folder / 'occluded.png')[..., 0] == 255,
                                      sample.occluded[0, 0])
        camera = StereoCamera(**json.loads((folder / 'camera.json').read_text()))
        assert camera == sample.cameras[0] and (camera.width, camera.height) == (W, H)


def test_boxes_are_written_with_class_instance_and_numbers(street, world, seed):
    boxes = json.loads((street / 'scene_000000/boxes.json').read_text())
    expected = next(render_scenes(world, seed, 1, H, W, 'street')).boxes[0]
    assert [box['label'] for box in boxes] == expected.label
    assert [box['instance'] for box in boxes] == expected.instance.tolist()
    for name in ('box3d', 'box2d', 'truncation', 'occlusion'):
        np.testing.assert_allclose([box[name] for box in boxes], getattr(expected, name),
                                   rtol=1e-6)


def test_scene_does_not_depend_on_the_count_and_seeds_share_none(world):
    first = [sample.left for sample in render_scenes(world, 5, 1, H, W, 'table')]
    three = [sample.left for sample in render_scenes(world, 5, 3, H, W, 'table')]
    other = [sample.left for sample in render_scenes(world, 6, 3, H, W, 'table')]
    assert torch.equal(first[0], three[0])
    assert not any(torch.equal(a, b) for a in three for b in other)


def test_preview_shows_a_row_per_pair(street):
    preview = read_image(street.parent / 'new' / 'preview.png')
    assert preview.shape[0] > 2 * 180 and preview.std() > 20


def test_preview_alone_needs_no_folder(tmp_path, capsys):
    assert main(['render', '--preview', str(tmp_path / 'sheet.png'), '--count', '2', *SIZE]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ['sheet.png']
    assert read_image(tmp_path / 'sheet.png').shape[0] > 2 * 180
    assert main(['render']) == 2
    assert 'give --out, --preview or both' in capsys.readouterr().err


def test_world_settings_come_from_a_file(tmp_path, capsys):
    (tmp_path / 'world.yaml').write_text('max_disparity: [0.05, 0.06]\neffects: false\n')
    argv = ['render', '--count', '2', '--kind', 'clutter', *SIZE, '--config',
            str(tmp_path / 'world.yaml')]
    assert main([*argv, '--out', str(tmp_path / 'a')]) == 0
    for scene in find_scenes(tmp_path / 'a'):
        assert scene.load()[2].max() < 0.1 * W
    (tmp_path / 'world.yaml').write_text('max_disparities: [1, 2]\n')
    assert main([*argv, '--out', str(tmp_path / 'b')]) == 2
    assert 'unknown key "max_disparities"' in capsys.readouterr().err
    assert not (tmp_path / 'b').exists()


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_bag_holds_stamped_pairs_with_ground_truth(storage, tmp_path):
    out = tmp_path / 'drive'
    assert main(['render', '--out', str(out), '--count', '3', '--kind', 'street', '--seed', '1',
                 '--format', storage, '--rate', '20', *SIZE]) == 0
    pairs = list(read_stereo_pairs(out))
    assert [pair.stamp for pair in pairs] == [1_000_000_000, 1_050_000_000, 1_100_000_000]
    assert pairs[0].left.shape == (H, W, 3) and pairs[0].camera.baseline > 0
    assert not np.array_equal(pairs[0].left, pairs[2].left), 'the camera moves'
    with BagReader(out) as bag:
        assert set(bag.counts) == {
            '/left/image_rect', '/right/image_rect', '/left/camera_info', '/right/camera_info',
            '/ground_truth/disparity', '/ground_truth/markers'}
        assert set(bag.counts.values()) == {3}


@pytest.mark.parametrize('argv, message', [
    (['--count', '0'], 'count must be at least 1'),
    (['--rate', '0'], 'rate within 0 to 1000 Hz'),
    (['--format', 'mcap'], 'a bag shows one scene; choose its --kind'),
    (['--photographs', 'no/such/folder'], 'no/such/folder'),
])
def test_mistakes_are_one_line_and_leave_nothing_behind(tmp_path, capsys, argv, message):
    assert main(['render', '--out', str(tmp_path / 'a'), *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert not (tmp_path / 'a').exists()


def test_existing_data_is_never_mixed_with_new(street, capsys):
    assert main(['render', '--out', str(street)]) == 2
    assert 'exists already; choose another --out' in capsys.readouterr().err
