"""Colours of surface points: texture, diffuse light, highlight, haze and sky.

Vectors are tuples of three (N,) tensors: on a CPU that is several times faster than (N, 3).
"""

import torch
from torch import Tensor

from svp_ros.data.world.scene import Kind
from svp_ros.data.world.table import gather, PrimitiveTable, SCENE_COLUMNS, SURFACE_COLUMNS
from svp_ros.data.world.textures import SIZE, TextureBank

SHININESS = 24
PLAIN_LEVEL = 0.6  # what textures fade to
PIXELS_AT_ONCE = {'cpu': 1 << 15}  # keeps intermediate results in the cache
Vector = tuple[Tensor, Tensor, Tensor]


def shade(table: PrimitiveTable, bank: TextureBank, scene: Tensor, eye: Tensor, x: Tensor,
          y: Tensor, primitive: Tensor, depth: Tensor, specular: bool = True
          ) -> tuple[Tensor, Tensor]:
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
        specular: whether surfaces have highlights, which depend on the eye.

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
        rays = (values.index_select(0, some) for values in (eye, x, y, primitive, depth))
        colour[:, some], normal[:, some] = _shade_surface(table, bank, *rays, specular)
    return colour, normal


def _shade_surface(table: PrimitiveTable, bank: TextureBank, eye: Tensor, x: Tensor, y: Tensor,
                   primitive: Tensor, depth: Tensor, specular: bool) -> tuple[Tensor, Tensor]:
    row = gather(table.surface, SURFACE_COLUMNS, primitive)
    fx, fy, cx, cy, baseline = row['camera']
    view = (x - cx) / fx, (y - cy) / fy
    to_eye = torch.rsqrt(1 + view[0] * view[0] + view[1] * view[1])
    to_eye = -view[0] * to_eye, -view[1] * to_eye, -to_eye
    point = torch.addcmul(depth * view[0], eye, baseline), depth * view[1], depth

    u, v, normal = _locate(row, point)
    cosine = _dot(normal, to_eye)
    normal = tuple(value * torch.where(cosine < 0, -1.0, 1.0) for value in normal)
    cosine = cosine.abs().clamp(min=0.05)
    (density_u, density_v), (offset_u, offset_v) = row['density'], row['offset']
    # between the short and the long axis of the pixel's footprint on a slanted surface
    footprint = depth / fx * (density_u + density_v) * 0.5 * torch.rsqrt(cosine)
    colour = bank.colour(row['texture'][0].long(), u * density_u + offset_u,
                         v * density_v + offset_v, footprint)
    colour = torch.lerp(colour, torch.full_like(colour, PLAIN_LEVEL), row['plain'][0])

    to_lamp = tuple(lamp - here for lamp, here in zip(row['lamp'], point))
    squared = _dot(to_lamp, to_lamp)
    inverse = torch.rsqrt(squared)
    to_lamp = tuple(value * inverse for value in to_lamp)
    (ambient,), (reach,) = row['ambient'], row['reach']
    strength = (1 - ambient) * 2 / (1 + squared / (reach * reach))
    diffuse = torch.addcmul(ambient, strength, _dot(normal, to_lamp).clamp(min=0))
    colour = colour * diffuse * torch.stack(row['tint'])
    if specular:
        halfway = tuple(a + b for a, b in zip(to_lamp, to_eye))
        highlight = _dot(normal, halfway).clamp(min=0) * torch.rsqrt(_dot(halfway, halfway))
        colour = colour + row['gloss'][0] * strength * highlight ** SHININESS
    colour = colour * torch.stack(row['light'])
    clear = torch.exp(-row['haze'][0] * depth)
    return torch.lerp(torch.stack(row['horizon']), colour, clear), torch.stack(normal)


def _locate(row: dict[str, tuple[Tensor, ...]], point: Vector) -> tuple[Tensor, Tensor, Vector]:
    """Return texture position u, v in metres and the unit normal of surface points."""
    rotation, half, (kind,), (taper_x, taper_z) = (
        row[name] for name in ('rotation', 'half', 'kind', 'taper'))
    point = tuple(value - centre for value, centre in zip(point, row['centre']))
    metres = tuple(_dot(rotation[axis::3], point) for axis in range(3))
    x, y, z = (value / size for value, size in zip(metres, half))
    is_ball, is_cylinder = kind == Kind.ELLIPSOID, kind == Kind.CYLINDER
    sign_x, sign_y, sign_z = (torch.where(value < 0, -1.0, 1.0) for value in (x, y, z))

    # the face of the (tapered) box that is nearest to the point
    outside_x = torch.addcmul(x.abs(), taper_x, 1 - y, value=0.5)
    outside_z = torch.addcmul(z.abs(), taper_z, 1 - y, value=0.5)
    outside_z = torch.where(kind >= Kind.CARD, 9.0, outside_z)
    on_x = (outside_x > outside_z) & (outside_x > y.abs())
    on_y = ~on_x & (y.abs() > outside_z)
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
    normal = tuple(value / size for value, size in zip(normal, half))
    inverse = torch.rsqrt(_dot(normal, normal))
    return u, v, tuple(_dot(rotation[3 * axis:3 * axis + 3], normal) * inverse
                       for axis in range(3))


def _shade_sky(table: PrimitiveTable, bank: TextureBank, scene: Tensor, x: Tensor, y: Tensor
               ) -> Tensor:
    """Blend horizon, zenith and clouds by direction, so that both eyes see the same."""
    row = gather(table.scenes, SCENE_COLUMNS, scene)
    fx, fy, cx, cy, _ = row['camera']
    across, down = (x - cx) / fx, (y - cy) / fy
    colour = torch.lerp(torch.stack(row['horizon']), torch.stack(row['zenith']),
                        (-2 * down).clamp(0, 1))
    repeats = SIZE / 2
    clouds = bank.colour(row['clouds'][0].long(), across * repeats, down * repeats, repeats / fx)
    return colour * (0.75 + 0.5 * clouds.mean(0))


def _dot(a: Vector, b: Vector) -> Tensor:
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])
