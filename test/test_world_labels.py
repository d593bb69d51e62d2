"""What the world says about its things must be what its pictures show."""

from dataclasses import replace

import numpy as np
import pytest

from svp_ros.boxes import box2d_area, project_boxes
from svp_ros.data.world import World, WorldConfig
from svp_ros.data.world.labels import VISIBLE_SHARES
from svp_ros.data.world.render import render

H, W = 128, 256
SEEDS = range(12)


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
