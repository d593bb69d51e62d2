"""Scenes to anti-aliased colours and exact ground truth of both eyes."""

from dataclasses import dataclass
from typing import Optional, Sequence, Union

import torch
from torch import Tensor

from svp_ros.data.world.raycast import cast, cast_candidates, Hits
from svp_ros.data.world.scene import Scene
from svp_ros.data.world.shade import shade
from svp_ros.data.world.shadow import cast_shadows, find_lit, ShadowMap
from svp_ros.data.world.table import make_table, PrimitiveTable
from svp_ros.data.world.textures import TextureBank

SUB_PIXELS = ((-0.3, -0.3), (0.36, -0.12), (-0.06, 0.36))  # besides the centre
CREASE = 0.8  # cosine between the normals of neighbours


@dataclass(frozen=True)
class Truth:
    """Ground truth maps of a batch, (B, 1, H, W)."""

    disparity: Tensor
    disparity_right: Tensor
    occluded: Tensor
    instance: Tensor


@dataclass(frozen=True)
class _Rays:
    """N rays and what they meet."""

    view: Tensor  # eye * B + scene, ascending
    x: Tensor
    y: Tensor
    primitive: Tensor
    depth: Tensor


def render(scenes: Sequence[Scene], bank: TextureBank, height: int, width: int,
           specular: bool = True, device: Union[str, torch.device] = 'cpu'
           ) -> tuple[Tensor, Truth]:
    """Render both eyes of every scene.

    Returns:
        (2 * B, 3, H, W) linear colours, left eyes first, and the ground truth.
    """
    B = len(scenes)
    table = make_table(scenes, device)
    hits = cast(table, bank, B, height, width)
    shadows = cast_shadows(scenes, table, bank)
    view = torch.arange(2 * B, device=device)[:, None, None].expand(-1, height, width)
    y, x = torch.meshgrid(torch.arange(height, device=device, dtype=torch.float32),
                          torch.arange(width, device=device, dtype=torch.float32), indexing='ij')
    flat = [values.expand(2 * B, -1, -1).reshape(-1) for values in (view, x, y)]
    view, x, y = flat
    rays = _Rays(view, x, y, hits.primitive.view(-1), hits.depth.view(-1))
    colour, normal = _shade(table, bank, B, shadows, rays, specular)
    edge, candidates = _find_edges(hits, normal.view(3, 2 * B, height, width))
    rays = _spread(table, bank, B, view[edge], x[edge], y[edge], candidates)
    samples, _ = _shade(table, bank, B, shadows, rays, specular)
    samples = samples.view(3, -1, len(SUB_PIXELS)).sum(2)
    colour[:, edge] = (colour[:, edge] + samples) / (1 + len(SUB_PIXELS))
    colour = colour.view(3, 2 * B, height, width).transpose(0, 1).contiguous()
    return colour, _ground_truth(table, hits, B)


def _shade(table: PrimitiveTable, bank: TextureBank, batch: int, shadows: Optional[ShadowMap],
           rays: _Rays, specular: bool) -> tuple[Tensor, Tensor]:
    lit = None
    if shadows:
        lit = find_lit(shadows, table, rays.view, rays.x, rays.y, rays.primitive, rays.depth,
                       batch)
    return shade(table, bank, rays.view % batch, rays.view // batch, rays.x, rays.y,
                 rays.primitive, rays.depth, lit, specular)


def _find_edges(hits: Hits, normal: Tensor) -> tuple[Tensor, Tensor]:
    """Return the flat numbers of pixels at edges and the primitives seen around each (E, 5)."""
    seen = hits.primitive
    edge = torch.zeros_like(seen, dtype=torch.bool)
    across = (seen[:, :, 1:] != seen[:, :, :-1]) | (
        (normal[..., 1:] * normal[..., :-1]).sum(0) < CREASE)
    down = (seen[:, 1:] != seen[:, :-1]) | (
        (normal[..., 1:, :] * normal[..., :-1, :]).sum(0) < CREASE)
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    V, H, W = seen.shape
    edge = edge.view(-1).nonzero()[:, 0]
    column, row = edge % W, edge // W % H
    seen = seen.view(-1)
    around = [seen[edge], seen[edge - (column > 0).long()], seen[edge + (column < W - 1).long()],
              seen[edge - W * (row > 0).long()], seen[edge + W * (row < H - 1).long()]]
    for later in range(1, 5):
        for earlier in range(later):
            around[later] = torch.where(around[later] == around[earlier], -1, around[later])
    return edge, torch.stack(around, 1)


def _spread(table: PrimitiveTable, bank: TextureBank, batch: int, view: Tensor, x: Tensor,
            y: Tensor, candidates: Tensor) -> _Rays:
    """Cast more rays per pixel, to the primitives that are seen around it."""
    offset = torch.tensor(SUB_PIXELS, device=x.device)
    x, y = x[:, None] + offset[:, 0], y[:, None] + offset[:, 1]
    primitive, depth = cast_candidates(table, bank, view // batch, x, y, candidates)
    view = view[:, None].expand_as(x).reshape(-1)
    return _Rays(view, x.reshape(-1), y.reshape(-1), primitive.view(-1), depth.view(-1))


def _ground_truth(table: PrimitiveTable, hits: Hits, batch: int) -> Truth:
    fx, baseline = table.scenes[0], table.scenes[4]
    disparity = (fx * baseline).repeat(2)[:, None, None] / hits.depth
    left, right = disparity.chunk(2)
    instance = torch.where(hits.primitive < 0, 0, table.instance.take(hits.primitive.clamp(min=0)))
    return Truth(left[:, None], right[:, None],
                 _occluded(left, right, *hits.primitive.chunk(2))[:, None],
                 instance[:batch, None])


def _occluded(left: Tensor, right: Tensor, left_seen: Tensor, right_seen: Tensor) -> Tensor:
    """Return where the right eye sees something nearer, or lies outside its image.

    The right map is read at both pixels around the projected point. Where both show the left
    pixel's own primitive, the surface may slope by their difference; else half a pixel decides.
    """
    W = left.shape[-1]
    column = torch.arange(W, device=left.device) - left
    outside = (column < 0) | (column > W - 1)
    first = column.floor().clamp(0, W - 1).long()
    second = (first + 1).clamp(max=W - 1)
    closest = torch.where(column - first < 0.5, first, second)
    slope = (right.gather(2, first) - right.gather(2, second)).abs()
    same = (right_seen.gather(2, first) == left_seen) & (right_seen.gather(2, second) == left_seen)
    tolerance = 0.5 + torch.where(same, slope, 0.0)
    return outside | (right.gather(2, closest) > left + tolerance)
