"""Plants and other thin structure: trees, bushes, tufts, spiky plants, lattices, wires."""

from dataclasses import replace
from typing import Sequence

import numpy as np

from svp_ros.data.world.builder import SceneBuilder
from svp_ros.data.world.scene import Kind, log_uniform, Material, random_rotation, rotation_xyz


def add_tree(builder: SceneBuilder, position: Sequence[float]) -> None:
    """A trunk with a crown of leaves, or with bare branches."""
    rng = builder.rng
    trunk, radius = rng.uniform(1.5, 4), rng.uniform(1, 3)
    frame = builder.frame(position, rng.uniform(-np.pi, np.pi))
    bark = builder.material(max(abs(position[2]), 4), 'bark', rng.uniform(0, 0.4), gloss=0,
                            metres=rng.uniform(0.7, 1.5), tint=rng.uniform(0.6, 1.2) * np.ones(3))
    top = np.array([rng.normal(0, 0.2), -trunk - radius, 0])
    thick = rng.uniform(0.08, 0.28)
    frame.bar((0, 0, 0), top, thick, bark)
    leafy = rng.random() < builder.config.foliage_share
    if leafy and rng.random() < 0.12:  # bare branches
        for yaw in rng.uniform(0, np.pi) + np.array([0, np.pi / 2]):
            frame.add(Kind.CUTOUT, top + (0, -0.2 * radius, 0), (1.2 * radius, 1.3 * radius, 0),
                      builder.fitted('twigs', (1.2 * radius, 1.3 * radius)),
                      rotation_xyz(0, yaw))
        return
    for _ in range(3):  # branches
        frame.bar(rng.uniform(0.4, 0.9) * top, top + rng.normal(0, 0.4, 3) * radius, 0.35 * thick,
                  bark)
    (_add_crown if leafy else _add_balls)(builder, np.asarray(position) + top, radius)


def _leaves(builder: SceneBuilder, metres: float) -> Material:
    return builder.material(10, 'foliage', builder.rng.choice([0, 0.3]), gloss=0, mirror=0,
                            tint=1.4 * np.array(builder.tint(0.12)), metres=metres)


def _add_crown(builder: SceneBuilder, centre: np.ndarray, radius: float) -> None:
    """Shells of leaves with gaps inside each other, and sprays that stick out."""
    rng = builder.rng
    leaves = _leaves(builder, rng.uniform(1, 2.5))
    for _ in range(rng.integers(3, 6)):
        size = radius * rng.uniform(0.25, 0.55, 3)
        builder.add(Kind.FOLIAGE, centre + rng.normal(0, 0.4, 3) * radius, size, leaves,
                    random_rotation(rng))
    spray = builder.texture('spray')
    for _ in range(rng.integers(8, 16)):
        size = radius * rng.uniform(0.25, 0.6)
        material = replace(builder.fitted('spray', (size, size), tint=leaves.tint), texture=spray)
        offset = rng.normal(0, 1, 3)
        offset *= rng.uniform(0.4, 1) * radius / np.linalg.norm(offset)
        builder.add(Kind.CUTOUT, centre + offset, (size, size, 0), material, random_rotation(rng))


def _add_balls(builder: SceneBuilder, centre: np.ndarray, radius: float) -> None:
    rng = builder.rng
    tint = builder.tint(0.15)
    for _ in range(6):
        size = radius * rng.uniform(0.5, 1.0)
        builder.add(Kind.CUTOUT, centre + rng.normal(0, 0.45, 3) * radius, (size, size, 0),
                    builder.fitted('leaf', (size, size), tint=tint), random_rotation(rng))
    for _ in range(2):
        leaves = builder.material(10, 'leaf', 0.0, tint=tint, gloss=0, metres=2 * radius)
        builder.add(Kind.ELLIPSOID, centre + rng.normal(0, 0.3, 3) * radius,
                    radius * rng.uniform(0.4, 0.75, 3), leaves)


def add_bush(builder: SceneBuilder, centre: Sequence[float], half: Sequence[float],
             shells: int = 3) -> None:
    """A dark core within shells of leaves; without foliage a ball."""
    rng = builder.rng
    centre, half = np.asarray(centre, float), np.asarray(half, float)
    core = builder.material(10, 'leaf', rng.uniform(0, 0.4), gloss=0, metres=2 * half.max(),
                            tint=rng.uniform(0.25, 0.8) * np.ones(3))
    if rng.random() >= builder.config.foliage_share:
        builder.add(Kind.ELLIPSOID, centre, half, core)
        return
    builder.add(Kind.ELLIPSOID, centre, 0.7 * half, core)
    leaves = _leaves(builder, log_uniform(rng, 0.3, 1.2) * half.max())
    for _ in range(shells):
        builder.add(Kind.FOLIAGE, centre + 0.25 * rng.uniform(-1, 1, 3) * half,
                    half * rng.uniform(0.6, 0.95), leaves, rotation_xyz(0, rng.uniform(-3, 3)))


def add_tuft(builder: SceneBuilder, position: Sequence[float], size: float) -> None:
    """Crossed cards of leaves, twigs or blades that stand on the ground."""
    rng = builder.rng
    group = str(rng.choice(['spray', 'twigs', 'leaf']))
    material = builder.fitted(group, (size, size), tint=builder.tint(0.15))
    yaw = rng.uniform(0, np.pi)
    for turn in (0, np.pi / 2):
        builder.add(Kind.CUTOUT, np.asarray(position) - (0, 0.9 * size, 0), (size, size, 0),
                    material, rotation_xyz(0, yaw + turn))


def add_spikes(builder: SceneBuilder, position: Sequence[float], size: float, depth: float,
               instance: int = 0) -> None:
    """Long pointed leaves that spread from one spot, as of an aloe."""
    rng = builder.rng
    frame = builder.frame(position, 0, instance)
    skin = builder.material(depth, str(rng.choice(['plaster', 'leaf'])), rng.uniform(0.3, 0.9),
                            tint=np.array([0.6, 1.0, 0.55]) * rng.uniform(0.5, 1.2))
    for _ in range(rng.integers(7, 16)):
        lean, turn = rng.uniform(0.1, 1.2), rng.uniform(-np.pi, np.pi)
        tip = size * rng.uniform(0.7, 1.3) * np.array(
            [np.sin(lean) * np.cos(turn), -np.cos(lean), np.sin(lean) * np.sin(turn)])
        frame.spike((0, 0, 0), tip, rng.uniform(0.03, 0.08) * size, skin)


def add_lattice(builder: SceneBuilder, centre: Sequence[float], size: float, depth: float,
                rotation: np.ndarray, instance: int = 0) -> None:
    """Parallel bars with two rails: a rack, a railing, the back of a chair."""
    rng = builder.rng
    half = size * np.exp(rng.normal(0, 0.3, 2))
    thick = rng.uniform(0.01, 0.05) * size
    skin = builder.material(depth)
    kind = Kind.BOX if rng.random() < 0.5 else Kind.CYLINDER
    lying = rotation @ rotation_xyz(roll=np.pi / 2)
    for x in np.linspace(-1, 1, rng.integers(4, 11)) * half[0]:
        builder.add(kind, centre + rotation @ (x, 0, 0), (thick, half[1], thick), skin, rotation,
                    instance=instance)
    for y in rng.uniform(0.5, 1) * half[1] * np.array([-1, 1]):
        builder.add(kind, centre + rotation @ (0, y, 0), (thick, half[0], thick), skin, lying,
                    instance=instance)


def add_wires(builder: SceneBuilder, centre: np.ndarray, span: float, depth: float) -> None:
    """A few thin cables across the view."""
    rng = builder.rng
    skin = builder.material(depth, plain=0.8, tint=rng.uniform(0.05, 1.0) * np.ones(3))
    frame = builder.frame(centre, 0)
    slope, turn = rng.normal(0, 0.4), rng.normal(0, 0.5)
    for _ in range(rng.integers(1, 4)):
        end = span * np.array([np.cos(turn), slope, np.sin(turn)])
        middle = rng.normal(0, 0.08, 3) * span
        frame.bar(middle - end, middle + end, log_uniform(rng, 0.002, 0.01) * depth, skin)
