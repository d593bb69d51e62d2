import math

import pytest
import torch

from svp_ros.data.transforms import (
    _apply_colours,
    augment,
    AugmentConfig,
    erase,
    find_occlusions,
    flip,
    misalign,
    random_crop,
    recolour,
)

NEUTRAL = AugmentConfig(zoom=(0, 0), stretch=(0, 0), photometric=0, grey=0, noise=0, blur=0,
                        jpeg=0, erase=0, misalign=0, flip=0, upside_down=0)


def plane_batch(disparity=6, batch=2, height=64, width=96):
    """A fronto-parallel textured plane: right(x) = left(x + d)."""
    torch.manual_seed(0)
    wide = torch.nn.functional.interpolate(torch.rand(batch, 3, height // 4, width // 2),
                                           scale_factor=(4, 4), mode='bilinear')
    truth = torch.full((batch, 1, height, width), float(disparity))
    return {'left': wide[..., :width].contiguous(),
            'right': wide[..., disparity:width + disparity].contiguous(),
            'disparity': truth, 'disparity_right': truth.clone()}


def warp_error(left, right, disparity, occluded, shift=0.0):
    """Mean difference of left and the right image sampled at x - disparity, where visible."""
    B, _, H, W = left.shape
    x = torch.arange(W) - disparity[:, 0] - shift
    y = torch.arange(H).view(1, H, 1).expand(B, H, W)
    grid = torch.stack((2 * x / (W - 1) - 1, 2 * y / (H - 1) - 1), dim=-1)
    warped = torch.nn.functional.grid_sample(right, grid, align_corners=True)
    seen = (~occluded).expand_as(left)
    return (warped - left).abs()[seen].mean().item()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_neutral_augmentation_changes_nothing():
    batch = plane_batch()
    result = augment(batch, 64, 96, NEUTRAL, generator())
    for name in ('left', 'right', 'disparity'):
        torch.testing.assert_close(result[name], batch[name], atol=1e-6, rtol=0)
    assert result['valid'].all()


@pytest.mark.parametrize('config', [
    AugmentConfig(**{**NEUTRAL.__dict__, 'flip': 1.0}),
    AugmentConfig(**{**NEUTRAL.__dict__, 'upside_down': 1.0}),
    AugmentConfig(**{**NEUTRAL.__dict__, 'zoom': (0.4, 0.5), 'stretch': (0.2, 0.3)}),
    AugmentConfig(**{**NEUTRAL.__dict__, 'zoom': (0.4, 0.5), 'flip': 1.0}),
])
def test_geometry_keeps_the_truth_true(config):
    result = augment(plane_batch(), 64, 96, config, generator())
    parts = [result[name] for name in ('left', 'right', 'disparity', 'occluded')]
    assert warp_error(*parts) < 0.02
    assert warp_error(*parts, shift=2.0) > 0.05


def test_swapped_eyes_use_the_right_truth():
    batch = plane_batch()
    batch['disparity_right'] += 1
    result = flip(batch, AugmentConfig(flip=1.0, upside_down=0.0), generator())
    assert torch.equal(result['disparity'], batch['disparity_right'].flip(-1))
    assert torch.equal(result['left'], batch['right'].flip(-1))


def test_zoom_scales_disparity_with_the_width():
    config = AugmentConfig(**{**NEUTRAL.__dict__, 'zoom': (1, 1)})
    batch = plane_batch()
    batch['occluded'] = torch.zeros_like(batch['disparity'], dtype=torch.bool)
    result = random_crop(batch, 64, 96, config, generator())
    assert torch.allclose(result['disparity'], torch.tensor(12.0))


def test_a_nearer_box_occludes_the_strip_beside_it():
    disparity = torch.full((1, 1, 4, 40), 2.0)
    disparity[..., 20:30] = 8
    right = torch.full((1, 1, 4, 40), 2.0)
    right[..., 12:22] = 8
    occluded = find_occlusions(disparity, right)[0, 0, 0]
    # background at x maps to x - 2; columns 12..21 of the right view show the box
    assert occluded.nonzero().flatten().tolist() == [0, 1, *range(14, 20)]


def test_colours_differ_between_the_eyes_but_less_than_between_samples():
    torch.manual_seed(0)
    image = torch.rand(64, 3, 16, 16) * 0.6 + 0.2
    config = AugmentConfig(noise=0, blur=0, jpeg=0, grey=0)
    left, right = recolour(image, image.clone(), config, generator())
    means = torch.stack((left.mean(dim=(1, 2, 3)), right.mean(dim=(1, 2, 3))))
    between_eyes = (means[0] - means[1]).abs().mean()
    between_samples = (means[0, 1:] - means[0, :-1]).abs().mean()
    assert 0.005 < between_eyes < between_samples


def test_a_third_of_a_turn_of_the_hue_swaps_the_channels():
    image = torch.rand(2, 3, 4, 5) * 0.5 + 0.2
    one = torch.ones(2, 1, 1, 1)
    turned = _apply_colours(image, one, one, one, one, one, one * 2 * math.pi / 3)
    torch.testing.assert_close(turned, image.roll(1, dims=1))


def test_grey_images_have_equal_channels():
    left, right = recolour(*torch.rand(2, 4, 3, 16, 16), AugmentConfig(grey=1.0, noise=0),
                           generator())
    for image in (left, right):
        assert (image - image[:, :1]).abs().max() < 1e-5


def test_jpeg_artefacts_change_little():
    batch = plane_batch()
    config = AugmentConfig(**{**NEUTRAL.__dict__, 'jpeg': 1.0})
    left, _ = recolour(batch['left'], batch['right'], config, generator())
    difference = (left - batch['left']).abs()
    assert 1e-4 < difference.mean() < 0.05


def test_misalignment_moves_rows_only():
    ramp = torch.arange(96.).expand(1, 3, 64, 96) / 96
    moved = misalign(ramp, AugmentConfig(misalign=1.0, misalign_px=3), generator())
    torch.testing.assert_close(moved, ramp, atol=1e-4, rtol=0)
    rows = torch.arange(64.).view(1, 1, 64, 1).expand(1, 3, 64, 96) / 64
    shifted = misalign(rows, AugmentConfig(misalign=1.0, misalign_px=3), generator(1))
    assert (shifted - rows)[..., 8:-8, :].abs().max() * 64 > 0.3


def test_erase_touches_the_copy_only():
    right = plane_batch()['right']
    before = right.clone()
    erased = erase(right, 1.0, generator())
    assert torch.equal(right, before)
    assert not torch.equal(erased, before)


def test_the_same_generator_gives_the_same_batch():
    one, two = (augment(plane_batch(), 32, 64, AugmentConfig(), generator(5)) for _ in range(2))
    other = augment(plane_batch(), 32, 64, AugmentConfig(), generator(6))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one['left'], other['left'])
