"""Explicit matching: distributions over disparity and local correlation, all in float32.

Disparities and sampling positions do not fit the 8 mantissa bits of bfloat16, so these functions
leave autocast.
"""

import torch
from torch import Tensor
import torch.nn.functional as F

from svp_ros.model.layers import gather_disparities

IMPOSSIBLE = -1e4


def match_rows(left: Tensor, right: Tensor, levels: int, groups: int = 1) -> Tensor:
    """Cosine similarity of every left pixel with the right pixels of its row, by disparity.

    Args:
        left: (B, C, h, w) features.
        right: (B, C, h, w) features.
        levels: disparities 0 ... levels - 1, in pixels of these maps (x_right <= x_left).
        groups: channel groups that are compared separately.

    Returns:
        (B, groups, levels, h, w) in [-1, 1]; -1 where the match would lie outside the image.

    Source: group-wise correlation, GwcNet (Guo et al. 2019).
    """
    B, C, h, w = left.shape
    # (B, C, h, w) -> (B, groups, h, w, C / groups)
    similarity = _row_similarity(*(x.view(B, groups, C // groups, h, w).permute(0, 1, 3, 4, 2)
                                   for x in (left, right)))
    return gather_disparities(similarity, levels, fill=-1.0).permute(0, 1, 4, 2, 3)


def mask_outside(logits: Tensor) -> Tensor:
    """Forbid matches left of the right image's border in (B, levels, h, w) logits."""
    levels, w = logits.shape[1], logits.shape[-1]
    disparity = torch.arange(levels, device=logits.device)[:, None, None]
    x_left = torch.arange(w, device=logits.device)
    return logits.masked_fill(disparity > x_left, IMPOSSIBLE)


def expected_disparity(probability: Tensor, radius: int = 2) -> Tensor:
    """Expectation in a window around the most likely disparity, so that two modes never blur.

    Args:
        probability: (B, levels, h, w), sums to 1 over levels.
        radius: half width of the window, levels.

    Returns:
        (B, 1, h, w), pixels of this map.
    """
    levels = torch.arange(probability.shape[1], device=probability.device).view(1, -1, 1, 1)
    peak = probability.argmax(dim=1, keepdim=True)
    windowed = probability * ((levels - peak).abs() <= radius)
    return (windowed * levels).sum(1, keepdim=True) / windowed.sum(1, keepdim=True).clamp(1e-6)


def continue_outside(disparity: Tensor) -> Tensor:
    """Where a row begins with pixels that the right image cannot show, take what follows them.

    Args:
        disparity: (B, 1, h, w), pixels of this map; a match outside means disparity > x_left.

    Returns:
        The same shape: up to the first pixel of a row whose match lies inside, that pixel's
        disparity, without its gradient.
    """
    w = disparity.shape[-1]
    x_left = torch.arange(w, device=disparity.device)
    inside = torch.where(disparity <= x_left, x_left, w - 1)
    first = inside.amin(dim=-1, keepdim=True)
    return torch.where(x_left < first, disparity.detach().gather(-1, first), disparity)


def row_similarity(left: Tensor, right: Tensor) -> Tensor:
    """Compare every left pixel with every right pixel of its row.

    Args:
        left: (B, C, h, w) features.
        right: (B, C, h, w) features.

    Returns:
        (B, h, w_left, w_right) cosine similarities, float32.
    """
    return _row_similarity(left.permute(0, 2, 3, 1), right.permute(0, 2, 3, 1))


def local_correlation(similarity: Tensor, disparity: Tensor, radius: int = 4) -> Tensor:
    """Look up the similarity with the right image around x_left - disparity.

    Args:
        similarity: (B, h, w, w) of `row_similarity`.
        disparity: (B, 1, h, w), pixels of these maps.
        radius: offsets -radius ... radius are looked up.

    Returns:
        (B, 2 * radius + 1, h, w) cosine similarities, interpolated linearly between columns; 0
        outside the right image.

    Source: look-up in the row-wise correlation, RAFT-Stereo (Lipson et al. 2021).
    """
    w = similarity.shape[-1]
    x_right = torch.arange(w, device=similarity.device) - disparity[:, 0].float()
    column = x_right.floor()
    fraction = (x_right - column)[..., None]
    columns = column.long()[..., None] + torch.arange(
        -radius, radius + 2, device=similarity.device)
    outside = (columns < 0) | (columns >= w)
    scores = similarity.gather(-1, columns.clamp(0, w - 1)).masked_fill(outside, 0)
    scores = scores[..., :-1] * (1 - fraction) + scores[..., 1:] * fraction
    return scores.permute(0, 3, 1, 2)


def copy_matches(right: Tensor, probability: Tensor) -> Tensor:
    """Expected right features of every left pixel under its distribution over disparity.

    Args:
        right: (B, C, h, w) features.
        probability: (B, levels, h, w), sums to 1 over levels; level d means x_right = x_left - d.

    Returns:
        (B, C, h, w) float32.
    """
    with torch.autocast(right.device.type, enabled=False):
        copied = spread_over_columns(probability) @ right.float().permute(0, 2, 3, 1)
    return copied.permute(0, 3, 1, 2)


def spread_over_columns(probability: Tensor) -> Tensor:
    """Distribution over disparity -> distribution over x_right.

    Args:
        probability: (B, levels, h, w), level d means x_right = x_left - d; what lies left of the
            right image counts for its first column.

    Returns:
        (B, h, w_left, w_right).
    """
    B, levels, h, w = probability.shape
    x_left = torch.arange(w, device=probability.device)[:, None]
    x_right = (x_left - torch.arange(levels, device=probability.device)).clamp(min=0)
    return probability.new_zeros(B, h, w, w).scatter_add(
        -1, x_right.expand(B, h, w, levels), probability.permute(0, 2, 3, 1))


def sample_rows(right: Tensor, disparity: Tensor) -> Tensor:
    """Right features at x_left - disparity, interpolated linearly; border values outside.

    Args:
        right: (B, C, h, w) features.
        disparity: (B, 1, h, w), pixels of this map.

    Returns:
        (B, C, h, w) float32.
    """
    B, _, h, w = right.shape
    x = torch.arange(w, device=right.device) - disparity[:, 0].float()
    y = torch.arange(h, device=right.device, dtype=x.dtype)[:, None].expand(B, h, w)
    grid = torch.stack((2 * x / max(w - 1, 1) - 1, 2 * y / max(h - 1, 1) - 1), dim=-1)
    return F.grid_sample(right.float(), grid, padding_mode='border', align_corners=True)


def _row_similarity(left: Tensor, right: Tensor) -> Tensor:
    """(..., w, C) features of both eyes -> (..., w, w) cosine similarities in float32."""
    with torch.autocast(left.device.type, enabled=False):
        left, right = (F.normalize(x.float().contiguous(), dim=-1) for x in (left, right))
        return left @ right.transpose(-1, -2)
