"""Hand-made scenes against formulas worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from svp_ros.data.world.render import render
from svp_ros.data.world.scene import Kind, Light, Material, Pose, Primitive, rotation_xyz, Scene
from svp_ros.data.world.shapes import sheet_height, sheet_slope
from svp_ros.data.world.textures import SIZE, TextureBank
from svp_ros.geometry import StereoCamera

H, W = 45, 70
CAMERA = StereoCamera(fx=60.0, fy=66.0, cx=33.3, cy=21.7, baseline=0.4, width=W, height=H)
PLAIN = Material(0, (64.0, 64.0), (0.0, 0.0), (1.0, 1.0, 1.0))
HOLES = Material(1, (SIZE / 2, SIZE / 2), (SIZE / 2, SIZE / 2), (1.0, 1.0, 1.0))
LIGHT = Light(np.array([0.0, -5.0, -5.0]), 0.6, np.ones(3), np.inf)


@pytest.fixture(scope='module')
def bank():
    noise = np.random.default_rng(0).random((SIZE, SIZE, 4), np.float32)
    noise[..., 3] = 1
    holes = noise.copy()
    holes[:, SIZE // 2:, 3] = 0  # the right half is missing
    return TextureBank({'noise': [noise], 'holes': [holes]})


def thing(kind, centre, half, rotation=None, material=PLAIN, taper=(0.0, 0.0), instance=0,
          ground=False):
    rotation = np.eye(3) if rotation is None else rotation
    return Primitive(kind, np.array(centre, float), np.array(half, float), rotation, material,
                     taper, instance, ground=ground)


def view(bank, *things, pose=None, light=LIGHT, specular=True):
    scene = Scene(things, light, CAMERA, pose or Pose())
    return render([scene], bank, H, W, specular)


def warp_error(colours, truth, seen=None):
    """Mean difference of the left picture and the right one moved by the disparity."""
    left, right = colours.chunk(2)
    x = torch.arange(W) - truth.disparity[:, 0]
    y = torch.arange(H)[None, :, None].expand_as(x)
    grid = torch.stack([2 * x / (W - 1) - 1, 2 * y / (H - 1) - 1], -1)
    warped = torch.nn.functional.grid_sample(right, grid, align_corners=True)
    seen = ~truth.occluded if seen is None else seen & ~truth.occluded
    return (warped - left).abs().mean(1, keepdim=True)[seen].mean().item()


def depth_of(truth):
    return (CAMERA.fx * CAMERA.baseline / truth.disparity)[0, 0].numpy()


def rays():
    y, x = np.mgrid[:H, :W]
    return (x - CAMERA.cx) / CAMERA.fx, (y - CAMERA.cy) / CAMERA.fy


def enter_ball(x, y, centre, radius):
    """Depth at which the rays (x, y, 1) enter a ball; inf where they miss."""
    direction = np.stack([x, y, np.ones_like(x)], -1)
    a, b = (direction ** 2).sum(-1), direction @ centre
    root = b ** 2 - a * (np.dot(centre, centre) - radius ** 2)
    with np.errstate(invalid='ignore'):
        return np.where(root > 0, (b - np.sqrt(root)) / a, np.inf)


def test_tilted_card_is_a_plane(bank):
    rotation = rotation_xyz(0.3, 0.5, 0.2)
    _, truth = view(bank, thing(Kind.CARD, (0.1, 0.2, 5), (50, 50, 0), rotation))
    normal = rotation[:, 2]
    x, y = rays()
    expected = normal @ (0.1, 0.2, 5) / (normal[0] * x + normal[1] * y + normal[2])
    np.testing.assert_allclose(depth_of(truth), expected, rtol=2e-5)


@pytest.mark.parametrize('centre, radius', [((0.2, -0.1, 4), 0.9), ((1.5, 0.4, 60), 3.0)])
def test_ball(bank, centre, radius):
    _, truth = view(bank, thing(Kind.ELLIPSOID, centre, (radius,) * 3, rotation_xyz(1, 2, 3)))
    expected = enter_ball(*rays(), np.array(centre), radius)
    assert np.isfinite(expected).sum() > 20
    np.testing.assert_allclose(depth_of(truth), expected, rtol=1e-4)


def test_upright_cylinder(bank):
    _, truth = view(bank, thing(Kind.CYLINDER, (0.3, 0, 4), (0.5, 9, 0.5)))
    x, _ = rays()
    expected = enter_ball(x, np.zeros_like(x), np.array([0.3, 0, 4]), 0.5)  # any y is alike
    np.testing.assert_allclose(depth_of(truth), expected, rtol=1e-5)


def test_cone_narrows_to_its_tip(bank):
    _, truth = view(bank, thing(Kind.CYLINDER, (0, 0, 4), (1, 1, 1), taper=(1, 0)))
    x, y = rays()
    points = np.stack([x, y, np.ones_like(x)], -1) * depth_of(truth)[..., None]
    side = np.isfinite(depth_of(truth)) & (points[..., 1] < 0.999)
    radius = np.hypot(points[..., 0], points[..., 2] - 4)[side]
    assert side.sum() > 100
    np.testing.assert_allclose(radius, (1 + points[..., 1][side]) / 2, atol=1e-4)


def test_tapered_box_is_a_gable_roof(bank):
    _, truth = view(bank, thing(Kind.BOX, (0, 0, 6), (2, 1, 1), taper=(1, 0)))
    seen = np.isfinite(depth_of(truth))
    x, y = rays()
    # the front face z = 5 is a triangle with its tip up
    inside = (abs(5 * y) < 1) & (abs(5 * x) < 1 + 5 * y)
    np.testing.assert_array_equal(seen, inside)
    np.testing.assert_allclose(depth_of(truth)[seen], 5, rtol=1e-5)


def test_box_faces(bank):
    _, truth = view(bank, thing(Kind.BOX, (1, 0.5, 6), (0.5, 0.7, 1)))
    x, y = rays()
    # slabs, axis by axis
    near, far = np.full((H, W), -np.inf), np.full((H, W), np.inf)
    for ray, low, high in ((x, 0.5, 1.5), (y, -0.2, 1.2), (np.ones_like(x), 5, 7)):
        near, far = (np.maximum(near, np.minimum(low / ray, high / ray)),
                     np.minimum(far, np.maximum(low / ray, high / ray)))
    np.testing.assert_allclose(depth_of(truth), np.where(near < far, near, np.inf), rtol=1e-5)


def test_camera_pose_moves_the_world_the_other_way(bank):
    wall = thing(Kind.CARD, (0, 0, 9), (50, 50, 0))
    _, truth = view(bank, wall, pose=Pose(np.array([1.0, 2.0, 3.0]), rotation_xyz(0.2)))
    _, y = rays()
    # Z of the ray (x, y, 1) in the scene, turned about x
    expected = 6 / (np.sin(0.2) * y + np.cos(0.2))
    np.testing.assert_allclose(depth_of(truth), expected, rtol=1e-5)


def test_cutout_shows_what_is_behind_its_holes(bank):
    card = thing(Kind.CUTOUT, (0, 0, 3), (1, 1, 0), material=HOLES, instance=7)
    _, truth = view(bank, card, thing(Kind.CARD, (0, 0, 8), (50, 50, 0)))
    x, y = rays()
    solid = (abs(3 * y) < 1) & (3 * x > -1) & (3 * x < 0)
    expected = np.where(solid, 3, 8)
    ragged = abs(x) < 1.5 / CAMERA.fx  # the nearest texel decides at the edge of the hole
    np.testing.assert_allclose(depth_of(truth)[~ragged], expected[~ragged], rtol=1e-5)
    np.testing.assert_array_equal((truth.instance[0, 0].numpy() == 7)[~ragged], solid[~ragged])


def test_rays_exactly_along_a_cutout_miss_it(bank):
    turned = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    card = thing(Kind.CUTOUT, (0.5, 0, 3), (1, 1, 0), turned, HOLES, instance=7)
    scene = Scene([card], LIGHT, replace(CAMERA, fx=64.0, cx=32.0), Pose())
    _, truth = render([scene], bank, H, W, True)
    assert (truth.instance[0, 0, :, 32] == 0).all() and (truth.instance == 7).any()


def test_occluded_strip_is_as_wide_as_the_disparity_step(bank):
    # disparity 6 before disparity 2: four columns left of the box are hidden from the right eye
    focal = CAMERA.fx * CAMERA.baseline
    box_z, wall_z = focal / 6, focal / 2
    left_edge = (20.5 - CAMERA.cx) / CAMERA.fx * box_z  # between columns 20 and 21
    right_edge = (40.5 - CAMERA.cx) / CAMERA.fx * box_z
    box = thing(Kind.BOX, ((left_edge + right_edge) / 2, 0, box_z + 0.05),
                ((right_edge - left_edge) / 2, 9, 0.05))
    _, truth = view(bank, box, thing(Kind.CARD, (0, 0, wall_z), (50, 50, 0)))
    row = truth.occluded[0, 0, H // 2]
    assert row.nonzero()[:, 0].tolist() == [0, 1, 17, 18, 19, 20]  # two leave the frame


def test_nothing_is_occluded_on_one_steep_wall(bank):
    wall = thing(Kind.CARD, (0, 0, 5), (50, 50, 0), rotation_xyz(0, -1.1))
    _, truth = view(bank, wall)
    x = torch.arange(W) - truth.disparity[0, 0]
    outside = (x < 0) | (x > W - 1)
    assert outside.any() and not outside.all()
    torch.testing.assert_close(truth.occluded[0, 0], outside)


def test_nothing_in_sight_is_sky(bank):
    colours, truth = view(bank, thing(Kind.BOX, (0, 0, -5), (1, 1, 1)))
    assert not truth.disparity.any() and not truth.instance.any() and not truth.occluded.any()
    assert torch.isfinite(colours).all() and colours.min() > 0


def test_scenes_of_a_batch_do_not_mix(bank):
    scenes = [Scene([thing(Kind.CARD, (0, 0, z), (50, 50, 0), instance=z)], LIGHT, CAMERA)
              for z in (3, 7)]
    _, truth = render(scenes, bank, H, W)
    assert truth.instance[0].unique().tolist() == [3]
    assert truth.instance[1].unique().tolist() == [7]
    torch.testing.assert_close(truth.disparity[1].unique(), torch.tensor([24 / 7]))


WAVES = [((1.2, -0.7), 0.4), ((9.0, 0.8), 0.06)]  # a bent board, a curtain


@pytest.mark.parametrize('waves, amplitude', WAVES)
def test_sheet_is_met_where_a_dense_march_meets_it(bank, waves, amplitude):
    rotation, centre = rotation_xyz(0.3, 0.4, 0.2), np.array([0.1, 0.0, 4.0])
    half = np.array([1.2, 0.9, amplitude])
    _, truth = view(bank, thing(Kind.SHEET, centre, half, rotation, taper=waves))
    x, y = rays()
    depths = np.linspace(2.5, 5.5, 6001)
    points = np.stack([x, y, np.ones_like(x)], -1)[..., None, :] * depths[:, None] - centre
    u, v, w = torch.from_numpy(np.moveaxis(points @ rotation / half, -1, 0))
    above = (w > sheet_height(u, v, *torch.tensor(waves))).numpy()
    crossing = (above[..., 1:] != above[..., :-1]) & (abs(u) < 1).numpy()[..., 1:] & (
        abs(v) < 1).numpy()[..., 1:]
    expected = np.where(crossing.any(-1), depths[crossing.argmax(-1)], np.inf)
    found = depth_of(truth)
    same = np.isfinite(found) == np.isfinite(expected)
    assert same.mean() > 0.995  # rays that graze the rim
    hit = np.isfinite(found) & np.isfinite(expected)
    assert hit.sum() > 300 and abs(found[hit] - expected[hit]).max() < 1e-3


def test_slope_of_a_sheet_is_its_derivative():
    u, v = torch.rand(2, 50, generator=torch.manual_seed(0), dtype=torch.float64) * 2 - 1
    u.requires_grad_(), v.requires_grad_()
    waves = torch.tensor([3.0, -2.0], dtype=torch.float64)
    expected = torch.autograd.grad(sheet_height(u, v, *waves).sum(), (u, v))
    assert sheet_height(u, v, *waves).abs().max() <= 1
    torch.testing.assert_close(sheet_slope(u, v, *waves), expected)


def test_foliage_is_an_ellipsoid_shell_with_holes(bank):
    rotation = rotation_xyz(0, 0.8)
    ball = thing(Kind.FOLIAGE, (0, 0, 4), (1, 1, 1), rotation, material=HOLES)
    _, truth = view(bank, ball)
    depth = depth_of(truth)
    x, y = rays()
    hit = np.isfinite(depth)
    points = np.stack([x, y, np.ones_like(x)], -1) * np.where(hit, depth, 0)[..., None]
    points = (points - (0, 0, 4)) @ rotation
    np.testing.assert_allclose(np.linalg.norm(points[hit], axis=-1), 1, atol=1e-3)
    shell = np.isfinite(enter_ball(x, y, np.array([0, 0, 4.0]), 1.0))
    assert 0.2 < hit.sum() / shell.sum() < 0.95
    # the texture is solid where its u is negative; on the face along z u is x
    face = hit & (abs(points[..., 2]) > abs(points[..., :2]).max(-1) + 0.1)
    assert face.sum() > 50 and (points[face][:, 0] < 2 / CAMERA.fx).all()
    far = np.isfinite(depth) & (depth > 4.2)
    assert far.sum() > 20, 'through the holes the far side is seen'


def test_new_shapes_look_alike_from_both_eyes(bank):
    smooth = np.asarray(np.mgrid[:SIZE, :SIZE].sum(0) / (2 * SIZE), np.float32)
    smooth = np.repeat(smooth[..., None], 4, 2)
    smooth[..., 3] = 1
    bank = TextureBank({'smooth': [smooth]})
    sheet = thing(Kind.SHEET, (0, 0, 3.5), (1.6, 1.2, 0.2), rotation_xyz(0.1, 0.2),
                  taper=(2.5, 1.0))
    ball = thing(Kind.FOLIAGE, (0.3, 0.2, 2.7), (0.4, 0.3, 0.2))
    back = thing(Kind.CARD, (0, 0, 6), (9, 9, 0))
    sun = replace(LIGHT, position=np.array([300.0, -400.0, -500.0]),
                  shadow_centre=np.array([0, 0, 4.0]), shadow_radius=3.0)
    colours, truth = view(bank, sheet, ball, back, light=sun)
    assert warp_error(colours, truth) < 0.012
    truth = replace(truth, disparity=truth.disparity + 1.5)
    assert warp_error(colours, truth) > 0.025


def test_a_mirror_shows_a_picture_at_another_disparity(bank):
    mirror = replace(PLAIN, mirror=1.0, plain=1.0)
    light = replace(LIGHT, surroundings_distance=4.0)
    wall = thing(Kind.CARD, (0, 0, 4), (9, 9, 0), rotation_xyz(0, 0.2), material=mirror)
    colours, truth = view(bank, wall, light=light)
    plain, plain_truth = view(bank, wall, light=light, specular=False)
    torch.testing.assert_close(truth.disparity, plain_truth.disparity)  # the truth is the pane's
    assert plain.std() < 0.05 and colours.std() > 0.08
    assert warp_error(plain, truth) < 0.002
    assert warp_error(colours, truth) > 0.05


def test_only_the_panes_of_glass_reflect(bank):
    pane = thing(Kind.CARD, (0, 0, 4), (1, 1, 0), material=replace(HOLES, glass=1.0))
    matt = thing(Kind.CARD, (0, 0, 4), (1, 1, 0), material=HOLES)
    changed = (view(bank, pane)[0] - view(bank, matt)[0]).abs().sum(1)[0].numpy() > 1e-3
    x, _ = rays()
    card = (abs(4 * x) < 0.95) & (abs(4 * rays()[1]) < 0.95)
    assert changed[card & (4 * x > 0.1)].mean() > 0.9
    assert not changed[card & (4 * x < -0.1)].any() and not changed[abs(4 * x) > 1.1].any()


def test_shadow_falls_where_the_lamp_is_hidden(bank):
    lamp = np.array([0.0, -3.0, 4.0])  # straight above the block
    light = replace(LIGHT, position=lamp, ambient=0.3, shadow_centre=np.array([0, 1.0, 4.0]),
                    shadow_radius=3.0)
    ground = thing(Kind.CARD, (0, 1, 4), (9, 9, 0), rotation_xyz(np.pi / 2), ground=True,
                   material=replace(PLAIN, plain=1.0))
    mark = thing(Kind.CARD, (0, 0.99, 4), (9, 0.1, 0), rotation_xyz(np.pi / 2), ground=True,
                 material=replace(PLAIN, plain=1.0))
    block = thing(Kind.CARD, (0, 0.5, 4), (0.4, 0.4, 0), rotation_xyz(np.pi / 2))
    lit, _ = view(bank, ground, mark, block, light=replace(light, shadow_radius=0.0))
    shaded, truth = view(bank, ground, mark, block, light=light)
    x, y = rays()
    depth = depth_of(truth)
    on_ground = np.isfinite(depth) & (abs(depth * y - 1) < 0.02)
    reach = np.maximum(abs(depth * x), abs(depth - 4)) * 3.5 / 4  # at the height of the block
    ratio = (shaded / lit)[0, 0].numpy()
    assert (ratio[on_ground & (reach < 0.35)] < 0.6).all()
    np.testing.assert_allclose(ratio[on_ground & (reach > 0.47)], 1, atol=1e-4)
    assert (on_ground & (reach < 0.35)).sum() > 5
    assert warp_error(shaded, truth, torch.from_numpy(on_ground)[None, None]) < 0.05


def test_glowing_things_need_no_light(bank):
    dark = replace(LIGHT, ambient=0.02, position=np.array([0.0, 0.0, 50.0]))  # behind the card
    glow, off = (view(bank, thing(Kind.CARD, (0, 0, 5), (9, 9, 0), material=replace(
        PLAIN, plain=1.0, glow=value)), light=dark)[0].mean() for value in (1.0, 0.0))
    assert glow > 0.5 and off < 0.05
