"""Boxes must stay on their things through mirroring, cropping, storing and collating."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from svp_ros.boxes import CLASSES, corners, LabelledBoxes, project_boxes
from svp_ros.config import make_config
from svp_ros.data.box_transforms import (
    collate_boxes,
    crop_boxes,
    ignore_border,
    MAX_BOXES,
    mirror_boxes,
    NO_BOX,
    OTHER,
)
from svp_ros.data.rendered import DISPARITIES, IMAGES, LABELS, RenderedPairs
from svp_ros.data.stream import StreamConfig, WorldStream
from svp_ros.data.transforms import augment, AugmentConfig, flip
from svp_ros.data.world import World, WorldConfig
from svp_ros.geometry import disparity_to_depth, project, StereoCamera, unproject
from svp_ros.train.detection_losses import detection_targets

H, W = 128, 192
CAMERA = StereoCamera(150.0, 170.0, 90.0, 60.0, 0.5, W, H, 86.0)
STREETS = WorldConfig(room=0, clutter=0, table=0, effects=False)


def boxes_of(*box3d, label=None, occlusion=None, camera=CAMERA):
    box3d = np.array(box3d, np.float32)
    N = len(box3d)
    box2d = project_boxes(box3d, camera).clip(0, [W - 1, H - 1] * 2)
    return LabelledBoxes(box3d, label or ['Car'] * N, box2d, np.zeros(N, np.float32),
                         np.array(occlusion or [0] * N))


def same_points(first, second):
    """Whether two sets of points are equal in any order."""
    distance = np.linalg.norm(first[:, None] - second[None], axis=-1)
    return distance.min(0).max() < 1e-3 and distance.min(1).max() < 1e-3


def test_mirrored_boxes_are_what_the_right_eye_sees_in_a_mirror():
    boxes = boxes_of((1.0, 0.5, 8.0, 3.9, 1.5, 1.6, 0.4), (-1.0, 0.2, 12.0, 0.8, 1.7, 0.6, -2.9))
    mirrored, camera = mirror_boxes(boxes, CAMERA)
    assert camera.doffs == CAMERA.doffs
    for one, other in zip(corners(boxes.box3d), corners(mirrored.box3d)):
        (x, y, x_right), after = project(one, CAMERA).T, project(other, camera)
        assert same_points(after, np.stack([W - 1 - x_right, y, W - 1 - x], 1))
    back, again = mirror_boxes(mirrored, camera)
    assert again == CAMERA
    np.testing.assert_allclose(back.box3d, boxes.box3d, atol=1e-5)
    np.testing.assert_allclose(back.box2d, boxes.box2d, atol=1e-3)


def test_what_leaves_the_image_in_the_mirror_is_cut_or_left_out():
    # the right eye sees nothing of the first and half of the second
    boxes = boxes_of((-2.3, 0, 4, 0.1, 0.5, 0.1, 0), (-2.0, 0, 4, 0.1, 0.5, 0.5, np.pi / 2),
                     (0.5, 0, 6, 1, 1, 1, 0))
    mirrored, _ = mirror_boxes(boxes, CAMERA)
    assert len(mirrored) == 2
    assert 0.05 < mirrored.truncation[0] < 0.95 and mirrored.truncation[1] == 0


def test_what_only_the_right_eye_saw_is_not_taught_as_background():
    labelled = boxes_of((0, 0.2, 8, 2, 1.5, 1, 0), label=['Car'])
    unseen = np.float32([[4.25, 0.2, 6, 0.1, 1.7, 0.1, 0]])
    left, y, right = project(corners(unseen)[0], CAMERA).T
    assert left.min() > W - 1 > right.max()
    batch = {name: torch.zeros(1, 1, H, W) for name in IMAGES + DISPARITIES}
    batch |= {'boxes': [labelled], 'camera': [CAMERA]}
    flipped = flip(batch, AugmentConfig(flip=1), torch.Generator())
    table = collate_boxes(flipped['boxes'], flipped['camera'], ['Car', 'Pedestrian'])
    asked = detection_targets(table['boxes'], table['camera'], torch.ones(2, 3), H // 4,
                              W // 4).asked
    x = (W - 1 - right) / 4
    assert not asked[0, :, :, int(x.min()):int(x.max()) + 1].any()
    assert asked[0, :, :, W // 4 // 8:].all()
    plain = flip(batch, AugmentConfig(flip=0), torch.Generator())['boxes'][0]
    assert plain.label == ['Car']


def test_a_border_without_disparity_stays_asked():
    camera = replace(CAMERA, cx_right=CAMERA.cx + 20)  # far things are farther right in the right
    boxes = boxes_of((0, 0.2, 8, 2, 1.5, 1, 0))
    assert ignore_border(boxes, camera)[0] is boxes


def test_cropped_boxes_follow_the_pixels():
    boxes = boxes_of((0.5, 0.5, 8.0, 3.9, 1.5, 1.6, 0.4))
    cut, camera = crop_boxes(boxes, CAMERA, (10, 30, 64, 96), 96, 192)
    assert (camera.width, camera.height) == (192, 96) and camera.doffs == 2 * CAMERA.doffs
    before = project(corners(boxes.box3d)[0], CAMERA)
    after = project(corners(cut.box3d)[0], camera)
    np.testing.assert_allclose(after[:, 0], (before[:, 0] - 30 + 0.5) * 2 - 0.5)
    np.testing.assert_allclose(after[:, 1], (before[:, 1] - 10 + 0.5) * 1.5 - 0.5)
    np.testing.assert_allclose(cut.box2d[0], project_boxes(cut.box3d, camera)[0].clip(
        0, [191, 95] * 2), atol=1e-3)


def test_truncation_multiplies():
    boxes = replace(boxes_of((0, 0, 8, 1, 1, 1, 0)), box2d=np.float32([[40, 40, 80, 60]]),
                    truncation=np.float32([0.5]))
    whole, _ = crop_boxes(boxes, CAMERA, (0, 0, H, W), H, W)
    half, _ = crop_boxes(boxes, CAMERA, (0, 60, H, 100), H, 100)
    gone, _ = crop_boxes(boxes, CAMERA, (0, 90, H, 100), H, 100)
    assert whole.truncation[0] == 0.5 and len(gone) == 0
    np.testing.assert_allclose(half.truncation, [0.75])


def test_collated_rows_name_the_class_and_what_to_ignore():
    some = boxes_of((0, 0, 8, 3.9, 1.5, 1.6, 0.4), (1, 0, 9, 0.8, 1.7, 0.6, 0),
                    (0, 0, 20, 6, 2, 2, 0), (1, 0, 10, 3.9, 1.5, 1.6, 0), (0, 0, 60, 4, 1, 2, 0),
                    label=['Car', 'Pedestrian', 'Van', 'Car', 'Car'], occlusion=[0, 2, 0, 3, 0])
    nobody_knows = replace(boxes_of((np.nan,) * 7, label=['DontCare'], occlusion=[-1]),
                           box2d=np.float32([[1, 2, 30, 40]]))
    batch = collate_boxes([some, nobody_knows], [CAMERA, CAMERA], CLASSES)
    boxes, camera = batch['boxes'], batch['camera']
    assert boxes.shape == (2, MAX_BOXES, 13) and boxes.dtype == torch.float32
    assert boxes.isfinite().all() and (boxes[0, 5:, 0] == NO_BOX).all()
    rows = {round(row[3].item()): row for row in boxes[0, :5]}  # by depth
    assert [int(rows[z][0]) for z in (8, 9, 20, 10, 60)] == [0, 1, OTHER, 0, 0]
    assert [int(rows[z][12]) for z in (8, 9, 20, 10, 60)] == [0, 0, 1, 1, 1]
    np.testing.assert_allclose(rows[8][1:8], some.box3d[0])
    np.testing.assert_allclose(rows[8][8:12], some.box2d[0])
    assert boxes[1, 0].tolist() == [OTHER, *[0] * 7, 1, 2, 30, 40, 1]
    np.testing.assert_allclose(camera[0], [150, 170, 90, 60, 0.5, 4])


def test_a_box_is_ignored_once_its_centre_or_most_of_it_is_cut_off():
    boxes = boxes_of((0, 0, 8, 3.9, 1.5, 1.6, 0))

    def ignored(x):
        cut = crop_boxes(boxes, CAMERA, (0, x, H, 100), H, 100)
        return collate_boxes(*zip(cut), CLASSES)['boxes'][0, 0, 12].item()

    assert [ignored(x) for x in (40, 75, 95)] == [0, 0, 1]


def test_the_largest_boxes_are_kept():
    many = boxes_of(*((0, 0, 5 + i, 1, 1, 1, 0) for i in reversed(range(60))))
    boxes = collate_boxes([many], [CAMERA], CLASSES)['boxes'][0]
    assert boxes[:, 3].tolist() == [5.0 + i for i in range(MAX_BOXES)]


@pytest.fixture(scope='module')
def streets():
    """Labelled street scenes as a batch for `augment`."""
    sample = World(STREETS).sample(3, 20, H, W)
    maps = {name: getattr(sample, name) for name in IMAGES + DISPARITIES}
    return {**maps, 'boxes': sample.boxes, 'camera': sample.cameras}


def share_inside(points, row, shift=0.0):
    """Share of the points in the middle of a 2D box that lie in the 3D box, moved sideways."""
    left, top, right, bottom = row[8:12]
    x, y = slice(*(int(left * b + right * a) for a, b in ((0.3, 0.7), (0.7, 0.3)))), slice(
        *(int(top * b + bottom * a) for a, b in ((0.3, 0.7), (0.7, 0.3))))
    offset = points[y, x].reshape(-1, 3) - row[1:4] - (shift, 0, 0)
    ry = row[7]
    along = offset @ (np.cos(ry), 0, -np.sin(ry))
    across = offset @ (np.sin(ry), 0, np.cos(ry))
    half = row[4:7] / 2 + 0.1 + 0.003 * row[3]
    inside = ((abs(along) < half[0]) & (abs(offset[:, 1]) < half[1]) & (abs(across) < half[2]))
    return inside.mean() if len(inside) else np.nan


@pytest.mark.parametrize('flip', [0.0, 1.0])
@pytest.mark.parametrize('zoom', [0.0, 0.5, -0.4])
def test_augmented_boxes_stand_where_the_disparity_says(streets, flip, zoom):
    config = AugmentConfig(zoom=(zoom, zoom), stretch=(-zoom / 2, -zoom / 2), flip=flip,
                           upside_down=1.0)
    batch = augment(streets, 96, 160, config, torch.Generator().manual_seed(1), CLASSES)
    shares, moved = [], []
    for disparity, rows, rig in zip(batch['disparity'], batch['boxes'].numpy(),
                                    batch['camera'].tolist()):
        camera = StereoCamera(*rig[:5], 160, 96, rig[2] - rig[5])
        points = unproject(disparity_to_depth(disparity[0].numpy(), camera), camera)
        # cars, which fill the middle of their box
        for row in rows[(rows[:, 0] == 0) & (rows[:, 12] == 0) & (rows[:, 3] < 30)]:
            shares.append(share_inside(points, row))
            moved.append(share_inside(points, row, shift=2.5))
    assert len(shares) > 8
    assert np.nanmedian(shares) > 0.95 and np.nanmean(shares) > 0.75
    assert np.nanmean(moved) < 0.1


def test_boxes_leave_the_images_as_they_are(streets):
    config = AugmentConfig(upside_down=0.0)
    boxes = augment(streets, 96, 160, config, torch.Generator().manual_seed(2), CLASSES)
    plain = augment({name: streets[name] for name in IMAGES + DISPARITIES}, 96, 160, config,
                    torch.Generator().manual_seed(2))
    assert set(boxes) - set(plain) == set(LABELS)
    for name, x in plain.items():
        assert torch.equal(boxes[name], x), name


def test_a_store_keeps_boxes_and_adds_those_it_lacks(tmp_path):
    stored = RenderedPairs(STREETS, H, W, cache=tmp_path)
    generator = torch.Generator()
    stored.draw([0], generator)
    path = next(tmp_path.rglob('000000.npz'))
    assert not set(LABELS) & set(np.load(path))
    first = stored.draw([0, 1], generator, IMAGES + LABELS)
    again = stored.draw([0, 1], generator, IMAGES + LABELS)
    sample = World(STREETS).sample(0, 4, H, W)
    assert torch.equal(first['left'], again['left'])
    assert again['camera'] == first['camera'] == sample.cameras[:2]
    for one, two, truth in zip(first['boxes'], again['boxes'], sample.boxes):
        assert one.label == two.label == truth.label
        for name in ('box3d', 'box2d', 'truncation', 'occlusion'):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
            np.testing.assert_array_equal(getattr(one, name), getattr(truth, name))
    assert sum(map(len, first['boxes'])) > 2


def test_a_stream_gives_boxes_when_asked(tmp_path):
    config = make_config(StreamConfig, {
        'height': 96, 'width': 160, 'batch': 4, 'render_height': H, 'render_width': W, 'pairs': 4,
        'boxes': ['Car', 'Cyclist'], 'world': {'room': 0, 'clutter': 0, 'table': 0}})
    batch = WorldStream(config, 0, cache=tmp_path)[0]
    assert batch['boxes'].shape == (4, MAX_BOXES, 13) and batch['camera'].shape == (4, 6)
    assert {0.0, OTHER, NO_BOX} <= set(batch['boxes'][..., 0].flatten().tolist())
    assert (batch['camera'][:, 5] == 0).all()
    without = WorldStream(replace(config, boxes=()), 0, cache=tmp_path)[0]
    assert set(batch) - set(without) == set(LABELS)
