"""Where rays meet shapes: pure functions in the axes of the cube [-1, 1]^3 that a shape fills.

A bundle of rays is three tensors per vector, origin (R, 1) and direction (R, K); depth is the
multiple of the direction, inf where a ray misses.
"""

from typing import Sequence

import torch
from torch import Tensor

NEAR = 1e-3  # metres
SHEET_STEPS = 8
Rays = Sequence[Tensor]


def dot(a: Rays, b: Rays) -> Tensor:
    """Return the scalar product of two tuples of three tensors."""
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def face_of_cube(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether a face along x, or along y, is nearest to points with |x|, |y| and |z|."""
    on_x = (x > z) & (x > y)
    return on_x, ~on_x & (y > z)


def cross_sphere(origin: Rays, direction: Rays) -> tuple[Tensor, Tensor]:
    """Return the depths at which rays cross the unit sphere, inf where they miss."""
    squared = dot(direction, direction)
    middle = -dot(origin, direction) / squared  # closest approach: exact for far small spheres
    closest = [torch.addcmul(o, middle, d) for o, d in zip(origin, direction)]
    spare = 1 - dot(closest, closest)
    half = torch.where(spare > 0, (spare.clamp(min=0) / squared).sqrt(), torch.inf)
    return torch.where(spare > 0, middle - half, torch.inf), middle + half


def enter_sphere(origin: Rays, direction: Rays) -> Tensor:
    """Return the depth at which rays enter the unit sphere."""
    depth, _ = cross_sphere(origin, direction)
    return torch.where(depth > NEAR, depth, torch.inf)


def enter_box(origin: Rays, direction: Rays, taper_x: Tensor, taper_z: Tensor) -> Tensor:
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


def enter_cylinder(origin: Rays, direction: Rays, taper: Tensor) -> Tensor:
    """Take the nearest of two hits of the (tapered) side and one of each end."""
    middle = -dot(origin, direction) / dot(direction, direction)
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


def sheet_height(x: Tensor, y: Tensor, wave_x: Tensor, wave_y: Tensor) -> Tensor:
    """Return z of a wavy sheet, within [-1, 1]; waves are radians per half width."""
    first, second = _sheet_phases(x, y, wave_x, wave_y)
    return 0.75 * torch.sin(first) + 0.25 * torch.sin(second)


def sheet_slope(x: Tensor, y: Tensor, wave_x: Tensor, wave_y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the derivatives of `sheet_height` by x and y."""
    first, second = _sheet_phases(x, y, wave_x, wave_y)
    first, second = 0.75 * torch.cos(first), 0.25 * torch.cos(second)
    return (first * wave_x + second * 0.6 * wave_x, first * wave_y - second * 1.4 * wave_y)


def _sheet_phases(x: Tensor, y: Tensor, wave_x: Tensor, wave_y: Tensor) -> tuple[Tensor, Tensor]:
    along, across = wave_x * x, wave_y * y
    return along + across + 0.7, 0.6 * along - 1.4 * across + 2.1


def enter_sheet(origin: Rays, direction: Rays, wave_x: Tensor, wave_y: Tensor) -> Tensor:
    """March through the cube to the first crossing of the sheet, then close in on it."""
    enter = torch.full_like(direction[0], NEAR)
    leave = torch.full_like(direction[0], torch.inf)
    for o, d in zip(origin, direction):
        one, other = (-1 - o) / d, (1 - o) / d
        enter = torch.maximum(enter, torch.minimum(one, other))
        leave = torch.minimum(leave, torch.maximum(one, other))
    inside = enter < leave
    leave = torch.where(inside, leave, enter)

    def above(depth: Tensor) -> Tensor:
        x, y, z = (torch.addcmul(o, depth, d) for o, d in zip(origin, direction))
        return z - sheet_height(x, y, wave_x, wave_y)

    step = (leave - enter) / SHEET_STEPS
    low, value_low = enter, above(enter)
    found = torch.zeros_like(inside)
    before, value_before, after, value_after = low, value_low, low, value_low
    for index in range(1, SHEET_STEPS + 1):
        high = enter + index * step
        value_high = above(high)
        first = ((value_low > 0) != (value_high > 0)) & ~found
        found = found | first
        before, value_before = (torch.where(first, low, before),
                                torch.where(first, value_low, value_before))
        after, value_after = (torch.where(first, high, after),
                              torch.where(first, value_high, value_after))
        low, value_low = high, value_high
    for _ in range(4):  # false position, with Illinois' halving of the end that stays
        span = value_after - value_before
        depth = before - value_before * (after - before) / torch.where(span == 0, 1.0, span)
        value = above(depth)
        crossed = (value > 0) != (value_after > 0)
        before = torch.where(crossed, after, before)
        value_before = torch.where(crossed, value_after, 0.5 * value_before)
        after, value_after = depth, value
    return torch.where(found & inside & (after > NEAR), after, torch.inf)
