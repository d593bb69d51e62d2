"""Colours of surface points: texture, diffuse light, highlight, haze and sky."""

import torch
from torch import Tensor
import torch.nn.functional as F

from svp_ros.data.world.scene import Kind
from svp_ros.data.world.table import PrimitiveTable
from svp_ros.data.world.textures import SIZE, TextureBank

SHININESS = 24.0
PLAIN_LEVEL = 0.6


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
        (N, 3) linear colours and (N, 3) unit normals in the camera's frame (0 for the sky).
    """
    fx, fy, cx, cy, baseline = table.intrinsics[scene].unbind(1)
    view = torch.stack([(x - cx) / fx, (y - cy) / fy, torch.ones_like(x)], 1)
    seen = primitive >= 0
    colour, normal = torch.empty_like(view), torch.zeros_like(view)
    sky, hit = (~seen).nonzero()[:, 0], seen.nonzero()[:, 0]
    colour[sky] = _sky(table, bank, scene[sky], view[sky])
    scene, eye, primitive, depth, view = (
        values[hit] for values in (scene, eye, primitive, depth, view))
    fx, baseline = fx[hit], baseline[hit]

    ray = table.ray[primitive]
    own = torch.stack([x[hit], y[hit], torch.ones_like(depth)], 1)
    own = table.origin[eye, primitive] + depth[:, None] * torch.einsum('nij,nj->ni', ray, own)
    half = table.half[primitive]
    u, v, gradient = _surface(table, primitive, own, half)
    facing = F.normalize(torch.einsum('nij,nj->ni', table.rotation[primitive], gradient / half),
                         dim=1)
    towards_eye = -F.normalize(view, dim=1)
    cosine = (facing * towards_eye).sum(1)
    facing = facing * torch.where(cosine < 0, -1.0, 1.0)[:, None]
    cosine = cosine.abs()

    density, offset = table.density[primitive], table.offset[primitive]
    footprint = depth / fx * density.mean(1) / cosine.clamp(min=0.05).sqrt()
    texture = table.texture[primitive]
    plain = table.plain[primitive, None]
    colours = bank.colour(texture, u * density[:, 0] + offset[:, 0],
                          v * density[:, 1] + offset[:, 1], footprint)
    albedo = table.tint[primitive] * (colours + plain * (PLAIN_LEVEL - colours))

    point = depth[:, None] * view
    point[:, 0] += eye * baseline
    to_lamp = table.lamp[scene] - point
    distance = to_lamp.norm(dim=1)
    to_lamp = to_lamp / distance[:, None]
    reach, ambient = table.reach[scene], table.ambient[scene]
    strength = (1 - ambient) * 2 / (1 + (distance / reach) ** 2)
    diffuse = ambient + strength * (facing * to_lamp).sum(1).clamp(min=0)
    lit = albedo * diffuse[:, None]
    if specular:
        halfway = F.normalize(to_lamp + towards_eye, dim=1)
        highlight = (facing * halfway).sum(1).clamp(min=0) ** SHININESS
        lit = lit + (table.gloss[primitive] * strength * highlight)[:, None]
    lit = lit * table.light[scene]
    clear = torch.exp(-table.haze[scene] * depth)[:, None]
    colour[hit] = torch.lerp(table.sky[scene, 0], lit, clear)
    normal[hit] = facing
    return colour, normal


def _surface(table: PrimitiveTable, primitive: Tensor, own: Tensor, half: Tensor
             ) -> tuple[Tensor, Tensor, Tensor]:
    """Return texture position u, v in metres and the gradient of each shape's outside."""
    x, y, z = own.unbind(1)
    taper_x, taper_z = table.taper[primitive].unbind(1)
    outside = torch.stack([x.abs() - 1 - taper_x * (y - 1) / 2, y.abs() - 1,
                           z.abs() - 1 - taper_z * (y - 1) / 2], 1)
    axis = outside.argmax(1)
    gradient = torch.zeros_like(own)
    u, v = torch.zeros_like(x), torch.zeros_like(x)
    metres = own * half
    for kind, part in table.of_kind.items():
        some = ((primitive >= part.start) & (primitive < part.stop)).nonzero()[:, 0]
        p, m = own[some], metres[some]
        face = axis[some]
        if kind is Kind.ELLIPSOID:
            face = p.abs().argmax(1)
            g = p
        elif kind is Kind.BOX:
            tapers = torch.stack([taper_x[some], torch.zeros_like(face, dtype=p.dtype),
                                  taper_z[some]], 1).gather(1, face[:, None])
            g = torch.zeros_like(p).scatter(1, face[:, None], p.gather(1, face[:, None]).sign())
            g[:, 1] = torch.where(face == 1, g[:, 1], -tapers[:, 0] / 2)
        elif kind is Kind.CYLINDER:
            radius = p[:, 0::2].norm(dim=1)
            end = p[:, 1].abs() - 1 > radius - 1 - taper_x[some] * (p[:, 1] - 1) / 2
            side = torch.stack([p[:, 0] / radius, -taper_x[some] / 2, p[:, 2] / radius], 1)
            cap = torch.zeros_like(p)
            cap[:, 1] = p[:, 1].sign()
            g = torch.where(end[:, None], cap, side)
            around = torch.atan2(p[:, 0], p[:, 2]) * half[some, 0]
            u[some] = torch.where(end, m[:, 0], around)
            v[some] = torch.where(end, m[:, 2], m[:, 1])
        else:
            face = torch.full_like(face, 2)
            g = torch.zeros_like(p)
            g[:, 2] = 1
        if kind is not Kind.CYLINDER:
            u[some] = torch.where(face == 0, m[:, 2], m[:, 0])
            v[some] = torch.where(face == 1, m[:, 2], m[:, 1])
        gradient[some] = g
    return u, v, gradient


def _sky(table: PrimitiveTable, bank: TextureBank, scene: Tensor, view: Tensor) -> Tensor:
    """Blend horizon, zenith and clouds by direction, so that both eyes see the same."""
    up = (-view[:, 1]).clamp(0, 0.5)[:, None] * 2
    gradient = torch.lerp(table.sky[scene, 0], table.sky[scene, 1], up)
    repeats = SIZE / 2
    clouds = bank.colour(table.clouds[scene], view[:, 0] * repeats, view[:, 1] * repeats,
                         repeats / table.intrinsics[scene, 0])
    return gradient * (0.75 + 0.5 * clouds.mean(1, keepdim=True))
