"""The primitives of a batch of scenes as tensors, in the left cameras' frames."""

from dataclasses import dataclass
from typing import Sequence, Union

import numpy as np
import torch
from torch import Tensor

from svp_ros.data.world.scene import Kind, Scene


@dataclass(frozen=True)
class PrimitiveTable:
    """The N primitives of B scenes as tensors, sorted by kind, in the left camera's frame.

    `ray` maps pixels (x, y, 1) of the left eye to directions in the axes of the cube
    [-1, 1]^3 that the shape fills; `origin` are the two eyes in those axes.
    """

    scene: Tensor       # (N,) int64
    of_kind: dict[Kind, slice]
    centre: Tensor      # (N, 3)
    half: Tensor        # (N, 3)
    rotation: Tensor    # (N, 3, 3) own axes -> camera
    taper: Tensor       # (N, 2)
    ray: Tensor         # (N, 3, 3)
    origin: Tensor      # (2, N, 3)
    texture: Tensor     # (N,) int64
    density: Tensor     # (N, 2)
    offset: Tensor      # (N, 2)
    tint: Tensor        # (N, 3)
    plain: Tensor       # (N,)
    gloss: Tensor       # (N,)
    instance: Tensor    # (N,) int32
    intrinsics: Tensor  # (B, 5) fx, fy, cx, cy, baseline
    lamp: Tensor        # (B, 3) position of the light
    reach: Tensor       # (B,) metres
    ambient: Tensor     # (B,)
    light: Tensor       # (B, 3) colour
    haze: Tensor        # (B,) 1 / metre
    sky: Tensor         # (B, 2, 3) colour at the horizon and the zenith
    clouds: Tensor      # (B,) int64 texture number


def make_table(scenes: Sequence[Scene], device: Union[str, torch.device] = 'cpu'
               ) -> PrimitiveTable:
    """Move the primitives of all scenes into their cameras' frames and stack them."""
    owners = [(index, primitive) for index, scene in enumerate(scenes)
              for primitive in scene.primitives]
    owners.sort(key=lambda item: item[1].kind)  # stable
    kinds = np.array([primitive.kind for _, primitive in owners])
    of_kind = {kind: slice(*np.searchsorted(kinds, [kind, kind + 1]).tolist())
               for kind in Kind if (kinds == kind).any()}
    primitives = [primitive for _, primitive in owners]
    scene = np.array([index for index, _ in owners])

    to_camera = np.stack([view.pose.rotation.T for view in scenes])
    position = np.stack([view.pose.position for view in scenes])
    centre = np.stack([primitive.centre for primitive in primitives])
    centre = np.einsum('nij,nj->ni', to_camera[scene], centre - position[scene])
    rotation = to_camera[scene] @ np.stack([primitive.rotation for primitive in primitives])
    half = np.stack([primitive.half for primitive in primitives])
    half = np.maximum(half, 1e-3)
    intrinsics = np.array([[view.camera.fx, view.camera.fy, view.camera.cx, view.camera.cy,
                            view.camera.baseline] for view in scenes])
    fx, fy, cx, cy, baseline = intrinsics[scene].T
    inverse = np.zeros((len(owners), 3, 3))
    inverse[:, 0, 0], inverse[:, 0, 2] = 1 / fx, -cx / fx
    inverse[:, 1, 1], inverse[:, 1, 2] = 1 / fy, -cy / fy
    inverse[:, 2, 2] = 1
    to_own = rotation.transpose(0, 2, 1) / half[:, :, None]
    eyes = np.zeros((2, len(owners), 3))
    eyes[1, :, 0] = baseline
    origin = np.einsum('nij,enj->eni', to_own, eyes - centre)

    lights = [view.light for view in scenes]
    lamp = np.einsum('bij,bj->bi', to_camera, np.stack([light.position for light in lights])
                     - position)
    materials = [primitive.material for primitive in primitives]

    def tensor(values, dtype=torch.float32) -> Tensor:
        return torch.from_numpy(np.asarray(values)).to(dtype).to(device)

    return PrimitiveTable(
        scene=tensor(scene, torch.int64), of_kind=of_kind, centre=tensor(centre),
        half=tensor(half), rotation=tensor(rotation),
        taper=tensor([primitive.taper for primitive in primitives]),
        ray=tensor(to_own @ inverse), origin=tensor(origin),
        texture=tensor([material.texture for material in materials], torch.int64),
        density=tensor([material.density for material in materials]),
        offset=tensor([material.offset for material in materials]),
        tint=tensor([material.tint for material in materials]),
        plain=tensor([material.plain for material in materials]),
        gloss=tensor([material.gloss for material in materials]),
        instance=tensor([primitive.instance for primitive in primitives], torch.int32),
        intrinsics=tensor(intrinsics), lamp=tensor(lamp),
        reach=tensor([light.reach for light in lights]),
        ambient=tensor([light.ambient for light in lights]),
        light=tensor([light.colour for light in lights]),
        haze=tensor([light.haze for light in lights]),
        sky=tensor([light.sky for light in lights]),
        clouds=tensor([light.clouds for light in lights], torch.int64))
