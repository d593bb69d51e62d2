import numpy as np
import pytest

from svp_ros.box_pictures import class_colour, draw_birds_eye, draw_boxes, show_boxes, TRUTH
from svp_ros.boxes import Boxes, corners, LabelledBoxes
from svp_ros.geometry import project, StereoCamera

CAMERA = StereoCamera(fx=100, fy=100, cx=80, cy=40, baseline=0.5, width=160, height=90)
CAR = np.array([1.0, 0.5, 8.0, 4.0, 1.5, 1.8, 0.4], np.float32)
EMPTY = np.zeros((90, 160, 3), np.uint8)


def truth(*box3d):
    count = len(box3d)
    return LabelledBoxes(np.array(box3d, np.float32).reshape(-1, 7), ['Car'] * count,
                         np.zeros((count, 4), np.float32), np.zeros(count, np.float32),
                         np.zeros(count, np.int64))


def painted(picture, colour=TRUTH):
    """Pixels that have mostly this colour."""
    return (np.abs(picture.astype(int) - colour) < 80).all(-1)


def test_corners_are_where_the_camera_sees_them():
    picture = draw_boxes(EMPTY, CAR[None], ['Car'], None, CAMERA)
    for x, y in project(corners(CAR[None])[0], CAMERA)[:, :2]:
        around = painted(picture)[round(y) - 1:round(y) + 2, round(x) - 1:round(x) + 2]
        assert around.any()
    box = project(corners(CAR[None])[0], CAMERA)
    rows, columns = np.nonzero(picture.any(-1))
    assert (columns.min(), columns.max()) == pytest.approx((box[:, 0].min(), box[:, 0].max()),
                                                           abs=1.6)
    assert (rows.min(), rows.max()) == pytest.approx((box[:, 1].min(), box[:, 1].max()), abs=1.6)
    assert not EMPTY.any()  # drawn on a copy


def test_the_front_is_tinted():
    # the near side covers 33 px around the axis, the far one 20 px
    toward, away = (draw_boxes(EMPTY + 100, [[0.0, 0, 8, 4, 2, 2, yaw]], ['Car'], None, CAMERA)
                    for yaw in (np.pi / 2, -np.pi / 2))
    for picture, outer in ((toward, True), (away, False)):
        assert (picture[40, 80] != 100).any()
        assert (picture[40, 67] != 100).any() == outer
    assert (toward[40, 60] == 100).all()


def test_what_is_behind_the_camera_is_not_drawn():
    across = [1.0, 0, 0, 4, 1.5, 1.8, np.pi / 2]  # from z = -2 to z = 2
    behind, unknown = [0.0, 0, -5, 4, 1.5, 1.8, 0], [np.nan] * 7
    picture = draw_boxes(EMPTY, [behind, unknown], ['Car'] * 2, np.array([0.5, 0.5]), CAMERA)
    assert not picture.any()
    picture = draw_boxes(EMPTY, [behind, across, unknown], ['Car'] * 3, None, CAMERA)
    assert painted(picture).any() and not painted(picture)[:, :79].any()
    np.testing.assert_array_equal(draw_boxes(EMPTY, np.empty((0, 7)), [], None, CAMERA), EMPTY)


def test_detections_have_the_colour_of_their_class_and_a_text():
    colours = [class_colour(name) for name in ('Car', 'Pedestrian', 'Cyclist', 'Dog')]
    assert len({*colours, TRUTH}) == 5 and class_colour('Dog') == colours[3]
    low = CAR + [0, 1.5, 0, 0, 0, 0, 0]
    found = draw_boxes(EMPTY, low[None], ['Pedestrian'], np.array([0.5]), CAMERA)
    silent = draw_boxes(EMPTY, low[None], ['Pedestrian'], None, CAMERA)
    top = round(project(corners(low[None])[0], CAMERA)[:, 1].min())
    assert painted(found, class_colour('Pedestrian')).any() and not painted(found).any()
    assert painted(found, class_colour('Pedestrian'))[:top - 3].any()
    assert not silent[:top - 3].any()


def test_texts_of_one_place_are_above_each_other():
    low = CAR + [0, 1.5, 0, 0, 0, 0, 0]
    once, twice = (draw_boxes(EMPTY, np.tile(low, (n, 1)), ['Car'] * n, np.full(n, 0.5), CAMERA)
                   for n in (1, 2))
    rows = [np.flatnonzero(painted(picture, class_colour('Car')).any(1)).min()
            for picture in (once, twice)]
    assert rows[1] < rows[0] - 8
    assert painted(twice, class_colour('Car'))[rows[0]:rows[0] + 8].any()


def test_marked_boxes_have_thick_lines():
    thin, thick = (painted(draw_boxes(EMPTY, CAR[None], ['Car'], None, CAMERA, marked)).sum()
                   for marked in ((), [0]))
    assert thick > 1.5 * thin


def test_birds_eye_view_is_to_scale():
    # 10 px per metre: the centre is 200 px above the lower edge, 50 right of the middle
    picture = draw_birds_eye(CAMERA, truth=truth([5, 1, 20, 4, 1.5, 2, 0]), height=400, far=40)
    rows, columns = np.nonzero(painted(picture))
    assert (rows.min(), rows.max()) == pytest.approx((190, 210), abs=1)
    assert (columns.min(), columns.max()) == pytest.approx((230, 270), abs=1)
    # yaw 0 faces +x
    assert painted(picture)[200, 260] and not painted(picture)[200, 240]
    turned = draw_birds_eye(CAMERA, truth=truth([5, 1, 20, 4, 1.5, 2, -np.pi / 2]), height=400,
                            far=40)
    assert painted(turned)[190, 250] and not painted(turned)[210, 250]


def test_birds_eye_view_fits_the_boxes():
    def top(z):
        picture = draw_birds_eye(CAMERA, truth=truth([0, 1, z, 4, 1.5, 2, 0]), height=400)
        return np.nonzero(painted(picture))[0].mean()

    assert top(10) == pytest.approx(400 - 10 * 20, abs=3)
    assert top(30) == pytest.approx(400 - 30 * 10, abs=3)
    assert not painted(draw_birds_eye(CAMERA, truth=truth([np.nan] * 7))).any()
    assert draw_birds_eye(CAMERA).shape == (480, 480, 3)
    far = Boxes(CAR[None] + [0, 0, 200, 0, 0, 0, 0], ['Car'], np.array([0.5], np.float32))
    assert draw_birds_eye(CAMERA, far, height=100).shape == (100, 100, 3)


def test_picture_shows_both_views_of_truth_and_detections():
    found = Boxes(CAR[None], ['Car'], np.array([0.5], np.float32))
    picture = show_boxes(EMPTY, CAMERA, found, truth(CAR + [0.5, 0, 3, 0, 0, 0, 0]))
    left, above = picture[:, :-404], picture[:, -400:]
    assert picture.shape[0] == 400 and left.shape[1] == round(160 * 400 / 90)
    for part in (left, above):
        assert painted(part).any() and painted(part, class_colour('Car')).any()
    # in the enlarged image the corners are where the enlarged camera sees them
    scaled = CAMERA.scaled(left.shape[1] / 160, 400 / 90)
    x, y = project(corners(CAR[None])[0], scaled)[:, :2].max(0)
    rows, columns = np.nonzero(painted(left, class_colour('Car')))
    assert (columns.max(), rows.max()) == pytest.approx((x, y), abs=2)
    for nothing in (show_boxes(EMPTY, CAMERA, None), show_boxes(EMPTY, CAMERA, None, truth())):
        assert not painted(nothing).any()
