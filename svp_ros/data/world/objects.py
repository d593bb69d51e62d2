"""Things made of several primitives: poles and furniture."""

from typing import Sequence

import numpy as np

from svp_ros.data.world.builder import Frame, SceneBuilder
from svp_ros.data.world.people import add_bicycle
from svp_ros.data.world.plants import add_bush, add_spikes
from svp_ros.data.world.scene import Kind, Material, rotation_xyz


def add_pole(builder: SceneBuilder, position: Sequence[float], yaw: float) -> None:
    """A street lamp, a sign or a bare pole."""
    rng = builder.rng
    frame = builder.frame(position, yaw)
    metal = builder.paint(rng.uniform(0.2, 1.0) * np.ones(3), plain=0.8)
    kind = rng.integers(3)
    height = rng.uniform(4, 8) if kind < 2 else rng.uniform(2, 3)
    radius = rng.uniform(0.04, 0.12)
    frame.bar((0, 0, 0), (0, -height, 0), radius, metal)
    if kind == 0:
        reach = rng.uniform(0.5, 2.5)
        frame.bar((0, -height, 0), (reach, -height - 0.2, 0), 0.6 * radius, metal)
        frame.add(Kind.BOX, (reach, -height - 0.15, 0), (0.35, 0.08, 0.15), metal)
        frame.add(Kind.BOX, (reach, -height - 0.06, 0), (0.3, 0.02, 0.12),
                  builder.paint((1.6, 1.5, 1.2), glow=1.0))
    elif kind == 2:
        size = rng.uniform(0.25, 0.45)
        rotation = rotation_xyz(0, rng.choice([-1, 1]) * np.pi / 2, 0)
        if rng.random() < 0.5:
            frame.add(Kind.CUTOUT, (radius + 0.02, -height + size, 0), (size, size, 0),
                      builder.fitted('disc', (size, size), tint=builder.tint(0.4)), rotation)
        else:
            frame.add(Kind.CARD, (radius + 0.02, -height + size, 0),
                      (size, size * rng.uniform(0.5, 1.2), 0),
                      builder.fitted('figure', (size, size)), rotation)


def add_furniture(builder: SceneBuilder, position: Sequence[float], yaw: float) -> float:
    """A random piece of furniture on the floor; returns the height of its top."""
    rng = builder.rng
    frame = builder.frame(position, yaw, builder.next_instance())
    depth = max(float(np.linalg.norm(position)), 1.0)
    skin = builder.material(depth)
    return _FURNITURE[rng.integers(len(_FURNITURE))](frame, depth, skin)


def _table(frame: Frame, depth: float, skin: Material) -> float:
    rng = frame.builder.rng
    length, width, height = rng.uniform(0.4, 1.0), rng.uniform(0.3, 0.6), rng.uniform(0.4, 0.9)
    kind, inset = Kind.BOX, 0.92
    if rng.random() < 0.25:
        kind, inset, width = Kind.CYLINDER, 0.6, length
    frame.add(kind, (0, -height, 0), (length, 0.025, width), skin)
    thick = rng.uniform(0.015, 0.04)
    for x in (-inset * length, inset * length):
        for z in (-inset * width, inset * width):
            frame.bar((x, 0, z), (x, -height, z), thick, skin)
    return height + 0.025


def _chair(frame: Frame, depth: float, skin: Material) -> float:
    rng = frame.builder.rng
    seat = rng.uniform(0.4, 0.5)
    frame.add(Kind.BOX, (0, -seat, 0), (0.22, 0.025, 0.22), skin)
    for z in (-0.19, 0.19):
        frame.bar((0.19, 0, z), (0.19, -seat, z), 0.02, skin)
        frame.bar((-0.19, 0, z), (-0.24, -seat - 0.5, z), 0.02, skin)
    for row in range(3):
        frame.add(Kind.BOX, (-0.23, -seat - 0.2 - 0.13 * row, 0), (0.012, 0.04, 0.19), skin)
    return seat


def _shelf(frame: Frame, depth: float, skin: Material) -> float:
    builder, rng = frame.builder, frame.builder.rng
    length, deep, height = rng.uniform(0.3, 0.8), 0.15, rng.uniform(0.8, 2.1)
    for x in (-1, 1):
        frame.add(Kind.BOX, (x * length, -height / 2, 0), (0.015, height / 2, deep), skin)
    if rng.random() < 0.7:
        frame.add(Kind.CARD, (0, -height / 2, -deep), (length, height / 2, 0), skin)
    boards = rng.integers(3, 6)
    for board in range(boards):
        level = -height * board / (boards - 1)
        frame.add(Kind.BOX, (0, level, 0), (length, 0.012, deep), skin)
        if board == boards - 1:
            continue
        x = -length + 0.05
        gap = height / (boards - 1)
        for _ in range(rng.integers(0, 5)):  # books and boxes
            width, tall = rng.uniform(0.02, 0.14), gap * rng.uniform(0.4, 0.8)
            if x + 2 * width > length:
                break
            frame.add(Kind.BOX, (x + width, level - tall / 2 - 0.012, 0),
                      (width, tall / 2, deep * rng.uniform(0.5, 0.95)), builder.material(depth))
            x += 2 * width + rng.choice([0.002, rng.uniform(0, 0.2)])
    return height


def _cabinet(frame: Frame, depth: float, skin: Material) -> float:
    builder, rng = frame.builder, frame.builder.rng
    half = np.array([rng.uniform(0.3, 0.8), rng.uniform(0.2, 1.0), rng.uniform(0.2, 0.4)])
    frame.add(Kind.BOX, (0, -half[1], 0), half, skin)
    front = builder.material(depth)
    doors = rng.integers(1, 4)
    for door in range(doors):
        x = (2 * door + 1 - doors) / doors * half[0]
        frame.add(Kind.BOX, (x, -half[1], half[2]), (0.92 * half[0] / doors, 0.9 * half[1], 0.012),
                  front)
    return 2 * half[1]


def _sofa(frame: Frame, depth: float, skin: Material) -> float:
    rng = frame.builder.rng
    length = rng.uniform(0.4, 1.1)
    frame.add(Kind.BOX, (0, -0.22, 0), (length, 0.2, 0.4), skin)
    frame.add(Kind.BOX, (0, -0.45, -0.33), (length, 0.4, 0.1), skin, taper=(0.05, 0.4))
    for x in (-1, 1):
        frame.add(Kind.CYLINDER, (x * (length + 0.08), -0.5, 0), (0.12, 0.4, 0.12), skin,
                  rotation_xyz(np.pi / 2))
        frame.add(Kind.BOX, (x * (length + 0.08), -0.25, 0), (0.1, 0.25, 0.4), skin)
    for _ in range(rng.integers(0, 3)):
        frame.add(Kind.ELLIPSOID, (rng.uniform(-0.8, 0.8) * length, -0.55, -0.15),
                  (0.22, 0.2, 0.09), frame.builder.material(depth),
                  rotation_xyz(-0.4, rng.normal(0, 0.3), rng.normal(0, 0.5)))
    return 0.42


def _lamp(frame: Frame, depth: float, skin: Material) -> float:
    rng = frame.builder.rng
    height = rng.uniform(1.0, 1.8)
    frame.add(Kind.CYLINDER, (0, -0.015, 0), (0.15, 0.015, 0.15), skin)
    frame.bar((0, 0, 0), (0, -height, 0), 0.015, skin)
    frame.add(Kind.CYLINDER, (0, -height, 0), (0.22, 0.15, 0.22),
              frame.builder.material(depth, plain=0.95, tint=(1.5, 1.45, 1.2),
                                     glow=rng.choice([0, 0.8])),
              taper=(rng.uniform(0.1, 0.7), 0))
    return height


def _plant(frame: Frame, depth: float, skin: Material) -> float:
    builder, rng = frame.builder, frame.builder.rng
    frame.add(Kind.CYLINDER, (0, -0.18, 0), (0.18, 0.18, 0.18), skin, rotation_xyz(np.pi),
              (0.3, 0))
    top = frame.position - (0, 0.36, 0)
    if rng.random() < 0.5:
        add_spikes(builder, top, rng.uniform(0.3, 0.7), depth, frame.instance)
    else:
        add_bush(builder, top - (0, 0.25, 0), rng.uniform(0.2, 0.45, 3))
    return 0.9


def _boxes(frame: Frame, depth: float, skin: Material) -> float:
    rng = frame.builder.rng
    level = 0.0
    for _ in range(rng.integers(1, 5)):
        half = rng.uniform(0.08, 0.3, 3)
        frame.add(Kind.BOX, (rng.normal(0, 0.05), -level - half[1], rng.normal(0, 0.05)), half,
                  frame.builder.material(depth), rotation_xyz(0, rng.normal(0, 0.3)))
        level += 2 * half[1]
    return level


def _two_wheeler(frame: Frame, depth: float, skin: Material) -> float:
    add_bicycle(frame)
    if frame.builder.rng.random() < 0.6:  # a tank and an engine make it a motorcycle
        frame.add(Kind.ELLIPSOID, (0.1, -0.75, 0), (0.28, 0.13, 0.14), skin)
        frame.add(Kind.BOX, (0, -0.42, 0), (0.2, 0.16, 0.14), frame.builder.material(depth))
        frame.add(Kind.BOX, (-0.3, -0.72, 0), (0.28, 0.06, 0.13),
                  frame.builder.paint((0.1,) * 3))
    return 1.0


_FURNITURE = (_table, _table, _chair, _chair, _shelf, _shelf, _cabinet, _sofa, _lamp, _plant,
              _boxes, _boxes, _two_wheeler)
