"""Things made of several primitives: cars, people, cyclists, poles, furniture."""

from typing import Optional, Sequence

import numpy as np

from svp_ros.data.world.builder import Frame, SceneBuilder
from svp_ros.data.world.plants import add_bush, add_spikes
from svp_ros.data.world.scene import Kind, Material, rotation_xyz

CAR_COLOURS = ((1.4, 1.4, 1.4), (0.08, 0.08, 0.09), (0.6, 0.62, 0.65), (0.9, 0.9, 0.92),
               (0.75, 0.1, 0.08), (0.1, 0.2, 0.6), (0.35, 0.36, 0.38), (0.1, 0.35, 0.2))
STILL = (0.0, 0.0, 0.0)


def add_car(builder: SceneBuilder, position: Sequence[float], yaw: float,
            velocity: Sequence[float] = STILL) -> None:
    """Body, tapered glass cabin, roof, pillars, wheels and lights; labelled Car."""
    rng = builder.rng
    length, height, width = (rng.normal(3.9, 0.35), rng.normal(1.53, 0.1), rng.normal(1.64, 0.08))
    frame = builder.frame(position, yaw, builder.next_instance(), velocity)
    frame.label('Car', (length, height, width))
    colour = np.array(CAR_COLOURS[rng.integers(len(CAR_COLOURS))]) * rng.uniform(0.8, 1.2)
    paint = _paint(builder, colour, gloss=rng.uniform(0.1, 0.6), mirror=builder.shine(0.02, 0.2))
    glass = _paint(builder, rng.uniform(0.08, 0.25) * np.array([0.9, 1, 1.1]),
                   gloss=rng.uniform(0.2, 0.8), plain=0.6, mirror=builder.shine(0.1, 0.5))
    rubber = _paint(builder, (0.1, 0.1, 0.1))
    waist, clearance = rng.uniform(0.52, 0.62) * height, 0.13 * height
    body = (waist - clearance) / 2
    frame.add(Kind.BOX, (0, -clearance - body, 0), (length / 2, body, width / 2), paint,
              taper=(0.06, 0.08))
    cabin, rear = rng.uniform(0.27, 0.4) * length, rng.uniform(-0.1, 0.02) * length
    slope = rng.uniform(0.25, 0.5)
    frame.add(Kind.BOX, (rear, -(height + waist) / 2, 0),
              (cabin, (height - waist) / 2, 0.46 * width), glass, taper=(slope, 0.2))
    top = (1 - slope) * cabin
    frame.add(Kind.BOX, (rear, -0.975 * height, 0), (1.05 * top, 0.025 * height, 0.385 * width),
              paint)
    for side in (-1, 1):
        frame.bar((rear - 0.1 * length, -waist, side * 0.45 * width),
                  (rear - 0.1 * length, -0.96 * height, side * 0.375 * width), 0.05, paint)
        for end in (-1, 1):
            frame.add(Kind.CYLINDER,
                      (end * 0.31 * length, -0.2 * height, side * (width / 2 - 0.1)),
                      (0.2 * height, 0.1, 0.2 * height), rubber, rotation_xyz(np.pi / 2))
            light = (1.5, 1.5, 1.3) if end == 1 else (0.8, 0.05, 0.05)
            frame.add(Kind.BOX, (end * (length / 2 - 0.06), -0.85 * waist, side * 0.36 * width),
                      (0.055, 0.06, 0.16), _paint(builder, light, gloss=0.5, glow=0.6))
    frame.add(Kind.BOX, (-length / 2 + 0.03, -0.5 * waist, 0), (0.025, 0.06, 0.26),
              builder.fitted('text', (0.26, 0.26), (0.5, 0.5)))
    _shadow(builder, position, yaw, (0.52 * length, 0.55 * width), velocity)


def add_truck(builder: SceneBuilder, position: Sequence[float], yaw: float,
              velocity: Sequence[float] = STILL) -> None:
    """A van or lorry: cargo box, cab and wheels; no label."""
    rng = builder.rng
    length, height, width = rng.uniform(5, 9), rng.uniform(2.2, 3.6), rng.uniform(1.9, 2.5)
    frame = builder.frame(position, yaw, builder.next_instance(), velocity)
    cargo = 0.38 * length
    frame.add(Kind.BOX, (-length / 2 + cargo, -0.55 * height, 0),
              (cargo, 0.45 * height, width / 2),
              builder.material(10, plain=rng.choice([0, 0.5, 0.95]), metres=rng.uniform(2, 5),
                               tint=builder.tint(0.15)))
    paint = _paint(builder, CAR_COLOURS[rng.integers(len(CAR_COLOURS))], gloss=0.4,
                   mirror=builder.shine(0.0, 0.15))
    cab = length / 2 - cargo
    frame.add(Kind.BOX, (length / 2 - cab, -0.45 * height, 0), (cab, 0.35 * height, 0.48 * width),
              paint, taper=(0.3, 0.1))
    frame.add(Kind.BOX, (length / 2 - cab + 0.03, -0.6 * height, 0),
              (0.93 * cab, 0.13 * height, 0.49 * width), _paint(
                  builder, (0.1, 0.12, 0.14), gloss=0.6, plain=0.6,
                  mirror=builder.shine(0.1, 0.5)))
    for side in (-1, 1):
        for x in (-0.3, 0.32):
            frame.add(Kind.CYLINDER, (x * length, -0.42, side * (width / 2 - 0.15)),
                      (0.42, 0.14, 0.42), _paint(builder, (0.1, 0.1, 0.1)),
                      rotation_xyz(np.pi / 2))
    _shadow(builder, position, yaw, (length / 2, 0.52 * width), velocity)


def add_pedestrian(builder: SceneBuilder, position: Sequence[float], yaw: float,
                   velocity: Sequence[float] = STILL) -> None:
    """Two legs in mid-step, a torso, arms and a head; labelled Pedestrian."""
    rng = builder.rng
    height = rng.uniform(1.5, 1.92)
    step = rng.uniform(0.05, 0.32)
    frame = builder.frame(position, yaw, builder.next_instance(), velocity)
    frame.label('Pedestrian', (max(2 * step, 0.5) + 0.2, height, 0.62))
    trousers, jacket, skin = _clothes(builder)
    hip, shoulder = 0.5 * height, 0.82 * height
    for side in (-1, 1):
        frame.bar((side * step, -0.03, side * 0.1), (0, -hip, side * 0.09), 0.075, trousers)
        frame.bar((-side * step * 0.8, -0.47 * height, side * 0.25),
                  (0, -shoulder, side * 0.22), 0.05, jacket)
    frame.add(Kind.CYLINDER, (0, -(hip + shoulder) / 2, 0),
              (0.14, (shoulder - hip) / 2 + 0.03, 0.22), jacket, rotation_xyz(np.pi), (0.25, 0))
    _head(frame, (0, -0.91 * height, 0), 0.09 * height, skin)
    _shadow(builder, position, yaw, (0.35, 0.3), velocity)


def add_cyclist(builder: SceneBuilder, position: Sequence[float], yaw: float,
                velocity: Sequence[float] = STILL) -> None:
    """A bicycle with its rider; labelled Cyclist."""
    rng = builder.rng
    height = rng.uniform(1.6, 1.85)
    frame = builder.frame(position, yaw, builder.next_instance(), velocity)
    frame.label('Cyclist', (1.78, height, 0.6))
    add_bicycle(frame)
    trousers, jacket, skin = _clothes(builder)
    hip, shoulder = np.array([-0.2, -0.95, 0]), np.array([0.12, -0.82 * height, 0])
    for side in (-1, 1):
        wide = np.array([0, 0, side * 0.1])
        knee = np.array([0.2, -0.62 - side * 0.12, 0]) + wide
        frame.bar(hip + wide, knee, 0.075, trousers)
        frame.bar(knee, np.array([0.02, -0.3 - side * 0.14, 0]) + wide, 0.055, trousers)
        frame.bar(shoulder + 1.8 * wide, (0.46, -1.0, side * 0.22), 0.045, jacket)
    middle = (hip + shoulder) / 2
    lean = np.arctan2(shoulder[0] - hip[0], hip[1] - shoulder[1])
    frame.add(Kind.ELLIPSOID, middle, (0.15, 0.6 * np.linalg.norm(shoulder - hip), 0.21), jacket,
              rotation_xyz(roll=lean))
    _head(frame, (0.2, -height + 0.14, 0), 0.14, skin)
    _shadow(builder, position, yaw, (0.8, 0.2), velocity)


def add_bicycle(frame: Frame) -> None:
    """Two spoked wheels and a frame of bars, 1.75 m long."""
    builder = frame.builder
    paint = _paint(builder, builder.tint(0.6), gloss=0.3)
    wheel = builder.fitted('wheel', (0.34, 0.34))
    for x in (-0.53, 0.53):
        frame.add(Kind.CUTOUT, (x, -0.345, 0), (0.34, 0.34, 0), wheel)
    seat, crank, head = (-0.22, -0.88, 0), (-0.05, -0.3, 0), (0.38, -0.82, 0)
    for start, end in ((seat, crank), (crank, head), (head, (-0.18, -0.75, 0)),
                       (crank, (-0.53, -0.34, 0)), ((-0.18, -0.75, 0), (-0.53, -0.34, 0)),
                       ((0.36, -0.98, 0), (0.53, -0.34, 0)),
                       ((0.36, -0.98, -0.25), (0.36, -0.98, 0.25))):
        frame.bar(start, end, 0.02, paint)
    frame.add(Kind.ELLIPSOID, (-0.24, -0.9, 0), (0.13, 0.04, 0.07), _paint(builder, (0.1,) * 3))


def add_pole(builder: SceneBuilder, position: Sequence[float], yaw: float) -> None:
    """A street lamp, a sign or a bare pole."""
    rng = builder.rng
    frame = builder.frame(position, yaw)
    metal = _paint(builder, rng.uniform(0.2, 1.0) * np.ones(3), plain=0.8)
    kind = rng.integers(3)
    height = rng.uniform(4, 8) if kind < 2 else rng.uniform(2, 3)
    radius = rng.uniform(0.04, 0.12)
    frame.bar((0, 0, 0), (0, -height, 0), radius, metal)
    if kind == 0:
        reach = rng.uniform(0.5, 2.5)
        frame.bar((0, -height, 0), (reach, -height - 0.2, 0), 0.6 * radius, metal)
        frame.add(Kind.BOX, (reach, -height - 0.15, 0), (0.35, 0.08, 0.15), metal)
        frame.add(Kind.BOX, (reach, -height - 0.06, 0), (0.3, 0.02, 0.12),
                  _paint(builder, (1.6, 1.5, 1.2), glow=1.0))
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
                  _paint(frame.builder, (0.1,) * 3))
    return 1.0


_FURNITURE = (_table, _table, _chair, _chair, _shelf, _shelf, _cabinet, _sofa, _lamp, _plant,
              _boxes, _boxes, _two_wheeler)


def _paint(builder: SceneBuilder, colour: Sequence[float], gloss: float = 0.0,
           plain: Optional[float] = None, mirror: float = 0.0, glow: float = 0.0) -> Material:
    plain = builder.rng.uniform(0.85, 1) if plain is None else plain
    return builder.material(8, 'noise', plain, tint=colour, gloss=gloss, mirror=mirror, glow=glow)


def _clothes(builder: SceneBuilder) -> tuple[Material, Material, Material]:
    rng = builder.rng
    trousers = builder.material(10, 'noise', rng.uniform(0.5, 1), tint=builder.tint(0.2))
    jacket = builder.material(10, metres=rng.uniform(0.5, 2), plain=rng.choice([0.2, 0.95]),
                              tint=builder.tint(0.5))
    return trousers, jacket, _paint(builder, np.array([1.2, 0.9, 0.75]) * rng.uniform(0.4, 1.1))


def _head(frame: Frame, centre: Sequence[float], size: float, skin: Material) -> None:
    frame.add(Kind.ELLIPSOID, centre, (0.75 * size, size, 0.65 * size), skin)
    dark = _paint(frame.builder, frame.builder.rng.uniform(0.1, 0.6, 3))
    frame.add(Kind.ELLIPSOID, np.asarray(centre) - (0.12 * size, 0.25 * size, 0),
              (0.72 * size, 0.72 * size, 0.7 * size), dark)


def _shadow(builder: SceneBuilder, position: Sequence[float], yaw: float,
            half: tuple[float, float], velocity: Sequence[float]) -> None:
    """A dark patch on the ground."""
    frame = builder.frame(position, yaw, 0, velocity)
    frame.add(Kind.CARD, (0, -0.01, 0), (*half, 0), _paint(builder, (0.12,) * 3),
              rotation_xyz(np.pi / 2), ground=True)
