"""Exact visibility of textured primitives in both eyes of a batch of stereo pairs.

Rays are x, y in pixels with depth as their parameter: the point at depth t is t * K^-1 (x, y, 1).
Every primitive is tested against the 8 x 8 pixel tiles that its outline may touch; all
(primitive, tile) rows of one shape are intersected in one go and reduced by pixel with a minimum
over depth, so the cost follows the area that is covered, not primitives times pixels.
"""

from dataclasses import dataclass
from typing import Iterator

import torch
from torch import Tensor

from svp_ros.data.world.scene import Kind
from svp_ros.data.world.shapes import (
    cross_sphere,
    enter_box,
    enter_cylinder,
    enter_sheet,
    enter_sphere,
    face_of_cube,
    NEAR,
)
from svp_ros.data.world.table import gather, PrimitiveTable, SURFACE
from svp_ros.data.world.textures import TextureBank

TILE = 8
ROWS_AT_ONCE = {'cpu': 1500}  # keeps intermediate results in the cache
MISS = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Hits:
    """What each pixel sees; V = eyes * B views, left eyes first."""

    primitive: Tensor  # (V, H, W) int64, -1 = nothing
    depth: Tensor      # (V, H, W) float32, inf = nothing


def cast(table: PrimitiveTable, bank: TextureBank, batch: int, height: int, width: int) -> Hits:
    """Find the nearest primitive at every pixel centre of all eyes of the table."""
    device = table.scene.device
    views = len(table.origin) * batch
    rows, columns = -(-height // TILE), -(-width // TILE)
    nearest = torch.full((views * rows * columns, TILE * TILE), MISS, device=device)
    y, x = torch.meshgrid(torch.arange(TILE, device=device), torch.arange(TILE, device=device),
                          indexing='ij')
    inside_x, inside_y = x.reshape(1, -1).float(), y.reshape(1, -1).float()
    for kind, part in table.of_kind.items():
        touched = _touched_tiles(table, part, rows, columns)
        eye, primitive, tile = touched.nonzero(as_tuple=True)
        primitive = primitive + part.start
        view_tile = (eye * batch + table.scene[primitive]) * (rows * columns) + tile
        tile_x = (tile % columns * TILE).float()[:, None]
        tile_y = (tile // columns * TILE).float()[:, None]
        for some in _chunks(len(tile), device):
            depth = intersect(kind, table, bank, primitive[some], eye[some],
                              tile_x[some] + inside_x, tile_y[some] + inside_y)
            keys = _pack(depth, primitive[some, None])
            nearest.scatter_reduce_(0, view_tile[some, None].expand_as(keys), keys, 'amin')
    primitive, depth = _unpack(nearest)
    return Hits(_from_tiles(primitive, views, rows, columns, height, width),
                _from_tiles(depth, views, rows, columns, height, width))


def cast_candidates(table: PrimitiveTable, bank: TextureBank, eye: Tensor, x: Tensor, y: Tensor,
                    candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Find the nearest of a few given primitives along each of a few bundles of rays.

    Args:
        table: primitives.
        bank: for the holes of cut-outs.
        eye: (E,) 0 left, 1 right.
        x: (E, K) pixels.
        y: (E, K) pixels.
        candidates: (E, C) primitive numbers, -1 = none.

    Returns:
        primitive (E, K), -1 = nothing, and depth (E, K).
    """
    nearest = torch.full(x.shape, MISS, device=x.device)
    for kind, part in table.of_kind.items():
        bundle, which = ((candidates >= part.start) & (candidates < part.stop)).nonzero(
            as_tuple=True)
        primitive = candidates[bundle, which]
        for some in _chunks(len(bundle), x.device, x.shape[1]):
            rays = bundle[some]
            depth = intersect(kind, table, bank, primitive[some], eye[rays], x[rays], y[rays])
            keys = _pack(depth, primitive[some, None])
            nearest.scatter_reduce_(0, rays[:, None].expand_as(keys), keys, 'amin')
    return _unpack(nearest)


def intersect(kind: Kind, table: PrimitiveTable, bank: TextureBank, primitive: Tensor,
              eye: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the depth at which rays enter primitives of one kind, inf where they miss.

    Args:
        kind: shape of all the primitives.
        table: primitives.
        bank: for the holes of cut-outs.
        primitive: (R,) numbers, one per bundle of rays.
        eye: (R,) 0 left, 1 right.
        x: (R, K) pixels.
        y: (R, K) pixels.

    Returns:
        (R, K) depth in metres.
    """
    ray = table.ray.index_select(0, primitive).flatten(1).unsqueeze(-1).unbind(1)
    direction = [torch.addcmul(torch.addcmul(ray[3 * i + 2], ray[3 * i], x), ray[3 * i + 1], y)
                 for i in range(3)]
    origin = table.origin[eye, primitive].unsqueeze(-1).unbind(1)
    taper = table.taper[primitive].unsqueeze(-1).unbind(1)
    if kind is Kind.ELLIPSOID:
        return enter_sphere(origin, direction)
    if kind is Kind.BOX:
        return enter_box(origin, direction, *taper)
    if kind is Kind.CYLINDER:
        return enter_cylinder(origin, direction, taper[0])
    if kind is Kind.SHEET:
        return enter_sheet(origin, direction, *taper)
    if kind is Kind.FOLIAGE:
        return _enter_foliage(table, bank, primitive, origin, direction)
    depth = -origin[2] / direction[2]
    u, v = origin[0] + depth * direction[0], origin[1] + depth * direction[1]
    hit = (depth > NEAR) & (u.abs() <= 1) & (v.abs() <= 1)
    if kind is Kind.CUTOUT:
        half = table.half[primitive]
        u, v = (torch.where(hit, x, 0.0) for x in (u * half[:, :1], v * half[:, 1:2]))
        hit = hit & _solid(table, bank, primitive, u, v, torch.where(hit, depth, 1.0))
    return torch.where(hit, depth, torch.inf)


def _enter_foliage(table: PrimitiveTable, bank: TextureBank, primitive: Tensor, origin,
                   direction) -> Tensor:
    """Take the near side of the shell where it is solid, else the far side."""
    found = torch.full_like(direction[0], torch.inf)
    near, far = cross_sphere(origin, direction)
    for depth in (far, near):
        hit = (depth > NEAR) & (depth < torch.inf)
        depth = torch.where(hit, depth, 1.0)
        x, y, z = (torch.addcmul(o, depth, d) for o, d in zip(origin, direction))
        on_x, on_y = face_of_cube(x.abs(), y.abs(), z.abs())
        size_x, size_y, size_z = (table.half[primitive, axis, None] for axis in range(3))
        hit = hit & _solid(table, bank, primitive, torch.where(on_x, z * size_z, x * size_x),
                           torch.where(on_y, z * size_z, y * size_y), depth)
        found = torch.where(hit, depth, found)
    return found


def _solid(table: PrimitiveTable, bank: TextureBank, primitive: Tensor, u: Tensor, v: Tensor,
           depth: Tensor) -> Tensor:
    """Return whether the texture has no hole at (u, v), metres from the middle."""
    row = {name: [value[:, None] for value in values]
           for name, values in gather(table.surface, SURFACE, primitive).items()}
    density, offset = row['density'], row['offset']
    footprint = (density[0] + density[1]) * 0.5 / row['camera'][0] * depth
    return bank.opaque(row['texture'][0].long().expand_as(u),
                       torch.addcmul(offset[0], u, density[0]),
                       torch.addcmul(offset[1], v, density[1]), footprint)


def _pack(depth: Tensor, primitive: Tensor) -> Tensor:
    """Join depth and number in one int64 that sorts by depth; positive floats sort as integers."""
    bits = depth.view(torch.int32).long()
    return torch.where(depth < torch.inf, (bits << 32) | primitive, MISS)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    primitive = torch.where(keys == MISS, -1, keys & 0xFFFFFFFF)
    depth = (keys >> 32).int().view(torch.float32)
    return primitive, torch.where(keys == MISS, torch.inf, depth)


def _from_tiles(values: Tensor, views, rows, columns, height, width) -> Tensor:
    values = values.view(views, rows, columns, TILE, TILE).transpose(2, 3)
    return values.reshape(views, rows * TILE, columns * TILE)[:, :height, :width].contiguous()


def _chunks(count: int, device: torch.device, rays: int = TILE * TILE) -> Iterator[slice]:
    size = ROWS_AT_ONCE.get(device.type, 1 << 18) * TILE * TILE // rays
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _touched_tiles(table: PrimitiveTable, part: slice, rows: int, columns: int) -> Tensor:
    """Return (eyes, n, rows * columns): whether an outline may touch a tile.

    The oriented box is clipped at the near plane, its corners are projected, and their extent
    along four directions (x, y and both diagonals) is compared with the tile's.
    """
    x, y, finite = _project_corners(table, part)
    # tile centres and half extents in units of one tile
    device = x.device
    centre_x = (torch.arange(columns, device=device) + 0.5).repeat(rows)
    centre_y = (torch.arange(rows, device=device) + 0.5).repeat_interleave(columns)
    x, y = (x + 0.5) / TILE, (y + 0.5) / TILE
    touched = None
    for weight_x, weight_y in ((1, 0), (0, 1), (1, 1), (1, -1)):
        along = weight_x * x + weight_y * y
        low = torch.where(finite, along, torch.inf).amin(-1, keepdim=True)
        high = torch.where(finite, along, -torch.inf).amax(-1, keepdim=True)
        tile = weight_x * centre_x + weight_y * centre_y
        reach = 0.5 * (abs(weight_x) + abs(weight_y)) + 1e-3
        overlap = (tile > low - reach) & (tile < high + reach)
        touched = overlap if touched is None else touched & overlap
    return touched


def _project_corners(table: PrimitiveTable, part: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Return pixels (eyes, n, 20) of 8 corners and 12 clipped edges, and which of them exist."""
    device = table.centre.device
    sign = torch.tensor([[i, j, k] for i in (-1., 1.) for j in (-1., 1.) for k in (-1., 1.)],
                        device=device)
    edges = torch.tensor([[a, b] for a in range(8) for b in range(a + 1, 8)
                          if bin(a ^ b).count('1') == 1], device=device)
    corners = torch.einsum('nij,nkj->nki', table.rotation[part],
                           sign * table.half[part, None]) + table.centre[part, None]
    near = 0.02
    begin, end = corners[:, edges[:, 0]], corners[:, edges[:, 1]]
    share = (near - begin[..., 2:]) / (end[..., 2:] - begin[..., 2:])
    crossing = begin + share * (end - begin)
    exists = torch.cat([corners[..., 2] >= near,
                        (begin[..., 2] - near) * (end[..., 2] - near) < 0], 1)
    points = torch.cat([corners, crossing], 1)
    fx, fy, cx, cy, baseline = table.scenes[:5, table.scene[part], None].unbind()
    z = points[..., 2].clamp(min=near)
    x = torch.stack([fx * (points[..., 0] - eye * baseline) / z + cx
                     for eye in range(len(table.origin))])
    y = (fy * points[..., 1] / z + cy).expand_as(x)
    return x, y, exists.expand_as(x)
