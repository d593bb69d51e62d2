"""Detection head: 3D boxes from the features that the disparity is made of.

Objects are peaks of a heat-map, Zhou et al. 2019 (CenterNet). What depends on the camera is left
to `decode_boxes`: the head gives disparities in pixels and lengths of the object in metres, so
that one network serves every rig.
"""

from dataclasses import dataclass

import torch
from torch import nn, Tensor
import torch.nn.functional as F

from svp_ros.boxes import yaw_from_observation
from svp_ros.model.heads import DisparityOutput, Features, probability_within
from svp_ros.model.layers import conv_bn, conv_bn_relu, ResidualBlock, tokens_to_map, upsample

CELL = 4  # pixels of the network's input per cell of the maps
DEPTH_WITHIN = 0.5  # metres; the score counts centres that are farther off as missed
LEAST_DISPARITY = 0.1  # pixels, so that nothing is farther than the eyes can tell
LOG_SCALE_CENTRE, LOG_SCALE_REACH = -0.5, 3.5  # scales of the centre's error: 0.02 to 20 px
# Channels after the classes' heat-maps.
PARTS = {'offset': 2, 'near': 1, 'depth_offset': 1, 'log_scale': 1, 'size': 3, 'axis': 2,
         'heading': 2}


@dataclass(frozen=True)
class DetectionMaps:
    """What every cell of 4x4 pixels says about the object it belongs to, (B, ..., h, w) float32.

    Attributes:
        heat: logits of the classes, high at centres of objects.
        offset: (2) from the cell's centre to the projected centre of the box, cells, x and y.
        near: (1) disparity of the object's visible surface, pixels of the network's input.
        depth_offset: (1) from that surface to the box's centre along the optical axis, metres.
        log_scale: (1) log of the Laplacian scale of the error of the centre's disparity, pixels.
        size: (3) log of length, height and width relative to the class's mean.
        axis: (2) cosine and sine of twice the observation angle, alike for front and back.
        heading: (2) cosine and sine of the observation angle; tells front from back.
    """

    heat: Tensor
    offset: Tensor
    near: Tensor
    depth_offset: Tensor
    log_scale: Tensor
    size: Tensor
    axis: Tensor
    heading: Tensor

    @classmethod
    def split(cls, maps: Tensor) -> 'DetectionMaps':
        """Name the channels of `DetectionHead`'s (B, classes + 12, h, w)."""
        classes = maps.shape[1] - sum(PARTS.values())
        return cls(*maps.split((classes, *PARTS.values()), dim=1))


class DetectionHead(nn.Module):
    """Heat-maps and boxes at 1/4 from tokens, features at 1/8 and the disparity's evidence.

    Args:
        classes: number of classes.
        channels: backbone widths at 1/2, 1/4, 1/8 and 1/16.
        cost_channels: width at 1/8.
        refine_channels: width at 1/4, that of the disparity's evidence.
    """

    def __init__(self, classes: int, channels: tuple[int, ...], cost_channels: int,
                 refine_channels: int):
        super().__init__()
        _, _, eighth, tokens = channels
        self.context = nn.Conv2d(tokens, cost_channels, 1)
        self.detail = conv_bn(eighth, cost_channels, kernel=1)
        self.block8 = ResidualBlock(cost_channels)
        self.reduce8 = conv_bn_relu(cost_channels, refine_channels, kernel=1)
        self.block4 = conv_bn_relu(2 * refine_channels, refine_channels)
        self.maps = nn.Conv2d(refine_channels, classes + sum(PARTS.values()), 1)
        nn.init.constant_(self.maps.bias, 0)
        nn.init.constant_(self.maps.bias[:classes], -4)  # objects are rare

    def forward(self, f: Features, disparity: DisparityOutput) -> Tensor:
        """Return (B, classes + 12, h, w) at 1/4, the channels of `DetectionMaps`."""
        x = upsample(self.context(tokens_to_map(f.left_decoded))) + self.detail(f.left_eighth)
        x = self.reduce8(self.block8(F.relu(x)))
        x = self.block4(torch.cat((upsample(x), disparity.evidence), dim=1))
        m = DetectionMaps.split(self.maps(x).float())
        near = CELL * disparity.stages[-1].detach() + m.near
        log_scale = LOG_SCALE_CENTRE + LOG_SCALE_REACH * torch.tanh(m.log_scale / LOG_SCALE_REACH)
        return torch.cat((m.heat, m.offset, near, m.depth_offset,
                          log_scale, m.size, m.axis, m.heading), dim=1)


def centre_disparity(near: Tensor, depth_offset: Tensor, reach: Tensor) -> Tensor:
    """Disparity of the box's centre, `depth_offset` behind the surface of disparity `near`.

    Args:
        near: pixels, without doffs.
        depth_offset: metres.
        reach: fx * baseline, the depth at which the disparity is 1 px.
    """
    near = near.clamp(min=LEAST_DISPARITY)
    return near / (1 + near * depth_offset / reach).clamp(min=0.2)


def decode_boxes(maps: Tensor, camera: Tensor, mean_sizes: Tensor, most: int = 64
                 ) -> tuple[Tensor, Tensor, Tensor]:
    """Turn the head's maps into boxes, on the device and without a loop.

    Args:
        maps: (B, classes + 12, h, w) of `DetectionHead`.
        camera: (B, 6), `geometry.camera_row` of every image at the size of the network's input.
        mean_sizes: (classes, 3) length, height, width, metres.
        most: boxes per image.

    Returns:
        (B, most, 7) box3d, (B, most) score in [0, 1] and (B, most) number of the class, best
        first; a box that repeats a better one has score 0. The score is the height of the peak
        times the estimated probability that the centre is less than DEPTH_WITHIN metres nearer or
        farther.
    """
    m = DetectionMaps.split(maps)
    fx, fy, cx, cy, baseline, doffs = (column[:, None, None] for column in camera.unbind(1))
    B, K, h, w = m.heat.shape
    reach = fx * baseline

    disparity = centre_disparity(m.near[:, 0] - doffs, m.depth_offset[:, 0], reach)
    z = reach / disparity
    tolerance = disparity * DEPTH_WITHIN / z
    certain = probability_within(tolerance, m.log_scale[:, 0])

    heat = m.heat.sigmoid()
    # of equal neighbours, which low precision makes, the first one only
    highest = F.max_pool2d(heat, 3, stride=1, padding=1, return_indices=True)[1]
    peak = highest == torch.arange(h * w, device=heat.device).view(h, w)
    score, index = (heat * peak * certain[:, None]).flatten(1).topk(min(most, K * h * w))
    label, cell = index // (h * w), index % (h * w)

    def at_cells(x: Tensor) -> Tensor:
        return x.flatten(2).gather(2, cell[:, None].expand(-1, x.shape[1], -1))

    x_offset, y_offset = at_cells(m.offset).unbind(1)
    z = at_cells(z[:, None])[:, 0]
    fx, fy, cx, cy = (value[:, 0] for value in (fx, fy, cx, cy))
    x = (cell_centre(cell % w) + CELL * x_offset - cx) * z / fx
    y = (cell_centre(cell // w) + CELL * y_offset - cy) * z / fy
    size = mean_sizes[label] * at_cells(m.size).clamp(-1, 1).exp().transpose(1, 2)
    alpha = _resolve_angle(at_cells(m.axis), at_cells(m.heading))
    yaw = yaw_from_observation(alpha, x, z)
    box3d = torch.cat((torch.stack((x, y, z), dim=2), size, yaw[..., None]), dim=2)
    return box3d, score * ~_find_repeats(box3d, label), label


def _find_repeats(box3d: Tensor, label: Tensor) -> Tensor:
    """Boxes (B, N) that lie in an earlier one of their class, where no other object has room."""
    centre, reach = box3d[..., [0, 2]], (box3d[..., 3] + box3d[..., 5]) / 4
    within = torch.cdist(centre, centre) < torch.minimum(reach[:, :, None], reach[:, None])
    same = label[:, :, None] == label[:, None]
    return (within & same).tril(-1).any(dim=2)


def cell_centre(cell: Tensor) -> Tensor:
    """Pixel coordinate of the centre of a row or column of cells; pixel centres are integers."""
    return cell * CELL + (CELL - 1) / 2


def _resolve_angle(axis: Tensor, heading: Tensor) -> Tensor:
    """Angle on the axis, which is known up to half a turn, that the heading is nearer to."""
    angle = torch.atan2(axis[:, 1], axis[:, 0]) / 2
    along = angle.cos() * heading[:, 0] + angle.sin() * heading[:, 1]
    return torch.where(along < 0, angle + torch.pi, angle)
