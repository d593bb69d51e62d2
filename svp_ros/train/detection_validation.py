"""Validation of the boxes during training: average precision on rendered streets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from svp_ros.box_pictures import show_boxes
from svp_ros.boxes import Boxes, project_inside
from svp_ros.data.box_transforms import LEAST_HEIGHT
from svp_ros.data.formats import write_image
from svp_ros.data.stream import StreamConfig, VALIDATION_SEED
from svp_ros.data.world import StereoSample, World
from svp_ros.eval.average_precision import average_precision, overlap_limits, ScoredImage
from svp_ros.geometry import camera_row
from svp_ros.model.build import ObjectClass
from svp_ros.model.detection import decode_boxes

MODERATE = (2 * LEAST_HEIGHT, 1, 0.3)  # least height, worst occlusion, largest truncation
PICTURES, SHOWN_SCORE = 4, 0.3  # of what is drawn
STREETS = 10 ** 6  # behind the seeds of the pairs whose disparity is validated


class Objects:
    """Scores the boxes of a network on rendered streets that training never sees.

    Args:
        classes: what the network finds.
        c: world; streets have its rendered size.
        count: how many streets.
        folder: run folder, for a picture.
    """

    def __init__(self, classes: Sequence[ObjectClass], c: StreamConfig, count: int, folder: Path):
        self.picture = folder / 'boxes.png'
        self.mean_sizes = torch.tensor([item.size for item in classes])
        self.names = [item.name for item in classes]
        world = World(c.world, c.photographs)
        height, width = (length // 32 * 32 for length in (c.render_height, c.render_width))
        self.streets = [world.sample(VALIDATION_SEED + STREETS + i, 1, height, width, 'street')
                        for i in range(count)]

    @torch.inference_mode()
    def __call__(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Return the average precision, percent, of every class that the streets show."""
        images, pictures = [], []
        for street in self.streets:
            camera = street.cameras[0]
            maps = model(street.left.to(device), street.right.to(device)).detection.cpu()
            box3d, score, label = (x[0].numpy() for x in decode_boxes(
                maps, torch.tensor([camera_row(camera)], dtype=torch.float32), self.mean_sizes))
            found = Boxes(box3d, [self.names[i] for i in label], score)
            box2d = project_inside(box3d, camera)
            images.append(ScoredImage(street.boxes[0], found, box2d))
            if len(pictures) < PICTURES:
                pictures.append(_picture(street, found))
        write_image(self.picture, np.vstack(pictures))
        scores = {}
        for name in self.names:
            strict, loose = overlap_limits(name)
            for title, metric, overlap in (('bev_loose', 'bev', loose), ('3d_loose', '3d', loose),
                                           ('3d', '3d', strict)):
                ap = average_precision(images, name, metric, MODERATE, overlap)['ap']
                if ap is not None:
                    scores[f'{name.lower()}_{title}'] = ap
        return scores


def _picture(street: StereoSample, found: Boxes) -> np.ndarray:
    """RGB picture of truth and detections, on the left image and from above."""
    return show_boxes((street.left[0] * 255).byte().permute(1, 2, 0).numpy(), street.cameras[0],
                      found.select(found.score >= SHOWN_SCORE), street.boxes[0])
