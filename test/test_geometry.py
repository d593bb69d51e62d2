import math

import numpy as np
import pytest
import torch

from svp_ros.geometry import (
    depth_to_disparity,
    disparity_to_depth,
    pad_to_multiple,
    project,
    StereoCamera,
    unproject,
)

CAMERA = StereoCamera(fx=995.0, fy=990.0, cx=311.2, cy=254.9, baseline=0.193, width=74, height=50,
                      cx_right=280.1)


@pytest.mark.parametrize('make', [np.asarray, torch.as_tensor])
def test_depth_round_trip_keeps_the_kind_of_array(make):
    depth = make(np.random.default_rng(0).uniform(0.5, 80, (50, 74)))
    back = disparity_to_depth(depth_to_disparity(depth, CAMERA), CAMERA)
    assert type(back) is type(depth) and back.dtype == depth.dtype
    np.testing.assert_allclose(np.asarray(back), np.asarray(depth), rtol=1e-9)


def test_depth_of_a_disparity_worked_by_hand():
    # d = x_l - x_r - (cx_l - cx_r) = 50 - 31.1 = 18.9 px; Z = 995 * 0.193 / 18.9 m.
    assert CAMERA.doffs == pytest.approx(31.1)
    depth = disparity_to_depth(np.array([50.0]), CAMERA)
    assert depth[0] == pytest.approx(995 * 0.193 / 18.9)


@pytest.mark.parametrize('make', [np.asarray, torch.as_tensor])
def test_at_and_beyond_infinity_depth_is_infinite_and_nan_stays(make):
    camera = StereoCamera(100.0, 100.0, 40.0, 30.0, 0.1, 80, 60, cx_right=30.0)
    depth = np.asarray(disparity_to_depth(make([10.0, 3.0, math.nan, 11.0]), camera))
    assert depth[0] == depth[1] == math.inf and math.isnan(depth[2]) and depth[3] == 10


def test_projecting_an_unprojected_map_gives_pixels_and_disparity():
    depth = np.random.default_rng(0).uniform(1, 30, (50, 74))
    x_left, y, x_right = np.moveaxis(project(unproject(depth, CAMERA).astype(np.float64), CAMERA),
                                     -1, 0)
    np.testing.assert_allclose(x_left, np.broadcast_to(np.arange(74), depth.shape), atol=1e-2)
    np.testing.assert_allclose(y, np.broadcast_to(np.arange(50)[:, None], depth.shape), atol=1e-2)
    np.testing.assert_allclose(x_left - x_right, depth_to_disparity(depth, CAMERA), rtol=1e-4)


def test_projection_is_that_of_two_pinholes_a_baseline_apart():
    x, y, z = 0.4, -0.3, 2.0
    expected = [995 * x / z + 311.2, 990 * y / z + 254.9, 995 * (x - 0.193) / z + 280.1]
    np.testing.assert_allclose(project(np.array([x, y, z]), CAMERA), expected)
    np.testing.assert_allclose(project(torch.tensor([x, y, z]), CAMERA), expected, rtol=1e-6)


def test_scaled_camera_sees_the_same_depth():
    half = CAMERA.scaled(0.5, 0.25)
    assert (half.width, half.height) == (37, 12) and half.baseline == CAMERA.baseline
    disparity = np.array([40.0, 60.0])
    np.testing.assert_allclose(disparity_to_depth(disparity * 0.5, half),
                               disparity_to_depth(disparity, CAMERA))


def test_scaling_moves_pixel_centres_as_a_resize_does():
    # The centres of the outer pixels of 4 columns, -0.5 and 3.5 being the edges of the image.
    camera = StereoCamera(10.0, 10.0, 1.5, 1.5, 0.1, 4, 4)
    assert camera.scaled(2, 1).cx == 3.5 and camera.scaled(2, 1).cy == 1.5
    assert camera.scaled(3, 2).scaled(1 / 3, 1 / 2) == camera


@pytest.mark.parametrize('name', ['fx', 'fy', 'baseline', 'width', 'height'])
@pytest.mark.parametrize('value', [0, -1, math.nan, math.inf])
def test_camera_refuses_lengths_that_are_not_positive(name, value):
    values = {'fx': 1.0, 'fy': 1.0, 'cx': 0.0, 'cy': 0.0, 'baseline': 1.0, 'width': 4, 'height': 3}
    with pytest.raises(ValueError, match=f'{name} must be positive and finite, got {value}'):
        StereoCamera(**{**values, name: value})


def test_camera_refuses_a_principal_point_that_is_not_finite():
    with pytest.raises(ValueError, match='cx_right must be finite, got nan'):
        StereoCamera(1.0, 1.0, 0.0, 0.0, 1.0, 4, 3, cx_right=math.nan)


def test_unproject_refuses_a_map_of_another_size():
    with pytest.raises(ValueError, match='depth is 80x50 but the camera has 74x50'):
        unproject(np.ones((50, 80)), CAMERA)


def test_padding_repeats_the_border_and_is_undone_by_cropping():
    image = torch.rand(2, 3, 33, 40)
    padded = pad_to_multiple(image, 32)
    assert padded.shape == (2, 3, 64, 64)
    assert torch.equal(padded[..., :33, :40], image)
    assert torch.equal(padded[..., 50, :40], image[..., 32, :])
    assert pad_to_multiple(padded, 32) is padded
