"""The primitives of a batch of scenes as tensors, in the left cameras' frames."""

from dataclasses import dataclass
from typing import Sequence, Union

import numpy as np
import torch
from torch import Tensor

from svp_ros.data.world.scene import Kind, Scene

SCENE = {'camera': 5,  # fx, fy, cx, cy, baseline
                 'lamp': 3, 'reach': 1, 'ambient': 1, 'light': 3, 'haze': 1, 'horizon': 3,
                 'zenith': 3, 'clouds': 1, 'surroundings': 1,
                 'surroundings_distance': 1}
SURFACE = {'kind': 1, 'rotation': 9, 'centre': 3, 'half': 3, 'taper': 2, 'texture': 1,
                   'density': 2, 'offset': 2, 'tint': 3, 'plain': 1, 'gloss': 1, 'mirror': 1,
                   'glass': 1, 'glow': 1, **SCENE}


@dataclass(frozen=True)
class PrimitiveTable:
    """The N primitives of B scenes, sorted by kind.

    `ray` maps pixels (x, y, 1) to directions in the axes of the cube [-1, 1]^3 that the shape
    fills; `origin` are the left and the right eye in those axes. What shading needs of a
    primitive, and of its scene, lies in one column, so that it is one gather per pixel.
    """

    of_kind: dict[Kind, slice]
    scene: Tensor     # (N,) int64
    instance: Tensor  # (N,) int32
    shading: Tensor   # (N,) int64, primitives of one number cast no shadow on each other
    centre: Tensor    # (N, 3)
    half: Tensor      # (N, 3)
    rotation: Tensor  # (N, 3, 3) own axes -> camera
    taper: Tensor     # (N, 2)
    ray: Tensor       # (N, 3, 3)
    origin: Tensor    # (eyes, N, 3)
    surface: Tensor   # (F, N) named by SURFACE
    scenes: Tensor    # (G, B) named by SCENE


def gather(table: Tensor, columns: dict[str, int], index: Tensor) -> dict[str, tuple[Tensor, ...]]:
    """Return the named values of some columns, each as a tuple of (N,) tensors."""
    values = iter(table.index_select(1, index).unbind())
    return {name: tuple(next(values) for _ in range(count)) for name, count in columns.items()}


def make_table(scenes: Sequence[Scene], device: Union[str, torch.device] = 'cpu'
               ) -> PrimitiveTable:
    """Move the primitives of all scenes into their cameras' frames and stack them."""
    owners = [(index, primitive) for index, scene in enumerate(scenes)
              for primitive in scene.primitives]
    owners.sort(key=lambda item: item[1].kind)  # stable
    primitives = [primitive for _, primitive in owners]
    owner = np.array([index for index, _ in owners])
    kinds = np.array([primitive.kind for primitive in primitives])

    to_camera = np.stack([scene.pose.rotation.T for scene in scenes])
    eye = np.stack([scene.pose.position for scene in scenes])
    centre = np.stack([primitive.centre for primitive in primitives]) - eye[owner]
    centre = np.einsum('nij,nj->ni', to_camera[owner], centre)
    rotation = to_camera[owner] @ np.stack([primitive.rotation for primitive in primitives])
    half = np.maximum(np.stack([primitive.half for primitive in primitives]), 1e-3)
    taper = np.array([primitive.taper for primitive in primitives])

    camera = np.array([[scene.camera.fx, scene.camera.fy, scene.camera.cx, scene.camera.cy,
                        scene.camera.baseline] for scene in scenes])
    fx, fy, cx, cy, baseline = camera[owner].T
    to_ray = np.zeros((len(owners), 3, 3))
    to_ray[:, 0, 0], to_ray[:, 0, 2] = 1 / fx, -cx / fx
    to_ray[:, 1, 1], to_ray[:, 1, 2] = 1 / fy, -cy / fy
    to_ray[:, 2, 2] = 1
    to_own = rotation.transpose(0, 2, 1) / half[:, :, None]
    eyes = np.zeros((2, len(owners), 3))
    eyes[1, :, 0] = baseline

    lights = [scene.light for scene in scenes]
    lamps = np.stack([light.position for light in lights]) - eye
    scene_rows = np.concatenate([
        camera, np.einsum('bij,bj->bi', to_camera, lamps),
        np.array([[light.reach, light.ambient, *light.colour, light.haze, *light.horizon,
                   *light.zenith, light.clouds, light.surroundings,
                   light.surroundings_distance] for light in lights])], 1)
    materials = [primitive.material for primitive in primitives]
    surface = np.concatenate([
        kinds[:, None], rotation.reshape(-1, 9), centre, half, taper,
        np.array([[material.texture, *material.density, *material.offset, *material.tint,
                   material.plain, material.gloss, material.mirror, material.glass,
                   material.glow] for material in materials]),
        scene_rows[owner]], 1)

    def tensor(values: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.from_numpy(values).to(dtype).to(device)

    return PrimitiveTable(
        of_kind={kind: slice(*np.searchsorted(kinds, [kind, kind + 1]).tolist())
                 for kind in Kind if (kinds == kind).any()},
        scene=tensor(owner, torch.int64),
        instance=tensor(np.array([primitive.instance for primitive in primitives]), torch.int32),
        shading=tensor(np.array([-2 if primitive.ground else number for number, primitive
                                 in enumerate(primitives)]), torch.int64),
        centre=tensor(centre), half=tensor(half), rotation=tensor(rotation), taper=tensor(taper),
        ray=tensor(to_own @ to_ray),
        origin=tensor(np.einsum('nij,enj->eni', to_own, eyes - centre)),
        surface=tensor(surface.T.copy()), scenes=tensor(scene_rows.T.copy()))
