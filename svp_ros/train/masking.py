"""Masked stereo pre-training: which patches are hidden and how well they are rebuilt."""

import torch
from torch import Tensor

from svp_ros.model.heads import Reconstruction
from svp_ros.model.network import PATCH

EPSILON = 0.05  # added to the squared contrast: flat patches, which hold noise, count little


def count_hidden(height: int, width: int, ratio: float) -> int:
    """Number of patches that a ratio hides.

    Args:
        height: of the images, pixels, a multiple of 16.
        width: of the images, pixels, a multiple of 16.
        ratio: share of hidden patches.

    Raises:
        ValueError: If none or all would be hidden.
    """
    patches = (height // PATCH) * (width // PATCH)
    hidden = round(ratio * patches)
    if not 0 < hidden < patches:
        raise ValueError(f'mask_ratio {ratio} hides {hidden} of the {patches} patches of a '
                         f'{width}x{height} image; at least one has to be hidden and one seen')
    return hidden


def hide_patches(batch: int, height: int, width: int, ratio: float,
                 generator: torch.Generator) -> Tensor:
    """Choose hidden patches, for every sample anew.

    Args:
        batch: number of samples B.
        height: of the images, pixels, a multiple of 16.
        width: of the images, pixels, a multiple of 16.
        ratio: share of hidden patches.
        generator: source of the randomness, on the CPU.

    Returns:
        (B, height / 16, width / 16) bool, True where hidden; the same number in every sample.

    Raises:
        ValueError: If none or all would be hidden.
    """
    rows, columns = height // PATCH, width // PATCH
    hidden = count_hidden(height, width, ratio)
    order = torch.rand(batch, rows * columns, generator=generator).argsort(dim=1)
    return (order < hidden).view(batch, rows, columns)


def split_patches(image: Tensor) -> Tensor:
    """(B, C, H, W) image -> (B, H / 16, W / 16, C, 256) patches."""
    B, C, H, W = image.shape
    patches = image.view(B, C, H // PATCH, PATCH, W // PATCH, PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(4)


def reconstruction_errors(output: Reconstruction, left: Tensor,
                          patch_mask: Tensor) -> dict[str, Tensor]:
    """Mean squared errors over hidden pixels, () each.

    Args:
        output: of the network.
        left: (B, 3, H, W), the whole left image in the backbone's normalised colours.
        patch_mask: (B, H / 16, W / 16) bool, True where hidden.

    Returns:
        `colours`, and `structure`: that of the texture of every patch, which is the patch less
        its mean colour, divided by its contrast. After `norm_pix_loss` of MAE (He et al. 2021);
        with the mean of each colour taken out, only what lies at the right place counts.
    """
    target = split_patches(left)
    texture = target - target.mean(dim=-1, keepdim=True)
    contrast = texture.square().mean(dim=(-2, -1), keepdim=True)
    normalised = texture / (contrast + EPSILON).sqrt()
    pairs = {'colours': (output.colours, target), 'structure': (output.structure, normalised)}
    return {name: (split_patches(image.float()) - truth).square().mean((-2, -1))[patch_mask].mean()
            for name, (image, truth) in pairs.items()}
