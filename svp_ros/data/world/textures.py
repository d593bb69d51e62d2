"""Texture bank of the procedural world: generated patterns and photographs with mip pyramids.

All textures are SIZE x SIZE RGBA, packed as one int32 per texel; every mip level of every texture
lies in one flat tensor, so that a lookup of any mix of textures is a single gather.
Addressing mirrors at the borders, so that photographs repeat without seams.
"""

from functools import lru_cache
from pathlib import Path
from typing import Sequence, Union

import cv2
import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as F

from svp_ros.data.world.nature import make_natural
from svp_ros.data.world.patterns import make_patterns, opaque, SIZE

LEVELS = 8  # 256, 128, ..., 2
SKIMAGE_PHOTOGRAPHS = ('astronaut.png', 'coffee.png', 'chelsea.png', 'brick.png', 'grass.png',
                       'gravel.png', 'rocket.jpg')  # CC0, inside the scikit-image wheel
IMAGE_SUFFIXES = {'.jpg', '.jpeg', '.png'}


class TextureBank:
    """RGBA textures in named groups, looked up with bilinear or trilinear filtering.

    Args:
        groups: name -> (SIZE, SIZE, 4) float arrays in [0, 1]; alpha below 0.5 is a hole.
        device: where lookups run.
    """

    def __init__(self, groups: dict[str, Sequence[np.ndarray]],
                 device: Union[str, torch.device] = 'cpu'):
        images = [image for group in groups.values() for image in group]
        self.groups: dict[str, range] = {}
        first = 0
        for name, group in groups.items():
            self.groups[name] = range(first, first + len(group))
            first += len(group)
        sizes = [len(images) * (SIZE >> level) ** 2 for level in range(LEVELS)]
        offsets = [sum(sizes[:level]) for level in range(LEVELS)]
        texels = torch.empty(sum(sizes), dtype=torch.int32)
        for number, image in enumerate(images):
            image = torch.from_numpy(np.asarray(image, np.float32)).permute(2, 0, 1)[None] * 255
            for level, offset in enumerate(offsets):
                packed = image[0].round().to(torch.uint8).permute(1, 2, 0).contiguous()
                area = (SIZE >> level) ** 2
                begin = offset + number * area
                texels[begin:begin + area] = packed.view(torch.int32).flatten()
                image = F.avg_pool2d(image, 2)
        self.texels = texels.to(device)
        self.level_offset = torch.tensor(offsets, device=device)

    def colour(self, texture: Tensor, u: Tensor, v: Tensor, footprint: Tensor) -> Tensor:
        """Look up trilinearly filtered colours.

        Args:
            texture: (N,) int64 texture numbers.
            u: (N,) horizontal position, texels of level 0.
            v: (N,) vertical position, texels of level 0.
            footprint: (N,) side of the area that a pixel sees, texels of level 0.

        Returns:
            (3, N) float32.
        """
        u, v = _mirror(u), _mirror(v)
        level = torch.log2(footprint.clamp(min=1)).clamp(max=LEVELS - 1.001)
        below = level.floor()
        fine = self._bilinear(texture, u, v, below.long())
        coarse = self._bilinear(texture, u, v, below.long() + 1)
        return torch.lerp(fine, coarse, level - below) / 255

    def colour_at(self, texture: Tensor, u: Tensor, v: Tensor, level: int) -> Tensor:
        """Look up bilinearly filtered colours of one level; arguments as in `colour`."""
        levels = torch.full_like(texture, level)
        return self._bilinear(texture, _mirror(u), _mirror(v), levels) / 255

    def _bilinear(self, texture: Tensor, u: Tensor, v: Tensor, level: Tensor) -> Tensor:
        side = SIZE >> level
        scale = side / SIZE
        u, v = u * scale - 0.5, v * scale - 0.5
        u0, v0 = u.floor(), v.floor()
        weight_u, weight_v = u - u0, v - v0
        u0, v0 = u0.long(), v0.long()
        right = torch.minimum(u0 + 1, side - 1)
        below = torch.minimum(v0 + 1, side - 1)
        first = self.level_offset.index_select(0, level) + texture * side * side
        row0, row1 = first + v0.clamp(min=0) * side, first + below * side
        left = u0.clamp(min=0)
        corners = torch.cat([row0 + left, row0 + right, row1 + left, row1 + right])
        rgba = self.texels.index_select(0, corners).view(torch.uint8).view(4, -1, 4)
        rgb = torch.empty((4, 3, len(u)), device=u.device)
        rgb.copy_(rgba[..., :3].transpose(1, 2))
        rgb = torch.lerp(rgb[0::2], rgb[1::2], weight_u)
        return torch.lerp(rgb[0], rgb[1], weight_v)

    def opaque(self, texture: Tensor, u: Tensor, v: Tensor, footprint: Tensor) -> Tensor:
        """Return whether the nearest texel is solid; arguments as in `colour`, any shape."""
        level = torch.log2(footprint.clamp(min=1)).round().clamp(max=LEVELS - 1).long()
        last = (SIZE >> level) - 1
        scale = (last + 1) / SIZE
        column = torch.minimum((_mirror(u) * scale).long(), last)
        row = torch.minimum((_mirror(v) * scale).long(), last)
        index = (self.level_offset.take(level) + (texture * (last + 1) + row) * (last + 1)
                 + column)
        return self.texels.take(index) < 0  # alpha is the high byte: the sign bit is alpha >= 128


def _mirror(position: Tensor) -> Tensor:
    return SIZE - (torch.remainder(position, 2 * SIZE) - SIZE).abs()


@lru_cache(maxsize=1)  # one for all worlds of a process
def make_texture_bank(photographs: Union[str, Path, None] = None, seed: int = 0,
                      device: Union[str, torch.device] = 'cpu') -> TextureBank:
    """Generate all pattern groups and crop the photographs.

    Args:
        photographs: folder of JPEG or PNG images; None takes scikit-image's CC0 ones.
        seed: of patterns and crops.
        device: where lookups run.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no image.
    """
    rng = np.random.default_rng(seed)
    photographs = _find_photographs(photographs)
    groups = {'photo': _crop_photographs(photographs, 64, rng), **make_patterns(rng),
              **make_natural(rng)}
    return TextureBank(groups, device)


def _find_photographs(folder: Union[str, Path, None]) -> list[Path]:
    if folder is None:
        import skimage
        data = Path(skimage.__file__).parent / 'data'
        return [data / name for name in SKIMAGE_PHOTOGRAPHS if (data / name).is_file()]
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'photographs: there is no folder {folder}')
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise FileNotFoundError(f'photographs: {folder} holds no .jpg or .png image')
    return paths


def _crop_photographs(paths: list[Path], count: int, rng: np.random.Generator
                      ) -> list[np.ndarray]:
    crops = []
    images = {}
    for index in range(count):
        path = paths[index % len(paths)]
        if path not in images:
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise ValueError(f'photographs: {path} is not a readable image')
            images[path] = image[..., ::-1]
        image = images[path]
        side = min(image.shape[:2])
        side = round(side * rng.uniform(min(1, SIZE / side) ** 0.7, 1))
        top = rng.integers(image.shape[0] - side + 1)
        left = rng.integers(image.shape[1] - side + 1)
        crop = cv2.resize(np.ascontiguousarray(image[top:top + side, left:left + side]),
                          (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        crops.append(opaque(crop.astype(np.float32) / 255))
    return crops
