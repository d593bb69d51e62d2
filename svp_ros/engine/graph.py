"""The network as engines run it: camera bytes in, maps out, for images of one size."""

from copy import deepcopy
from dataclasses import fields

from timm.models.swin_transformer_v2 import SwinTransformerV2Block
import torch
from torch import nn, Tensor
from torch.nn.utils.fusion import fuse_conv_bn_eval

from svp_ros.model.heads import Features, probability_within
from svp_ros.model.network import DisparityNetwork, PATCH, STRIDE

CONFIDENT_WITHIN = 3.0  # pixels of the network's input
INPUTS = ('left', 'right')
DISPARITY_OUTPUTS = ('disparity', 'confidence', 'no_match')
FEATURES = tuple(field.name for field in fields(Features) if field.name != 'patch_mask')


class BackbonePart(nn.Module):
    """(B, H, W, 3) uint8 RGB of both eyes -> the tensors of `FEATURES`."""

    def __init__(self, network: DisparityNetwork):
        super().__init__()
        self.backbone = network.backbone

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        features = self.backbone(*(image.permute(0, 3, 1, 2).float() / 255
                                   for image in (left, right)))
        return tuple(getattr(features, name) for name in FEATURES)


class HeadPart(nn.Module):
    """The tensors of `FEATURES` -> the maps of `StereoGraph.outputs`, float32."""

    def __init__(self, network: DisparityNetwork):
        super().__init__()
        self.head = network.head
        self.detection = network.detection

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        features = Features(**dict(zip(FEATURES, tensors)))
        output = self.head(features)
        confidence = probability_within(CONFIDENT_WITHIN, output.log_scale.float())
        maps = output.disparity.float(), confidence, output.no_match.float()
        return maps if self.detection is None else (*maps, self.detection(features, output))


class StereoGraph(nn.Module):
    """The whole network, prepared for one image size: what engines run and export writes.

    Disparity is in pixels of these images, confidence the estimated probability of an error
    below CONFIDENT_WITHIN, no_match the logit that the right image does not show the point; these
    are (B, 1, H, W). With a detection head (B, classes + 12, H / 4, W / 4) follow, see
    `model.detection`. `outputs` are the names of what it returns.

    Args:
        network: it is copied; the copy's BatchNorm is folded into its convolutions.
        height: of the images, a multiple of 32.
        width: likewise.

    Raises:
        ValueError: If a side is no multiple of 32.
    """

    def __init__(self, network: DisparityNetwork, height: int, width: int):
        super().__init__()
        if height % STRIDE or width % STRIDE:
            raise ValueError(f'height and width must be multiples of {STRIDE}, got '
                             f'{height}x{width}')
        network = deepcopy(network).eval().requires_grad_(False)
        _fuse_batch_norm(network)
        _fix_windows(network, height // PATCH, width // PATCH)
        self.height, self.width = height, width
        self.outputs = DISPARITY_OUTPUTS + (() if network.detection is None else ('detection',))
        self.backbone_part, self.head_part = BackbonePart(network), HeadPart(network)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        """(B, H, W, 3) uint8 RGB of both eyes -> the maps of `outputs`."""
        return self.head_part(*self.backbone_part(left, right))

    def example(self, batch: int = 1) -> tuple[Tensor, Tensor]:
        """Return a pair of noise to trace, warm up or time with."""
        generator = torch.Generator().manual_seed(0)
        return tuple(torch.randint(0, 256, (batch, self.height, self.width, 3),
                                   dtype=torch.uint8, generator=generator) for _ in INPUTS)


def _fuse_batch_norm(network: nn.Module) -> None:
    for block in network.modules():
        if not isinstance(block, nn.Sequential):
            continue
        for index in range(len(block) - 1):
            if isinstance(block[index], nn.Conv2d) and isinstance(block[index + 1],
                                                                  nn.BatchNorm2d):
                block[index] = fuse_conv_bn_eval(block[index], block[index + 1])
                block[index + 1] = nn.Identity()


def _fix_windows(network: nn.Module, height: int, width: int) -> None:
    """Compute the masks of shifted windows once, for (height, width) tokens."""
    for block in network.modules():
        if isinstance(block, SwinTransformerV2Block):
            h, w = (-(-length // window) * window
                    for length, window in zip((height, width), block.window_size))
            block.attn_mask = block.get_attn_mask(torch.zeros(1, h, w, 1))
            block.dynamic_mask = False
