"""Convolutional stem: image -> features at 1/4, 1/8 and 1/16."""

from torch import nn, Tensor

from svp_ros.model.layers import conv_bn_relu, ResidualBlock


class ConvEncoder(nn.Module):
    """Four stride-2 stages of dense 3x3 convolutions and residual blocks.

    Dense convolutions run near the peak of CPUs and GPUs where depthwise ones do not, so this
    plain stem beats mobile backbones at equal latency.

    Args:
        channels: features at 1/2, 1/4, 1/8 and 1/16.
        blocks: residual blocks after each stride-2 convolution.
    """

    def __init__(self, channels: tuple[int, ...], blocks: tuple[int, ...]):
        super().__init__()
        self.stages = nn.ModuleList()
        inputs = 3
        for outputs, depth in zip(channels, blocks):
            self.stages.append(nn.Sequential(
                conv_bn_relu(inputs, outputs, stride=2),
                *[ResidualBlock(outputs) for _ in range(depth)]))
            inputs = outputs

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) normalised image -> maps at 1/4, 1/8 and 1/16."""
        half = self.stages[0](image)
        quarter = self.stages[1](half)
        eighth = self.stages[2](quarter)
        return quarter, eighth, self.stages[3](eighth)
