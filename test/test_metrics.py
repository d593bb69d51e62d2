import numpy as np
import pytest
import torch

from svp_ros.eval.metrics import (
    bad,
    d1,
    DepthBandScore,
    DisparityScore,
    epe,
    Reliability,
    Sparsification,
)
from svp_ros.eval.sgbm import fill_holes, sgbm_disparity
from svp_ros.geometry import StereoCamera

# Errors 0, 1, 3, 3.5, 4, 10 px, and 100 px where there is no truth.
TARGET = np.array([[10.0, 10.0, 10.0, 100.0], [10.0, 10.0, 50.0, 0.0]], np.float32)
DISPARITY = np.array([[10.0, 11.0, 7.0, 103.5], [14.0, 20.0, 49.0, 100.0]], np.float32)
VALID = np.array([[True, True, True, True], [True, True, True, False]])


def test_errors_worked_by_hand():
    assert epe(DISPARITY, TARGET, VALID) == pytest.approx((0 + 1 + 3 + 3.5 + 4 + 10 + 1) / 7)
    assert bad(DISPARITY, TARGET, VALID, 1) == pytest.approx(100 * 4 / 7)
    assert bad(DISPARITY, TARGET, VALID, 2) == pytest.approx(100 * 4 / 7)
    assert bad(DISPARITY, TARGET, VALID, 3) == pytest.approx(100 * 3 / 7)


def test_d1_needs_both_thresholds():
    # 3.5 px of 100 px is within 5 %; 4 and 10 px of 10 px are neither within 3 px nor 5 %.
    assert d1(DISPARITY, TARGET, VALID) == pytest.approx(100 * 2 / 7)
    # 2 px of 10 px is beyond 5 % but within 3 px.
    assert d1(np.full(4, 12.0), np.full(4, 10.0), np.ones(4, bool)) == 0


def test_perfect_prediction_scores_zero_everywhere():
    assert epe(TARGET, TARGET, VALID) == 0
    assert bad(TARGET, TARGET, VALID, 1) == 0 and d1(TARGET, TARGET, VALID) == 0


def test_torch_and_numpy_agree_and_give_floats():
    tensors = [torch.from_numpy(array) for array in (DISPARITY, TARGET, VALID)]
    assert epe(*tensors) == epe(DISPARITY, TARGET, VALID) and isinstance(epe(*tensors), float)
    assert bad(*tensors, 3) == bad(DISPARITY, TARGET, VALID, 3)
    assert d1(*tensors) == d1(DISPARITY, TARGET, VALID)


def test_pooled_score_counts_pixels_not_maps():
    score = DisparityScore()
    score.update(DISPARITY, TARGET, VALID)
    score.update(np.full((5, 20), 2.0), np.full((5, 20), 0.5), np.ones((5, 20), bool))
    result = score.result()
    assert result['pixels'] == 107
    assert result['epe'] == pytest.approx((22.5 + 150) / 107)
    assert result['bad_1'] == pytest.approx(100 * 104 / 107)
    assert result['bad_3'] == pytest.approx(100 * 3 / 107)
    assert result['d1'] == pytest.approx(100 * 2 / 107)


def test_pooled_score_of_one_map_equals_the_functions():
    score = DisparityScore()
    score.update(DISPARITY, TARGET, VALID)
    assert score.result() == pytest.approx({
        'epe': epe(DISPARITY, TARGET, VALID), 'd1': d1(DISPARITY, TARGET, VALID), 'pixels': 7,
        **{f'bad_{n}': bad(DISPARITY, TARGET, VALID, n) for n in (1, 2, 3)}})


@pytest.mark.parametrize('disparity, target, valid, message', [
    (DISPARITY, TARGET, np.zeros((2, 4), bool), 'no valid pixel'),
    (DISPARITY[:1], TARGET, VALID, 'one shape'),
    (DISPARITY, TARGET, VALID.astype(np.float32), 'valid must be bool, got float32'),
    (np.where(DISPARITY == 11, np.nan, DISPARITY), TARGET, VALID, '1 of 7 valid pixels'),
])
def test_unusable_input_is_refused(disparity, target, valid, message):
    with pytest.raises(ValueError, match=message):
        epe(disparity, target, valid)


def test_empty_score_is_an_error():
    with pytest.raises(ValueError, match='no valid pixel was scored'):
        DisparityScore().result()


def test_holes_take_the_smaller_neighbour_of_their_row():
    values = np.array([[0, 7, 0, 0, 3, 0], [0, 0, 0, 0, 0, 0], [5, 9, 9, 9, 9, 9]], np.float32)
    known = np.array([[0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1]], bool)
    np.testing.assert_array_equal(fill_holes(values, known), [
        [7, 7, 3, 3, 3, 3], [7, 7, 3, 3, 3, 3], [5, 5, 5, 5, 5, 9]])
    assert not fill_holes(values, np.zeros_like(known)).any()


@pytest.mark.parametrize('channels', [(), (3,)])
def test_sgbm_finds_a_known_shift_up_to_the_border(channels):
    scene = np.random.default_rng(0).integers(0, 256, (60, 140, *channels), dtype=np.uint8)
    disparity = sgbm_disparity(scene[:, 20:120], scene[:, 33:133], max_disparity=30)
    assert disparity.shape == (60, 100) and disparity.dtype == np.float32
    error = np.abs(disparity - 13)
    assert np.median(error) < 0.1 and (error > 1).mean() < 0.05


def test_reliability_counts_by_confidence():
    reliability = Reliability()
    reliability.update(np.array([0.1, 0.3, 0.96, 0.96, 0.96, 1.0]),
                       np.array([False, True, True, True, False, True]))
    low, high, top = reliability.result()
    assert (low['from'], low['pixels'], low['right']) == (0.0, 2, 50.0)
    assert low['mean_confidence'] == pytest.approx(0.2)
    assert (high['from'], high['to'], high['pixels']) == (0.95, 0.98, 3)
    assert high['right'] == pytest.approx(200 / 3)
    assert (top['to'], top['pixels'], top['right']) == (1.0, 1, 100.0)


def test_merged_scores_equal_one_score_of_all():
    together, first, second = (DisparityScore() for _ in range(3))
    other = DISPARITY + 2, TARGET, ~VALID
    for score, maps in ((together, (DISPARITY, TARGET, VALID)), (together, other),
                        (first, (DISPARITY, TARGET, VALID)), (second, other)):
        score.update(*maps)
    first.merge(second)
    first.merge(DisparityScore())
    assert first.result() == together.result()


def test_depth_bands_use_the_true_depth_and_the_offset_of_the_principal_points():
    camera = StereoCamera(100, 100, 10, 5, 0.2, 4, 1, cx_right=6)  # Z = 20 / (d - 4)
    score = DepthBandScore()
    #                         5 m   5 m  infinity  1 m
    target = np.array([[8.0, 8.0, 4.0, 24.0]], np.float32)
    disparity = np.array([[8.2, 3.0, 9.0, 22.0]], np.float32)  # 4.76 m, beyond infinity, 1.11 m
    score.update(disparity, target, np.array([[True, True, True, True]]), camera)
    near, far = score.result()
    assert (near['from_m'], near['to_m'], near['pixels'], near['epe']) == (0, 2, 1, 2)
    assert near['depth_off'] == 100
    assert (far['from_m'], far['to_m'], far['pixels'], far['depth_off']) == (5, 10, 2, 50)
    assert far['epe'] == pytest.approx((0.2 + 5) / 2, abs=1e-6)
    score.update(np.ones((1, 4)), np.full((1, 4), 4.1), np.ones((1, 4), bool), camera)
    assert score.result()[-1]['from_m'] == 80 and score.result()[-1]['to_m'] is None


def test_sparsification_drops_the_least_confident_first():
    confidence = np.arange(1000, dtype=np.float32).reshape(20, 50) / 1000
    error = np.where(confidence < 0.1, 4.0, 3.0)
    curve = {point['dropped']: point['bad_3'] for point in dropping(confidence, error)}
    assert curve[0] == 10 and curve[20] == 0
    # Of the 100 bad ones 50 are left among 950.
    assert curve[5] == pytest.approx(100 * 50 / 950, abs=0.2)
    assert [point['bad_3'] for point in dropping(1 - confidence, error)] == pytest.approx(
        [100 * 100 / kept for kept in (1000, 950, 900, 800, 700, 600, 500)])


def test_sparsification_treats_equal_confidences_alike_and_tells_apart_the_highest():
    error = np.array([4.0] * 10 + [0.0] * 30)
    assert {point['bad_3'] for point in dropping(np.full(40, 1, np.float32), error)} == {25}
    sure = np.array([0.9998] * 10 + [0.9999] * 30, np.float32)
    assert dropping(sure, error)[-1]['bad_3'] == 0
    with pytest.raises(ValueError, match='no pixel was added'):
        Sparsification().result()


def dropping(confidence, error):
    score = Sparsification()
    score.update(confidence, error)
    return score.result()
