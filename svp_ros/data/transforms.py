"""Augmentation of whole stereo batches on any device, reproducible from one generator.

The union of what RAFT-Stereo, CREStereo and UniMatch report to help on real cameras; every eye
gets its own colours because real eyes differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
import math
from typing import Any, Union

import torch
from torch import Tensor
import torch.nn.functional as F

from svp_ros.data.box_transforms import (
    collate_boxes,
    crop_boxes,
    ignore_border,
    mirror_boxes,
)

Batch = dict[str, Any]  # tensors; until they are collated, lists of boxes and of cameras


@dataclass(frozen=True)
class AugmentConfig:
    """Probabilities and ranges of the augmentation.

    Args:
        zoom: range of log2 of the enlargement of both axes.
        stretch: range of log2 of the additional enlargement along x.
        asymmetric: strength of colour differences between the eyes, relative to shared ones.
        photometric: probability of each colour change: gamma, gain, contrast, saturation, white
            balance, hue.
        hue_deg: largest turn of the hue, degrees.
        grey: probability of grey images.
        noise: largest standard deviation of sensor noise, of a range of 1.
        blur: probability of blurring one eye.
        jpeg: probability of JPEG artefacts.
        erase: probability of hiding one or two rectangles of the right eye.
        misalign: probability of a vertical shift of the right eye by at most `misalign_px`.
        misalign_px: pixels.
        misalign_deg: largest roll of the right eye, degrees.
        flip: probability of mirroring horizontally with the eyes swapped.
        upside_down: probability of mirroring vertically.
    """

    zoom: tuple[float, float] = (-0.3, 0.5)
    stretch: tuple[float, float] = (-0.2, 0.3)
    asymmetric: float = 0.3
    photometric: float = 0.5
    hue_deg: float = 20.0
    grey: float = 0.15
    noise: float = 0.04
    blur: float = 0.2
    jpeg: float = 0.2
    erase: float = 0.5
    misalign: float = 0.4
    misalign_px: float = 1.0
    misalign_deg: float = 0.1
    flip: float = 0.5
    upside_down: float = 0.1

    def __post_init__(self):
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple):
                if value[0] > value[1]:
                    raise ValueError(f'{item.name} must be (low, high), got {value}')
            elif value < 0:
                raise ValueError(f'{item.name} must not be negative, got {value}')
        for name in ('photometric', 'grey', 'blur', 'jpeg', 'erase', 'misalign', 'flip',
                     'upside_down'):
            if getattr(self, name) > 1:
                raise ValueError(f'{name} is a probability, got {getattr(self, name)}')


def augment(batch: Batch, height: int, width: int, config: AugmentConfig,
            generator: torch.Generator, classes: Sequence[str] = ()) -> Batch:
    """Crop, flip and recolour a batch.

    Args:
        batch: left, right (B, 3, H, W) in [0, 1]; disparity, disparity_right (B, 1, H, W) px;
            with `classes` also boxes (B LabelledBoxes) and camera (B StereoCamera); and occluded
            (B, 1, H, W) bool, if the disparities do not tell it.
        height: rows of the result.
        width: columns of the result.
        config: probabilities and ranges.
        generator: source of all randomness, on the CPU.
        classes: names of the boxes that are asked for.

    Returns:
        left, right, disparity, valid, occluded at `height` x `width`; with `classes` also boxes
        and camera as `collate_boxes` describes them.
    """
    batch = flip(batch, config, generator)
    if 'occluded' not in batch:
        batch['occluded'] = find_occlusions(batch['disparity'], batch['disparity_right'])
    batch = random_crop(batch, height, width, config, generator)
    left, right = recolour(batch['left'], batch['right'], config, generator)
    right = misalign(right, config, generator)
    right = erase(right, config.erase, generator)
    result = {'left': left.clamp(0, 1), 'right': right.clamp(0, 1),
              'disparity': batch['disparity'], 'occluded': batch['occluded'],
              'valid': batch['disparity'].isfinite()}
    if classes:
        result |= collate_boxes(batch['boxes'], batch['camera'], classes, left.device)
    return result


def flip(batch: Batch, config: AugmentConfig, generator: torch.Generator) -> Batch:
    """Mirror samples upside down, or sideways with the eyes swapped (truth: the right view's).

    What has boxes is never turned upside down: things stand on the ground.
    """
    B = batch['left'].shape[0]
    result = dict(batch)
    swap = _chance(B, config.flip, generator, batch['left'].device)
    for one, other in (('left', 'right'), ('disparity', 'disparity_right')):
        if one not in batch:
            continue
        result[one] = torch.where(swap, batch[other].flip(-1), batch[one])
        result[other] = torch.where(swap, batch[one].flip(-1), batch[other])
    upside = _chance(B, config.upside_down, generator, batch['left'].device)
    if 'boxes' in batch:
        pairs = zip(swap.flatten().tolist(), batch['boxes'], batch['camera'])
        result['boxes'], result['camera'] = zip(*(
            ignore_border(*mirror_boxes(*labels)) if swapped else labels
            for swapped, *labels in pairs))
        return result
    return {name: torch.where(upside, x.flip(-2), x) for name, x in result.items()}


def find_occlusions(disparity: Tensor, disparity_right: Tensor,
                     tolerance: float = 1.0) -> Tensor:
    """Left pixels whose match in the right view has another disparity, or lies outside it.

    Args:
        disparity: (B, 1, H, W), left view, pixels.
        disparity_right: (B, 1, H, W), right view, pixels.
        tolerance: largest difference of the same surface, pixels.

    Returns:
        (B, 1, H, W) bool.
    """
    column = torch.arange(disparity.shape[-1], device=disparity.device)
    x_right = (column - disparity).round().long()
    seen = disparity_right.gather(-1, x_right.clamp(0, disparity.shape[-1] - 1))
    return (x_right < 0) | ((seen - disparity).abs() > tolerance)


def random_crop(batch: Batch, height: int, width: int, config: AugmentConfig,
                generator: torch.Generator) -> Batch:
    """Cut a window out of each sample and resize it; disparity follows the width ratio."""
    B, _, H, W = batch['left'].shape
    zoom = _uniform(B, *config.zoom, generator).exp2()
    stretch = _uniform(B, *config.stretch, generator).exp2()
    parts: dict[str, list[Tensor]] = {name: [] for name in ('left', 'right', 'disparity',
                                                           'occluded')}
    labels = []
    for i in range(B):
        h = min(H, round(height / zoom[i].item()))
        w = min(W, round(width / (zoom[i] * stretch[i]).item()))
        y = round(torch.rand((), generator=generator).item() * (H - h))
        x = round(torch.rand((), generator=generator).item() * (W - w))
        window = {name: batch[name][i:i + 1, :, y:y + h, x:x + w] for name in parts}
        for name in ('left', 'right'):
            parts[name].append(F.interpolate(
                window[name], size=(height, width), mode='bilinear', align_corners=False,
                antialias=h > height or w > width))
        # the right image loses what lay left of the window
        column = torch.arange(w, device=batch['left'].device)
        out_of_view = column - window['disparity'] < 0
        window['occluded'] = window['occluded'] | out_of_view
        for name in ('disparity', 'occluded'):
            parts[name].append(F.interpolate(
                window[name].float(), size=(height, width), mode='nearest-exact'))
        parts['disparity'][-1] = parts['disparity'][-1] * (width / w)
        if 'boxes' in batch:
            labels.append(crop_boxes(batch['boxes'][i], batch['camera'][i], (y, x, h, w), height,
                                     width))
    result: Batch = {name: torch.cat(x) for name, x in parts.items()}
    result['occluded'] = result['occluded'] > 0.5
    if labels:
        result['boxes'], result['camera'] = zip(*labels)
    return result


def recolour(left: Tensor, right: Tensor, config: AugmentConfig,
             generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Change gamma, brightness, contrast, saturation, white balance, sharpness and noise."""
    B = left.shape[0]
    device = left.device
    shared = _colour_parameters(B, 1.0, config, generator)
    grey = _chance(B, config.grey, generator, device)
    noise = (_uniform(B, 0, 1, generator) ** 2 * config.noise).to(device).view(B, 1, 1, 1)
    views = []
    for image in (left, right):
        own = _colour_parameters(B, config.asymmetric, config, generator)
        for parameters in (shared, own):
            image = _apply_colours(image, *(p.to(device) for p in parameters))
        image = torch.where(grey, image.mean(dim=1, keepdim=True).expand_as(image), image)
        image = _apply_to_some(image, config.blur, generator, _blur)
        seed = int(torch.randint(2 ** 31, (), generator=generator))
        random = torch.Generator(device).manual_seed(seed)
        image = image + noise * torch.randn(image.shape, generator=random, device=device)
        step = _uniform(1, 0.02, 0.12, generator).item()
        views.append(_apply_to_some(image, config.jpeg, generator,
                                    lambda x, step=step: block_quantise(x, step)))
    return views[0], views[1]


def misalign(right: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Shift and roll the right eye a little, as imperfect rectification does."""
    B, _, H, W = right.shape
    use = _chance(B, config.misalign, generator, 'cpu').view(B).float()
    shift = _uniform(B, -1, 1, generator) * config.misalign_px * use
    roll = torch.deg2rad(_uniform(B, -1, 1, generator) * config.misalign_deg) * use
    if not use.any():
        return right
    # rows move only: a horizontal component would change the disparity
    theta = torch.zeros(B, 2, 3)
    theta[:, 0, 0] = 1
    theta[:, 1, 0] = roll.sin() * W / H
    theta[:, 1, 1] = 1
    theta[:, 1, 2] = 2 * shift / H
    grid = F.affine_grid(theta.to(right.device), list(right.shape), align_corners=False)
    return F.grid_sample(right, grid, padding_mode='border', align_corners=False)


def erase(right: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Cover one or two rectangles of the right eye with its mean colour (RAFT-Stereo)."""
    right = right.clone()
    B, _, H, W = right.shape
    for i in range(B):
        if torch.rand((), generator=generator) < probability:
            for _ in range(int(torch.randint(1, 3, (), generator=generator))):
                h, w = (int(torch.randint(20, 70, (), generator=generator)) for _ in range(2))
                y, x = (int(torch.randint(0, n, (), generator=generator)) for n in (H, W))
                right[i, :, y:y + h, x:x + w] = right[i].mean(dim=(1, 2), keepdim=True)
    return right


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def _chance(n: int, probability: float, generator: torch.Generator, device) -> Tensor:
    """(n, 1, 1, 1) bool, True with `probability`."""
    return (torch.rand(n, generator=generator) < probability).to(device).view(n, 1, 1, 1)


def _colour_parameters(n: int, strength: float, config: AugmentConfig,
                       generator: torch.Generator) -> tuple[Tensor, ...]:
    """Gamma, gain, contrast, saturation, white balance and hue; neutral unless drawn."""
    def draw(spread: float, channels: int = 1) -> Tensor:
        use = torch.rand(n, 1, generator=generator) < config.photometric
        value = (torch.rand(n, channels, generator=generator) * 2 - 1) * spread
        return (value * strength * use).view(n, channels, 1, 1)

    factors = [draw(math.log(spread)).exp() for spread in (1.5, 1.7, 1.4, 2.0)]
    return *factors, draw(math.log(1.25), channels=3).exp(), draw(math.radians(config.hue_deg))


def _apply_colours(image: Tensor, gamma: Tensor, gain: Tensor, contrast: Tensor,
                   saturation: Tensor, balance: Tensor, hue: Tensor) -> Tensor:
    image = image.clamp(1e-4, 1) ** gamma * gain * balance
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    image = mean + (image - mean) * contrast
    grey = image.mean(dim=1, keepdim=True)
    chroma = (image - grey) * saturation
    # a turn about the grey axis (1, 1, 1), to which chroma is orthogonal
    across = (chroma.roll(1, dims=1) - chroma.roll(-1, dims=1)) / math.sqrt(3)
    return (grey + chroma * hue.cos() + across * hue.sin()).clamp(0, 1)


def _apply_to_some(image: Tensor, probability: float, generator: torch.Generator,
                   change: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply `change` to randomly chosen samples only; it is the costly part."""
    chosen = (torch.rand(image.shape[0], generator=generator) < probability).to(image.device)
    if chosen.any():
        image = image.clone()
        image[chosen] = change(image[chosen])
    return image


def _blur(image: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode='replicate'), 3, stride=1)


def block_quantise(image: Tensor, step: Union[float, Tensor]) -> Tensor:
    """JPEG-like artefacts: quantise 8x8 cosine coefficients, coarser for finer structure.

    Args:
        image: (B, C, H, W) in [0, 1].
        step: of the coarsest structure; a number or (B, 1, 1, 1).
    """
    B, C, H, W = image.shape
    n = torch.arange(8, device=image.device, dtype=image.dtype)
    basis = torch.cos(math.pi / 8 * (n + 0.5) * n[:, None]) / 2
    basis[0] /= math.sqrt(2)
    padded = F.pad(image, (0, -W % 8, 0, -H % 8), mode='replicate')
    blocks = padded.unfold(2, 8, 8).unfold(3, 8, 8)
    coefficients = basis @ blocks @ basis.T
    coarse = 1 + n[:, None] + n
    coarse = coarse * (step if isinstance(step, float) else step[..., None, None])
    coefficients = (coefficients / coarse).round() * coarse
    blocks = basis.T @ coefficients @ basis
    # (B, C, rows, columns, 8, 8) -> (B, C, H, W)
    return blocks.permute(0, 1, 2, 4, 3, 5).reshape(padded.shape)[..., :H, :W]
