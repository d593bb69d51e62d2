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
from svp_ros.data.world.table import gather, PrimitiveTable, SURFACE_COLUMNS
from svp_ros.data.world.textures import TextureBank

TILE = 8
NEAR = 1e-3  # metres
ROWS_AT_ONCE = {'cpu': 1500}  # keeps intermediate results in the cache
MISS = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Hits:
    """What each pixel sees; V = 2 * B views, left eyes first."""

    primitive: Tensor  # (V, H, W) int64, -1 = nothing
    depth: Tensor      # (V, H, W) float32, inf = nothing


def cast(table: PrimitiveTable, bank: TextureBank, batch: int, height: int, width: int) -> Hits:
    """Find the nearest primitive at every pixel centre of both eyes."""
    device = table.scene.device
    rows, columns = -(-height // TILE), -(-width // TILE)
    nearest = torch.full((2 * batch * rows * columns, TILE * TILE), MISS, device=device)
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
    return Hits(_from_tiles(primitive, batch, rows, columns, height, width),
                _from_tiles(depth, batch, rows, columns, height, width))


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
    if kind is Kind.ELLIPSOID:
        return _enter_sphere(origin, direction)
    if kind is Kind.BOX:
        return _enter_box(origin, direction, *table.taper[primitive].unsqueeze(-1).unbind(1))
    if kind is Kind.CYLINDER:
        return _enter_cylinder(origin, direction, table.taper[primitive, :1])
    depth = -origin[2] / direction[2]
    u, v = origin[0] + depth * direction[0], origin[1] + depth * direction[1]
    hit = (depth > NEAR) & (u.abs() <= 1) & (v.abs() <= 1)
    if kind is Kind.CUTOUT:
        row = {name: [value[:, None] for value in values] for name, values
               in gather(table.surface, SURFACE_COLUMNS, primitive).items()}
        half, density, offset = row['half'], row['density'], row['offset']
        footprint = (density[0] + density[1]) * 0.5 / row['camera'][0] * depth
        hit = hit & bank.opaque(row['texture'][0].long().expand_as(u),
                                torch.addcmul(offset[0], u, half[0] * density[0]),
                                torch.addcmul(offset[1], v, half[1] * density[1]),
                                torch.where(hit, footprint, 1.0))
    return torch.where(hit, depth, torch.inf)


def _enter_sphere(origin, direction) -> Tensor:
    squared = _dot(direction, direction)
    middle = -_dot(origin, direction) / squared  # closest approach: exact for far small spheres
    closest = [torch.addcmul(o, middle, d) for o, d in zip(origin, direction)]
    spare = 1 - _dot(closest, closest)
    depth = middle - (spare.clamp(min=0) / squared).sqrt()
    return torch.where((spare > 0) & (depth > NEAR), depth, torch.inf)


def _enter_box(origin, direction, taper_x: Tensor, taper_z: Tensor) -> Tensor:
    """Clip the ray by six planes; |x| <= 1 + taper_x (y - 1) / 2 and alike for z."""
    enter = torch.full_like(direction[0], NEAR)
    leave = torch.full_like(direction[0], torch.inf)
    for axis, taper in ((0, taper_x), (1, None), (2, taper_z)):
        slope = 0.0 if taper is None else taper / 2 * direction[1]
        size = 1.0 if taper is None else 1 + taper * (origin[1] - 1) / 2
        for o, d in ((origin[axis] - size, direction[axis] - slope),
                     (-origin[axis] - size, -direction[axis] - slope)):
            depth = -o / d
            enter = torch.where(d < 0, torch.maximum(enter, depth), enter)
            leave = torch.where(d > 0, torch.minimum(leave, depth), leave)
    return torch.where((enter < leave) & (enter > NEAR), enter, torch.inf)


def _enter_cylinder(origin, direction, taper: Tensor) -> Tensor:
    """Take the nearest of two hits of the (tapered) side and one of each end."""
    middle = -_dot(origin, direction) / _dot(direction, direction)
    ox, oy, oz = (torch.addcmul(o, middle, d) for o, d in zip(origin, direction))
    dx, dy, dz = direction
    radius, slope = 1 + taper * (oy - 1) / 2, taper / 2 * dy
    a = dx * dx + dz * dz - slope * slope
    b = ox * dx + oz * dz - radius * slope
    c = ox * ox + oz * oz - radius * radius
    root = (b * b - a * c)
    span = root.clamp(min=0).sqrt()
    best = torch.full_like(a, torch.inf)
    for step in ((-b - span) / a, (-b + span) / a):
        good = (root > 0) & ((oy + step * dy).abs() <= 1) & (middle + step > NEAR)
        best = torch.where(good, torch.minimum(best, step), best)
    for end in (1, -1):
        step = (end - oy) / dy
        x, z, size = ox + step * dx, oz + step * dz, 1 if end == 1 else 1 - taper
        good = (x * x + z * z <= size * size) & (middle + step > NEAR)
        best = torch.where(good, torch.minimum(best, step), best)
    return middle + best


def _dot(a, b) -> Tensor:
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def _pack(depth: Tensor, primitive: Tensor) -> Tensor:
    """Join depth and number in one int64 that sorts by depth; positive floats sort as integers."""
    bits = depth.view(torch.int32).long()
    return torch.where(depth < torch.inf, (bits << 32) | primitive, MISS)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    primitive = torch.where(keys == MISS, -1, keys & 0xFFFFFFFF)
    depth = (keys >> 32).int().view(torch.float32)
    return primitive, torch.where(keys == MISS, torch.inf, depth)


def _from_tiles(values: Tensor, batch, rows, columns, height, width) -> Tensor:
    values = values.view(2 * batch, rows, columns, TILE, TILE).transpose(2, 3)
    return values.reshape(2 * batch, rows * TILE, columns * TILE)[:, :height, :width].contiguous()


def _chunks(count: int, device: torch.device, rays: int = TILE * TILE) -> Iterator[slice]:
    size = ROWS_AT_ONCE.get(device.type, 1 << 18) * TILE * TILE // rays
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _touched_tiles(table: PrimitiveTable, part: slice, rows: int, columns: int) -> Tensor:
    """Return (2, n, rows * columns): whether an outline may touch a tile.

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
    """Return pixels (2, n, 20) of the 8 corners and 12 clipped edges, and which of them exist."""
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
    fx, fy, cx, cy, baseline = table.scenes[table.scene[part], :5, None].unbind(1)
    z = points[..., 2].clamp(min=near)
    x = torch.stack([fx * points[..., 0] / z + cx, fx * (points[..., 0] - baseline) / z + cx])
    y = (fy * points[..., 1] / z + cy).expand_as(x)
    return x, y, exists.expand_as(x)
