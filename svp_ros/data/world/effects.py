"""What a pair of cameras adds to a picture: exposure, lens, motion, tone, sensor, compression.

Errors of rectification and grey cameras are left to training (svp_ros.data.transforms).
"""

from dataclasses import dataclass
import math

import torch
from torch import Tensor
import torch.nn.functional as F

from svp_ros.data.transforms import block_quantise
from svp_ros.data.world.config import WorldConfig

ADAPTATION = 0.85  # how much of a difference in brightness automatic exposure takes away


@dataclass(frozen=True)
class _Dice:
    """Draws per pair, repeated for both eyes, or per view."""

    generator: torch.Generator
    pairs: int

    def uniform(self, low: float, high: float) -> Tensor:
        values = torch.rand(self.pairs, 1, 1, 1, generator=self.generator,
                            device=self.generator.device)
        return (low + (high - low) * values).repeat(2, 1, 1, 1)

    def log_uniform(self, low: float, high: float) -> Tensor:
        return torch.exp(self.uniform(math.log(low), math.log(high)))

    def chance(self, share: float) -> Tensor:
        """Numbers of the views of pairs that are chosen with this probability."""
        return (self.uniform(0, 1).flatten() < share).nonzero()[:, 0]

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.generator.device)


def apply_effects(colours: Tensor, disparity: Tensor, config: WorldConfig, seed: int,
                  frame: int = 0) -> Tensor:
    """Draw camera settings per pair, small differences per eye, and apply them.

    Args:
        colours: (2 * B, 3, H, W) linear colours, left eyes first.
        disparity: (2 * B, 1, H, W) of both eyes, which decides what is out of focus.
        config: distributions.
        seed: of the cameras' settings.
        frame: of a sequence; the settings stay, the noise changes.

    Returns:
        (2 * B, 3, H, W), not clamped.
    """
    V, _, H, W = colours.shape
    generator = torch.Generator(colours.device).manual_seed(seed)
    dice = _Dice(generator, V // 2)

    gain = _expose(colours, dice, config)
    difference = config.exposure_difference * dice.normal(V, 1, 1, 1)
    balance = 0.4 * config.exposure_difference * dice.normal(V, 3, 1, 1)
    exposure = gain * dice.log_uniform(*config.exposure) * torch.exp(difference + balance)
    y = torch.linspace(-1, 1, H, device=colours.device)[:, None]
    x = torch.linspace(-1, 1, W, device=colours.device)[None]
    falloff = 1 - dice.uniform(*config.vignetting) * (x * x + y * y) / 2
    colours = colours * (exposure * falloff)

    colours = _defocus(colours, disparity, dice, config)
    colours = _move(colours, dice, config)
    sigma = dice.uniform(*config.blur) * torch.exp(0.15 * dice.normal(V, 1, 1, 1))
    colours = _blur(colours, sigma.view(V), 2)
    colours = _bend(_sharpen(colours, dice, config), dice.uniform(*config.contrast))

    noise = dice.log_uniform(*config.noise) * gain.clamp(min=1)
    mosaic, packed = dice.chance(config.bayer_share), dice.chance(config.jpeg_share)
    step = dice.log_uniform(*config.jpeg_step)
    generator.manual_seed(seed * 100003 + frame)
    shot = (colours.clamp(0, 1) + 0.1).sqrt() * 1.3  # 1 at mid grey
    colours = colours + noise * shot * dice.normal(V, 3, H, W)
    if len(mosaic):
        colours[mosaic] = _demosaic(colours[mosaic].clamp(0, 1))
    if len(packed):
        colours[packed] = block_quantise(colours[packed].clamp(0, 1), step[packed])
    return colours


def _expose(colours: Tensor, dice: _Dice, config: WorldConfig) -> Tensor:
    """Return the gain of automatic exposure, the same for both eyes."""
    level = colours.clamp(0, 1.5).mean(dim=(1, 2, 3), keepdim=True)
    level = level.view(2, -1).mean(0).repeat(2).view(-1, 1, 1, 1)
    wanted = dice.log_uniform(*config.brightness)
    return ((wanted / level.clamp(min=1e-3)) ** ADAPTATION).clamp(*config.gain)


def _bend(colours: Tensor, contrast: Tensor) -> Tensor:
    """Mix in the S-shaped curve 3 x^2 - 2 x^3, which darkens shadows and lightens lights."""
    colours = colours.clamp(0, 1)
    return torch.lerp(colours, colours * colours * (3 - 2 * colours), contrast)


def _defocus(colours: Tensor, disparity: Tensor, dice: _Dice, config: WorldConfig) -> Tensor:
    """Blur by the difference in disparity to the plane of focus: both are 1 / distance."""
    some = dice.chance(config.defocus_share)
    focus, sigma = dice.uniform(0, 1), dice.uniform(*config.defocus)
    if not len(some):
        return colours
    largest = disparity[some].amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
    distance = (disparity[some] / largest - focus[some]).abs()
    distance = distance / torch.maximum(focus, 1 - focus)[some]
    blurred = _blur(colours[some], sigma[some].flatten(), 4)
    colours = colours.clone()
    colours[some] = torch.lerp(colours[some], blurred, _blur(distance, sigma[some].flatten(), 4))
    return colours


def _move(colours: Tensor, dice: _Dice, config: WorldConfig) -> Tensor:
    """Smear some pairs along a line, as a turning rig does: the same for both eyes."""
    some = dice.chance(config.motion_share)
    length = dice.uniform(*config.motion).flatten()[some] * colours.shape[-1]
    angle = dice.uniform(0, math.pi).flatten()[some]
    if not len(some):
        return colours
    radius = max(1, math.ceil(config.motion[1] * colours.shape[-1] / 2))
    y, x = torch.meshgrid(*[torch.arange(-radius, radius + 1, device=colours.device)] * 2,
                          indexing='ij')
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along, across = (x * cos + y * sin).abs(), (y * cos - x * sin).abs()
    kernel = ((length / 2)[:, None, None] + 0.5 - along).clamp(0, 1) * (1 - across).clamp(min=0)
    kernel = (kernel / kernel.sum((1, 2), keepdim=True)).repeat_interleave(3, 0)[:, None]
    V, C, H, W = colours[some].shape
    padded = F.pad(colours[some], (radius,) * 4, mode='replicate')
    colours = colours.clone()
    colours[some] = F.conv2d(padded.view(1, V * C, *padded.shape[2:]), kernel,
                             groups=V * C).view(V, C, H, W)
    return colours


def _sharpen(colours: Tensor, dice: _Dice, config: WorldConfig) -> Tensor:
    """Exaggerate differences to the surroundings, as a camera's processor does."""
    some, strength = dice.chance(config.sharpen_share), dice.uniform(*config.sharpen)
    if not len(some):
        return colours
    soft = _blur(colours[some], torch.full_like(strength[some], 0.8).flatten(), 2)
    colours = colours.clone()
    colours[some] = torch.lerp(soft, colours[some], 1 + strength[some])
    return colours


def _demosaic(images: Tensor) -> Tensor:
    """Keep one colour per pixel (RGGB) and interpolate the others, which frays fine edges."""
    V, C, H, W = images.shape
    row = torch.arange(H, device=images.device)[:, None] % 2
    column = torch.arange(W, device=images.device)[None] % 2
    kept = torch.stack([(row == 0) & (column == 0), row != column, (row == 1) & (column == 1)])
    one = torch.tensor([0.5, 1, 0.5], device=images.device)
    full = one[:, None] * one
    green = torch.tensor([[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]], device=images.device)
    kernel = torch.stack([full, green, full])[:, None]
    weight = F.conv2d(kept[None].float(), kernel, padding=1, groups=3)
    return F.conv2d(images * kept, kernel, padding=1, groups=3) / weight


def _blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur every image with its own Gaussian of 2 * radius + 1 taps each way."""
    V, C, H, W = images.shape
    taps = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-taps ** 2 / (2 * sigma[:, None].clamp(min=0.05) ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(C, 0)[:, None, None]
    images = F.pad(images, (radius,) * 4, mode='replicate')
    images = images.reshape(1, V * C, H + 2 * radius, W + 2 * radius)
    images = F.conv2d(images, kernel, groups=V * C)
    return F.conv2d(images, kernel.transpose(2, 3), groups=V * C).view(V, C, H, W)
