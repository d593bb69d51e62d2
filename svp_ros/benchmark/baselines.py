"""What the network is compared with: OpenCV's matchers, and a plain network of known cost."""

from collections.abc import Callable

import cv2
import numpy as np
from skimage.data import stereo_motorcycle
import torch
from torch import nn, Tensor

SEARCH = 128  # disparities
STAND_IN_GFLOP = 211.0  # the published cost of StereoVisionPretrain, at 480x640
STAND_IN = 'stand_in_211_gflop'


def photograph(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-image's stereo photographs at a size, (height, width, 3) uint8 RGB."""
    return tuple(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
                 for image in stereo_motorcycle()[:2])


def opencv_matchers(left: np.ndarray, right: np.ndarray) -> dict[str, Callable[[], object]]:
    """OpenCV's block matching and semi-global matching (5 paths, 3x3 blocks) of a pair.

    128 disparities are searched, fewer in images narrower than twice that.
    """
    search = min(SEARCH, left.shape[1] // 32 * 16)
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (left, right)]
    bm = cv2.StereoBM_create(numDisparities=search, blockSize=15)
    sgbm = cv2.StereoSGBM_create(0, search, 3, P1=8 * 3 * 9, P2=32 * 3 * 9, disp12MaxDiff=1,
                                 uniquenessRatio=10, speckleWindowSize=100, speckleRange=2)
    return {'opencv_bm': lambda: bm.compute(*grey),
            'opencv_sgbm': lambda: sgbm.compute(left, right)}


class StandIn(nn.Module):
    """A plain network of the cost of StereoVisionPretrain, of standard layers only.

    A convolutional encoder on both eyes, transformer layers on 1/16 tokens, and a decoder that
    doubles the size and convolves up to full resolution. Its weights are random: it stands for a
    cost, not for an accuracy, and shares no code with that network.
    """

    def __init__(self, width: int = 70):
        super().__init__()
        channels = [3, width, 2 * width, 4 * width, 8 * width]
        self.encoder = nn.Sequential(*[_conv(*pair, 2) for pair in zip(channels, channels[1:])])
        self.tokens = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8 * width, 8, 16 * width, batch_first=True), 4)
        self.merge = nn.Conv2d(16 * width, 8 * width, 1)
        self.decoder = nn.Sequential(*[
            nn.Sequential(nn.Upsample(scale_factor=2), _conv(*pair), _conv(pair[1], pair[1]))
            for pair in zip((8 * width, 4 * width, 2 * width, width),
                            (4 * width, 2 * width, width, width))])
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        maps = self.encoder(torch.cat((left, right)))
        B, C, h, w = maps.shape
        tokens = self.tokens(maps.flatten(2).transpose(1, 2)).transpose(1, 2)
        left, right = tokens.view(B, C, h, w).chunk(2)
        return self.head(self.decoder(self.merge(torch.cat((left, right), dim=1))))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU(inplace=True))
