"""People on foot and on bicycles."""

from typing import Sequence

import numpy as np

from svp_ros.data.world.builder import Frame, SceneBuilder
from svp_ros.data.world.scene import Kind, Material, rotation_xyz

STILL = (0.0, 0.0, 0.0)
UPSIDE_DOWN = rotation_xyz(np.pi)


def add_pedestrian(builder: SceneBuilder, position: Sequence[float], yaw: float,
                   velocity: Sequence[float] = STILL) -> None:
    """Somebody who stands or walks, with or without coat, bag and hat; labelled Pedestrian."""
    rng = builder.rng
    tall = rng.normal(1.75, 0.09) if rng.random() < 0.93 else rng.uniform(1.0, 1.4)
    scale = tall / 1.75
    broad = scale * rng.uniform(0.9, 1.2)
    frame = builder.frame(position, yaw, builder.next_instance(), velocity)
    trousers, jacket, skin = _clothes(builder)
    step = scale * rng.choice([rng.uniform(0.02, 0.12), rng.uniform(0.15, 0.42)], p=[0.3, 0.7])
    hip, shoulder = 0.5 * tall, 0.82 * tall
    shoes = builder.paint(rng.uniform(0.05, 0.5) * np.ones(3))
    for side in (-1, 1):
        foot = np.array([side * step, -0.06 * scale, side * 0.1 * broad])
        frame.bar(foot, (0, -hip, side * 0.09 * broad), 0.075 * broad, trousers)
        frame.add(Kind.ELLIPSOID, foot + (0.06 * scale, 0.01 * scale, 0),
                  (0.14 * scale, 0.05 * scale, 0.05 * scale), shoes)
        top = np.array([0, -0.97 * shoulder, side * 0.21 * broad])
        if rng.random() < 0.3:  # bent: a telephone, a hand in a pocket
            elbow = top + np.array([-0.06, 0.28, side * 0.04]) * scale
            frame.bar(top, elbow, 0.05 * broad, jacket)
            frame.bar(elbow, elbow + np.array([0.24, rng.uniform(-0.22, 0.12), -side * 0.04])
                      * scale, 0.045 * broad, jacket)
        else:
            frame.bar(top, (-side * step * 0.8, -0.47 * tall, side * 0.25 * broad),
                      0.05 * broad, jacket)
    frame.add(Kind.CYLINDER, (0, -(hip + shoulder) / 2, 0),
              (0.14 * broad, (shoulder - hip) / 2 + 0.03, 0.22 * broad), jacket, UPSIDE_DOWN,
              (0.25, 0))
    extra = rng.random()
    if extra < 0.25:  # a coat or a skirt
        hem = rng.uniform(0.2, 0.38) * tall
        frame.add(Kind.CYLINDER, (0, -(hip + hem) / 2, 0),
                  (0.2 * broad, (hip - hem) / 2 + 0.05, 0.22 * broad),
                  jacket if rng.random() < 0.5 else trousers, taper=(rng.uniform(0, 0.35), 0))
    elif extra < 0.45:  # a rucksack
        frame.add(Kind.ELLIPSOID, (-0.2 * broad, -0.7 * tall, 0),
                  (0.13 * scale, 0.24 * scale, 0.16 * scale), builder.material(10))
    elif extra < 0.6:  # a bag in a hand
        half = scale * rng.uniform(0.08, 0.18, 3) * (1, 1, 0.5)
        side = rng.choice([-1, 1])
        frame.add(Kind.BOX, (-side * step * 0.8, -0.45 * tall + half[1], side * 0.27 * broad),
                  half, builder.material(10))
    _head(frame, (0.02, -0.91 * tall, 0), 0.09 * tall, skin)
    frame.label('Pedestrian')
    frame.shadow((0.35, 0.3))


def add_cyclist(builder: SceneBuilder, position: Sequence[float], yaw: float,
                velocity: Sequence[float] = STILL) -> None:
    """A bicycle with its rider, upright or bent forward; labelled Cyclist."""
    rng = builder.rng
    tall = rng.normal(1.74, 0.08)
    frame = builder.frame(position, yaw, builder.next_instance(), velocity)
    add_bicycle(frame, rng.uniform(0.92, 1.06))
    trousers, jacket, skin = _clothes(builder)
    hip = np.array([-0.2, -0.95, 0])
    shoulder = np.array([rng.uniform(-0.05, 0.3), -0.82 * tall, 0])
    pedal = rng.uniform(-np.pi, np.pi)
    for side in (-1, 1):
        wide = np.array([0, 0, side * 0.1])
        foot = np.array([-0.05, -0.3, 0]) + side * 0.17 * np.array(
            [np.cos(pedal), np.sin(pedal), 0]) + wide
        knee = (hip + wide + foot) / 2 + (0.22, -0.1, 0)
        frame.bar(hip + wide, knee, 0.08, trousers)
        frame.bar(knee, foot, 0.06, trousers)
        frame.bar(shoulder + 1.9 * wide, (0.36, -1.0, side * 0.24), 0.05, jacket)
    torso = shoulder - hip
    lean = np.arctan2(torso[0], -torso[1])
    frame.add(Kind.CYLINDER, (hip + shoulder) / 2, (0.13, 0.52 * np.linalg.norm(torso), 0.21),
              jacket, rotation_xyz(roll=lean) @ UPSIDE_DOWN, (0.2, 0))
    if rng.random() < 0.25:  # a rucksack
        frame.add(Kind.ELLIPSOID, (hip + 2 * shoulder) / 3 - (0.2, 0, 0), (0.12, 0.22, 0.16),
                  builder.material(10), rotation_xyz(roll=lean))
    if rng.random() < 0.25:  # panniers
        frame.add(Kind.BOX, (-0.55, -0.6, 0), (0.17, 0.15, 0.2), builder.material(10))
    _head(frame, shoulder + (0.08, -0.18 * tall + 0.14, 0), 0.14, skin)
    frame.label('Cyclist')
    frame.shadow((0.8, 0.2))


def add_bicycle(frame: Frame, scale: float = 1.0) -> None:
    """Two spoked wheels and a frame of bars, 1.75 m long."""
    builder = frame.builder
    paint = builder.paint(builder.tint(0.6), gloss=0.3)
    wheel = builder.fitted('wheel', (0.34, 0.34))
    for x in (-0.53, 0.53):
        frame.add(Kind.CUTOUT, (scale * x, -0.345, 0), (0.34, 0.34, 0), wheel)
    seat, crank, head = (-0.22, -0.88, 0), (-0.05, -0.3, 0), (0.38, -0.82, 0)
    for start, end in ((seat, crank), (crank, head), (head, (-0.18, -0.75, 0)),
                       (crank, (-0.53, -0.34, 0)), ((-0.18, -0.75, 0), (-0.53, -0.34, 0)),
                       ((0.36, -0.98, 0), (0.53, -0.34, 0)),
                       ((0.36, -0.98, -0.25), (0.36, -0.98, 0.25))):
        frame.bar(np.multiply(start, (scale, 1, 1)), np.multiply(end, (scale, 1, 1)), 0.02, paint)
    frame.add(Kind.ELLIPSOID, (-0.24, -0.9, 0), (0.13, 0.04, 0.07), builder.paint((0.1,) * 3))


def _clothes(builder: SceneBuilder) -> tuple[Material, Material, Material]:
    rng = builder.rng
    trousers = builder.material(10, 'noise', rng.uniform(0.5, 1), tint=builder.tint(0.2))
    jacket = builder.material(10, metres=rng.uniform(0.5, 2), plain=rng.choice([0.2, 0.95]),
                              tint=builder.tint(0.5))
    return trousers, jacket, builder.paint(np.array([1.2, 0.9, 0.75]) * rng.uniform(0.4, 1.1))


def _head(frame: Frame, centre: Sequence[float], size: float, skin: Material) -> None:
    """Add a head of half height `size` with hair, a helmet or a hat."""
    builder = frame.builder
    frame.add(Kind.ELLIPSOID, centre, (0.75 * size, size, 0.65 * size), skin)
    dark = builder.paint(builder.rng.uniform(0.1, 0.6, 3))
    frame.add(Kind.ELLIPSOID, np.asarray(centre) - (0.12 * size, 0.25 * size, 0),
              (0.72 * size, 0.72 * size, 0.7 * size), dark)
