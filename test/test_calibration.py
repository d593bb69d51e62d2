import math

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo

from svp_ros.calibration import calibrate, fit_to_image
from svp_ros.rectification import Rectifier, wants_rectification
from svp_ros.rig import StereoRig

WIDTH, HEIGHT, FX, FY, CX, CY, BASELINE = 320, 200, 250.0, 240.0, 158.0, 101.0, 0.12
TOPICS = {f'{side}/{topic}': f'/cam/{side}/{topic}' for side in ('left', 'right')
          for topic in ('image_rect', 'camera_info')}


def make_infos(tx=-FX * BASELINE, cx_right=CX):
    infos = []
    for cx, p3 in ((CX, 0.0), (cx_right, tx)):
        infos.append(CameraInfo(
            width=WIDTH, height=HEIGHT, distortion_model='plumb_bob', d=[0.0] * 5,
            k=[FX, 0.0, cx, 0.0, FY, CY, 0.0, 0.0, 1.0],
            r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
            p=[FX, 0.0, cx, p3, 0.0, FY, CY, 0.0, 0.0, 0.0, 1.0, 0.0]))
    return infos


def kinds(calibration):
    return [finding.kind for finding in calibration.findings]


def texts(calibration):
    return ' | '.join(finding.text for finding in calibration.findings)


def test_a_good_pair_gives_its_camera_and_no_findings():
    calibration = calibrate(*make_infos(cx_right=CX - 12))
    camera = calibration.camera
    assert calibration.findings == ()
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (FX, FY, CX, CY)
    assert (camera.width, camera.height) == (WIDTH, HEIGHT)
    assert camera.baseline == pytest.approx(BASELINE)
    assert camera.doffs == pytest.approx(12)


def test_a_right_principal_point_beyond_the_left_limits_the_range():
    calibration = calibrate(*make_infos(cx_right=CX + 20))
    farthest = FX * BASELINE / 20
    assert f'nothing beyond {farthest:.1f} m can be matched' in calibration.findings[0].text
    assert not calibration.findings[0].error


def test_both_cameras_of_a_row_give_the_baseline_between_them():
    left, right = make_infos(tx=-FX * 0.5)
    left.p[3] = FX * 0.06  # the second camera of KITTI
    assert calibrate(left, right).camera.baseline == pytest.approx(0.56)


@pytest.mark.parametrize('index, value, message', [
    (0, 0.0, 'not calibrated'), (0, -200.0, 'not calibrated'), (5, 0.0, 'not calibrated'),
    (0, math.nan, 'NaN'), (3, math.inf, 'NaN'), (6, math.nan, 'NaN')])
@pytest.mark.parametrize('side', [0, 1])
def test_unusable_projections_are_errors(side, index, value, message):
    infos = make_infos()
    infos[side].p[index] = value
    calibration = calibrate(*infos)
    assert calibration.camera is None
    assert calibration.findings[0].error and message in texts(calibration)
    assert ('left', 'right')[side] + '/camera_info' in texts(calibration)


def test_a_negative_baseline_is_used_by_its_size_with_a_warning():
    calibration = calibrate(*make_infos(tx=FX * BASELINE))
    assert calibration.camera.baseline == pytest.approx(BASELINE)
    assert kinds(calibration) == ['negative baseline'] and 'not swapped' in texts(calibration)
    assert not calibration.findings[0].error


def test_infos_of_the_wrong_eye_show_as_a_negative_baseline():
    calibration = calibrate(*reversed(make_infos()))
    assert calibration.camera.baseline == pytest.approx(BASELINE)
    assert kinds(calibration) == ['negative baseline']


def test_a_zero_baseline_needs_the_override():
    calibration = calibrate(*make_infos(tx=0.0))
    assert calibration.camera is None and 'baseline_override' in texts(calibration)
    assert kinds(calibration) == ['zero baseline'] and calibration.findings[0].error
    calibration = calibrate(*make_infos(tx=0.0), baseline_override=0.2)
    assert calibration.camera.baseline == 0.2 and not calibration.findings


def test_a_baseline_in_millimetres_is_suspected_and_the_right_one_named():
    calibration = calibrate(*make_infos(tx=-FX * 120))
    assert calibration.camera is not None and kinds(calibration) == ['unit of the baseline']
    assert 'not millimetres, in which it would be 0.12 m: set the parameter baseline_override' in (
        texts(calibration))


def test_a_baseline_that_was_not_multiplied_by_fx_is_suspected_and_the_right_one_named():
    calibration = calibrate(*make_infos(tx=-0.12))
    assert calibration.camera is not None and kinds(calibration) == ['unit of the baseline']
    assert 'if it holds the baseline alone, that is 0.12 m: set' in texts(calibration)


def test_different_sizes_are_an_error():
    left, right = make_infos()
    right.width = 2 * WIDTH
    calibration = calibrate(left, right)
    assert calibration.camera is None and '640x200' in texts(calibration)
    assert kinds(calibration) == ['size of camera_info']


def test_distortion_with_p_equal_to_k_looks_unrectified():
    left, right = make_infos()
    left.d = [-0.3, 0.1, 0.0, 0.0, 0.0]
    calibration = calibrate(left, right)
    assert kinds(calibration) == ['left unrectified']
    assert 'left/camera_info looks unrectified' in texts(calibration)
    left.p[0] = right.p[0] = FX + 10  # what image_proc publishes: D stays, P is the new one
    assert 'unrectified' not in texts(calibrate(left, right))


def test_unequal_rows_and_focal_lengths_are_reported():
    left, right = make_infos()
    right.p[6] += 3
    assert 'P[6] differs by 3.0 px' in texts(calibrate(left, right))
    right.p[0] *= 1.1
    assert 'P[0] differs' in texts(calibrate(left, right))


def test_binning_and_region_of_interest_are_followed():
    left, right = make_infos(cx_right=CX - 12)
    for info in (left, right):
        info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 20, 10, 240, 160
        info.binning_x = info.binning_y = 2
    camera = calibrate(left, right).camera
    assert (camera.width, camera.height) == (120, 80)
    assert (camera.fx, camera.fy) == (FX / 2, FY / 2)
    assert camera.cx == pytest.approx((CX - 20 + 0.5) / 2 - 0.5)
    assert camera.doffs == pytest.approx(6)
    assert camera.baseline == pytest.approx(BASELINE)


def test_full_images_in_spite_of_announced_binning_or_region_are_taken_as_they_are():
    left, right = make_infos()
    for info in (left, right):
        info.binning_x = info.binning_y = 2
    calibration = calibrate(left, right, image_size=(WIDTH, HEIGHT))
    assert (calibration.camera.width, calibration.camera.fx) == (WIDTH, FX)
    assert kinds(calibration) == ['region or binning']
    assert 'binning to 160x100, but the images have the full 320x200' in texts(calibration)
    calibration = calibrate(left, right, image_size=(WIDTH // 2, HEIGHT // 2))
    assert calibration.camera.fx == FX / 2 and calibration.findings == ()


@pytest.mark.parametrize('change, message', [
    ({'binning_x': 2, 'binning_y': 2}, 'binning differs, 1x1 left and 2x2 right'),
    ({'roi.width': 100, 'roi.height': 80}, 'different sizes, 320x200 left and 100x80 right'),
    ({'roi.y_offset': 10}, 'start at rows 0 and 10')])
def test_regions_and_binning_must_agree(change, message):
    left, right = make_infos()
    for name, value in change.items():
        owner, _, field = name.rpartition('.')
        setattr(right.roi if owner else right, field, value)
    calibration = calibrate(left, right)
    assert calibration.camera is None and calibration.findings[0].error
    assert kinds(calibration) == ['region or binning'] and message in texts(calibration)


def test_images_of_another_size_scale_the_camera():
    camera = calibrate(*make_infos()).camera
    half = fit_to_image(camera, WIDTH // 2, HEIGHT // 2)
    assert half.camera.fx == FX / 2 and half.camera.baseline == camera.baseline
    assert kinds(half) == ['size of the images']
    assert 'scaled' in texts(half) and 'cropped' not in texts(half)
    assert 'cropped' in texts(fit_to_image(camera, WIDTH, HEIGHT // 2))
    assert fit_to_image(camera, WIDTH, HEIGHT).findings == ()


def test_auto_rectification_trusts_the_topic_name():
    info = make_infos()[0]
    assert not wants_rectification('auto', '/cam/left/image_raw', info)
    info.d = [-0.3, 0.1, 0.0, 0.0, 0.0]
    assert wants_rectification('auto', '/rectangle/left/image_raw', info)
    assert not wants_rectification('auto', '/cam/left/image_rect_color', info)
    assert not wants_rectification('auto', '/cam/left/image_rect/compressed', info)
    assert wants_rectification('auto', '/rect/left/image_raw/compressed', info)
    assert not wants_rectification('auto', '/zed/zed_node/left/color/rect/image', info)
    assert not wants_rectification('auto', '/camera/infra1/image_rect_raw', info)
    assert wants_rectification('auto', '/corrected/left/image_unrect', info)
    for name in ('imageRect', 'image_rect0', 'IMAGE_RECT', 'image_rectified'):
        assert not wants_rectification('auto', f'/cam/left/{name}', info)
    assert wants_rectification('on', '/cam/left/image_rect', info)
    assert not wants_rectification('off', '/cam/left/image_raw', info)


@pytest.mark.parametrize('model, d', [
    ('plumb_bob', [-0.28, 0.07, 0.0002, 0.00002, 0.0]),
    ('rational_polynomial', [0.3, -0.1, 0.001, -0.001, 0.02, 0.5, -0.05, 0.01]),
    ('equidistant', [-0.02, 0.01, -0.003, 0.001])])
def test_rectification_moves_a_point_where_p_and_r_put_it(model, d):
    info = make_infos()[0]
    info.distortion_model, info.d = model, d
    rotation = cv2.Rodrigues(np.array([0.01, -0.03, 0.02]))[0]
    info.r = rotation.ravel().tolist()
    info.p = [230.0, 0.0, 150.0, 0.0, 0.0, 230.0, 95.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    point = np.array([0.35, -0.2, 1.0])  # in the raw camera's frame
    lens = cv2.fisheye if model == 'equidistant' else cv2
    raw = lens.projectPoints(point.reshape(1, 1, 3), np.zeros(3), np.zeros(3),
                             np.reshape(info.k, (3, 3)), np.array(d))[0].ravel()
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    blob = 255 * np.exp(-((columns - raw[0]) ** 2 + (rows - raw[1]) ** 2) / 18)
    rectified = Rectifier(info, WIDTH, HEIGHT)(blob.astype(np.uint8)).astype(float)
    x, y, z = rotation @ point
    expected = 230 * x / z + 150, 230 * y / z + 95
    centre = ((rectified * columns).sum() / rectified.sum(),
              (rectified * rows).sum() / rectified.sum())
    assert centre == pytest.approx(expected, abs=0.3)
    assert np.hypot(raw[0] - expected[0], raw[1] - expected[1]) > 3, 'the test would prove nothing'


def test_rectification_says_what_it_cannot_use():
    info = make_infos()[0]
    info.k[2] = math.nan
    with pytest.raises(ValueError, match='NaN'):
        Rectifier(info, WIDTH, HEIGHT)
    info = make_infos()[0]
    with pytest.raises(ValueError, match='320x200'):
        Rectifier(info, WIDTH // 2, HEIGHT)
    info.d = [0.1, 0.2, 0.3]
    with pytest.raises(ValueError, match='4 or 5 coefficients, D has 3'):
        Rectifier(info, WIDTH, HEIGHT)
    info.distortion_model = 'mei'
    with pytest.raises(ValueError, match='"mei".*plumb_bob'):
        Rectifier(info, WIDTH, HEIGHT)


def test_the_rig_waits_for_camera_info_and_names_the_topics():
    rig, image = StereoRig(TOPICS), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rig.update('left', make_infos()[0])
    with pytest.raises(ValueError, match='no camera_info on /cam/right/camera_info'):
        rig.rectified_pair(image, image)
    rig.update('right', make_infos()[1])
    pair = rig.rectified_pair(image, image)
    assert pair.camera.fx == FX and pair.inside is None and rig.findings == ()


def test_without_camera_info_pairs_are_taken_for_rectified_after_a_while():
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rig = StereoRig(TOPICS, patience_s=0.0, size=(WIDTH // 2, HEIGHT // 2))
    pair = rig.rectified_pair(image, image)
    assert pair.camera is None and pair.left.shape == (HEIGHT // 2, WIDTH // 2, 3)
    assert rig.findings[0].error and 'disparity in pixels only' in rig.findings[0].text
    for side, info in zip(('left', 'right'), make_infos()):
        rig.update(side, info)
    assert rig.rectified_pair(image, image).camera.fx == FX / 2 and rig.findings == ()
    rig = StereoRig(TOPICS, rectify='on', patience_s=0.0)
    with pytest.raises(ValueError, match='no camera_info on [^:]*$'):
        rig.rectified_pair(image, image)


def test_the_rig_follows_a_new_calibration_and_another_image_size():
    rig, image = StereoRig(TOPICS), np.zeros((HEIGHT, WIDTH), np.uint8)
    for tx, baseline in ((-FX * 0.1, 0.1), (-FX * 0.3, 0.3)):
        for side, info in zip(('left', 'right'), make_infos(tx=tx)):
            rig.update(side, info)
        assert rig.rectified_pair(image, image).camera.baseline == pytest.approx(baseline)
    small = image[:HEIGHT // 2, :WIDTH // 2]
    assert rig.rectified_pair(small, small).camera.fx == FX / 2
    with pytest.raises(ValueError, match='160x100 and 320x200'):
        rig.rectified_pair(small, image)


def test_the_rig_rectifies_raw_images_and_resizes_for_small_outputs():
    topics = {**TOPICS, 'left/image_rect': '/cam/left/image_raw',
              'right/image_rect': '/cam/right/image_raw'}
    rig = StereoRig(topics, size=(WIDTH // 2, HEIGHT // 2))
    for side, info in zip(('left', 'right'), make_infos()):
        info.d = [0.2, 0.05, 0.0, 0.0, 0.0]
        info.p[0] = info.p[5] = FX * 0.8
        info.p[3] *= 0.8
        rig.update(side, info)
    image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    pair = rig.rectified_pair(image, image)
    assert rig.rectifies
    assert pair.left.shape == (HEIGHT // 2, WIDTH // 2, 3)
    assert pair.camera.fx == pytest.approx(FX * 0.4)
    assert pair.inside.shape == (HEIGHT // 2, WIDTH // 2)
    assert pair.inside[HEIGHT // 4, WIDTH // 4] and not pair.inside[0, 0]
    assert (pair.left[pair.inside] > 150).all()
