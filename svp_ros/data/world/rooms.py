"""Rooms: walls, floor, ceiling, furniture, things on it, pictures on the walls."""

import numpy as np

from svp_ros.data.world.builder import SceneBuilder
from svp_ros.data.world.objects import add_furniture
from svp_ros.data.world.scene import Kind, Light, Pose, rotation_xyz

FLAT = rotation_xyz(np.pi / 2)


def build_room(builder: SceneBuilder, nearest: float) -> tuple[Light, Pose]:
    """Add a furnished room; no furniture stands nearer than `nearest` metres to the camera."""
    rng = builder.rng
    half = np.array([rng.uniform(1.5, 5), rng.uniform(1.2, 1.9), rng.uniform(2, 7)])
    eye = np.array([rng.uniform(-0.5, 0.5) * half[0], -rng.uniform(0.5, 1.8),
                    -half[2] + rng.uniform(0.3, 0.8)])
    wall = builder.material(half[2])
    for axis, sign in ((0, -1), (0, 1), (2, 1)):
        _add_wall(builder, half, axis, sign, wall if rng.random() < 0.6 else
                  builder.material(half[2]))
    builder.add(Kind.CARD, (0, 0, 0), (half[0], half[2], 0),
                builder.material(half[2] * 0.7, gloss=rng.choice([0, 0.3])), FLAT)
    builder.add(Kind.CARD, (0, -2 * half[1], 0), (half[0], half[2], 0),
                builder.material(half[2], plain=rng.choice([0.5, 0.97])), FLAT)
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
    warmth = rng.normal(0.05, 0.12)
    light = Light(lamp, rng.uniform(0.35, 0.8), np.array([1 + warmth, 1, 1 - warmth]),
                  rng.uniform(0.7, 3) * half[2])
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
    for _ in range(rng.integers(0, 5)):
        size = np.array([rng.uniform(0.15, 0.8), rng.uniform(0.15, 0.7), 0.02])
        along = rng.uniform(-1, 1) * max(length - size[0], 0)
        place = centre + 0.02 * inward + rotation @ (along, rng.uniform(-0.6, 0.5) * half[1], 0)
        group = str(rng.choice(['figure', 'photo', 'text', 'pattern']))
        builder.add(Kind.BOX, place, size, builder.fitted(group, size[:2]), rotation)
    if rng.random() < 0.3:
        frame = builder.frame(centre + 0.06 * inward, 0)
        along = rng.uniform(-0.9, 0.9) * length
        ends = [rotation @ (along, end * half[1], 0) for end in (-1, 1)]
        frame.bar(*ends, rng.uniform(0.02, 0.08), builder.material(half[2]))
