"""Score masked stereo reconstruction on fixed pairs with fixed masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as F

from svp_ros.data.labelled import Scene
from svp_ros.data.pair_stream import central_window, crop, fixed_batches, to_tensor
from svp_ros.data.pairs import Pair
from svp_ros.data.stream import VALIDATION_SEED
from svp_ros.data.world import World
from svp_ros.eval.metrics import DisparityScore
from svp_ros.model.network import ReconstructionNetwork
from svp_ros.train.masking import hide_patches, reconstruction_errors

BATCH = 4


@dataclass(frozen=True)
class FixedPairs:
    """Validation pairs in memory.

    Attributes:
        left: (N, 3, H, W) uint8 RGB.
        right: (N, 3, H, W) uint8 RGB.
        disparity: (N, 1, H, W) float32 pixels, NaN where unknown; None if there is none.
    """

    left: Tensor
    right: Tensor
    disparity: Optional[Tensor] = None


def world_pairs(world: World, count: int, height: int, width: int) -> FixedPairs:
    """Render pairs that training never sees."""
    samples = [world.sample(VALIDATION_SEED + i, 1, height, width) for i in range(count)]
    return FixedPairs(*(torch.cat([(getattr(sample, eye) * 255).round().byte().cpu()
                                   for sample in samples]) for eye in ('left', 'right')),
                      torch.cat([sample.disparity.cpu() for sample in samples]))


def pairs_on_disk(pairs: Sequence[Pair], limit: int, height: int, width: int) -> FixedPairs:
    """Read at most `limit` pairs, evenly spread over those given, cropped by `central_window`."""
    spread = [pairs[i] for i in spread_indices(len(pairs), limit)]
    batches = list(fixed_batches(spread, height, width, BATCH))
    return FixedPairs(*(torch.cat([(batch[eye] * 255).round().byte() for batch in batches])
                        for eye in ('left', 'right')))


def spread_indices(count: int, most: int) -> list[int]:
    """At most `most` of 0 ... count - 1, evenly spread."""
    shown = min(count, most)
    return [i * count // shown for i in range(shown)]


def labelled_pairs(scenes: Sequence[Scene], height: int, width: int) -> FixedPairs:
    """Read labelled scenes, cropped as those of `pairs_on_disk`.

    Unknown disparities are NaN; known ones are in pixels of the crop, which is the network's
    input, not in those of the scene's files.
    """
    eyes, truths = ([], []), []
    for scene in scenes:
        left, right, truth, valid = scene.load()
        window = y, x, h, w = central_window(left.shape[:2], height, width)
        for image, crops in zip((left, right), eyes):
            small = crop(to_tensor(image), window, height, width)
            crops.append((small * 255).round().byte())
        truth = torch.from_numpy(np.where(valid, truth * width / w, np.nan).astype(np.float32))
        truths.append(F.interpolate(truth[None, None, y:y + h, x:x + w], size=(height, width),
                                    mode='nearest-exact')[0])
    return FixedPairs(*map(torch.stack, eyes), torch.stack(truths))


def fixed_mask(index: int, height: int, width: int, ratio: float) -> Tensor:
    """(1, H / 16, W / 16) mask of the validation pair `index`: the same in every run."""
    generator = torch.Generator().manual_seed(VALIDATION_SEED + index)
    return hide_patches(1, height, width, ratio, generator)


@torch.inference_mode()
def score_reconstruction(model: ReconstructionNetwork, pairs: FixedPairs, ratio: float,
                         left_only: bool = False) -> dict[str, float]:
    """Rebuild all pairs.

    Args:
        model: in eval mode.
        pairs: what to rebuild.
        ratio: share of hidden patches.
        left_only: zeros for all right features.

    Returns:
        `colours` and `structure`, see `reconstruction_errors`; `other_colours` and
        `other_structure`, the same with the right image of another pair, if there is another.
        With known disparity also `epe` and `bad_3` of the disparity, nothing hidden, in pixels
        of the images.
    """
    device = model.backbone.mean.device
    N, _, H, W = pairs.left.shape
    others = pairs.right.roll(N // 2, dims=0)
    sums: dict[str, float] = {}
    score = DisparityScore()
    for start in range(0, N, BATCH):
        left, right, other = (x[start:start + BATCH].to(device).float() / 255
                              for x in (pairs.left, pairs.right, others))
        mask = torch.cat([fixed_mask(start + i, H, W, ratio)
                          for i in range(len(left))]).to(device)
        target = model.backbone.normalise(left)
        for prefix, eye in (('', right), ('other_', other))[:min(N, 2)]:
            errors = reconstruction_errors(model(left, eye, mask, left_only), target, mask)
            for name, error in errors.items():
                sums[prefix + name] = sums.get(prefix + name, 0) + error.item() * len(left) / N
        if pairs.disparity is not None and not left_only:
            truth = pairs.disparity[start:start + BATCH]
            score.update(read_disparity(model, left, right).cpu(), truth, truth.isfinite())
    if pairs.disparity is not None and not left_only:
        sums.update({name: score.result()[name] for name in ('epe', 'bad_3')})
    return sums


def read_disparity(model: ReconstructionNetwork, left: Tensor, right: Tensor) -> Tensor:
    """Disparity of a pre-trained network, (B, 1, H, W) pixels.

    Nothing is hidden, and no layer was trained with labels.
    """
    return model.head(model.backbone(left, right)).disparity
