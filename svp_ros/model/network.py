"""Backbone and the two networks built on it; `forward` reads like the figure in the README."""

from typing import Optional

import torch
from torch import nn, Tensor

from svp_ros.model.cross_attention import DisparityAttention
from svp_ros.model.detection import DetectionHead
from svp_ros.model.encoder import ConvEncoder
from svp_ros.model.heads import (
    DisparityHead,
    DisparityOutput,
    Features,
    Reconstruction,
    ReconstructionHead,
)
from svp_ros.model.layers import enlarge, fill_in, map_to_tokens
from svp_ros.model.swin import swin_blocks

PATCH = 16
STRIDE = 32


class StereoBackbone(nn.Module):
    """Shared encoder (CNN + Swin), disparity attention and Swin decoder.

    Args:
        channels: widths at 1/2, 1/4, 1/8 and 1/16.
        blocks: residual blocks of the CNN at those sizes.
        heads: attention heads.
        encoder_depth: Swin blocks applied to either eye.
        attention_depth: disparity attention layers.
        decoder_depth: Swin blocks on the left tokens.
    """

    def __init__(self, channels: tuple[int, ...], blocks: tuple[int, ...], heads: int,
                 encoder_depth: int, attention_depth: int, decoder_depth: int):
        super().__init__()
        tokens = channels[-1]
        self.cnn = ConvEncoder(channels, blocks)
        self.hidden_token = nn.Parameter(0.02 * torch.randn(tokens))
        self.encoder = swin_blocks(tokens, heads, encoder_depth)
        self.disparity_attention = nn.ModuleList(
            [DisparityAttention(tokens, heads) for _ in range(attention_depth)])
        self.decoder = swin_blocks(tokens, heads, decoder_depth)
        self.register_buffer('mean', torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1),
                             persistent=False)
        self.register_buffer('std', torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1),
                             persistent=False)

    def normalise(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> zero mean and unit variance of ImageNet's colours."""
        return (image - self.mean) / self.std

    def forward(self, left: Tensor, right: Tensor, patch_mask: Optional[Tensor] = None,
                left_only: bool = False) -> Features:
        """Encode both eyes and let the left rows look at the right rows.

        Args:
            left: (B, 3, H, W) RGB in [0, 1]; H and W multiples of 32.
            right: (B, 3, H, W), likewise.
            patch_mask: (B, H / 16, W / 16) bool, True where the left image is hidden.
            left_only: take zeros for all right features and never look at the right image, the
                control of the pre-training.

        Raises:
            ValueError: If the images differ in size or are not multiples of 32.
        """
        if left.shape != right.shape:
            raise ValueError(f'left is {tuple(left.shape)} but right is {tuple(right.shape)}')
        if left.shape[-2] % STRIDE or left.shape[-1] % STRIDE:
            raise ValueError(f'height and width must be multiples of {STRIDE}, got '
                             f'{left.shape[-2]}x{left.shape[-1]}; use geometry.pad_to_multiple')
        left, right = self.normalise(left), self.normalise(right)
        if patch_mask is not None:
            left = fill_in(left, ~enlarge(patch_mask, PATCH))

        maps = self.cnn(left if left_only else torch.cat((left, right)))
        if left_only:
            maps = [torch.cat((x, torch.zeros_like(x))) for x in maps]
        (left_quarter, right_quarter), (left_eighth, right_eighth), (left_tokens, right_tokens) = (
            x.chunk(2) for x in (*maps[:2], map_to_tokens(maps[2])))
        if patch_mask is not None:
            left_quarter = left_quarter * ~enlarge(patch_mask, PATCH // 4)
            left_eighth = left_eighth * ~enlarge(patch_mask, PATCH // 8)
            left_tokens = torch.where(patch_mask[..., None], self.hidden_token, left_tokens)
        left_tokens, right_tokens = self.encoder(
            torch.cat((left_tokens, right_tokens))).chunk(2)
        if left_only:
            right_tokens = torch.zeros_like(right_tokens)

        decoded = left_tokens
        for attention in self.disparity_attention:
            decoded = attention(decoded, right_tokens)
        decoded = self.decoder(decoded)

        return Features(left_quarter, right_quarter, left_eighth, right_eighth,
                        left_tokens, right_tokens, decoded, patch_mask)


class DisparityNetwork(nn.Module):
    """Backbone + disparity head, and a detection head if it shall see objects."""

    def __init__(self, backbone: StereoBackbone, head: DisparityHead,
                 detection: Optional[DetectionHead] = None):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.detection = detection

    def forward(self, left: Tensor, right: Tensor) -> DisparityOutput:
        """(B, 3, H, W) RGB pair in [0, 1] -> disparity, confidence, their stages, objects."""
        features = self.backbone(left, right)
        output = self.head(features)
        if self.detection is not None:
            output.detection = self.detection(features, output)
        return output


class ReconstructionNetwork(nn.Module):
    """The disparity network + reconstruction head, for masked stereo pre-training."""

    def __init__(self, backbone: StereoBackbone, head: DisparityHead,
                 reconstruction: ReconstructionHead):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.reconstruction = reconstruction

    def forward(self, left: Tensor, right: Tensor, patch_mask: Tensor,
                left_only: bool = False) -> Reconstruction:
        """(B, 3, H, W) RGB pair and (B, H / 16, W / 16) mask -> the whole left image."""
        features = self.backbone(left, right, patch_mask, left_only)
        right = torch.zeros_like(right) if left_only else self.backbone.normalise(right)
        return self.reconstruction(features, right, self.head(features))
