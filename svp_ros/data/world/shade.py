"""Colours of surface points: texture, light, shadow, highlight, reflection, haze and sky.

Vectors are tuples of three (N,) tensors: on a CPU that is several times faster than (N, 3).
"""

from typing import Optional

import torch
from torch import Tensor

from svp_ros.data.world.scene import Kind
from svp_ros.data.world.shapes import dot, face_of_cube, sheet_slope
from svp_ros.data.world.table import gather, PrimitiveTable, SCENE, SURFACE
from svp_ros.data.world.textures import SIZE, TextureBank

SHININESS = 24
PLAIN_LEVEL = 0.6  # what textures fade to
SHARPNESS = 0.7  # of a pixel's side is averaged: fine texture aliases a little, as on sensors
PIXELS_AT_ONCE = {'cpu': 1 << 15}  # keeps intermediate results in the cache
Vector = tuple[Tensor, Tensor, Tensor]


def shade(table: PrimitiveTable, bank: TextureBank, scene: Tensor, eye: Tensor, x: Tensor,
          y: Tensor, primitive: Tensor, depth: Tensor, lit: Optional[Tensor] = None,
          specular: bool = True) -> tuple[Tensor, Tensor]:
    """Compute what N rays see.

    Args:
        table: primitives and lights.
        bank: textures.
        scene: (N,) scene numbers.
        eye: (N,) 0 left, 1 right.
        x: (N,) pixels.
        y: (N,) pixels.
        primitive: (N,) numbers, -1 = sky.
        depth: (N,) metres, inf = sky.
        lit: (N,) share of the lamp that is not in shadow; None = all of it everywhere.
        specular: whether surfaces have highlights and reflections, which depend on the eye.

    Returns:
        (3, N) linear colours, and (3, N) unit normals in the camera's frame, for the sky
        (0, 0, -1).
    """
    colour = torch.empty(3, len(x), device=x.device)
    normal = torch.zeros_like(colour)
    normal[2] = -1
    sky = (primitive < 0).nonzero()[:, 0]
    colour[:, sky] = _shade_sky(table, bank, scene[sky], x[sky], y[sky])
    hits = (primitive >= 0).nonzero()[:, 0]
    for some in hits.split(PIXELS_AT_ONCE.get(x.device.type, 1 << 24)):
        rays = (None if values is None else values.index_select(0, some)
                for values in (eye, x, y, primitive, depth, lit))
        colour[:, some], normal[:, some] = _shade_surface(table, bank, *rays, specular)
    return colour, normal


def _shade_surface(table: PrimitiveTable, bank: TextureBank, eye: Tensor, x: Tensor, y: Tensor,
                   primitive: Tensor, depth: Tensor, lit: Optional[Tensor], specular: bool
                   ) -> tuple[Tensor, Tensor]:
    row = gather(table.surface, SURFACE, primitive)
    fx, fy, cx, cy, baseline = row['camera']
    view = (x - cx) / fx, (y - cy) / fy
    to_eye = torch.rsqrt(1 + view[0] * view[0] + view[1] * view[1])
    to_eye = -view[0] * to_eye, -view[1] * to_eye, -to_eye
    point = torch.addcmul(depth * view[0], eye, baseline), depth * view[1], depth

    u, v, normal = _locate(row, point)
    cosine = dot(normal, to_eye)
    normal = tuple(value * torch.where(cosine < 0, -1.0, 1.0) for value in normal)
    cosine = cosine.abs().clamp(min=0.05)
    (density_u, density_v), (offset_u, offset_v) = row['density'], row['offset']
    # between the short and the long axis of the pixel's footprint on a slanted surface
    footprint = depth / fx * (density_u + density_v) * 0.5 * SHARPNESS * torch.rsqrt(cosine)
    texture, u, v = row['texture'][0].long(), u * density_u + offset_u, v * density_v + offset_v
    colour = bank.colour(texture, u, v, footprint)
    colour = torch.lerp(colour, torch.full_like(colour, PLAIN_LEVEL), row['plain'][0])

    to_lamp = tuple(lamp - here for lamp, here in zip(row['lamp'], point))
    squared = dot(to_lamp, to_lamp)
    inverse = torch.rsqrt(squared)
    to_lamp = tuple(value * inverse for value in to_lamp)
    (ambient,), (reach,) = row['ambient'], row['reach']
    strength = (1 - ambient) * 2 / (1 + squared / (reach * reach))
    if lit is not None:
        strength = strength * lit
    diffuse = torch.addcmul(ambient, strength, dot(normal, to_lamp).clamp(min=0))
    diffuse = torch.maximum(diffuse, row['glow'][0])
    colour = colour * diffuse * torch.stack(row['tint'])
    if specular:
        halfway = tuple(a + b for a, b in zip(to_lamp, to_eye))
        highlight = dot(normal, halfway).clamp(min=0) * torch.rsqrt(dot(halfway, halfway))
        colour = colour + row['gloss'][0] * strength * highlight ** SHININESS
        _reflect(colour, row, bank, (texture, u, v, footprint), point, normal, to_eye, cosine)
    colour = colour * torch.stack(row['light'])
    clear = torch.exp(-row['haze'][0] * depth)
    return torch.lerp(torch.stack(row['horizon']), colour, clear), torch.stack(normal)


def _reflect(colour: Tensor, row: dict[str, tuple[Tensor, ...]], bank: TextureBank,
             texel: tuple[Tensor, ...], point: Vector, normal: Vector, to_eye: Vector,
             cosine: Tensor) -> None:
    """Mix the surroundings, a picture on a large sphere, into the colour of mirrors and glass."""
    strength, (glass,) = row['mirror'][0], row['glass']
    some = (glass > 0).nonzero()[:, 0]
    if len(some):
        pane = ~bank.opaque(*(values[some] for values in texel))
        strength = strength.index_put((some,), glass[some] * pane)
    some = (strength > 0).nonzero()[:, 0]
    if not len(some):
        return
    strength = strength[some]
    point, normal, to_eye = (tuple(value[some] for value in vector)
                             for vector in (point, normal, to_eye))
    cosine, (distance,) = cosine[some], (value[some] for value in row['surroundings_distance'])
    # from the point, not from the centre of the sphere: what is reflected is not at infinity
    x, y, z = (2 * cosine * n - e + p / distance for n, e, p in zip(normal, to_eye, point))
    scale = 1.5 * SIZE / (1 + z.abs())
    picture = bank.colour_at(row['surroundings'][0][some].long(), x * scale, y * scale, level=1)
    horizon, zenith = (torch.stack([value[some] for value in row[name]])
                       for name in ('horizon', 'zenith'))
    picture = picture * torch.lerp(horizon, 1.4 * zenith, (-1.5 * y).clamp(0, 1))
    strength = strength + (1 - strength) * (1 - cosine) ** 5  # Schlick
    colour[:, some] = torch.lerp(colour[:, some], picture, strength)


def _locate(row: dict[str, tuple[Tensor, ...]], point: Vector) -> tuple[Tensor, Tensor, Vector]:
    """Return texture position u, v in metres and the unit normal of surface points."""
    rotation, half, (kind,), (taper_x, taper_z) = (
        row[name] for name in ('rotation', 'half', 'kind', 'taper'))
    point = tuple(value - centre for value, centre in zip(point, row['centre']))
    metres = tuple(dot(rotation[axis::3], point) for axis in range(3))
    x, y, z = (value / size for value, size in zip(metres, half))
    is_ball = (kind == Kind.ELLIPSOID) | (kind == Kind.FOLIAGE)
    is_cylinder = kind == Kind.CYLINDER
    sign_x, sign_y, sign_z = (torch.where(value < 0, -1.0, 1.0) for value in (x, y, z))

    # the face of the (tapered) box that is nearest to the point
    outside_x = torch.addcmul(x.abs(), taper_x, 1 - y, value=0.5)
    outside_z = torch.addcmul(z.abs(), taper_z, 1 - y, value=0.5)
    flat = (kind == Kind.CARD) | (kind == Kind.CUTOUT) | (kind == Kind.SHEET)
    on_x, on_y = face_of_cube(outside_x, y.abs(), torch.where(flat, 9.0, outside_z))
    on_z = ~(on_x | on_y)
    u, v = torch.where(on_x, metres[2], metres[0]), torch.where(on_y, metres[2], metres[1])
    normal = (torch.where(on_x, sign_x, 0.0),
              torch.where(on_y, sign_y, -0.5 * torch.where(on_x, taper_x, taper_z)),
              torch.where(on_z, sign_z, 0.0))

    radius = (x * x + z * z).sqrt().clamp(min=1e-9)
    is_side = is_cylinder & (torch.addcmul(radius, taper_x, 1 - y, value=0.5) >= y.abs())
    is_end = is_cylinder & ~is_side
    u = torch.where(is_side, torch.atan2(x, z) * half[0], torch.where(is_end, metres[0], u))
    v = torch.where(is_side, metres[1], torch.where(is_end, metres[2], v))
    side = x / radius, -0.5 * taper_x, z / radius
    end = torch.zeros_like(x), sign_y, torch.zeros_like(x)
    normal = (torch.where(is_ball, ball, torch.where(is_side, s, torch.where(is_end, e, n)))
              for ball, s, e, n in zip((x, y, z), side, end, normal))
    sheets = (kind == Kind.SHEET).nonzero()[:, 0]
    normal = tuple(value / size for value, size in zip(normal, half))
    if len(sheets):
        slope = sheet_slope(*(values[sheets] for values in (x, y, taper_x, taper_z)))
        upright = torch.ones_like(slope[0])
        for value, size, part in zip(normal, half, (-slope[0], -slope[1], upright)):
            value[sheets] = part / size[sheets]
    inverse = torch.rsqrt(dot(normal, normal))
    return u, v, tuple(dot(rotation[3 * axis:3 * axis + 3], normal) * inverse
                       for axis in range(3))


def _shade_sky(table: PrimitiveTable, bank: TextureBank, scene: Tensor, x: Tensor, y: Tensor
               ) -> Tensor:
    """Blend horizon, zenith and clouds by direction, so that both eyes see the same."""
    row = gather(table.scenes, SCENE, scene)
    fx, fy, cx, cy, _ = row['camera']
    across, down = (x - cx) / fx, (y - cy) / fy
    colour = torch.lerp(torch.stack(row['horizon']), torch.stack(row['zenith']),
                        (-2 * down).clamp(0, 1))
    repeats = SIZE / 2
    clouds = bank.colour(row['clouds'][0].long(), across * repeats, down * repeats, repeats / fx)
    return colour * (0.75 + 0.5 * clouds.mean(0))

