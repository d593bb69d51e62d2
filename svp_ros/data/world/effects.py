"""What a pair of cameras adds to a picture: exposure, white balance, vignetting, blur, noise."""

import math

import torch
from torch import Tensor
import torch.nn.functional as F

from svp_ros.data.world.config import WorldConfig


def apply_effects(colours: Tensor, config: WorldConfig, seed: int, frame: int = 0) -> Tensor:
    """Draw camera settings per pair, small differences per eye, and apply them.

    Args:
        colours: (2 * B, 3, H, W) linear colours, left eyes first.
        config: distributions.
        seed: of the cameras' settings.
        frame: of a sequence; the settings stay, the noise changes.

    Returns:
        (2 * B, 3, H, W), not clamped.
    """
    V, _, H, W = colours.shape
    B = V // 2
    device = colours.device
    generator = torch.Generator(device).manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        values = torch.rand(B, 1, 1, 1, generator=generator, device=device)
        return (low + (high - low) * values).repeat(2, 1, 1, 1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    gain = torch.exp(uniform(*map(math.log, config.exposure)))
    difference = config.exposure_difference
    gain = gain * torch.exp(difference * (normal(V, 1, 1, 1) + 0.4 * normal(V, 3, 1, 1)))
    y = torch.linspace(-1, 1, H, device=device)[:, None]
    x = torch.linspace(-1, 1, W, device=device)[None]
    falloff = 1 - uniform(*config.vignetting) * (x * x + y * y) / 2
    colours = colours * (gain * falloff)
    sigma = uniform(*config.blur) * torch.exp(0.15 * normal(V, 1, 1, 1))
    colours = _blur(colours, sigma.view(V))
    generator.manual_seed(seed * 100003 + frame)
    noise = torch.exp(uniform(*map(math.log, config.noise)))
    shot = (colours.clamp(0, 1) + 0.1).sqrt() * 1.3  # 1 at mid grey
    return colours + noise * shot * normal(V, 3, H, W)


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur every image with its own Gaussian, five taps each way."""
    V, C, H, W = images.shape
    taps = torch.arange(-2, 3, device=images.device)
    kernel = torch.exp(-taps ** 2 / (2 * sigma[:, None].clamp(min=0.05) ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(C, 0)[:, None, None]
    images = F.pad(images, (2, 2, 2, 2), mode='replicate').reshape(1, V * C, H + 4, W + 4)
    images = F.conv2d(images, kernel, groups=V * C)
    return F.conv2d(images, kernel.transpose(2, 3), groups=V * C).view(V, C, H, W)
