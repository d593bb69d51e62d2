"""Painters of natural textures: wood, stone, cloth, ground, bark, leaves and twigs."""

import cv2
import numpy as np

from svp_ros.data.world.patterns import draw_colour, grid, noise, opaque, paint, SIZE

BROWNS = ((0.62, 0.42, 0.24), (0.78, 0.6, 0.38), (0.4, 0.25, 0.15), (0.72, 0.55, 0.42))
GREENS = ((0.24, 0.38, 0.12), (0.16, 0.27, 0.1), (0.4, 0.45, 0.15), (0.5, 0.33, 0.12))


def make_natural(rng: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """Paint all natural textures, by group; foliage, spray and twigs have holes."""
    return {
        'wood': paint(10, _wood, rng),
        'stone': paint(10, _stone, rng),
        'plaster': paint(10, _plaster, rng),
        'cloth': paint(14, _cloth, rng),
        'asphalt': paint(8, _asphalt, rng),
        'grass': paint(8, _grass, rng),
        'bark': paint(4, _bark, rng),
        'leaf': paint(10, _leaf, rng),
        'foliage': paint(8, _foliage, rng),
        'spray': paint(8, _spray, rng),
        'twigs': paint(8, _twigs, rng),
    }


def _pick(rng: np.random.Generator, colours) -> np.ndarray:
    """Draw one of some colours, somewhat lighter or darker and tinted."""
    colour = np.array(colours[rng.integers(len(colours))]) * rng.uniform(0.6, 1.3)
    return colour * np.exp(rng.normal(0, 0.06, 3))


def _holes(rgb: np.ndarray, solid: np.ndarray) -> np.ndarray:
    return np.concatenate([opaque(rgb)[..., :3], solid[..., None]], -1).astype(np.float32)


def _wood(rng: np.random.Generator) -> np.ndarray:
    """Grain along v, sometimes with joints between boards."""
    x, _ = grid()
    bend = noise(rng, 1, 1.6, 0.15)[..., 0]
    rings = np.sin(x / rng.uniform(3, 14) + rng.uniform(0.5, 3) * bend)
    rgb = _pick(rng, BROWNS) * (1 + rng.uniform(0.03, 0.14) * rings[..., None]
                                + rng.uniform(0.03, 0.1) * noise(rng, 1, 0.6, 0.08))
    if rng.random() < 0.4:
        rgb[x % int(rng.choice([32, 64, 128])) < 2] *= 0.4
    return opaque(rgb)


def _stone(rng: np.random.Generator) -> np.ndarray:
    """Grains of all sizes and dark cracks."""
    base = rng.uniform(0.25, 0.7) * np.exp(rng.normal(0, 0.06, 3))
    cracks = abs(noise(rng, 1, rng.uniform(1.2, 1.8))) < rng.uniform(0.01, 0.06)
    rgb = base * (1 + 0.22 * noise(rng, 1, rng.uniform(0.8, 1.4)) + 0.012 * noise(rng, 3, 1.2))
    return opaque(np.where(cracks, 0.5 * rgb, rgb))


def _plaster(rng: np.random.Generator) -> np.ndarray:
    """One colour, faintly stained: walls, clay and painted things."""
    return opaque(draw_colour(rng) * (1 + rng.uniform(0.01, 0.06) * noise(rng, 1, 1.6)
                                      + rng.uniform(0.003, 0.03) * noise(rng, 1, 0.3)))


def _cloth(rng: np.random.Generator) -> np.ndarray:
    """A printed motif that repeats, on a fine weave."""
    x, y = grid()
    period = int(rng.choice([32, 64, 64, 128]))
    motif = noise(rng, 1, 1.3)[:period // 2, :period // 2, 0]
    motif = np.block([[motif, motif[:, ::-1]], [motif[::-1], motif[::-1, ::-1]]])
    motif = np.tile(motif, (SIZE // period, SIZE // period))
    first, second, third = (draw_colour(rng) for _ in range(3))
    rgb = np.where(motif[..., None] > rng.uniform(0.4, 1.2), second, first)
    rgb = np.where(motif[..., None] < -rng.uniform(0.8, 1.6), third, rgb)
    if rng.random() < 0.3:
        rgb = np.broadcast_to(first, rgb.shape)
    weave = ((x + y) % 4 < 2) * rng.uniform(0, 0.12)
    return opaque(rgb * (1 - weave[..., None]) + rng.uniform(0.005, 0.03) * noise(rng, 1, 0.4))


def _asphalt(rng: np.random.Generator) -> np.ndarray:
    """Fine grain, faint stains, repaired patches and seams of tar."""
    image = np.ones((SIZE, SIZE, 1), np.float32)
    for _ in range(rng.integers(0, 3)):
        corner = rng.integers(-40, SIZE, 2)
        size = rng.integers(20, 120, 2)
        cv2.rectangle(image, corner.tolist(), (corner + size).tolist(), rng.uniform(0.75, 1.1), -1)
    for _ in range(rng.integers(0, 4)):
        steps = rng.normal(0, 9, (40, 2)) + rng.normal(0, 6, 2)
        line = (rng.uniform(0, SIZE, 2) + steps.cumsum(0)).astype(np.int32)
        cv2.polylines(image, [line], False, rng.uniform(0.45, 0.8), 1, cv2.LINE_AA)
    base = rng.uniform(0.3, 0.6) * np.exp(rng.normal(0, 0.015, 3))
    grain = rng.uniform(0.04, 0.16) * noise(rng, 1, rng.uniform(0.1, 0.5))
    return opaque(base * image * (1 + grain + rng.uniform(0.02, 0.1) * noise(rng, 1, 1.7)))


def _grass(rng: np.random.Generator) -> np.ndarray:
    """Blades, bare patches and fallen leaves."""
    blades = noise(rng, 1, rng.uniform(0.4, 0.9), rng.choice([1.0, 0.4]))
    bare = noise(rng, 1, 1.5) > rng.uniform(0.5, 3)
    green, brown = _pick(rng, GREENS), _pick(rng, BROWNS)
    rgb = np.where(bare, 0.8 * brown, green) * (1 + 0.28 * blades)
    if rng.random() < 0.3:
        rgb[noise(rng, 1, 0.5)[..., 0] > 2.2] = brown * 1.2
    return opaque(rgb)


def _bark(rng: np.random.Generator) -> np.ndarray:
    ridges = noise(rng, 1, 1.1, rng.uniform(0.1, 0.3))
    rgb = _pick(rng, BROWNS[2:]) * (0.9 + 0.25 * ridges + 0.06 * noise(rng, 1, 0.4))
    return opaque(rgb)


def _leaf(rng: np.random.Generator) -> np.ndarray:
    """Foliage seen from afar, with holes: a ragged round outline."""
    x, y = grid()
    rgb = _pick(rng, GREENS) + noise(rng, 1, 0.7) * 0.12 + noise(rng, 3, 1.0) * 0.03
    radius = np.hypot(x - SIZE / 2, y - SIZE / 2) / (SIZE / 2)
    alpha = noise(rng, 1, 0.9)[..., 0] > 4 * (radius - rng.uniform(0.4, 0.75))
    return _holes(rgb, alpha & (radius < 1))


def _draw_leaves(rng: np.random.Generator, centres: np.ndarray, size: float) -> np.ndarray:
    """Lay single leaves at `centres` over each other, the lit ones on top."""
    rgb = np.zeros((SIZE, SIZE, 3), np.float32)
    solid = np.zeros((SIZE, SIZE), np.uint8)
    base = _pick(rng, GREENS)
    slim, turn = rng.uniform(0.3, 0.8), rng.uniform(0, 360)
    spread = rng.choice([30, 180])
    for rank, centre in enumerate(centres):
        light = (0.35 + 0.9 * rank / len(centres)) * rng.uniform(0.8, 1.2)
        axes = size * rng.uniform(0.7, 1.3) * np.array([1, slim])
        shape = (centre.astype(int).tolist(), np.maximum(axes, 1).astype(int).tolist(),
                 turn + rng.uniform(-spread, spread), 0, 360)
        cv2.ellipse(rgb, *shape, (base * light * np.exp(rng.normal(0, 0.1, 3))).tolist(), -1)
        cv2.ellipse(solid, *shape, 1, -1)
    return _holes(rgb, solid)


def _foliage(rng: np.random.Generator) -> np.ndarray:
    """Leaves all over, with gaps between."""
    size = rng.uniform(5, 12)
    count = int(rng.uniform(1.2, 2.4) * SIZE ** 2 / (2.2 * size ** 2))
    clumps = rng.uniform(0, SIZE, (12, 2))
    centres = np.concatenate([rng.uniform(0, SIZE, (count // 2, 2)),
                              clumps[rng.integers(12, size=count // 2)]
                              + rng.normal(0, 26, (count // 2, 2))])
    return _draw_leaves(rng, rng.permutation(centres), size)


def _spray(rng: np.random.Generator) -> np.ndarray:
    """A branch full of leaves."""
    size = rng.uniform(7, 14)
    radius = 0.42 * SIZE * rng.random(int(30000 / size ** 2)) ** 0.7
    angle = rng.uniform(0, 2 * np.pi, len(radius))
    centres = SIZE / 2 + np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return _draw_leaves(rng, centres, size)


def _twigs(rng: np.random.Generator) -> np.ndarray:
    """Bare branches that fork from the lower edge."""
    solid = np.zeros((SIZE, SIZE), np.uint8)

    def grow(start, direction, length, width):
        end = start + length * np.array([np.sin(direction), -np.cos(direction)])
        cv2.line(solid, start.astype(int).tolist(), end.astype(int).tolist(), 1,
                 max(1, round(width)))
        if length > 9:
            for _ in range(2 + (rng.random() < 0.5)):
                grow(start + rng.uniform(0.5, 1) * (end - start), direction + rng.normal(0, 0.5),
                     length * rng.uniform(0.55, 0.85), 0.62 * width)

    for _ in range(rng.integers(1, 4)):
        grow(np.array([rng.uniform(0.3, 0.7) * SIZE, SIZE - 1.0]), rng.normal(0, 0.25),
             rng.uniform(50, 75), rng.uniform(4, 9))
    rgb = _pick(rng, BROWNS[2:]) * (0.8 + 0.15 * noise(rng, 1, 0.8))
    return _holes(rgb, solid)
