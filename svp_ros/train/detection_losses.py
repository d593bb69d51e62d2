"""Losses of the detection head: the maps against the boxes of a batch."""

from dataclasses import dataclass

import torch
from torch import Tensor
import torch.nn.functional as F

from svp_ros.boxes import observation_angle
from svp_ros.data.box_transforms import BOX2D, BOX3D, CLASS, IGNORE, NO_BOX, OTHER
from svp_ros.model.detection import (
    CELL,
    cell_centre,
    centre_disparity,
    DetectionMaps,
)

OWN = 0.3  # cells whose share in an object is at least this learn its box
HEAT_SPREAD, OWN_SPREAD = 0.18, 0.36  # standard deviations, of half the 2D box
MOST_METRES = 2.0  # per pixel; beyond, metres are not asked of a disparity that cannot tell them


@dataclass(frozen=True)
class DetectionTargets:
    """What the maps should say; truth of boxes is (B, n, h, w) at cells that belong to one.

    Attributes:
        heat: (B, classes, h, w) in [0, 1], 1 at the cell of a centre.
        asked: (B, classes, h, w) bool, False where objects are that need not be found.
        weight: (B, 1, h, w), sums to 1 over every object.
        offset: (2) cells.
        disparity: (1) of the centre, pixels, without doffs.
        size: (3) log relative to the class's mean.
        alpha: (1) observation angle, radians.
        reach: (B, 1, 1, 1), fx * baseline.
    """

    heat: Tensor
    asked: Tensor
    weight: Tensor
    offset: Tensor
    disparity: Tensor
    size: Tensor
    alpha: Tensor
    reach: Tensor


def detection_targets(boxes: Tensor, camera: Tensor, mean_sizes: Tensor, h: int, w: int
                      ) -> DetectionTargets:
    """Spread the boxes of a batch over maps of h x w cells.

    Args:
        boxes: (B, N, 13) of `collate_boxes`.
        camera: (B, 6), `geometry.camera_row` of every crop.
        mean_sizes: (classes, 3) length, height, width, metres.
        h: rows of cells.
        w: columns of cells.

    Source: Gaussians that follow the box's shape, Liu et al. 2020 (TTFNet), section 4.
    """
    B, N, _ = boxes.shape
    K = len(mean_sizes)
    fx, fy, cx, cy, baseline, _ = (column[:, None] for column in camera.unbind(1))
    label, box3d, box2d = boxes[..., CLASS].long(), boxes[..., BOX3D], boxes[..., BOX2D]
    there = (label >= 0) & (boxes[..., IGNORE] == 0)
    box3d = torch.where(there[..., None], box3d, torch.ones_like(box3d))
    x, y, z = box3d[..., :3].unbind(-1)
    u, v = fx * x / z + cx, fy * y / z + cy

    rows = cell_centre(torch.arange(h, device=boxes.device)).view(1, 1, h, 1)
    columns = cell_centre(torch.arange(w, device=boxes.device)).view(1, 1, 1, w)
    # a centre outside the crop belongs to the nearest cell inside
    column, row = ((value / CELL - (CELL - 1) / 2 / CELL).round().clamp(0, length - 1)
                   for value, length in ((u, w), (v, h)))
    half = (box2d[..., 2:] - box2d[..., :2]) / 2

    def blobs(share: float) -> Tensor:
        """(B, N, h, w) Gaussians around the centres, 1 there."""
        spread = (share * half).clamp(min=0.5 * CELL)[..., None, None]
        distance = (((columns - cell_centre(column)[..., None, None]) / spread[:, :, 0]) ** 2
                    + ((rows - cell_centre(row)[..., None, None]) / spread[:, :, 1]) ** 2)
        return torch.exp(-distance / 2) * there[..., None, None]

    heat = blobs(HEAT_SPREAD)
    own, owner = blobs(OWN_SPREAD).max(dim=1, keepdim=True)
    members = torch.zeros_like(heat).scatter_(1, owner, own * (own >= OWN))
    weight = (members / members.sum((2, 3), keepdim=True).clamp(min=1e-6)).sum(1, keepdim=True)

    def of_owner(values: Tensor) -> Tensor:
        """(B, N, n) -> (B, n, h, w)."""
        index = owner.flatten(2).expand(-1, values.shape[2], -1)
        return values.transpose(1, 2).gather(2, index).view(B, values.shape[2], h, w)

    classes = torch.zeros(B, K, h, w, device=boxes.device)
    ignored = torch.zeros(B, K, h, w, dtype=torch.bool, device=boxes.device)
    left, top, right, bottom = (box2d + box2d.new_tensor([-CELL, -CELL, CELL, CELL]) / 2
                                )[..., None, None].unbind(2)
    inside = (columns >= left) & (columns <= right) & (rows >= top) & (rows <= bottom)
    unasked = inside & ((label != NO_BOX) & ~there)[..., None, None]
    for k in range(K):
        classes[:, k] = (heat * (label == k)[..., None, None]).amax(dim=1)
        of_any = (label == k) | (label == OTHER)
        ignored[:, k] = (unasked & of_any[..., None, None]).any(dim=1)

    centre = of_owner(torch.stack((u, v), dim=2))
    cells = torch.cat((columns.expand(B, 1, h, w), rows.expand(B, 1, h, w)), dim=1)
    size = (box3d[..., 3:6].clamp(min=0.05) / mean_sizes[label.clamp(min=0)]).log()
    reach = (fx * baseline)[..., None, None]
    return DetectionTargets(
        heat=classes, asked=~ignored | (classes == 1), weight=weight,
        offset=(centre - cells) / CELL, disparity=of_owner((fx * baseline / z)[..., None]),
        size=of_owner(size), alpha=of_owner(observation_angle(box3d)[..., None]), reach=reach)


def heat_loss(logits: Tensor, heat: Tensor, asked: Tensor) -> Tensor:
    """Focal loss whose negatives count less near a centre, per object.

    Source: Law and Deng 2018 (CornerNet), equation 1, alpha 2 and beta 4.
    """
    probability = logits.sigmoid()
    centre = heat == 1
    positive = (1 - probability) ** 2 * F.softplus(-logits)
    negative = (1 - heat) ** 4 * probability ** 2 * F.softplus(logits)
    return (torch.where(centre, positive, negative) * asked).sum() / centre.sum().clamp(min=1)


def detection_losses(maps: Tensor, targets: DetectionTargets, camera: Tensor,
                     disparity: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """All weighted terms; their sum is the loss of the detection head.

    Args:
        maps: (B, classes + 12, h, w) of `DetectionHead`.
        targets: of the same cells.
        camera: (B, 6).
        disparity: (B, 1, h, w) truth at the cells' centres, pixels of the network's input.
        valid: (B, 1, h, w) bool, where that truth may be used.
    """
    m = DetectionMaps.split(maps)
    objects = targets.weight.sum().clamp(min=1)
    doffs = camera[:, 5].view(-1, 1, 1, 1)

    def mean(error: Tensor, weight: Tensor = targets.weight) -> Tensor:
        return (error * weight).sum() / objects

    centre = centre_disparity(m.near - doffs, m.depth_offset, targets.reach)
    error = (centre - targets.disparity).abs()
    metres = error * (targets.reach / targets.disparity ** 2).clamp(max=MOST_METRES)
    axis = torch.cat((torch.cos(2 * targets.alpha), torch.sin(2 * targets.alpha)), dim=1)
    heading = torch.cat((torch.cos(targets.alpha), torch.sin(targets.alpha)), dim=1)
    return {
        'heat': heat_loss(m.heat, targets.heat, targets.asked),
        'offset': 0.5 * mean(F.smooth_l1_loss(m.offset, targets.offset, reduction='none')),
        'near': 0.2 * mean(F.smooth_l1_loss(m.near, disparity, reduction='none'),
                           targets.weight * valid),
        'centre': mean(F.smooth_l1_loss(centre, targets.disparity, reduction='none')
                       + 0.5 * F.smooth_l1_loss(metres, torch.zeros_like(metres), beta=0.5,
                                                reduction='none')),
        'certainty': 0.2 * mean(error.detach() * torch.exp(-m.log_scale) + m.log_scale),
        'size': mean(F.smooth_l1_loss(m.size, targets.size, beta=0.1, reduction='none')),
        'axis': 0.5 * mean((m.axis - axis).abs()),
        'heading': 0.2 * mean((m.heading - heading).abs())}
