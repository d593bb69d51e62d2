"""What the cameras add, one effect at a time."""

from dataclasses import fields, replace

import pytest
import torch

from svp_ros.data.world import WorldConfig
from svp_ros.data.world.effects import apply_effects

H, W = 64, 96
OFF = replace(WorldConfig(), brightness=(0.4, 0.4), exposure=(1.0, 1.0), exposure_difference=0.0,
              contrast=(0.0, 0.0), noise=(1e-9, 1e-9), blur=(0.0, 0.0), vignetting=(0.0, 0.0),
              defocus_share=0.0, motion_share=0.0, sharpen_share=0.0, bayer_share=0.0,
              jpeg_share=0.0)


@pytest.fixture()
def pictures():
    """Two pairs of grey texture with a mean of 0.4: left of the middle near, right far."""
    values = torch.rand(4, 3, H, W, generator=torch.manual_seed(0)) * 0.6 + 0.1
    disparity = torch.full((4, 1, H, W), 10.0)
    disparity[..., W // 2:] = 1
    return values, disparity


def change(pictures, seed=0, **settings):
    return apply_effects(*pictures, replace(OFF, **settings), seed) - pictures[0]


def test_without_effects_nothing_changes(pictures):
    assert change(pictures).abs().max() < 1e-2  # the rest of automatic exposure


@pytest.mark.parametrize('settings', [
    {'exposure': (1.3, 1.3)}, {'exposure_difference': 0.2}, {'contrast': (0.8, 0.8)},
    {'noise': (0.02, 0.02)}, {'blur': (0.8, 0.8)}, {'vignetting': (0.5, 0.5)},
    {'defocus_share': 1.0}, {'motion_share': 1.0, 'motion': (0.03, 0.04)}, {'sharpen_share': 1.0},
    {'bayer_share': 1.0}, {'jpeg_share': 1.0, 'jpeg_step': (0.05, 0.05)},
])
def test_every_effect_changes_every_view(pictures, settings):
    difference = change(pictures, **settings)
    assert torch.isfinite(difference).all()
    assert (difference.abs().mean(dim=(1, 2, 3)) > 0.004).all()


def test_all_shares_of_the_sensor_are_tested():
    names = {item.name for item in fields(WorldConfig) if item.name.startswith(
        ('defocus', 'motion', 'sharpen', 'bayer', 'jpeg')) and item.name.endswith('_share')}
    assert names == {name for name in names if getattr(OFF, name) == 0} and len(names) == 5


def test_automatic_exposure_lightens_the_dark_with_noise(pictures):
    values, disparity = pictures
    for factor in (1.0, 0.25):
        result = apply_effects(values * factor, disparity, replace(OFF, noise=(0.01, 0.01)), 0)
        assert abs(result.mean() - 0.4) < 0.1
        noise = (result - apply_effects(values * factor, disparity, OFF, 0)).std()
        if factor == 1:
            quiet = noise
    assert noise > 2 * quiet
    left, right = apply_effects(values, disparity, OFF, 0).chunk(2)
    torch.testing.assert_close(left.mean(), right.mean(), atol=0.01, rtol=0)


def test_motion_smears_both_eyes_alike_and_keeps_the_mean(pictures):
    point = torch.zeros(4, 3, H, W)
    point[..., H // 2, W // 2] = 1
    config = replace(OFF, motion_share=1.0, motion=(0.06, 0.08), gain=(1.0, 1.0))
    smeared = apply_effects(point, pictures[1], config, 3)
    torch.testing.assert_close(smeared[0], smeared[2], atol=1e-6, rtol=0)
    torch.testing.assert_close(smeared.sum((2, 3)), torch.ones(4, 3), atol=1e-4, rtol=0)
    y, x = (smeared[0, 0] > 1e-3).nonzero().T.float()
    spread = torch.linalg.eigvalsh(torch.stack([x, y]).cov())
    assert spread[1] > 4 * spread[0]  # along a line


def test_defocus_spares_the_plane_of_focus(pictures):
    blurred = []
    for seed in range(8):  # each with its own plane of focus
        difference = change(pictures, seed, defocus_share=1.0, defocus=(2.0, 2.0))[0].abs()
        blurred.append((difference[..., :W // 2 - 6].mean(), difference[..., W // 2 + 6:].mean()))
    near, far = torch.tensor(blurred).T
    assert (near > 2 * far).any() and (far > 2 * near).any()


def test_demosaicing_keeps_smooth_colours_and_frays_edges(pictures):
    smooth = torch.linspace(0.2, 0.6, W).expand(4, 3, H, W) * torch.tensor([1, 0.9, 1.1]).view(
        1, 3, 1, 1)
    config = replace(OFF, bayer_share=1.0, gain=(1.0, 1.0))
    result = apply_effects(smooth, pictures[1], config, 0)
    torch.testing.assert_close(result[..., 1:-1, 1:-1], smooth[..., 1:-1, 1:-1], atol=1e-4, rtol=0)
    edge = torch.full((4, 3, H, W), 0.2)
    edge[..., 41:] = 0.7
    colour = apply_effects(edge, pictures[1], config, 0)[0, :, H // 2].amax(0) \
        - apply_effects(edge, pictures[1], config, 0)[0, :, H // 2].amin(0)
    assert colour[39:43].max() > 0.1 and colour[:38].max() < 1e-4


def test_settings_stay_through_a_sequence_and_noise_changes(pictures):
    config = replace(OFF, exposure=(0.5, 1.5), noise=(0.01, 0.01))
    first, second, other = (apply_effects(*pictures, config, seed, frame)
                            for seed, frame in ((1, 0), (1, 1), (2, 0)))
    assert 1e-3 < (first - second).abs().mean() < 0.03
    assert abs(first.mean() - second.mean()) < 2e-3 < abs(first.mean() - other.mean())
