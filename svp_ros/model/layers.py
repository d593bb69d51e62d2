"""Small shared blocks: convolution + BatchNorm, residual block, upsampling of maps and tokens."""

import torch
from torch import nn, Tensor
import torch.nn.functional as F


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias and BatchNorm, same size divided by `stride`."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs))


def conv_bn_relu(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """`conv_bn` followed by ReLU."""
    return nn.Sequential(*conv_bn(inputs, outputs, kernel, stride), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """Two dense 3x3 convolutions around a skip connection (ResNet basic block)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = conv_bn_relu(channels, channels)
        self.conv2 = conv_bn(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(self.conv1(x)))


class Mlp(nn.Sequential):
    """Token-wise Linear, GELU, Linear."""

    def __init__(self, channels: int, ratio: int = 2):
        super().__init__(nn.Linear(channels, channels * ratio), nn.GELU(),
                         nn.Linear(channels * ratio, channels))


def upsample(x: Tensor, factor: int = 2) -> Tensor:
    """Enlarge (B, C, H, W) bilinearly, aligned at pixel areas."""
    return F.interpolate(x, scale_factor=factor, mode='bilinear', align_corners=False)


def enlarge(mask: Tensor, factor: int) -> Tensor:
    """(B, h, w) mask of cells -> (B, 1, h * factor, w * factor) mask of pixels."""
    return mask[:, None].repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def fill_in(image: Tensor, visible: Tensor) -> Tensor:
    """Continue the visible pixels smoothly into the others, so that no border stands out.

    Args:
        image: (B, C, H, W).
        visible: (B, 1, H, W) or (B, C, H, W) bool.

    Returns:
        (B, C, H, W): the image where it is visible, elsewhere what its surroundings have, of the
        finest scale that has anything.

    Source: push-pull, Gortler et al. 1996.
    """
    weight = visible.to(image.dtype)
    mean = (image * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp(1)
    levels = [(image, weight)]
    while min(image.shape[-2:]) > 1:
        covered = F.avg_pool2d(weight, 2, ceil_mode=True)
        image = F.avg_pool2d(image * weight, 2, ceil_mode=True) / covered.clamp(min=1e-6)
        weight = (covered > 0).to(image.dtype)
        levels.append((image, weight))
    filled = mean
    for image, weight in reversed(levels):
        smooth = F.interpolate(filled, image.shape[-2:], mode='bilinear', align_corners=False)
        filled = image * weight + smooth * (1 - weight)
    return filled


def tokens_to_map(tokens: Tensor) -> Tensor:
    """(B, h, w, C) tokens -> (B, C, h, w) map."""
    return tokens.permute(0, 3, 1, 2)


def map_to_tokens(features: Tensor) -> Tensor:
    """(B, C, h, w) map -> (B, h, w, C) tokens."""
    return features.permute(0, 2, 3, 1).contiguous()


def convex_upsample(disparity: Tensor, logits: Tensor, factor: int = 4) -> Tensor:
    """Enlarge disparity by `factor`; each fine pixel is a convex mix of its 3x3 coarse cells.

    Args:
        disparity: (B, 1, h, w), pixels of the coarse map.
        logits: (B, 9 * factor**2, h, w), mixing weights before the softmax.
        factor: enlargement.

    Returns:
        (B, 1, factor * h, factor * w), pixels of the fine map.

    Source: RAFT (Teed and Deng 2020), section 3.3.
    """
    B, _, h, w = disparity.shape
    weights = logits.float().view(B, 9, factor ** 2, h, w).softmax(dim=1)
    cells = F.unfold(F.pad(disparity * factor, (1, 1, 1, 1), mode='replicate'), 3)
    mixed = (weights * cells.view(B, 9, 1, h, w)).sum(dim=1)
    return F.pixel_shuffle(mixed, factor)


def bilinear_mix(factor: int) -> Tensor:
    """Logits (9 * factor**2,) with which `convex_upsample` enlarges bilinearly."""
    centre = (torch.arange(factor) + 0.5) / factor - 0.5  # of the fine pixels, in coarse ones
    along = (1 - (centre[None] - torch.arange(-1, 2)[:, None]).abs()).clamp(min=0)
    weights = along[:, None, :, None] * along[None, :, None, :]
    return weights.clamp(min=1e-4).log().flatten()


def gather_disparities(similarity: Tensor, levels: int, fill: float) -> Tensor:
    """Re-index a row-wise similarity by disparity.

    Args:
        similarity: (..., W_left, W_right), one matrix per row.
        levels: number of disparities 0, 1, ..., levels - 1 to keep.
        fill: value where x_left - disparity lies outside the right image.

    Returns:
        (..., W_left, levels): entry d is the similarity of x_left with x_right = x_left - d.
    """
    W = similarity.shape[-1]
    x_right = torch.arange(W, device=similarity.device)[:, None] - torch.arange(
        levels, device=similarity.device)
    index = x_right.clamp(min=0).expand(*similarity.shape[:-1], levels)
    return similarity.gather(-1, index).masked_fill(x_right < 0, fill)
