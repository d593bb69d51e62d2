"""What the world says about its things must be what its pictures show."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from svp_ros.boxes import box2d_area, iou_bev, project_boxes, VISIBLE_SHARES
from svp_ros.config import load_config
from svp_ros.data.world import World, WorldConfig
from svp_ros.data.world.builder import SceneBuilder
from svp_ros.data.world.lights import make_daylight
from svp_ros.data.world.people import add_cyclist, add_pedestrian
from svp_ros.data.world.render import render
from svp_ros.data.world.scene import Pose, Scene
from svp_ros.data.world.vehicles import add_car, add_truck, add_van
from svp_ros.geometry import disparity_to_depth, StereoCamera, unproject
from svp_ros.resources import find_resource

H, W = 128, 256
SEEDS = range(20)


@pytest.fixture(scope='module')
def world():
    return World(WorldConfig(effects=False))


@pytest.fixture(scope='module')
def streets(world):
    """Scenes of streets and their samples."""
    scenes = [world._scene(np.random.default_rng([seed, 0]), H, W, 'street') for seed in SEEDS]
    return scenes, [world.sample(seed, 1, H, W, 'street') for seed in SEEDS]


def test_occlusion_compares_with_the_thing_alone(world, streets):
    grades = []
    for scene, sample in zip(*streets):
        boxes = sample.boxes[0]
        for instance, occlusion in zip(boxes.instance, boxes.occlusion):
            parts = [part for part in scene.primitives if part.instance == instance]
            alone = render([replace(scene, primitives=parts)], world.textures, H, W)[1].instance
            share = (sample.instance == instance).sum() / max((alone == instance).sum(), 1)
            # grades agree but for the coarse count of the pixels alone
            possible = {sum(bool(share * factor < limit) for limit in VISIBLE_SHARES)
                        for factor in (0.85, 1, 1.15)}
            assert occlusion in possible, (share, occlusion)
            grades.append(occlusion)
    assert len(grades) > 40 and set(grades) == {0, 1, 2, 3}


def test_2d_boxes_hold_the_pixels_and_truncation_is_what_is_outside(streets):
    cut = 0
    for sample in streets[1]:
        boxes, seen = sample.boxes[0], sample.instance[0, 0].numpy()
        whole = project_boxes(boxes.box3d, sample.cameras[0])
        for (left, top, right, bottom), instance in zip(boxes.box2d, boxes.instance):
            y, x = (seen == instance).nonzero()
            slack = 1 + 0.1 * (bottom - top)
            assert left - slack <= x.min() and x.max() <= right + slack
            assert top - slack <= y.min() and y.max() <= bottom + slack
        assert (boxes.box2d >= 0).all() and (boxes.box2d[:, 2:] <= (W - 1, H - 1)).all()
        np.testing.assert_allclose(
            1 - boxes.truncation, box2d_area(boxes.box2d) / box2d_area(whole), atol=1e-4)
        cut += (boxes.truncation > 0.1).sum()
    assert cut > 3


def points_of_thing(world, add, seed, yaw):
    """What a level camera sees of one thing 9 m away, in the thing's box: shares of its size."""
    builder = SceneBuilder(np.random.default_rng(seed), world.textures.groups, world.config, 300)
    add(builder, (0.0, 0.0, 9.0), yaw)
    camera = StereoCamera(300, 300, W / 2, H / 2, 0.5, W, H)
    scene = Scene(builder.primitives, make_daylight(builder, np.zeros(3), 9.0), camera,
                  Pose(np.array([0, -1.2, 0])))
    truth = render([scene], world.textures, H, W)[1]
    seen = truth.instance[0, 0].numpy() > 0
    depth = disparity_to_depth(truth.disparity[0, 0].numpy(), camera)
    points = unproject(np.where(seen, depth, 0), camera)[seen]
    box, = builder.boxes
    offset = points - (box.centre - scene.pose.position)
    x, z = np.array([np.cos(yaw), 0, -np.sin(yaw)]), np.array([np.sin(yaw), 0, np.cos(yaw)])
    return np.stack([offset @ x, offset[:, 1], offset @ z], 1), np.array(box.size)


@pytest.mark.parametrize('add', [add_car, add_van, add_truck, add_pedestrian, add_cyclist])
def test_boxes_fit_tightly(world, add):
    for seed in range(6):
        seen = [points_of_thing(world, add, seed, yaw) for yaw in np.arange(4) * np.pi / 2 + 0.3]
        points, size = np.concatenate([points for points, _ in seen]), seen[0][1]
        assert (abs(points) < size / 2 + 0.05).all()
        assert (np.ptp(points, axis=0) > 0.85 * size).all(), (np.ptp(points, axis=0), size)


def test_sizes_are_those_of_kitti(world):
    sizes = {}
    for add, count in ((add_car, 150), (add_pedestrian, 150), (add_cyclist, 40)):
        builder = SceneBuilder(np.random.default_rng(0), world.textures.groups, world.config, 300)
        for _ in range(count):
            add(builder, (0.0, 0.0, 9.0), 0.5)
        sizes[add] = np.array([box.size for box in builder.boxes])
    for add, mean in ((add_car, (3.9, 1.53, 1.63)), (add_pedestrian, (0.8, 1.76, 0.66)),
                      (add_cyclist, (1.76, 1.74, 0.6))):
        np.testing.assert_allclose(sizes[add].mean(0), mean, rtol=0.08)
    assert (abs(sizes[add_car].std(0) - (0.4, 0.14, 0.1)) < (0.1, 0.05, 0.05)).all()


def test_nothing_stands_in_another(world):
    crowded = replace(world.config, street_vehicles=(16, 16), street_people=(8, 8),
                      street_cyclists=(4, 4))
    other = copy.copy(world)
    other.config = crowded
    count = 0
    for seed in range(6):
        scene = other._scene(np.random.default_rng(seed), H, W, 'street')
        box3d = np.array([(*box.centre, *box.size, box.yaw) for box in scene.boxes])
        overlap = iou_bev(box3d, box3d)
        assert (overlap[~np.eye(len(box3d), dtype=bool)] < 0.02).all()
        count += len(box3d)
    assert count > 6 * 15


def test_cameras_of_kitti():
    config = load_config(WorldConfig, find_resource('config/world/kitti.yaml'))
    sample = World(config).sample(0, 1, 375, 1242, 'street')
    camera = sample.cameras[0]
    np.testing.assert_allclose([camera.fx, camera.fy, camera.cx, camera.cy, camera.baseline],
                               [721.54, 721.54, 609.56, 172.85, 0.54], atol=0.1)
