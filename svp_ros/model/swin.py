"""Swin V2 blocks (Liu et al. 2021, timm's implementation) on 1/16 tokens of any size."""

from timm.models.swin_transformer_v2 import SwinTransformerV2Block
from torch import nn

WINDOW = (6, 8)


def swin_blocks(channels: int, heads: int, depth: int) -> nn.Sequential:
    """Alternate regular and shifted windows of 6x8 tokens: 30x40 tokens split without padding.

    Args:
        channels: width of the tokens.
        heads: attention heads.
        depth: number of blocks.

    Returns:
        Module on (B, h, w, C) tokens; windows are masked for the size at hand.
    """
    return nn.Sequential(*[
        SwinTransformerV2Block(
            channels, input_resolution=WINDOW, num_heads=heads, window_size=WINDOW,
            shift_size=(WINDOW[0] // 2, WINDOW[1] // 2) if i % 2 else 0,
            always_partition=True, dynamic_mask=True, mlp_ratio=2)
        for i in range(depth)])
