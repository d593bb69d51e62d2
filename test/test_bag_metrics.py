"""Figures that need no ground truth are zero for a perfect disparity and grow with its error."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from svp_ros.data.bags import StereoPair
from svp_ros.eval.bag_metrics import flicker, MotionEstimator, photometric_error, Rectification
from svp_ros.eval.bag_score import ModelScore
from svp_ros.eval.bag_sources import Estimate
from svp_ros.geometry import StereoCamera

H, W = 120, 200
CAMERA = StereoCamera(fx=100.0, fy=100.0, cx=99.5, cy=59.5, baseline=0.1, width=W, height=H,
                      cx_right=97.5)
DISPARITY = 8  # everywhere
NAN = float('nan')


def texture(width, seed=0):
    """Smooth noise: optical flow and corners need structure at several scales."""
    generator = np.random.default_rng(seed)
    noise = sum(cv2.GaussianBlur(generator.uniform(-1, 1, (H, width)), (0, 0), sigma) * sigma
                for sigma in (1.5, 4))
    return cv2.normalize(noise, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)


def make_pair(shift=0, stamp=0, darker=0, down=0):
    """A wall; the camera has moved `shift` px to the right along it, the right eye is darker."""
    wall = texture(W + DISPARITY + 20)
    left, right = wall[:, shift:shift + W], wall[:, shift + DISPARITY:shift + DISPARITY + W]
    right = np.roll(right, down, axis=0) - np.uint8(darker)
    return StereoPair(stamp, left, right, CAMERA, 'left', None, np.eye(3), ())


def constant(value):
    return np.full((H, W), value, np.float32)


def warp_error(pair, disparity):
    return photometric_error(pair.left, pair.right, disparity, pair.inside)


def test_photometric_error_is_zero_for_the_true_disparity_only():
    error = warp_error(make_pair(darker=7), constant(DISPARITY))
    assert np.isnan(error[:, :DISPARITY]).all(), 'outside the right image'
    assert np.array_equal(error[:, DISPARITY:], np.zeros((H, W - DISPARITY)))
    errors = [np.nanmean(warp_error(make_pair(), constant(DISPARITY + off)))
              for off in (0, 0.5, 1, 2)]
    assert errors[0] == 0 and errors == sorted(errors) and errors[-1] > 5
    disparity = constant(DISPARITY)
    disparity[:50] = NAN
    assert np.isnan(warp_error(make_pair(), disparity)[:50]).all()
    assert np.isnan(warp_error(make_pair(), constant(NAN))).all()


def test_black_borders_of_rectification_do_not_count():
    pair = make_pair()
    pair.right[:30] = 0
    inside = replace(pair, inside=np.ones((H, W), bool))
    assert np.nanmean(warp_error(pair, constant(DISPARITY))) > 20
    error = warp_error(inside, constant(DISPARITY))
    assert np.isnan(error[:30]).all() and np.nanmean(error) == 0


def test_flicker_follows_the_motion_of_the_image():
    estimator = MotionEstimator()
    assert estimator.step(make_pair()) is None
    motion = estimator.step(make_pair(shift=3, stamp=10**8))
    assert motion.seen[:, :-8].mean() > 0.95
    assert np.median(motion.x - np.arange(W)) == pytest.approx(3, abs=0.2)
    # A ramp in the image: moving along, each point keeps its disparity.
    ramp = (np.arange(W, dtype=np.float32) / 10) * np.ones((H, 1), np.float32)
    assert np.nanmean(flicker(ramp + 0.3, ramp, motion)) < 0.05
    assert np.nanmean(flicker(ramp, ramp, motion)) == pytest.approx(0.3, abs=0.05)
    assert np.nanmean(flicker(ramp + 2.3, ramp, motion)) == pytest.approx(2, abs=0.05)
    hidden = ramp.copy()
    hidden[:, 40:60] = NAN
    assert np.isnan(flicker(ramp, hidden, motion)[:, 40:55]).all()


def test_pairs_far_apart_in_time_are_not_compared():
    estimator = MotionEstimator()
    for stamp, compared in ((0, False), (4 * 10**8, True), (10**9, False), (10**9, False),
                            (10**8, False), (2 * 10**8, True)):
        assert (estimator.step(make_pair(stamp=stamp)) is not None) == compared


def test_rectification_is_estimated_from_all_pairs():
    rectification = Rectification()
    single = [rectification.add(make_pair(down=2)) for _ in range(2)]
    assert single[0].offset == pytest.approx(2, abs=0.1)
    assert rectification.result().matches == sum(estimate.matches for estimate in single)
    assert Rectification().result() is None
    flat = replace(make_pair(), left=np.zeros((H, W), np.uint8))
    assert Rectification().add(flat) is None


def estimate(disparity, **values):
    return Estimate(disparity, constant(0.25), 0.5, 50.0, **values)


def test_scores_pool_pixels_and_average_pairs():
    truth = constant(DISPARITY)
    truth[:, :20] = NAN
    half = constant(DISPARITY + 2)
    half[H // 2:] = NAN
    score, motion = ModelScore(), MotionEstimator()
    pairs = [make_pair(stamp=stamp) for stamp in (0, 10**8, 2 * 10**8)]
    estimates = (None, estimate(constant(DISPARITY), timing={'total': 5.0}),
                 estimate(half, timing={'total': 7.0}))
    rows = [score.add(pair, published, truth, motion.step(pair))[0]
            for pair, published in zip(pairs, estimates)]
    assert rows[0] == {}
    assert 'flicker' not in rows[1], 'nothing was published before'
    assert rows[2]['flicker'] == pytest.approx(2, abs=1e-3)
    assert (rows[1]['epe'], rows[2]['epe'], rows[2]['coverage']) == (0, 2, 50)
    result = score.result()
    assert (result['pairs'], result['density'], result['confidence']) == (2, 75, 0.25)
    assert result['disparity']['epe'] == pytest.approx(2 / 3)  # a third of the pixels
    assert (result['disparity']['coverage'], result['disparity']['pairs']) == (75, 2)
    # 10 / (8 - 2) m instead of 10 / (10 - 2) m
    assert result['depth']['mean_abs_m'] == pytest.approx((10 / 6 - 10 / 8) / 3, rel=1e-4)
    assert result['flicker']['above_1'] == pytest.approx(100, abs=0.5)
    assert result['latency_ms']['total']['p50'] == 6 and result['latency_ms']['total']['max'] == 7
    assert 'left_right' not in result


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match='no pair has a disparity'):
        ModelScore().result()
    score = ModelScore()
    score.add(make_pair(), estimate(constant(NAN)), constant(DISPARITY), None)
    with pytest.raises(ValueError, match='no published pixel is valid where the ground truth'):
        score.result()
