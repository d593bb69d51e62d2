"""Disparity attention: every row of left tokens asks the same row of right tokens.

Rows are the epipolar lines of a rectified pair, so attention along the width is attention along
the disparity. After STTR (Li et al. 2021) and CroCo's decoder (Weinzaepfel et al. 2022).
"""

import torch
from torch import nn, Tensor
import torch.nn.functional as F

from svp_ros.model.layers import Mlp


def width_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Multi-head attention within rows.

    Args:
        query: (B, h, w, heads, C), left.
        key: (B, h, w, heads, C), right.
        value: (B, h, w, heads, C), right.
        bias: (heads, w, w), added to the logits; rows are left columns.

    Returns:
        (B, h, w, heads, C).
    """
    B, h, w, heads, C = query.shape
    # (B, h, w, heads, C) -> (B * h, heads, w, C)
    query, key, value = (x.reshape(B * h, w, heads, C).transpose(1, 2)
                         for x in (query, key, value))
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
    return mixed.transpose(1, 2).reshape(B, h, w, heads, C)


class WidthPositionBias(nn.Module):
    """Learned bias of the offset x_left - x_right, log-spaced so that wider images extrapolate.

    Source: continuous relative position bias of Swin V2 (Liu et al. 2021), along one axis.
    """

    def __init__(self, heads: int, hidden: int = 64):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(1, hidden), nn.ReLU(inplace=True),
                                 nn.Linear(hidden, heads, bias=False))

    def forward(self, width: int) -> Tensor:
        """(heads, width, width) bias."""
        x = torch.arange(width, device=self.mlp[0].weight.device)
        offset = (x[:, None] - x).to(self.mlp[0].weight.dtype)
        spaced = offset.sign() * torch.log2(1 + offset.abs()) / 3
        return self.mlp(spaced[..., None]).permute(2, 0, 1)


class DisparityAttention(nn.Module):
    """Left tokens attend to right tokens of their row, then a token-wise MLP."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_left = nn.LayerNorm(channels)
        self.norm_right = nn.LayerNorm(channels)
        self.norm_mlp = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.position = WidthPositionBias(heads)
        self.project = nn.Linear(channels, channels)
        self.mlp = Mlp(channels)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """(B, h, w, C) tokens of both eyes -> (B, h, w, C) left tokens."""
        B, h, w, C = left.shape
        query = self.query(self.norm_left(left)).view(B, h, w, self.heads, -1)
        key, value = self.key_value(self.norm_right(right)).view(
            B, h, w, 2, self.heads, -1).unbind(3)
        mixed = width_attention(query, key, value, self.position(w))
        left = left + self.project(mixed.reshape(B, h, w, C))
        return left + self.mlp(self.norm_mlp(left))
