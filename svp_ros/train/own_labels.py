"""A user's own labels in training: their classes, and disparity from a teacher."""

from collections import Counter
from collections.abc import Iterable, Sequence
import logging
from pathlib import Path
from typing import Optional

import torch
from torch import nn, Tensor

from svp_ros.boxes import LabelledBoxes
from svp_ros.data.box_transforms import LARGEST_TRUNCATION, WORST_OCCLUSION
from svp_ros.engine.graph import CONFIDENT_WITHIN
from svp_ros.files import replace_file
from svp_ros.model.build import is_pretrained, load_checkpoint, ObjectClass
from svp_ros.model.heads import probability_within
from svp_ros.predictor import find_model

log = logging.getLogger(__name__)

SURE = 0.8  # confidence from which a network's own disparity is taken for the truth


def measure_classes(labels: Iterable[LabelledBoxes], names: Sequence[str]
                    ) -> tuple[ObjectClass, ...]:
    """Mean size of every named class in the labels.

    Raises:
        ValueError: If the labels have no box of a class; the text lists those that they have.
    """
    sizes: dict[str, list] = {}
    for boxes in labels:
        for label, box3d in zip(boxes.label, boxes.box3d):
            if (box3d[3:6] > 0).all():  # neither NaN nor degenerate
                sizes.setdefault(label, []).append(box3d[3:6])
    missing = [name for name in names if name not in sizes]
    if missing:
        there = ', '.join(f'{name} ({len(boxes)})' for name, boxes in sorted(sizes.items()))
        raise ValueError(f'no 3D box is labelled {" or ".join(missing)}; the labels have '
                         f'{there or "none at all"}')
    return tuple(ObjectClass(name, *(sum(values) / len(values) for values in zip(
        *(size.tolist() for size in sizes[name])))) for name in names)


def describe_labels(labels: Sequence[LabelledBoxes], names: Sequence[str]) -> str:
    """Say how many boxes of the labelled frames training can ask for.

    Raises:
        ValueError: If there is none.
    """
    asked, hidden, others = Counter(), 0, Counter()
    for boxes in labels:
        clear = ((boxes.occlusion >= 0) & (boxes.occlusion <= WORST_OCCLUSION)
                 & (boxes.truncation <= LARGEST_TRUNCATION))
        for label, seen in zip(boxes.label, clear):
            if label not in names:
                others[label] += 1
            elif seen:
                asked[label] += 1
            else:
                hidden += 1
    text = (f'{len(labels)} labelled frames show '
            f'{", ".join(f"{asked[name]} {name}" for name in names)}; ignored are {hidden} that '
            'are cut, hidden or of unknown occlusion, and other classes: '
            f'{", ".join(f"{count} {name}" for name, count in others.most_common()) or "none"}')
    if not asked:
        raise ValueError(f'nothing to learn: {text}')
    return text


def load_teacher(start: Optional[str], folder: Path, resume: bool) -> Optional[nn.Module]:
    """Return the disparity network that training starts from, as it was at the start.

    It is kept in the run folder, for runs that are resumed. None if training starts from nothing
    or from masked pre-training, whose confidence is untrained.

    Raises:
        FileNotFoundError, ValueError: If it cannot be read.
    """
    kept = folder / 'teacher.safetensors'
    if start and not resume:
        replace_file(kept, find_model(start).read_bytes())
    if not kept.is_file() or is_pretrained(kept):
        log.info('frames without disparity teach boxes only: the start knows no disparity')
        return None
    return load_checkpoint(kept)[0].requires_grad_(False)


@torch.no_grad()
def teach(teacher: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fill in the disparity that the teacher is sure of where a sample has none at all.

    Args:
        teacher: a disparity network.
        batch: of `LabelledStream`, alone or behind pairs of the world.
    """
    unknown = ~batch['valid'].flatten(1).any(dim=1)
    if not unknown.any():
        return batch
    output = teacher(batch['left'][unknown], batch['right'][unknown])
    confidence = probability_within(CONFIDENT_WITHIN, output.log_scale)
    filled = {name: batch[name].clone() for name in ('disparity', 'valid', 'occluded')}
    filled['disparity'][unknown] = output.disparity
    filled['valid'][unknown] = (confidence > SURE) & (output.no_match < 0)
    filled['occluded'][unknown] = False
    return {**batch, **filled}
