"""Cast shadows: what the lamp does not see, found with the same ray-caster from its place.

A shadow is a property of a surface point, so both eyes agree on it; its edge is as coarse as the
lamp's picture.
"""

from dataclasses import dataclass, replace
from typing import Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from svp_ros.data.world.raycast import cast
from svp_ros.data.world.scene import Scene
from svp_ros.data.world.table import PrimitiveTable, SURFACE
from svp_ros.data.world.textures import TextureBank

RESOLUTION = 192  # of the lamp's picture
SUN_DISTANCE = 300.0  # metres, near enough for float32
BIAS = 0.03  # metres behind the lit surface from which on there is shadow
FX_ROW = sum(list(SURFACE.values())[:list(SURFACE).index('camera')])


@dataclass(frozen=True)
class ShadowMap:
    """What the lamps of B scenes see.

    Args:
        scenes: numbers of the S scenes that have shadows.
        to_lamp: (S, 3, 3) camera axes -> pixels of the lamp times depth.
        eye_in_lamp: (S, 2, 3) the same for the places of both eyes.
        depth: (S, RESOLUTION ** 2) metres.
        shading: (S, RESOLUTION ** 2) of the primitive, -1 = nothing.
    """

    scenes: list[int]
    to_lamp: Tensor
    eye_in_lamp: Tensor
    depth: Tensor
    shading: Tensor


def cast_shadows(scenes: Sequence[Scene], table: PrimitiveTable, bank: TextureBank
                 ) -> Optional[ShadowMap]:
    """Look from the lamp of every scene that has shadows; None if none has."""
    chosen = [index for index, scene in enumerate(scenes) if scene.light.shadow_radius > 0]
    if not chosen:
        return None
    device = table.centre.device
    place, axes, focal = (torch.from_numpy(np.stack(values)).float().to(device) for values
                          in zip(*(_aim(scenes[index]) for index in chosen)))
    row = torch.full((len(scenes),), -1, device=device)
    row[chosen] = torch.arange(len(chosen), device=device)
    centre_pixel = (RESOLUTION - 1) / 2
    matrix = axes * focal[:, None, None]  # rows are the lamp's axes
    matrix[:, 2] = axes[:, 2]
    matrix[:, :2] += centre_pixel * axes[:, 2:]

    keep = (row[table.scene] >= 0).nonzero()[:, 0]
    hits = cast(_seen_from(table, keep, row, place, axes, focal), bank, len(chosen), RESOLUTION,
                RESOLUTION)
    seen = keep.take(hits.primitive.clamp(min=0))
    shading = torch.where(hits.primitive < 0, -1, table.shading.take(seen))
    eyes = torch.zeros(len(chosen), 2, 3, device=device)
    eyes[:, 1, 0] = table.scenes[4, chosen]
    return ShadowMap(chosen, matrix,
                     torch.einsum('sij,sej->sei', matrix, eyes - place[:, None]),
                     hits.depth.flatten(1), shading.flatten(1))


def _aim(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the lamp's place, its axes as rows, both in the camera's frame, and its fx."""
    light, to_camera = scene.light, scene.pose.rotation.T
    centre = to_camera @ (light.shadow_centre - scene.pose.position)
    place = to_camera @ (light.position - scene.pose.position)
    away = place - centre
    distance = np.linalg.norm(away)
    if distance > SUN_DISTANCE:
        place, distance = centre + away * (SUN_DISTANCE / distance), SUN_DISTANCE
    z = (centre - place) / distance
    x = np.cross(z, np.eye(3)[np.argmin(abs(z))])
    x /= np.linalg.norm(x)
    focal = np.array(RESOLUTION / 2 * distance / light.shadow_radius)
    return place, np.stack([x, np.cross(z, x), z]), focal


def _seen_from(table: PrimitiveTable, keep: Tensor, row: Tensor, place: Tensor, axes: Tensor,
               focal: Tensor) -> PrimitiveTable:
    """Move some primitives into the frames of the lamps, each a pinhole camera with one eye."""
    scene = row[table.scene[keep]]
    centre = torch.einsum('nij,nj->ni', axes[scene], table.centre[keep] - place[scene])
    rotation = axes[scene] @ table.rotation[keep]
    to_own = rotation.transpose(1, 2) / table.half[keep, :, None]
    to_ray = torch.zeros(len(place), 3, 3, device=place.device)
    to_ray[:, 0, 0] = to_ray[:, 1, 1] = 1 / focal
    to_ray[:, :2, 2] = -(RESOLUTION - 1) / 2 / focal[:, None]
    to_ray[:, 2, 2] = 1
    surface = table.surface[:, keep]
    surface[FX_ROW] = focal[scene]
    scenes = table.scenes[:, :len(place)].clone()
    scenes[0], scenes[1], scenes[2:4], scenes[4] = focal, focal, (RESOLUTION - 1) / 2, 0
    borders = {kind: torch.searchsorted(keep, torch.tensor([part.start, part.stop],
                                                           device=keep.device)).tolist()
               for kind, part in table.of_kind.items()}
    return replace(
        table, of_kind={kind: slice(*border) for kind, border in borders.items()
                        if border[0] < border[1]},
        scene=scene, centre=centre, half=table.half[keep], rotation=rotation,
        taper=table.taper[keep], ray=to_own @ to_ray[scene],
        origin=torch.einsum('nij,nj->ni', to_own, -centre)[None], surface=surface,
        scenes=scenes)


def find_lit(shadows: ShadowMap, table: PrimitiveTable, view: Tensor, x: Tensor, y: Tensor,
             primitive: Tensor, depth: Tensor, batch: int) -> Tensor:
    """Return the share of the lamp that reaches each of N points, 1 outside its picture.

    Args:
        shadows: what the lamps see.
        table: primitives.
        view: (N,) eye * batch + scene, ascending.
        x: (N,) pixels.
        y: (N,) pixels.
        primitive: (N,) what is at the point; it does not shade itself.
        depth: (N,) metres.
        batch: number of scenes.
    """
    lit = torch.ones_like(x)
    shading = torch.where(primitive < 0, -1, table.shading.take(primitive.clamp(min=0)))
    borders = torch.searchsorted(view, torch.arange(2 * batch + 1, device=view.device)).tolist()
    for number, scene in enumerate(shadows.scenes):
        fx, fy, cx, cy, _ = table.scenes[:5, scene].unbind()
        for eye in (0, 1):
            some = slice(*borders[eye * batch + scene:eye * batch + scene + 2])
            ray = (x[some] - cx) / fx, (y[some] - cy) / fy
            u, v, away = (
                torch.addcmul(start, depth[some], axis[0] * ray[0] + axis[1] * ray[1] + axis[2])
                for start, axis in zip(shadows.eye_in_lamp[number, eye], shadows.to_lamp[number]))
            lit[some] = _compare(shadows, number, u / away, v / away, away, shading[some])
    return lit


def _compare(shadows: ShadowMap, number: int, u: Tensor, v: Tensor, away: Tensor,
             shading: Tensor) -> Tensor:
    """Blend the verdicts of the four pixels around (u, v) of the lamp's picture."""
    inside = ((u >= 0) & (u < RESOLUTION - 1) & (v >= 0) & (v < RESOLUTION - 1) & (away > 0)
              & (shading != -1))
    some = inside.nonzero()[:, 0]
    u, v, away, shading = (values[some] for values in (u, v, away, shading))
    column, row = u.long(), v.long()
    first = row * RESOLUTION + column
    across, down = u - column, v - row
    lit = torch.ones(len(inside), device=u.device)
    verdicts = []
    for step in (0, 1, RESOLUTION, RESOLUTION + 1):
        blocker = shadows.shading[number].take(first + step)
        nearer = shadows.depth[number].take(first + step) < away - BIAS
        verdicts.append((~nearer | (blocker == shading)).float())
    above = torch.lerp(verdicts[0], verdicts[1], across)
    below = torch.lerp(verdicts[2], verdicts[3], across)
    lit[some] = torch.lerp(above, below, down)
    return lit
