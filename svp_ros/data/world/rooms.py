"""Rooms: walls, floor, ceiling, furniture, things on it, pictures on the walls."""

import numpy as np

from svp_ros.data.world.builder import SceneBuilder
from svp_ros.data.world.lights import make_lamp
from svp_ros.data.world.objects import add_furniture
from svp_ros.data.world.plants import add_wires
from svp_ros.data.world.scene import Kind, Light, Material, Pose, rotation_xyz

FLAT = rotation_xyz(np.pi / 2)


def build_room(builder: SceneBuilder, nearest: float) -> tuple[Light, Pose]:
    """Add a furnished room; no furniture stands nearer than `nearest` metres to the camera."""
    rng = builder.rng
    half = np.array([rng.uniform(1.5, 5), rng.uniform(1.2, 1.9), rng.uniform(2, 7)])
    eye = np.array([rng.uniform(-0.5, 0.5) * half[0], -rng.uniform(0.5, 1.8),
                    -half[2] + rng.uniform(0.3, 0.8)])
    wall = _wall_material(builder, half[2])
    for axis, sign in ((0, -1), (0, 1), (2, 1)):
        _add_wall(builder, half, axis, sign, wall if rng.random() < 0.6 else
                  _wall_material(builder, half[2]))
    builder.add(Kind.CARD, (0, 0, 0), (half[0], half[2], 0),
                _floor(builder, half[2]), FLAT, ground=True)
    _add_carpets(builder, half)
    builder.add(Kind.CARD, (0, -2 * half[1], 0), (half[0], half[2], 0),
                builder.material(half[2], 'plaster', rng.choice([0.5, 0.97]), gloss=0, mirror=0,
                                 tint=builder.tint(0.06)), FLAT)
    _add_ceiling_lamps(builder, half)
    for _ in range(rng.integers(4, 11)):
        place = np.array([rng.uniform(-0.9, 0.9) * half[0], 0, rng.uniform(-0.8, 0.95) * half[2]])
        distance = np.hypot(*(place - eye)[[0, 2]])
        if distance < nearest + 0.9:
            place[2] += nearest + 0.9
        yaw = rng.choice([0, np.pi / 2, np.pi, -np.pi / 2]) + rng.choice([0, rng.normal(0, 0.4)])
        top = add_furniture(builder, place, yaw)
        for _ in range(rng.integers(0, 4)):
            size = rng.uniform(0.04, 0.16)
            centre = place - (rng.normal(0, 0.2), top + size, rng.normal(0, 0.15))
            builder.random_object(centre, size, max(distance, nearest), 0.1)
    if rng.random() < 0.3:  # something hangs or leans close to the camera
        depth = nearest * rng.uniform(1.3, 2)
        offset = depth * np.array([rng.uniform(-0.6, 0.6), rng.uniform(-0.4, 0.4), 1])
        builder.random_object(eye + offset, 0.15 * depth, depth, 0.4)
    yaw, pitch = rng.normal(0, 0.35), rng.normal(-0.08, 0.15)
    lamp = np.array([rng.uniform(-0.7, 0.7) * half[0], -1.8 * half[1],
                     rng.uniform(-0.9, 0.7) * half[2]])
    middle = np.array([0, -0.3 * half[1], 0.1 * half[2]])
    light = make_lamp(builder, lamp, rng.uniform(0.7, 3) * half[2], middle, 0.8 * half[2])
    return light, Pose(eye, rotation_xyz(pitch, yaw, rng.normal(0, 0.03)))


def _add_wall(builder: SceneBuilder, half: np.ndarray, axis: int, sign: int, material) -> None:
    """Add one wall with pictures, windows or pipes on it."""
    rng = builder.rng
    centre = np.array([0.0, -half[1], 0.0])
    centre[axis] = sign * half[axis]
    rotation = rotation_xyz(0, np.pi / 2 if axis == 0 else 0.0)
    length = half[2] if axis == 0 else half[0]
    builder.add(Kind.CARD, centre, (length, half[1], 0), material, rotation)
    inward = np.zeros(3)
    inward[axis] = -sign
    builder.add(Kind.BOX, centre + (0, half[1] - 0.05, 0) + 0.01 * inward, (length, 0.05, 0.012),
                builder.material(half[2], 'wood', 0.5, builder.tint(0.05), 0, mirror=0), rotation)
    if rng.random() < 0.6:
        _add_window(builder, centre, inward, rotation, length, half[1])
    for _ in range(rng.integers(0, 4)):
        size = np.array([rng.uniform(0.15, 0.8), rng.uniform(0.15, 0.7), 0.02])
        along = rng.uniform(-1, 1) * max(length - size[0], 0)
        place = centre + 0.02 * inward + rotation @ (along, rng.uniform(-0.6, 0.5) * half[1], 0)
        group = str(rng.choice(['figure', 'photo', 'photo', 'text', 'wood', 'cloth']))
        builder.add(Kind.BOX, place, size, builder.fitted(
            group, size[:2], mirror=builder.shine(-0.6, 0.25)), rotation)
    if rng.random() < 0.3:
        frame = builder.frame(centre + 0.06 * inward, 0)
        along = rng.uniform(-0.9, 0.9) * length
        ends = [rotation @ (along, end * half[1], 0) for end in (-1, 1)]
        frame.bar(*ends, rng.uniform(0.02, 0.08), builder.material(half[2]))


def _wall_material(builder: SceneBuilder, depth: float) -> Material:
    """Draw paint most often, else anything."""
    rng = builder.rng
    if rng.random() < 0.5:
        return builder.material(depth, 'plaster', rng.uniform(0, 0.97), gloss=0, mirror=0,
                                tint=builder.tint(0.08))
    return builder.wall(depth)


def _floor(builder: SceneBuilder, depth: float) -> Material:
    rng = builder.rng
    group = str(rng.choice(['wood', 'wood', 'pattern', 'cloth', 'plaster', 'asphalt', 'photo']))
    return builder.material(0.7 * depth, group, rng.choice([0, 0.6]), builder.tint(0.06),
                            gloss=rng.choice([0, 0.3]), mirror=builder.shine(-0.6, 0.15))


def _add_carpets(builder: SceneBuilder, half: np.ndarray) -> None:
    rng = builder.rng
    for _ in range(rng.integers(0, 3)):
        size = rng.uniform(0.4, 1.5, 2)
        builder.add(Kind.CARD, (rng.uniform(-0.7, 0.7) * half[0], -0.006,
                                rng.uniform(-0.6, 0.8) * half[2]), (*size, 0),
                    builder.fitted(str(rng.choice(['cloth', 'figure', 'photo'])), size),
                    rotation_xyz(0, rng.choice([0, rng.uniform(-1, 1)])) @ FLAT, ground=True)


def _add_ceiling_lamps(builder: SceneBuilder, half: np.ndarray) -> None:
    """Add a row of lit panels, or cables, below the ceiling."""
    rng = builder.rng
    top = -2 * half[1]
    if rng.random() < 0.5:
        size = (rng.uniform(0.1, 0.6), 0.03, rng.uniform(0.1, 0.6))
        lit = builder.fitted('plaster', (1, 1), tint=(1.9, 1.85, 1.7), plain=1.0, glow=1.0)
        for z in np.arange(-0.8, 1, rng.uniform(0.2, 0.8)) * half[2]:
            builder.add(Kind.BOX, (0, top + 0.03, z), size, lit)
    if rng.random() < builder.config.thin_share:
        add_wires(builder, np.array([0, top + 0.3, 0]), half[2], half[2])


def _add_window(builder: SceneBuilder, centre: np.ndarray, inward: np.ndarray,
                rotation: np.ndarray, length: float, tall: float) -> None:
    """Add a window with bars, blinds or curtains, or a mirror in a frame."""
    rng, config = builder.rng, builder.config
    half = np.array([min(rng.uniform(0.3, 1.2), 0.8 * length), rng.uniform(0.3, 0.6) * tall])
    middle = centre + rotation @ (rng.uniform(-1, 1) * (length - half[0]), -0.1 * tall, 0)
    bright = rng.uniform(0.3, 2.0)
    if rng.random() < 0.3:
        pane = builder.fitted('plaster', half, plain=1.0, mirror=builder.shine(0.8, 1.0))
    else:
        pane = builder.fitted('photo', half, tint=bright * np.ones(3), glow=bright,
                              mirror=builder.shine(-0.1, 0.3))
    builder.add(Kind.CARD, middle + 0.004 * inward, (*half, 0), pane, rotation)
    border = builder.material(3, 'wood', rng.uniform(0, 1), builder.tint(0.08), 0, mirror=0)
    bars = [-1.0, 1.0] + [0.0] * (rng.random() < 0.6)
    for side in bars:
        builder.add(Kind.BOX, middle + 0.02 * inward + rotation @ (side * half[0], 0, 0),
                    (0.035, half[1] + 0.035, 0.025), border, rotation)
        builder.add(Kind.BOX, middle + 0.02 * inward + rotation @ (0, side * half[1], 0),
                    (half[0], 0.035, 0.025), border, rotation)
    if rng.random() < 0.3:  # blinds
        builder.add(Kind.CUTOUT, middle + 0.08 * inward, (half[1], half[0], 0),
                    builder.fitted('fence', half[::-1], (half[1] / 0.3, 1)),
                    rotation @ rotation_xyz(roll=np.pi / 2))
    if rng.random() < min(1, 3 * config.curved_share):
        cloth = builder.material(3, 'cloth', rng.uniform(0, 1), gloss=0, mirror=0)
        for side in (-1, 1):
            wide = rng.uniform(0.15, 0.5) * half[0]
            builder.add(Kind.SHEET,
                        middle + 0.12 * inward + rotation @ (side * half[0], 0.1 * tall, 0),
                        (wide, 0.9 * tall, 0.05), cloth, rotation,
                        (rng.uniform(5, 14), rng.normal(0, 0.5)))
