"""Losses of disparity training: pure functions (prediction, target, valid) -> scalar."""

import torch
from torch import Tensor
import torch.nn.functional as F

from svp_ros.model.heads import DisparityOutput

STAGES = {'d16': (16, 0.2), 'm8': (8, 0.3), 'd8': (8, 0.5), 'd4': (4, 0.7)}
LOOKS_WEIGHT = 0.7  # of all further stages at 1/4 together


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of `values` where `valid`; 0 if nothing is valid."""
    valid = valid.to(values.dtype)
    return (values * valid).sum() / valid.sum().clamp(min=1)


def at_stride(x: Tensor, stride: int) -> Tensor:
    """Take the centre pixel of every stride x stride cell of (B, C, H, W)."""
    return x[..., stride // 2::stride, stride // 2::stride]


def matching_loss(logits: Tensor, disparity: Tensor, valid: Tensor) -> Tensor:
    """Negative log-likelihood of the true disparity, split linearly between its two levels.

    Args:
        logits: (B, levels, h, w) matching scores.
        disparity: (B, 1, h, w), pixels of this map.
        valid: (B, 1, h, w) bool, True where the right image shows the point.
    """
    levels = logits.shape[1]
    valid = valid & (disparity <= levels - 1)
    target = disparity.clamp(0, levels - 1)
    lower = target.floor().clamp(max=levels - 2)
    upper_share = target - lower
    log_probability = logits.float().log_softmax(dim=1)
    lower_log = log_probability.gather(1, lower.long())
    upper_log = log_probability.gather(1, lower.long() + 1)
    # log((1 - s) p_lower + s p_upper) without underflow
    mixed = torch.logaddexp(lower_log + torch.log1p(-upper_share.clamp(max=1 - 1e-6)),
                            upper_log + upper_share.clamp(min=1e-6).log())
    return masked_mean(-mixed, valid)


def disparity_losses(output: DisparityOutput, disparity: Tensor, valid: Tensor,
                     occluded: Tensor) -> dict[str, Tensor]:
    """All weighted terms of disparity training; their sum is the loss.

    Args:
        output: prediction of the network.
        disparity: (B, 1, H, W) truth, pixels.
        valid: (B, 1, H, W) bool, True where the truth may be used.
        occluded: (B, 1, H, W) bool, True where the right image does not show the point.

    Source: multi-stage L1 as in RAFT-Stereo; Laplacian confidence after Kendall and Gal (2017),
    with the error detached so that it never weakens the disparity loss.
    """
    losses = {'full': masked_mean((output.disparity - disparity).abs(), valid)}
    looks = len(output.stages) - len(STAGES)
    stages = {**STAGES, **{f'r4_{i + 1}': (4, LOOKS_WEIGHT / looks) for i in range(looks)}}
    for (name, (stride, weight)), stage in zip(stages.items(), output.stages):
        error = (stage * stride - at_stride(disparity, stride)).abs()
        losses[name] = weight * masked_mean(error, at_stride(valid, stride))

    visible = valid & ~occluded
    for name, logits, stride in zip(('n16', 'n8'), output.match_logits, (16, 8)):
        losses[name] = 0.3 * matching_loss(
            logits, at_stride(disparity, stride) / stride, at_stride(visible, stride))

    error = (output.disparity.detach() - disparity).abs()
    losses['scale'] = 0.2 * masked_mean(
        error * torch.exp(-output.log_scale) + output.log_scale, valid)
    losses['no_match'] = 0.2 * masked_mean(F.binary_cross_entropy_with_logits(
        output.no_match, occluded.to(output.no_match.dtype), reduction='none'), valid)
    return losses
