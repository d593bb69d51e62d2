import numpy as np
import pytest
from scipy.spatial.transform import Rotation
import shapely
import shapely.affinity
import torch

from svp_ros.boxes import (
    box2d_area,
    Boxes,
    clip_boxes,
    CORNERS,
    corners,
    cut_share,
    EDGES,
    grade_occlusion,
    iou_2d,
    iou_3d,
    iou_bev,
    LabelledBoxes,
    observation_angle,
    project_boxes,
    wrap_angle,
    yaw_from_observation,
)
from svp_ros.geometry import StereoCamera

CAMERA = StereoCamera(721.5, 700.0, 609.6, 172.9, 0.533, 1242, 375)


def random_boxes(count, seed, spread=6.0):
    rng = np.random.default_rng(seed)
    return np.concatenate([
        rng.uniform(-spread, spread, (count, 1)), rng.uniform(0, 2, (count, 1)),
        rng.uniform(20 - spread, 20 + spread, (count, 1)), rng.uniform(0.3, 6, (count, 3)),
        rng.uniform(-np.pi, np.pi, (count, 1))], 1)


def footprint(box):
    """The box seen from above with x to the right and z up, where +y turns clockwise."""
    x, _, z, length, _, width, ry = box
    outline = shapely.box(x - length / 2, z - width / 2, x + length / 2, z + width / 2)
    return shapely.affinity.rotate(outline, -ry, origin=(x, z), use_radians=True)


def shapely_iou(a, b):
    bev, volume = np.zeros((len(a), len(b))), np.zeros((len(a), len(b)))
    for i, first in enumerate(a):
        for j, second in enumerate(b):
            common = footprint(first).intersection(footprint(second)).area
            areas = first[3] * first[5] + second[3] * second[5]
            bev[i, j] = common / (areas - common)
            height = max(0, min(first[1] + first[4] / 2, second[1] + second[4] / 2)
                         - max(first[1] - first[4] / 2, second[1] - second[4] / 2))
            volumes = np.prod(first[3:6]) + np.prod(second[3:6])
            volume[i, j] = common * height / (volumes - common * height)
    return bev, volume


def test_a_box_at_yaw_zero_has_its_length_along_x_and_its_height_along_y():
    points = corners(np.array([[1, 2, 10, 4, 1.5, 2, 0]]))[0]
    np.testing.assert_allclose(points, [1, 2, 10] + CORNERS * [2, 0.75, 1])


def test_yaw_of_minus_a_quarter_turn_points_the_front_away_from_the_camera():
    points = corners(np.array([[1, 2, 10, 4, 1.5, 2, -np.pi / 2]]))[0]
    np.testing.assert_allclose(points[4:].mean(0), [1, 2, 12], atol=1e-9)
    # the left side of a car that drives away is to the left
    np.testing.assert_allclose(points[CORNERS[:, 2] > 0].mean(0), [0, 2, 10], atol=1e-9)


def test_documented_corners_are_rear_front_top_bottom():
    points = corners(random_boxes(5, 0))
    front = points[:, 4:].mean(1) - points[:, :4].mean(1)
    yaw = random_boxes(5, 0)[:, 6]
    np.testing.assert_allclose(np.arctan2(-front[:, 2], front[:, 0]), yaw)
    assert (points[:, [0, 1, 4, 5], 1] < points[:, [2, 3, 6, 7], 1]).all()


def test_edges_are_the_twelve_sides_of_the_box():
    box = random_boxes(1, 1)
    lengths = np.linalg.norm(np.diff(corners(box)[0][EDGES], axis=1)[:, 0], axis=-1)
    np.testing.assert_allclose(sorted(lengths), sorted(np.repeat(box[0, 3:6], 4)))


@pytest.mark.parametrize('make', [np.asarray, torch.as_tensor])
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_wrapped_angles_are_the_same_direction_in_half_open_range(make, dtype):
    angle = np.array([0, 1, -1, 4, -4, 100, np.pi, -np.pi, 3 * np.pi,
                      np.nextafter(-np.pi, -4), np.nextafter(np.pi, 0)], dtype)
    wrapped = wrap_angle(make(angle))
    assert type(wrapped) is type(make(angle)) and wrapped.dtype == make(angle).dtype
    wrapped = np.asarray(wrapped)
    assert (wrapped >= dtype(-np.pi)).all() and (wrapped < dtype(np.pi)).all()
    np.testing.assert_allclose(np.exp(1j * wrapped), np.exp(1j * angle.astype(float)), atol=2e-5)


@pytest.mark.parametrize('make', [np.asarray, torch.as_tensor])
def test_yaw_and_observation_angle_are_inverse(make):
    box = random_boxes(50, 2)
    box[:10, 2] *= -1  # atan2 also tells what is behind the camera
    alpha = observation_angle(make(box))
    back = yaw_from_observation(alpha, make(box[:, 0]), make(box[:, 2]))
    np.testing.assert_allclose(np.asarray(back), box[:, 6], atol=1e-9)


def test_observation_angle_worked_by_hand():
    # Straight ahead alpha is ry; 45 degrees to the right it is 45 degrees less.
    box = np.array([[0, 0, 10, 4, 1, 2, 0.3], [10, 0, 10, 4, 1, 2, 0.3],
                    [-10, 0, 10, 4, 1, 2, 3.0]])
    np.testing.assert_allclose(observation_angle(box),
                               [0.3, 0.3 - np.pi / 4, 3.0 + np.pi / 4 - 2 * np.pi])


def test_projection_worked_by_hand():
    # The front face at z = 10 - 1 spans x = 1 +- 2 and y = 2 +- 0.75.
    box2d = project_boxes(np.array([[1, 2, 10, 4, 1.5, 2, 0]]), CAMERA)
    near, far = 9, 11
    expected = [721.5 * -1 / near + 609.6, 700 * 1.25 / far + 172.9,
                721.5 * 3 / near + 609.6, 700 * 2.75 / near + 172.9]
    np.testing.assert_allclose(box2d, [expected], rtol=1e-5)


def test_projection_contains_every_point_of_a_box_that_reaches_behind_the_camera():
    # As in the nearest lane: its rear is behind, its front ahead and to the left.
    box = np.array([[-2.0, 1.0, 1.0, 4.0, 1.5, 1.8, -np.pi / 2]])
    rng = np.random.default_rng(0)
    inside = box[0, :3] + rng.uniform(-0.5, 0.5, (20000, 3)) * box[0, [5, 4, 3]]
    inside = inside[inside[:, 2] >= 0.1]
    u = CAMERA.fx * inside[:, 0] / inside[:, 2] + CAMERA.cx
    v = CAMERA.fy * inside[:, 1] / inside[:, 2] + CAMERA.cy
    left, top, right, bottom = project_boxes(box, CAMERA)[0]
    assert left <= u.min() and u.max() <= right and top <= v.min() and v.max() <= bottom
    assert left == pytest.approx(CAMERA.fx * -2.9 / 0.1 + CAMERA.cx)  # at the near plane
    assert right == pytest.approx(CAMERA.fx * -1.1 / 3 + CAMERA.cx)   # at the far face


def test_what_is_behind_or_nan_has_no_projection_and_spoils_no_other():
    box = np.array([[0, 0, -5, 4, 1, 2, 0.3], [np.nan] * 7, [0, 0, 10, 4, 1, 2, 0.3]])
    box2d = project_boxes(box, CAMERA)
    assert np.isnan(box2d[:2]).all() and np.isfinite(box2d[2]).all()
    assert project_boxes(np.zeros((0, 7)), CAMERA).shape == (0, 4)


def test_clipping_keeps_boxes_between_the_outer_pixel_centres():
    box2d = np.array([[-5, -6, 7, 8], [1200, 300, 1300, 400], [np.nan] * 4], np.float32)
    clipped = clip_boxes(box2d, 1242, 375)
    np.testing.assert_array_equal(clipped[:2], [[0, 0, 7, 8], [1200, 300, 1241, 374]])
    assert np.isnan(clipped[2]).all() and clipped.dtype == np.float32
    # wholly outside: nothing is left
    np.testing.assert_array_equal(
        box2d_area(clip_boxes(np.array([[-9.0, 5, -2, 8], [1, 400, 9, 500]]), 1242, 375)), 0)


def test_overlap_of_2d_boxes_worked_by_hand():
    a = np.array([[0, 0, 4, 2], [0, 0, 0, 5], [np.nan] * 4])
    b = np.array([[1, 1, 5, 3], [4, 0, 8, 2], [0, 0, 4, 2], [np.nan] * 4])
    expected = np.zeros((3, 4))
    expected[0, :3] = 3 / 13, 0, 1
    np.testing.assert_allclose(iou_2d(a, b), expected)


def test_overlap_of_rotated_boxes_agrees_with_shapely():
    a, b = random_boxes(60, 3), random_boxes(50, 4)
    bev, volume = shapely_iou(a, b)
    assert (bev > 0.02).mean() > 0.1 and (bev == 0).mean() > 0.1
    np.testing.assert_allclose(iou_bev(a, b), bev, atol=1e-9)
    np.testing.assert_allclose(iou_3d(a, b), volume, atol=1e-9)


def test_overlap_of_nearly_the_same_boxes_agrees_with_shapely():
    # Nearly parallel edges that nearly coincide are where polygon clipping goes wrong.
    a = random_boxes(40, 5, spread=60)
    for scale in (1e-2, 1e-5, 1e-8, 1e-12):
        b = a + np.random.default_rng(6).normal(0, scale, a.shape)
        bev, volume = (np.diag(iou) for iou in shapely_iou(a, b))
        np.testing.assert_allclose(np.diag(iou_bev(a, b)), bev, atol=1e-9)
        np.testing.assert_allclose(np.diag(iou_3d(a, b)), volume, atol=1e-9)


@pytest.mark.parametrize('turn', [0, np.pi / 2, np.pi, -np.pi / 2, 2 * np.pi])
def test_a_box_overlaps_itself_wholly_also_after_whole_turns(turn):
    a = random_boxes(200, 7).astype(np.float32)
    b = a.copy()
    b[:, 6] += turn
    if turn % np.pi:
        b[:, [3, 5]] = a[:, [5, 3]]
    np.testing.assert_allclose(np.diag(iou_bev(a, b)), 1, atol=1e-5)
    np.testing.assert_allclose(np.diag(iou_3d(a, b)), 1, atol=1e-5)
    assert iou_bev(a, b).max() <= 1


def test_touching_boxes_share_nothing_and_inner_boxes_all_of_their_area():
    box = np.array([[0, 1, 10, 4, 2, 2, 0.0]])
    beside = np.array([[4, 1, 10, 4, 2, 2, 0], [0, 1, 12, 4, 2, 2, 0], [4, 1, 12, 4, 2, 2, 0.0]])
    np.testing.assert_array_equal(iou_bev(box, beside), 0)
    above, inner = np.array([[0, 3, 10, 4, 2, 2, 0.0]]), np.array([[0.5, 1, 10, 1, 2, 1, 0.7]])
    assert iou_bev(box, above) == 1 and iou_3d(box, above) == 0
    np.testing.assert_allclose(iou_bev(box, inner), 1 / 8)


def test_a_cross_worked_by_hand():
    a = np.array([[0, 0, 0, 4, 2, 2, 0.0]])
    b = np.array([[0, 1, 0, 4, 2, 2, np.pi / 2]])
    np.testing.assert_allclose(iou_bev(a, b), 4 / 12)
    np.testing.assert_allclose(iou_3d(a, b), 4 / 28)


@pytest.mark.parametrize('iou', [iou_bev, iou_3d])
def test_degenerate_and_nan_boxes_overlap_nothing(iou):
    box = np.array([[0, 1, 10, 4, 2, 2, 0.3]])
    for column in range(7):
        bad = box.copy()
        bad[0, column] = np.nan
        expected = 1.0 if iou is iou_bev and column in (1, 4) else 0.0  # heights do not matter
        assert iou(box, bad) == pytest.approx(expected)
    for size in ([0, 2, 2], [-4, 2, -2], [4, 2, 0]):
        flat = box.copy()
        flat[0, 3:6] = size
        assert iou(box, flat) == iou(flat, box) == iou(flat, flat) == 0


def test_no_boxes_overlap_nothing():
    none, some = np.zeros((0, 7)), random_boxes(3, 8)
    for iou in (iou_bev, iou_3d):
        assert iou(none, some).shape == (0, 3) and iou(some, none).shape == (3, 0)
    assert iou_2d(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)


def test_truncation_is_the_area_that_clipping_cut_off():
    whole = np.array([[-10, 0, 10, 10], [-10, 90, 10, 110], [5, 5, 9, 9], [-9, 1, -5, 4],
                      [np.nan] * 4])
    share = cut_share(whole, clip_boxes(whole, 101, 101))
    np.testing.assert_allclose(share, [0.5, 0.75, 0, 1, 1])
    assert share.dtype == np.float32


def test_occlusion_is_unknown_where_the_visible_share_is():
    assert grade_occlusion(np.array([1, 0.8, 0.79, 0.4, 0.39, 0.1, 0.09, 0, np.nan])).tolist() == [
        0, 0, 1, 1, 2, 2, 3, 3, 3]
    assert grade_occlusion(np.zeros(0)).shape == (0,)


@pytest.mark.parametrize('field, value', [
    ('box3d', np.zeros((2, 6))), ('box2d', np.zeros((3, 4))), ('truncation', np.zeros(1)),
    ('occlusion', np.zeros((2, 1))), ('instance', np.zeros(3))])
def test_labelled_boxes_must_be_of_one_length(field, value):
    values = {'box3d': np.zeros((2, 7)), 'label': ['Car', 'Van'], 'box2d': np.zeros((2, 4)),
              'truncation': np.zeros(2), 'occlusion': np.zeros(2), 'instance': np.zeros(2)}
    LabelledBoxes(**values)
    with pytest.raises(ValueError, match=f'{field} of 2 labels must be'):
        LabelledBoxes(**{**values, field: value})


def test_detected_boxes_must_be_of_one_length():
    with pytest.raises(ValueError, match=r'score of 1 labels must be \(1,\), got \(2,\)'):
        Boxes(np.zeros((1, 7)), ['Car'], np.zeros(2))


def test_selection_takes_masks_indices_and_nothing():
    boxes = LabelledBoxes(random_boxes(3, 9), ['Car', 'Van', 'Tram'], np.zeros((3, 4)),
                          np.zeros(3), np.arange(3))
    assert boxes.select(np.array([True, False, True])).label == ['Car', 'Tram']
    turned = boxes.select(np.array([2, 0]))
    assert turned.occlusion.tolist() == [2, 0] and turned.label == ['Tram', 'Car']
    assert turned.instance is None
    np.testing.assert_array_equal(turned.box3d, boxes.box3d[[2, 0]])
    assert len(boxes.select(np.zeros(3, bool))) == 0
    assert boxes.select(np.array([], int)).box3d.shape == (0, 7)


def test_messages_carry_the_same_boxes():
    pytest.importorskip('geometry_msgs')
    from std_msgs.msg import Header
    from visualization_msgs.msg import Marker

    from svp_ros.ros.box_messages import box_markers, box_pose

    box3d = random_boxes(6, 10).astype(np.float32)
    expected = corners(box3d)

    def place(pose, points):
        q, p = pose.orientation, pose.position
        turn = Rotation.from_quat([q.x, q.y, q.z, q.w])
        return turn.apply(points) + [p.x, p.y, p.z]

    for box, points in zip(box3d, expected):
        np.testing.assert_allclose(place(box_pose(box), CORNERS / 2 * box[3:6]), points, atol=1e-5)
    markers = box_markers(Boxes(box3d, ['Car'] * 6, np.ones(6)), Header()).markers
    cubes, lines = ([m for m in markers if m.type == kind and m.action == m.ADD]
                    for kind in (Marker.CUBE, Marker.LINE_LIST))
    for cube, line, points in zip(cubes, lines, expected):
        size = [cube.scale.x, cube.scale.y, cube.scale.z]
        np.testing.assert_allclose(place(cube.pose, CORNERS / 2 * size), points, atol=1e-5)
        ends = place(line.pose, np.array([(p.x, p.y, p.z) for p in line.points]))
        sides = {frozenset(map(tuple, side)) for side in ends.round(3).reshape(12, 2, 3)}
        assert sides == {frozenset(map(tuple, side)) for side in points[EDGES].round(3)}
