"""Texture bank of the procedural world: generated patterns and photographs with mip pyramids.

All textures are SIZE x SIZE RGBA, packed as one int32 per texel; every mip level of every texture
lies in one flat tensor, so that a lookup of any mix of textures is a single gather.
Addressing mirrors at the borders, so that photographs repeat without seams.
"""

from functools import lru_cache
from pathlib import Path
from typing import Callable, Optional, Sequence, Union

import cv2
import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as F

SIZE = 256
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
    groups = {
        'photo': _crop_photographs(photographs, 64, rng),
        'noise': _make(40, _coloured_noise, rng),
        'blob': _make(16, _blob, rng),
        'pattern': _make(40, _pattern, rng),
        'speckle': _make(12, _speckle, rng),
        'figure': _make(16, _figure, rng),
        'text': _make(8, _text, rng),
        'facade': _make(20, _facade, rng),
        'leaf': _make(10, _leaf, rng),
        'fence': _make(10, _fence, rng),
        'mark': _make(4, _mark, rng),
        'disc': _make(2, _disc, rng),
        'wheel': _make(2, _wheel, rng),
        'cloud': _make(4, _cloud, rng),
    }
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
        crops.append(_opaque(crop.astype(np.float32) / 255))
    return crops


def _make(count: int, paint: Callable[[np.random.Generator], np.ndarray],
          rng: np.random.Generator) -> list[np.ndarray]:
    return [paint(rng) for _ in range(count)]


def _opaque(rgb: np.ndarray) -> np.ndarray:
    return np.concatenate([rgb.clip(0, 1), np.ones_like(rgb[..., :1])], -1).astype(np.float32)


def _noise(rng: np.random.Generator, channels: int, exponent: Optional[float] = None,
           grain: Optional[float] = None) -> np.ndarray:
    """Return (SIZE, SIZE, channels) noise with spectrum 1 / f^exponent and unit deviation."""
    exponent = rng.uniform(0.6, 2.2) if exponent is None else exponent
    fy, fx = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]
    grain = rng.choice([1, 1, 1, 1, 4, 0.25]) if grain is None else grain  # like wood
    radius = np.hypot(fy, fx * grain)
    radius[0, 0] = np.inf
    white = rng.standard_normal((channels, SIZE, SIZE // 2 + 1, 2), np.float32)
    spectrum = white.view(np.complex64)[..., 0] / (radius ** exponent).astype(np.float32)
    noise = np.fft.irfft2(spectrum, s=(SIZE, SIZE)).transpose(1, 2, 0)
    return (noise / noise.std(axis=(0, 1))).astype(np.float32)


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Draw a colour, more often dull than vivid."""
    vivid = rng.uniform(0, 0.35) if rng.random() < 0.7 else 0.9
    grey = rng.uniform(0.1, 0.9)
    return (grey + vivid * (rng.random(3) - 0.5)).clip(0.03, 0.97).astype(np.float32)


def _coloured_noise(rng: np.random.Generator) -> np.ndarray:
    """Partly correlated noise in three channels around a random base."""
    noise = _noise(rng, 3)
    grey = noise.mean(-1, keepdims=True) * 1.7
    noise = grey + (noise - grey) * rng.uniform(0, 0.7)
    return _opaque(_colour(rng) + rng.uniform(0.1, 0.35) * noise)


def _blob(rng: np.random.Generator) -> np.ndarray:
    return _two_tone(rng, _noise(rng, 1)[..., 0] > rng.uniform(-0.5, 0.5))


def _two_tone(rng: np.random.Generator, pattern: np.ndarray) -> np.ndarray:
    """Colour a pattern in [0, 1] with two random colours and faint noise."""
    first, second = _colour(rng), _colour(rng)
    rgb = first + (second - first) * pattern[..., None]
    return _opaque(rgb + rng.uniform(0, 0.08) * _noise(rng, 1))


def _grid() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:SIZE, :SIZE]
    return x, y


def _pattern(rng: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    period = int(rng.choice([16, 24, 32, 48, 64, 96]))
    duty = rng.uniform(0.15, 0.6)
    stripes_x, stripes_y = (x % period) < duty * period, (y % period) < duty * period
    kind = rng.integers(7)
    if kind == 0:
        pattern = stripes_x
    elif kind == 1:
        pattern = stripes_y
    elif kind == 2:
        pattern = (x // period + y // period) % 2
    elif kind == 3:  # plaid
        pattern = (stripes_x.astype(float) + stripes_y) / 2
    elif kind == 4:  # bricks: joints between rows, every second row shifted
        joint = max(2, period // 12)
        shifted = x + (y // (period // 2) % 2) * period // 2
        pattern = (shifted % period < joint) | (y % (period // 2) < joint)
    elif kind == 5:  # dots
        dx, dy = x % period - period / 2, y % period - period / 2
        pattern = np.hypot(dx, dy) < duty * period * 0.7
    else:  # random coloured cells
        cells = rng.uniform(0, 1, (SIZE // 16 + 1, SIZE // 16 + 1))
        pattern = cells[y // 16, x // 16]
    return _two_tone(rng, np.asarray(pattern, np.float32))


def _speckle(rng: np.random.Generator) -> np.ndarray:
    base = rng.uniform(0.25, 0.6) + rng.normal(0, 0.02, 3)
    grain = _noise(rng, 1, rng.uniform(0.1, 0.5)) * rng.uniform(0.03, 0.1)
    patches = _noise(rng, 1, 1.8) * rng.uniform(0.02, 0.08)
    return _opaque((base + grain + patches).astype(np.float32))


def _figure(rng: np.random.Generator) -> np.ndarray:
    """Posters: random polygons and circles on a plain ground."""
    image = np.empty((SIZE, SIZE, 3), np.float32)
    image[:] = _colour(rng)
    for _ in range(rng.integers(6, 30)):
        colour = _colour(rng).tolist()
        centre = rng.integers(0, SIZE, 2)
        size = int(rng.uniform(5, 70))
        if rng.random() < 0.4:
            cv2.circle(image, centre.tolist(), size // 2, colour, int(rng.choice([-1, 2, 5])),
                       cv2.LINE_AA)
        else:
            points = centre + rng.integers(-size, size + 1, (rng.integers(3, 6), 2))
            cv2.fillPoly(image, [points.astype(np.int32)], colour, cv2.LINE_AA)
    return _opaque(image)


def _text(rng: np.random.Generator) -> np.ndarray:
    """Lines of glyph-like strokes in columns."""
    cell = int(rng.choice([4, 6, 8]))
    ink = rng.random((SIZE // 2, SIZE // 2)).repeat(2, 0).repeat(2, 1) < 0.55
    x, y = _grid()
    line = (y % (2 * cell)) < cell
    word = (rng.random((SIZE, SIZE // cell + 1)) < 0.8)[y // (2 * cell), x // cell]
    margin = (x % 128 > 8) & (y % 256 > 12)
    return _two_tone(rng, (ink & line & word & margin).astype(np.float32))


def _facade(rng: np.random.Generator) -> np.ndarray:
    """Windows in a wall; the tile is one storey high."""
    x, y = _grid()
    columns, rows = rng.integers(1, 4), rng.integers(1, 3)
    u, v = (x * columns / SIZE) % 1, (y * rows / SIZE) % 1
    width, height = rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.7)
    inside = (abs(u - 0.5) < width / 2) & (abs(v - 0.5) < height / 2)
    frame = (abs(u - 0.5) < width / 2 + 0.04) & (abs(v - 0.5) < height / 2 + 0.04) & ~inside
    frame |= inside & ((abs(u - 0.5) < 0.015) | (abs(v - 0.42) < 0.015))
    wall = rng.uniform(0.35, 0.9) * (1 + rng.normal(0, 0.12, 3))
    image = np.broadcast_to(wall, (SIZE, SIZE, 3)).copy()
    if rng.random() < 0.4:
        joint = (y % 8 < 1) | ((x + (y // 8 % 2) * 8) % 16 < 1)
        image[joint] *= rng.uniform(0.7, 1.15)
    image += _noise(rng, 1, 1.3) * rng.uniform(0.01, 0.06)
    glass = rng.uniform(0.05, 0.35) * (1 + rng.normal(0, 0.1, 3)) + _noise(rng, 1, 1.8) * 0.06
    image[inside] = glass[inside]
    image[frame] = rng.uniform(0.1, 0.95)
    return _opaque(image)


def _leaf(rng: np.random.Generator) -> np.ndarray:
    """Foliage with holes: a ragged round outline."""
    x, y = _grid()
    rgb = (np.array([0.25, 0.42, 0.14]) * rng.uniform(0.5, 1.3) + rng.normal(0, 0.06, 3)
           + _noise(rng, 1, 0.7) * 0.12 + _noise(rng, 3, 1.0) * 0.03)
    radius = np.hypot(x - SIZE / 2, y - SIZE / 2) / (SIZE / 2)
    ragged = _noise(rng, 1, 0.9)[..., 0]
    alpha = ragged > 4 * (radius - rng.uniform(0.4, 0.75))
    return np.concatenate([_opaque(rgb)[..., :3], alpha[..., None] & (radius < 1)[..., None]], -1)


def _fence(rng: np.random.Generator) -> np.ndarray:
    """Bars, lattice or mesh with holes between."""
    x, y = _grid()
    period = int(rng.choice([16, 32, 64]))
    bar = max(3, int(period * rng.uniform(0.15, 0.55)))
    kind = rng.integers(4)
    if kind == 0:  # pickets with two rails
        solid = (x % period < bar) | (abs(y % 128 - 64) < 8)
    elif kind == 1:
        solid = (x % period < bar) | (y % period < bar)
    elif kind == 2:
        solid = ((x + y) % period < bar) | ((x - y) % period < bar)
    else:
        solid = y % period < bar
    rgb = rng.uniform(0.1, 0.9, 3) + _noise(rng, 1, 1.0) * 0.06
    return np.concatenate([_opaque(rgb)[..., :3], solid[..., None]], -1)


def _mark(rng: np.random.Generator) -> np.ndarray:
    """Road paint with worn edges and dashes along v."""
    x, y = _grid()
    rgb = 0.85 + _noise(rng, 1, 1.0) * 0.06 + np.zeros(3)
    worn = _noise(rng, 1, 0.8)[..., 0] < rng.uniform(1.5, 3)
    dash = (y % 128) < rng.choice([64, 128])
    return np.concatenate([_opaque(rgb)[..., :3], (worn & dash)[..., None]], -1)


def _cloud(rng: np.random.Generator) -> np.ndarray:
    return _opaque(0.5 + 0.2 * _noise(rng, 1, 1.9, 1) + np.zeros(3))


def _disc(rng: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    radius = np.hypot(x - SIZE / 2 + 0.5, y - SIZE / 2 + 0.5) / (SIZE / 2)
    rgb = np.where(radius[..., None] < 0.75, rng.uniform(0, 1, 3), rng.uniform(0, 1, 3))
    return np.concatenate([_opaque(rgb)[..., :3], (radius < 1)[..., None]], -1)


def _wheel(rng: np.random.Generator) -> np.ndarray:
    """A bicycle wheel: tyre, hub and spokes."""
    x, y = _grid()
    dx, dy = x - SIZE / 2 + 0.5, y - SIZE / 2 + 0.5
    radius = np.hypot(dx, dy) / (SIZE / 2)
    spokes = abs(np.sin(np.arctan2(dy, dx) * rng.integers(5, 9))) * radius < 0.06
    solid = ((radius > 0.85) & (radius < 1)) | (radius < 0.12) | (spokes & (radius < 0.9))
    rgb = np.where(radius[..., None] > 0.8, 0.08, 0.5) + np.zeros((SIZE, SIZE, 3))
    return np.concatenate([_opaque(rgb)[..., :3], solid[..., None]], -1)
