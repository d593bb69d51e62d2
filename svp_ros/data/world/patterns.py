"""Painters of man-made textures, and the noise and colours that all textures are made of.

Each takes a generator and returns (SIZE, SIZE, 4) float32 RGBA in [0, 1].
"""

from typing import Callable, Optional

import cv2
import numpy as np

SIZE = 256


def make_patterns(rng: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """Paint all man-made textures, by group."""
    return {
        'noise': paint(40, _coloured_noise, rng),
        'blob': paint(16, _blob, rng),
        'pattern': paint(40, _pattern, rng),
        'speckle': paint(12, _speckle, rng),
        'figure': paint(16, _figure, rng),
        'text': paint(8, _text, rng),
        'facade': paint(20, _facade, rng),
        'fence': paint(10, _fence, rng),
        'mark': paint(4, _mark, rng),
        'disc': paint(2, _disc, rng),
        'wheel': paint(2, _wheel, rng),
        'cloud': paint(4, _cloud, rng),
    }


def paint(count: int, painter: Callable[[np.random.Generator], np.ndarray],
          rng: np.random.Generator) -> list[np.ndarray]:
    """Call a painter `count` times."""
    return [painter(rng) for _ in range(count)]


def opaque(rgb: np.ndarray) -> np.ndarray:
    """Add alpha 1 to (SIZE, SIZE, 3) colours and clip them."""
    return np.concatenate([rgb.clip(0, 1), np.ones_like(rgb[..., :1])], -1).astype(np.float32)


def noise(rng: np.random.Generator, channels: int, exponent: Optional[float] = None,
           grain: Optional[float] = None) -> np.ndarray:
    """Return (SIZE, SIZE, channels) noise with spectrum 1 / f^exponent and unit deviation."""
    exponent = rng.uniform(0.6, 2.2) if exponent is None else exponent
    fy, fx = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]
    grain = rng.choice([1, 1, 1, 1, 4, 0.25]) if grain is None else grain  # like wood
    radius = np.hypot(fy, fx * grain)
    radius[0, 0] = np.inf
    white = rng.standard_normal((channels, SIZE, SIZE // 2 + 1, 2), np.float32)
    spectrum = white.view(np.complex64)[..., 0] / (radius ** exponent).astype(np.float32)
    values = np.fft.irfft2(spectrum, s=(SIZE, SIZE)).transpose(1, 2, 0)
    return (values / values.std(axis=(0, 1))).astype(np.float32)


def draw_colour(rng: np.random.Generator) -> np.ndarray:
    """Draw a colour, more often dull than vivid."""
    vivid = rng.uniform(0, 0.35) if rng.random() < 0.7 else 0.9
    grey = rng.uniform(0.1, 0.9)
    return (grey + vivid * (rng.random(3) - 0.5)).clip(0.03, 0.97).astype(np.float32)


def _coloured_noise(rng: np.random.Generator) -> np.ndarray:
    """Partly correlated noise in three channels around a random base."""
    values = noise(rng, 3)
    grey = values.mean(-1, keepdims=True) * 1.7
    values = grey + (values - grey) * rng.uniform(0, 0.7)
    return opaque(draw_colour(rng) + rng.uniform(0.1, 0.35) * values)


def _blob(rng: np.random.Generator) -> np.ndarray:
    return two_tone(rng, noise(rng, 1)[..., 0] > rng.uniform(-0.5, 0.5))


def two_tone(rng: np.random.Generator, pattern: np.ndarray) -> np.ndarray:
    """Colour a pattern in [0, 1] with two random colours and faint noise."""
    first, second = draw_colour(rng), draw_colour(rng)
    rgb = first + (second - first) * pattern[..., None]
    return opaque(rgb + rng.uniform(0, 0.08) * noise(rng, 1))


def grid() -> tuple[np.ndarray, np.ndarray]:
    """Return column and row numbers, (SIZE, SIZE) each."""
    y, x = np.mgrid[:SIZE, :SIZE]
    return x, y


def _pattern(rng: np.random.Generator) -> np.ndarray:
    x, y = grid()
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
    return two_tone(rng, np.asarray(pattern, np.float32))


def _speckle(rng: np.random.Generator) -> np.ndarray:
    base = rng.uniform(0.25, 0.6) + rng.normal(0, 0.02, 3)
    grain = noise(rng, 1, rng.uniform(0.1, 0.5)) * rng.uniform(0.03, 0.1)
    patches = noise(rng, 1, 1.8) * rng.uniform(0.02, 0.08)
    return opaque((base + grain + patches).astype(np.float32))


def _figure(rng: np.random.Generator) -> np.ndarray:
    """Posters: random polygons and circles on a plain ground."""
    image = np.empty((SIZE, SIZE, 3), np.float32)
    image[:] = draw_colour(rng)
    for _ in range(rng.integers(6, 30)):
        colour = draw_colour(rng).tolist()
        centre = rng.integers(0, SIZE, 2)
        size = int(rng.uniform(5, 70))
        if rng.random() < 0.4:
            cv2.circle(image, centre.tolist(), size // 2, colour, int(rng.choice([-1, 2, 5])),
                       cv2.LINE_AA)
        else:
            points = centre + rng.integers(-size, size + 1, (rng.integers(3, 6), 2))
            cv2.fillPoly(image, [points.astype(np.int32)], colour, cv2.LINE_AA)
    return opaque(image)


def _text(rng: np.random.Generator) -> np.ndarray:
    """Lines of glyph-like strokes in columns."""
    cell = int(rng.choice([4, 6, 8]))
    ink = rng.random((SIZE // 2, SIZE // 2)).repeat(2, 0).repeat(2, 1) < 0.55
    x, y = grid()
    line = (y % (2 * cell)) < cell
    word = (rng.random((SIZE, SIZE // cell + 1)) < 0.8)[y // (2 * cell), x // cell]
    margin = (x % 128 > 8) & (y % 256 > 12)
    return two_tone(rng, (ink & line & word & margin).astype(np.float32))


def _facade(rng: np.random.Generator) -> np.ndarray:
    """Windows in a wall, one storey high; the panes are holes, where glass may reflect."""
    x, y = grid()
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
    image += noise(rng, 1, 1.3) * rng.uniform(0.01, 0.06)
    glass = rng.uniform(0.05, 0.35) * (1 + rng.normal(0, 0.1, 3)) + noise(rng, 1, 1.8) * 0.06
    image[inside] = glass[inside]
    image[frame] = rng.uniform(0.1, 0.95)
    facade = opaque(image)
    facade[..., 3] = ~inside | frame
    return facade


def _fence(rng: np.random.Generator) -> np.ndarray:
    """Bars, lattice or mesh with holes between."""
    x, y = grid()
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
    rgb = draw_colour(rng) + noise(rng, 1, 1.0) * 0.06
    return np.concatenate([opaque(rgb)[..., :3], solid[..., None]], -1)


def _mark(rng: np.random.Generator) -> np.ndarray:
    """Road paint with worn edges and dashes along v."""
    x, y = grid()
    rgb = 0.85 + noise(rng, 1, 1.0) * 0.06 + np.zeros(3)
    worn = noise(rng, 1, 0.8)[..., 0] < rng.uniform(1.5, 3)
    dash = (y % 128) < rng.choice([64, 128])
    return np.concatenate([opaque(rgb)[..., :3], (worn & dash)[..., None]], -1)


def _cloud(rng: np.random.Generator) -> np.ndarray:
    return opaque(0.5 + 0.2 * noise(rng, 1, 1.9, 1) + np.zeros(3))


def _disc(rng: np.random.Generator) -> np.ndarray:
    x, y = grid()
    radius = np.hypot(x - SIZE / 2 + 0.5, y - SIZE / 2 + 0.5) / (SIZE / 2)
    rgb = np.where(radius[..., None] < 0.75, rng.uniform(0, 1, 3), rng.uniform(0, 1, 3))
    return np.concatenate([opaque(rgb)[..., :3], (radius < 1)[..., None]], -1)


def _wheel(rng: np.random.Generator) -> np.ndarray:
    """A bicycle wheel: tyre, hub and spokes."""
    x, y = grid()
    dx, dy = x - SIZE / 2 + 0.5, y - SIZE / 2 + 0.5
    radius = np.hypot(dx, dy) / (SIZE / 2)
    spokes = abs(np.sin(np.arctan2(dy, dx) * rng.integers(5, 9))) * radius < 0.06
    solid = ((radius > 0.85) & (radius < 1)) | (radius < 0.12) | (spokes & (radius < 0.9))
    rgb = np.where(radius[..., None] > 0.8, 0.08, 0.5) + np.zeros((SIZE, SIZE, 3))
    return np.concatenate([opaque(rgb)[..., :3], solid[..., None]], -1)
