"""Rectification errors and swapped eyes, recognised from images with a known shift."""

import os
from pathlib import Path
import time

import cv2
import numpy as np
import pytest
from skimage.data import stereo_motorcycle

from svp_ros.data.formats import read_image
from svp_ros.geometry import StereoCamera
from svp_ros.ros.pair_check import PairCheck
from svp_ros.row_alignment import align_rows, alignment_findings, match_corners


def shifted(image, down, roll=0.0):
    """Move an image down by some pixels and turn it around its centre by degrees."""
    H, W = image.shape[:2]
    motion = cv2.getRotationMatrix2D((W / 2, H / 2), roll, 1)
    motion[1, 2] += down
    return cv2.warpAffine(image, motion, (W, H), flags=cv2.INTER_CUBIC,
                          borderMode=cv2.BORDER_REFLECT)


def align(left, right, doffs=0.0):
    return align_rows(match_corners(left, right), left.shape[1], left.shape[0], doffs)


def kinds(alignment):
    return [finding.kind for finding in alignment_findings(alignment)]


@pytest.fixture(scope='module')
def street():
    """A rendered pair, (H, W, 3) uint8 each, with exactly aligned rows."""
    from svp_ros.data.world import World
    sample = World().sample(3, 1, 240, 400, 'street')
    return [np.ascontiguousarray((255 * image[0].permute(1, 2, 0).numpy()).astype(np.uint8))
            for image in (sample.left, sample.right)]


@pytest.fixture(scope='module')
def photographs():
    left, right, _ = stereo_motorcycle()
    return left, right


@pytest.mark.parametrize('pair', ['street', 'photographs'])
@pytest.mark.parametrize('down', [0.0, 0.4, -2.0, 7.0])
def test_a_known_vertical_shift_is_measured(pair, down, request):
    left, right = request.getfixturevalue(pair)
    alignment = align(left, shifted(right, down))
    assert alignment.offset == pytest.approx(down, abs=0.2)
    assert alignment.error == pytest.approx(abs(down), abs=0.25)
    assert kinds(alignment) == (['vertical offset'] if abs(down) > 1 else [])


def test_a_rolled_camera_counts_although_its_mean_offset_is_zero(photographs):
    left, right = photographs
    alignment = align(left, shifted(right, 0, roll=0.5))
    largest = left.shape[1] / 2 * np.radians(0.5)  # at the left and right border
    assert abs(alignment.offset) < 0.5
    assert alignment.error == pytest.approx(largest / 3 ** 0.5, rel=0.25)
    assert 'rows do not line up' in alignment_findings(alignment)[0].text


@pytest.mark.parametrize('pair', ['street', 'photographs'])
def test_swapped_eyes_have_negative_disparities(pair, request):
    left, right = request.getfixturevalue(pair)
    assert align(left, right).positive > 0.9
    alignment = align(right, left)
    assert alignment.negative > 0.9 and kinds(alignment) == ['swapped eyes']
    text = alignment_findings(alignment)[0].text
    assert 'exchange the topics left/image_rect and right/image_rect' in text


def test_the_offset_of_the_principal_points_is_no_swap(photographs):
    left, right = photographs
    crop = 250  # a right image cropped on the left: all x_left - x_right fall by that
    alignment = align(left[:, :-crop], right[:, crop:], doffs=-crop)
    assert alignment is None or kinds(alignment) == []
    moved = np.roll(right, 100, axis=1)  # x_left - x_right - 100, all negative
    assert kinds(align(left, moved, doffs=-100)) == []
    assert kinds(align(left, moved)) == ['swapped eyes']


def test_colour_and_grey_give_the_same(photographs):
    left, right = photographs
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in photographs]
    np.testing.assert_array_equal(match_corners(left, right), match_corners(*grey))
    assert align(left, grey[1]) == align(*grey)


@pytest.mark.parametrize('kind', ['noise', 'black', 'tiny', 'checkerboard'])
def test_images_without_unique_matches_give_no_estimate(kind):
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (2, 120, 160), np.uint8)
    board = np.kron(np.indices((8, 10)).sum(0) % 2, np.full((16, 16), 255)).astype(np.uint8)
    left, right = {'noise': noise, 'black': np.zeros((2, 120, 160), np.uint8),
                   'tiny': noise[:, :3, :4], 'checkerboard': (board, board)}[kind]
    assert align(left, right) is None and alignment_findings(None) == ()


def test_the_check_of_a_node_works_beside_it_and_starts_afresh_for_another_camera(photographs):
    left, right = photographs
    camera = StereoCamera(fx=990.0, fy=990.0, cx=300.0, cy=250.0, baseline=0.2,
                          width=left.shape[1], height=left.shape[0])
    check = PairCheck(None)
    try:
        assert check.due()
        check.offer(left, shifted(right, 3), camera)
        assert not check.due()
        wait_for(lambda: check.alignment is not None)
        assert [finding.kind for finding in check.findings] == ['vertical offset']
        half = camera.scaled(0.5, 0.5)
        check.offer(*(cv2.resize(image, (half.width, half.height), interpolation=cv2.INTER_AREA)
                      for image in (left, right)), half)
        wait_for(lambda: check.findings == ())
    finally:
        check.close()


def wait_for(condition, timeout=20.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif('SVP_LABELLED' not in os.environ, reason='SVP_LABELLED names no labelled data')
@pytest.mark.parametrize('down', [0.0, 4.0, -10.0])
def test_real_scenes_shifted_by_known_amounts(down):
    """KITTI is off by up to 0.5 px itself; no scene may warn, all must when shifted."""
    scenes = sorted({path.parent for path in Path(os.environ['SVP_LABELLED']).glob('*/*/left.*')})
    found = 0
    for scene in scenes:
        left, right = (read_image(next(scene.glob(f'{side}.*'))) for side in ('left', 'right'))
        alignment = align(left, shifted(right, down))
        if alignment is None:
            continue
        found += 1
        assert alignment.offset == pytest.approx(down, abs=0.6), scene
        assert kinds(alignment) == (['vertical offset'] if down else []), scene
        assert alignment.positive > 0.9, scene
    assert found >= 0.9 * len(scenes) > 0
