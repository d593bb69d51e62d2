import pytest
import torch

from svp_ros.eval.reconstruction import fixed_mask
from svp_ros.model.heads import Reconstruction
from svp_ros.model.layers import enlarge
from svp_ros.train.masking import (
    count_hidden,
    EPSILON,
    hide_patches,
    reconstruction_errors,
    split_patches,
)

H, W = 32, 48


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def errors(colours, structure, left, patch_mask):
    output = Reconstruction(colours, structure)
    return {name: error.item()
            for name, error in reconstruction_errors(output, left, patch_mask).items()}


@pytest.mark.parametrize('height, width, ratio, hidden', [
    (192, 256, 0.9, 173), (64, 96, 0.9, 22), (64, 96, 0.5, 12), (32, 48, 0.1, 1)])
def test_every_sample_hides_the_same_number_of_patches(height, width, ratio, hidden):
    patch_mask = hide_patches(5, height, width, ratio, generator())
    assert patch_mask.shape == (5, height // 16, width // 16)
    assert patch_mask.dtype == torch.bool
    assert patch_mask.sum(dim=(1, 2)).tolist() == [hidden] * 5


@pytest.mark.parametrize('ratio, hidden', [(0.0, 0), (0.08, 0), (0.92, 6), (1.0, 6)])
def test_a_ratio_that_hides_nothing_or_everything_is_refused(ratio, hidden):
    message = f'^mask_ratio {ratio} hides {hidden} of the 6 patches of a 48x32 image; at least one'
    with pytest.raises(ValueError, match=message):
        hide_patches(1, H, W, ratio, generator())
    assert count_hidden(H, W, 0.09) == 1 and count_hidden(H, W, 0.9) == 5


def test_masks_differ_between_samples_and_follow_the_generator():
    patch_mask = hide_patches(4, 192, 256, 0.9, generator())
    assert torch.equal(patch_mask, hide_patches(4, 192, 256, 0.9, generator()))
    others = [*patch_mask, *hide_patches(4, 192, 256, 0.9, generator(1))]
    assert len({tuple(x.flatten().tolist()) for x in others}) == 8


def test_every_patch_is_hidden_equally_often():
    share = hide_patches(4000, H, W, 0.5, generator()).float().mean(dim=0)
    assert (share - 0.5).abs().max() < 0.04  # five standard deviations


def test_fixed_masks_are_those_of_the_pair():
    masks = [fixed_mask(index, 192, 256, 0.9) for index in range(3)]
    assert torch.equal(masks[1], fixed_mask(1, 192, 256, 0.9))
    assert not torch.equal(masks[0], masks[1]) and not torch.equal(masks[1], masks[2])


def test_patches_are_where_the_mask_says():
    image = torch.arange(3. * H * W).view(1, 3, H, W)
    patches = split_patches(image)
    assert patches.shape == (1, 2, 3, 3, 256)
    for row in range(2):
        for column in range(3):
            cut = image[0, :, 16 * row:16 * row + 16, 16 * column:16 * column + 16]
            assert torch.equal(patches[0, row, column], cut.flatten(1))


def test_errors_of_a_case_worked_by_hand():
    """One hidden patch, +1 in its left half and -1 in its right one, around a mean of 3."""
    left = torch.full((1, 3, H, W), 3.0)
    left[..., 16:32, 16:24] += 1
    left[..., 16:32, 24:32] -= 1
    patch_mask = torch.zeros(1, 2, 3, dtype=torch.bool)
    patch_mask[0, 1, 1] = True
    zero = torch.zeros_like(left)
    # colours: half of the pixels are 4, half are 2: (16 + 4) / 2; contrast is 1
    found = errors(zero, zero, left, patch_mask)
    assert found == pytest.approx({'colours': 10, 'structure': 1 / (1 + EPSILON)}, rel=1e-6)
    # 0.5 too bright everywhere; a texture with its sign turned is off by twice its size
    structure = (3 - left) / (1 + EPSILON) ** 0.5
    found = errors(left + 0.5, structure, left, patch_mask)
    assert found == pytest.approx({'colours': 0.25, 'structure': 4 / (1 + EPSILON)}, rel=1e-6)


def test_only_hidden_pixels_count():
    left, output = torch.rand(2, 2, 3, H, W, generator=generator()).unbind(0)
    patch_mask = hide_patches(2, H, W, 0.5, generator())
    expected = errors(output, output, left, patch_mask)
    visible = ~enlarge(patch_mask, 16).expand_as(left)
    changed = output.masked_fill(visible, 9.0)
    assert errors(changed, changed, left.masked_fill(visible, 5.0), patch_mask) == expected
    changed = output.masked_fill(~visible, 9.0)
    assert errors(changed, changed, left, patch_mask) != expected


def test_structure_has_no_brightness_and_no_contrast():
    left, output = (10 * torch.randn(2, 1, 3, H, W, generator=generator())).unbind(0)
    patch_mask = torch.ones(1, 2, 3, dtype=torch.bool)
    expected = errors(output, output, left, patch_mask)
    tinted = left + torch.tensor([5.0, -2.0, 7.0]).view(1, 3, 1, 1)
    found = errors(output, output, tinted, patch_mask)
    assert found['structure'] == pytest.approx(expected['structure'], rel=1e-4)
    assert found['colours'] != pytest.approx(expected['colours'], rel=1e-2)
    # EPSILON is small beside the contrast of 100
    stronger = errors(output, output, 3 * left, patch_mask)
    assert stronger['structure'] == pytest.approx(expected['structure'], rel=1e-3)


def test_flat_patches_ask_for_nothing():
    left = torch.full((1, 3, H, W), 0.7) + 0.01 * torch.randn(1, 3, H, W, generator=generator())
    patch_mask = torch.ones(1, 2, 3, dtype=torch.bool)
    assert errors(left, torch.zeros_like(left), left, patch_mask)['structure'] < 0.01
