"""What a pre-trained network rebuilds, how far it knows disparity, and where its rows look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import math
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from svp_ros.eval.plots import draw_figure, new_figure
from svp_ros.eval.reconstruction import fixed_mask, FixedPairs, read_disparity
from svp_ros.model.layers import enlarge
from svp_ros.model.matching import spread_over_columns
from svp_ros.model.network import PATCH, ReconstructionNetwork
from svp_ros.pictures import colour_disparity, colour_error, stack_pictures

HIDDEN = 128  # grey of hidden patches
LARGEST_ERROR = 10.0  # pixels
ROW_COLOURS = ('#56B4E9', '#E69F00', '#CC79A7', '#009E73', '#F0E442')
TRUTH_COLOUR = '#00FFC8'


def reconstruction_rows(models: Mapping[str, tuple[ReconstructionNetwork, bool]],
                        pairs: FixedPairs, indices: Sequence[int], ratio: float) -> np.ndarray:
    """Show masked left image, right image, what each model makes of them, and the truth.

    Args:
        models: network in eval mode and whether its right features are zero, by title.
        pairs: validation pairs.
        indices: pairs to show, one per row.
        ratio: share of hidden patches; the masks are those of the validation.

    Returns:
        (h, w, 3) uint8 RGB. Visible patches of the reconstructions are those of the left image.
    """
    rows = []
    for index in indices:
        left, right = (_to_picture(images[index]) for images in (pairs.left, pairs.right))
        H, W = left.shape[:2]
        mask = fixed_mask(index, H, W, ratio)
        hidden = enlarge(mask, PATCH)[0, 0].numpy()[..., None]
        rebuilt = [np.where(hidden, _reconstruct(model, pairs, index, mask, left_only), left)
                   for model, left_only in models.values()]
        rows.append([np.where(hidden, np.uint8(HIDDEN), left), right, *rebuilt, left])
    return stack_pictures([f'left, {100 * ratio:.0f} % hidden', 'right', *models, 'truth'], rows)


@torch.inference_mode()
def disparity_rows(model: ReconstructionNetwork, pairs: FixedPairs,
                   indices: Sequence[int]) -> np.ndarray:
    """Show the left image, the disparity of the network and, if it is known, the true one.

    Args:
        model: in eval mode; nothing is hidden from it.
        pairs: validation pairs.
        indices: pairs to show, one per row, each with its own range of colours.

    Returns:
        (h, w, 3) uint8 RGB: left, true disparity, disparity, error; without truth left, right,
        disparity.
    """
    rows = []
    for index in indices:
        left, right = (_to_picture(images[index]) for images in (pairs.left, pairs.right))
        disparity = read_disparity(model, *_to_input(model, pairs, index))[0, 0].cpu().numpy()
        truth = disparity if pairs.disparity is None else pairs.disparity[index, 0].numpy()
        low, high = np.percentile(truth[np.isfinite(truth)], (1, 99))
        guess = colour_disparity(disparity, low, high)
        if pairs.disparity is None:
            rows.append([left, right, guess])
        else:
            truth = np.where(np.isfinite(truth), truth, np.nan)
            rows.append([left, colour_disparity(truth, low, high), guess,
                         colour_error(np.abs(disparity - truth), LARGEST_ERROR)])
    if pairs.disparity is None:
        return stack_pictures(['left', 'right', 'disparity without labels'], rows)
    return stack_pictures(['left', 'true disparity', 'disparity without labels',
                           f'error, 0 to {LARGEST_ERROR:.0f} px'], rows)


@dataclass(frozen=True)
class RowLook:
    """Where the left pixels of one image row look in the right image.

    Attributes:
        y: of the row, pixels.
        matching: (w, w) at 1/8, probability of x_right (first axis) for every x_left (second).
        attention: (w, w) at 1/16, likewise, that of the last disparity attention layer, mean of
            its heads.
        disparity: (W,) true one in pixels, NaN where unknown; None without truth.
    """

    y: int
    matching: np.ndarray
    attention: np.ndarray
    disparity: Optional[np.ndarray] = None


@torch.inference_mode()
def look_along_rows(model: ReconstructionNetwork, pairs: FixedPairs, index: int,
                    rows: int = 3) -> list[RowLook]:
    """Read matching and attention of rows that are evenly spread over one pair; nothing hidden."""
    H = pairs.left.shape[-2]
    left, right = _to_input(model, pairs, index)
    with AttentionReader(model) as reader:
        features = model.backbone(left, right)
    probability = model.head.matching(features).logits8.softmax(dim=1)
    # (h, w_left, w_right) -> (h, w_right, w_left)
    matching, attention = (x.transpose(-1, -2).cpu().numpy() for x in (
        spread_over_columns(probability)[0], reader.attention[0].mean(1)))
    looks = []
    for i in range(rows):
        y = int((i + 0.5) * H / rows)
        truth = None if pairs.disparity is None else pairs.disparity[index, 0, y].numpy()
        looks.append(RowLook(y, matching[y // 8], attention[y // PATCH], truth))
    return looks


class AttentionReader:
    """While open, keeps what the last disparity attention layer of a network attends to.

    Attributes:
        attention: (B, h, heads, w, w), probability of x_right (last axis) for every x_left, at
            1/16, of the last forward pass.
    """

    def __init__(self, model: ReconstructionNetwork):
        self._layer = model.backbone.disparity_attention[-1]
        self.attention: Optional[Tensor] = None

    def __enter__(self) -> 'AttentionReader':
        self._handle = self._layer.register_forward_pre_hook(self._read)
        return self

    def __exit__(self, *_) -> None:
        self._handle.remove()

    def _read(self, layer: torch.nn.Module, tokens: tuple[Tensor, Tensor]) -> None:
        left, right = tokens
        heads = layer.heads
        # (B, h, w, C) -> (B, h, w, heads, C / heads)
        query = layer.query(layer.norm_left(left)).unflatten(-1, (heads, -1))
        key = layer.key_value(layer.norm_right(right)).unflatten(-1, (2, heads, -1))[..., 0, :, :]
        logits = torch.einsum('byihc,byjhc->byhij', query, key) / math.sqrt(query.shape[-1])
        self.attention = (logits + layer.position(left.shape[2])).softmax(dim=-1)


def attention_picture(model: ReconstructionNetwork, pairs: FixedPairs, index: int,
                      rows: int = 3) -> np.ndarray:
    """Show for some rows of one pair which x_right every x_left looks at, and the truth.

    Args:
        model: in eval mode; nothing is hidden from it.
        pairs: validation pairs.
        index: of the pair.
        rows: number of rows, at most 5, evenly spread.

    Returns:
        (h, w, 3) uint8 RGB: both images with the rows marked; below, one column per row, the
        matching at 1/8 and the last disparity attention at 1/16.
    """
    looks = look_along_rows(model, pairs, index, rows)
    left, right = (_to_picture(images[index]) for images in (pairs.left, pairs.right))
    return draw_figure(attention_figure(left, right, looks))


def attention_figure(left: np.ndarray, right: np.ndarray, looks: Sequence[RowLook]):
    """Draw both images (H, W, 3) uint8 and the looks of their rows as a matplotlib figure."""
    H, W = left.shape[:2]
    figure = new_figure(3.2 * max(len(looks), 2), 6.8 + 3.2 * len(looks) / 2 * H / W)
    above, below = figure.subfigures(2, 1, height_ratios=(1.6 * len(looks) * H / W + 0.3, 6.6))
    for axes, title, image in zip(above.subplots(1, 2), ('left', 'right'), (left, right)):
        axes.imshow(image, extent=(0, W, H, 0))
        for look, colour in zip(looks, ROW_COLOURS):
            axes.axhline(look.y + 0.5, color=colour, linewidth=1.6)
        axes.set_title(title, fontsize=10)
        axes.set_yticks([look.y for look in looks])
        axes.tick_params(labelsize=8)
    panels = below.subplots(2, len(looks), sharex=True, sharey=True, squeeze=False)
    for column, (look, colour) in enumerate(zip(looks, ROW_COLOURS)):
        for axes, name, level in ((panels[0, column], 'matching, 1/8', look.matching),
                                  (panels[1, column], 'disparity attention, 1/16',
                                   look.attention)):
            _draw_look(axes, level, look.disparity, W)
            axes.set_title(f'row {look.y}: {name}', fontsize=10)
            for spine in axes.spines.values():
                spine.set(color=colour, linewidth=2)
        panels[1, column].set_xlabel('x_left, pixels', fontsize=9)
    for axes in panels[:, 0]:
        axes.set_ylabel('x_right, pixels', fontsize=9)
    # where the matching cannot look
    panels[0, 0].legend(loc='upper left', fontsize=8, labelcolor='white', frameon=False,
                        markerscale=3)
    return figure


def _draw_look(axes, probability: np.ndarray, disparity: Optional[np.ndarray], width: int) -> None:
    # a square root, so that faint second choices are seen
    axes.imshow(np.sqrt(probability), cmap='magma', origin='lower', vmin=0, vmax=1,
                extent=(0, width, 0, width), interpolation='nearest')
    axes.plot((0, width), (0, width), color='white', linewidth=0.8, linestyle=':',
              label='disparity 0')
    if disparity is not None:
        x_left = np.arange(width) + 0.5
        x_right = x_left - disparity
        inside = x_right >= 0
        axes.plot(x_left[inside], x_right[inside], color=TRUTH_COLOUR, linewidth=0,
                  marker='.', markersize=3.5, markeredgewidth=0, label='truth')
    axes.set(xlim=(0, width), ylim=(0, width))
    axes.tick_params(labelsize=8)


@torch.inference_mode()
def _reconstruct(model: ReconstructionNetwork, pairs: FixedPairs, index: int, mask: Tensor,
                 left_only: bool) -> np.ndarray:
    left, right = _to_input(model, pairs, index)
    colours = model(left, right, mask.to(left.device), left_only).colours[0]
    colours = colours * model.backbone.std[0] + model.backbone.mean[0]
    return _to_picture((colours.clamp(0, 1) * 255).round().byte())


def _to_input(model: ReconstructionNetwork, pairs: FixedPairs, index: int) -> tuple[Tensor, ...]:
    device = model.backbone.mean.device
    return tuple(images[index:index + 1].to(device).float() / 255
                 for images in (pairs.left, pairs.right))


def _to_picture(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).cpu().numpy()
