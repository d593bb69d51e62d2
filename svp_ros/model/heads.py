"""Heads on the shared backbone: masked reconstruction, and disparity with confidence."""

from dataclasses import dataclass
from typing import Optional, Union

import torch
from torch import nn, Tensor
import torch.nn.functional as F

from svp_ros.model.layers import (
    bilinear_mix,
    conv_bn,
    conv_bn_relu,
    convex_upsample,
    enlarge,
    fill_in,
    ResidualBlock,
    tokens_to_map,
    upsample,
)
from svp_ros.model.matching import (
    continue_outside,
    copy_matches,
    expected_disparity,
    local_correlation,
    mask_outside,
    match_rows,
    row_similarity,
    sample_rows,
)

RADIUS = 4
LOOKUPS = 2 * RADIUS + 1
LOG_SCALE_RANGE = (-3.0, 3.0)  # Laplacian scale between 0.05 and 20 px


@dataclass
class Features:
    """What the backbone gives every head; maps are (B, C, h, w), tokens (B, h, w, C).

    `patch_mask` (B, h, w) is True at hidden left tokens, None if there are none.
    """

    left_quarter: Tensor
    right_quarter: Tensor
    left_eighth: Tensor
    right_eighth: Tensor
    left_encoded: Tensor
    right_encoded: Tensor
    left_decoded: Tensor
    patch_mask: Optional[Tensor] = None


@dataclass
class DisparityOutput:
    """Disparity of the left image and how sure the network is, at the input size.

    Attributes:
        disparity: (B, 1, H, W), pixels, x_left - x_right >= 0.
        log_scale: (B, 1, H, W), log of the Laplacian scale of the error in pixels.
        no_match: (B, 1, H, W), logit that the right image does not show this point.
        stages: disparities at 1/16, 1/8 (matched), 1/8 (refined), 1/4 and 1/4 after each further
            look, pixels of each map.
        match_logits: (B, levels, h, w) at 1/16 and 1/8, log-probability up to a constant.
        evidence: (B, C, h, w) at 1/4, what the last stage was decided by, for other heads.
        detection: (B, classes + 12, h, w) at 1/4, see `detection`; None without that head.
    """

    disparity: Tensor
    log_scale: Tensor
    no_match: Tensor
    stages: tuple[Tensor, ...]
    match_logits: tuple[Tensor, Tensor]
    evidence: Tensor
    detection: Optional[Tensor] = None


def probability_within(distance: Union[float, Tensor], log_scale: Tensor) -> Tensor:
    """Probability that an error of Laplacian scale exp(`log_scale`) is below `distance`."""
    return 1 - torch.exp(-distance * torch.exp(-log_scale))


@dataclass
class Matches:
    """Where the right image shows each left pixel, as two distributions over disparity.

    Attributes:
        logits16: (B, levels, h, w) at 1/16, log-probability up to a constant.
        logits8: (B, levels, h, w) at 1/8, likewise.
        disparity16: (B, 1, h, w), expected disparity at 1/16, pixels of that map.
        disparity8: (B, 1, h, w), at 1/8.
        evidence: (B, C, h, w) at 1/8, what the neighbourhood says.
    """

    logits16: Tensor
    logits8: Tensor
    disparity16: Tensor
    disparity8: Tensor
    evidence: Tensor


class RowMatching(nn.Module):
    """Match rows at 1/16, then at 1/8, where 2D convolutions weigh the neighbours' evidence.

    At 1/8 two kinds of features are compared: learned with context, and those of 1/4 as they are,
    2x2 cells at a time, which see little beyond a patch of pre-training.

    Args:
        channels: backbone widths at 1/2, 1/4, 1/8 and 1/16.
        cost_channels: width at 1/8.
        match_groups: channel groups compared separately at 1/8.
        max_disparity: largest disparity that can be matched, pixels of the input.
    """

    def __init__(self, channels: tuple[int, ...], cost_channels: int, match_groups: int,
                 max_disparity: int):
        super().__init__()
        _, quarter, eighth, tokens = channels
        self.levels16, self.levels8 = max_disparity // 16, max_disparity // 8
        self.groups = match_groups

        self.match16 = nn.Linear(tokens, tokens)
        self.temperature16 = nn.Parameter(torch.tensor(2.5))

        self.context = nn.Conv2d(tokens, cost_channels, 1)
        self.match8 = nn.Sequential(
            conv_bn_relu(eighth + tokens, eighth, kernel=1), nn.Conv2d(eighth, eighth, 1))
        self.match4 = nn.Conv2d(4 * quarter, eighth, 1, bias=False)
        self.gain4 = nn.Parameter(torch.tensor(4.0))
        self.aggregate = nn.Sequential(
            conv_bn_relu((self.groups + 1) * self.levels8 + self.levels16 + cost_channels + eighth,
                         cost_channels),
            ResidualBlock(cost_channels), ResidualBlock(cost_channels))
        self.logits8 = nn.Conv2d(cost_channels, self.levels8, 1)
        self.temperature8 = nn.Parameter(torch.tensor(2.5))

    def forward(self, f: Features) -> Matches:
        decoded = tokens_to_map(f.left_decoded)
        encoded_right = tokens_to_map(f.right_encoded)

        matches16 = match_rows(tokens_to_map(self.match16(f.left_decoded)),
                               tokens_to_map(self.match16(f.right_encoded)), self.levels16)
        matches16 = spread_evidence(matches16, f.patch_mask)
        logits16 = mask_outside(matches16[:, 0] * self.temperature16.exp())
        probability16 = logits16.softmax(dim=1)

        matches8 = match_rows(
            self.match8(torch.cat((f.left_eighth, upsample(decoded)), dim=1)),
            self.match8(torch.cat((f.right_eighth, upsample(encoded_right)), dim=1)),
            self.levels8, self.groups)
        matches4 = match_rows(self.match4(F.pixel_unshuffle(f.left_quarter, 2)),
                              self.match4(F.pixel_unshuffle(f.right_quarter, 2)), self.levels8)
        matches8, matches4 = (spread_evidence(x, f.patch_mask) for x in (matches8, matches4))
        evidence = self.aggregate(torch.cat((
            matches8.flatten(1, 2), matches4[:, 0], upsample(probability16),
            upsample(self.context(decoded)), f.left_eighth), dim=1))
        logits8 = mask_outside(matches8.mean(dim=1) * self.temperature8.exp()
                               + matches4[:, 0] * self.gain4 + self.logits8(evidence).float())
        return Matches(logits16, logits8, expected_disparity(probability16),
                       expected_disparity(logits8.softmax(dim=1)), evidence)


def spread_evidence(matches: Tensor, patch_mask: Optional[Tensor]) -> Tensor:
    """Continue what visible left cells say about matches into hidden ones.

    Args:
        matches: (B, groups, levels, h, w) of `match_rows`.
        patch_mask: of the features; None leaves everything as it is.

    Returns:
        The same shape; still -1 where the match would lie outside the image.
    """
    if patch_mask is None:
        return matches
    levels, w = matches.shape[2], matches.shape[-1]
    x_left = torch.arange(w, device=matches.device)
    inside = torch.arange(levels, device=matches.device)[:, None, None] <= x_left
    visible = ~enlarge(patch_mask, w // patch_mask.shape[-1]) & inside
    filled = torch.stack([fill_in(group, visible) for group in matches.unbind(1)], dim=1)
    return torch.where(inside, filled, matches)


def spread_lookups(lookups: Tensor, patch_mask: Optional[Tensor]) -> Tensor:
    """The same for the (B, offsets, h, w) similarities of `local_correlation`."""
    if patch_mask is None:
        return lookups
    return fill_in(lookups, ~enlarge(patch_mask, lookups.shape[-1] // patch_mask.shape[-1]))


def look_around(similarity: Tensor, disparity: Tensor, patch_mask: Optional[Tensor]) -> Tensor:
    """`local_correlation` within RADIUS, continued into hidden cells."""
    return spread_lookups(local_correlation(similarity, disparity, RADIUS), patch_mask)


class DisparityHead(nn.Module):
    """Coarse-to-fine disparity: match rows, refine at 1/8 and repeatedly at 1/4, upsample.

    Args:
        matching: finds the disparity at 1/8.
        channels: backbone widths at 1/2, 1/4, 1/8 and 1/16.
        cost_channels: width at 1/8.
        refine_channels: width at 1/4.
        looks: corrections at 1/4 after the first one, all with the same weights.

    Source of the shared weights: RAFT-Stereo (Lipson et al. 2021).
    """

    def __init__(self, matching: RowMatching, channels: tuple[int, ...], cost_channels: int,
                 refine_channels: int, looks: int):
        super().__init__()
        _, quarter, eighth, _ = channels
        self.matching = matching
        self.looks = looks

        self.lookup8 = nn.Conv2d(eighth, eighth // 2, 1)
        self.refine8 = conv_bn_relu(cost_channels + LOOKUPS + 1, cost_channels)
        self.residual8 = nn.Conv2d(cost_channels, 1, 3, padding=1)

        self.upsampling8 = nn.Conv2d(cost_channels, 9 * 4, 1)
        self.reduce8 = conv_bn_relu(cost_channels, refine_channels, kernel=1)
        self.lookup4 = nn.Conv2d(quarter, quarter, 1)
        self.refine4 = nn.Sequential(
            conv_bn_relu(refine_channels + quarter + LOOKUPS + 1, refine_channels),
            ResidualBlock(refine_channels))
        self.residual4 = nn.Conv2d(refine_channels, 3, 3, padding=1)
        self.again4 = nn.Sequential(
            conv_bn_relu(refine_channels + LOOKUPS + 1, refine_channels),
            conv_bn(refine_channels, refine_channels))
        self.residual4_again = nn.Conv2d(refine_channels, 3, 3, padding=1)
        self.upsampling = nn.Conv2d(refine_channels, 9 * 16, 1)
        # correction, log scale, no match: start from "as matched, unsure by 1 px, visible"
        nn.init.constant_(self.residual4.bias, 0)
        nn.init.constant_(self.residual4.bias[2], -3)
        # further looks at 1/4 start from "as it is", the step to 1/4 from bilinear
        for start in (self.again4[1][1].weight, self.residual4_again.weight,
                      self.residual4_again.bias, self.upsampling8.weight):
            nn.init.zeros_(start)
        self.upsampling8.bias.data.copy_(bilinear_mix(2))

    def forward(self, f: Features) -> DisparityOutput:
        matches = self.matching(f)

        # 1/8 and 1/4: look around the current disparity and correct it
        similarity8 = row_similarity(self.lookup8(f.left_eighth), self.lookup8(f.right_eighth))
        lookups = look_around(similarity8, matches.disparity8, f.patch_mask)
        evidence = self.refine8(torch.cat((matches.evidence, lookups, matches.disparity8), dim=1))
        disparity8 = F.relu(matches.disparity8 + self.residual8(evidence).float())

        start4 = convex_upsample(continue_outside(disparity8), self.upsampling8(evidence), 2)
        similarity4 = row_similarity(self.lookup4(f.left_quarter), self.lookup4(f.right_quarter))
        lookups = look_around(similarity4, start4, f.patch_mask)
        evidence = self.refine4(torch.cat(
            (upsample(self.reduce8(evidence)), f.left_quarter, lookups, start4), dim=1))
        residual, log_scale, no_match = self.residual4(evidence).float().chunk(3, dim=1)
        stages4 = [F.relu(start4 + residual)]

        for _ in range(self.looks):
            lookups = look_around(similarity4, stages4[-1], f.patch_mask)
            evidence = F.relu(evidence + self.again4(torch.cat(
                (evidence, lookups, stages4[-1]), dim=1)))
            residual, log_scale_again, no_match_again = (
                self.residual4_again(evidence).float().chunk(3, dim=1))
            stages4.append(F.relu(stages4[-1] + residual))

        return DisparityOutput(
            disparity=convex_upsample(continue_outside(stages4[-1]), self.upsampling(evidence)),
            log_scale=upsample((log_scale + log_scale_again).clamp(*LOG_SCALE_RANGE), 4),
            no_match=upsample(no_match + no_match_again, 4),
            stages=(matches.disparity16, matches.disparity8, disparity8, *stages4),
            match_logits=(matches.logits16, matches.logits8),
            evidence=evidence)


@dataclass
class Reconstruction:
    """The left image as the network imagines it.

    Attributes:
        colours: (B, 3, H, W), in the backbone's normalised colours.
        structure: (B, 3, H, W), every 16-pixel patch less its mean colour, by its contrast.
    """

    colours: Tensor
    structure: Tensor


class ReconstructionHead(nn.Module):
    """Rebuild the left image: copy from the right one along the disparity, then decode colours.

    Hidden patches teach every stage of the disparity, since each decides what is copied.

    Args:
        channels: backbone widths at 1/2, 1/4, 1/8 and 1/16.
        cost_channels: width at 1/8.
        refine_channels: half the width at 1/4.
    """

    def __init__(self, channels: tuple[int, ...], cost_channels: int, refine_channels: int):
        super().__init__()
        _, quarter, eighth, tokens = channels
        self.context = nn.Conv2d(tokens, cost_channels, 1)
        # pointwise: a wider kernel would make up for wrong disparities
        self.merge8 = conv_bn_relu(cost_channels + 2 * eighth, cost_channels, kernel=1)
        self.merge4 = conv_bn_relu(cost_channels + 2 * quarter + 3 * 16, 2 * refine_channels,
                                   kernel=1)
        self.images = nn.Conv2d(2 * refine_channels, 2 * 3 * 16, 1)

    def forward(self, f: Features, right: Tensor, output: DisparityOutput) -> Reconstruction:
        """Copy features and `right`, (B, 3, H, W) in normalised colours, along `output`."""
        copied8 = copy_matches(f.right_eighth, output.match_logits[1].softmax(dim=1))
        copied4 = sample_rows(f.right_quarter, output.stages[-1])
        copied = F.pixel_unshuffle(sample_rows(right, output.disparity), 4)

        x = upsample(self.context(tokens_to_map(f.left_decoded)))
        x = self.merge8(torch.cat((x, f.left_eighth, copied8), dim=1))
        x = self.merge4(torch.cat((upsample(x), f.left_quarter, copied4, copied), dim=1))
        colours, structure = F.pixel_shuffle(self.images(x).float(), 4).chunk(2, dim=1)
        return Reconstruction(colours, structure)
