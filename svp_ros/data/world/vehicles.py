"""Cars of several bodies, vans and lorries."""

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from svp_ros.data.world.builder import Frame, SceneBuilder
from svp_ros.data.world.scene import Kind, Material, rotation_xyz

COLOURS = ((1.4, 1.4, 1.4), (0.08, 0.08, 0.09), (0.6, 0.62, 0.65), (0.9, 0.9, 0.92),
           (0.75, 0.1, 0.08), (0.1, 0.2, 0.6), (0.35, 0.36, 0.38), (0.1, 0.35, 0.2))
STILL = (0.0, 0.0, 0.0)
WHEELS_UP = rotation_xyz(np.pi / 2)


@dataclass(frozen=True)
class Body:
    """The side view of a kind of car.

    Lengths are shares of the car's, from its middle forward; heights are shares of its height.

    Args:
        share: how many of all cars have it.
        size: mean length, height and width, metres.
        windscreen: where it starts, and where it meets the roof.
        rear: where the rear window meets the roof, and where it ends.
        bonnet: height of the front end.
        waist: height at which windows begin.
    """

    share: float
    size: tuple[float, float, float]
    windscreen: tuple[float, float]
    rear: tuple[float, float]
    bonnet: float
    waist: float


# together the mean sizes of KITTI's cars: 3.9 x 1.53 x 1.63
HATCHBACK = Body(0.42, (3.65, 1.47, 1.61), (0.24, 0.04), (-0.36, -0.47), 0.52, 0.6)
SALOON = Body(0.18, (4.2, 1.42, 1.66), (0.2, 0.04), (-0.2, -0.35), 0.54, 0.63)
ESTATE = Body(0.16, (4.25, 1.47, 1.67), (0.22, 0.05), (-0.42, -0.49), 0.52, 0.61)
OFF_ROADER = Body(0.11, (4.2, 1.72, 1.74), (0.22, 0.09), (-0.42, -0.48), 0.56, 0.62)
PEOPLE_CARRIER = Body(0.13, (4.0, 1.63, 1.67), (0.37, 0.12), (-0.42, -0.49), 0.5, 0.57)
BODIES = (HATCHBACK, SALOON, ESTATE, OFF_ROADER, PEOPLE_CARRIER)
VAN = Body(0.0, (5.0, 2.2, 1.9), (0.42, 0.27), (-0.485, -0.5), 0.48, 0.52)


def add_car(builder: SceneBuilder, position: Sequence[float], yaw: float,
            velocity: Sequence[float] = STILL) -> None:
    """One of the bodies in a random size; labelled Car."""
    rng = builder.rng
    shares = np.array([body.share for body in BODIES])
    body = BODIES[rng.choice(len(BODIES), p=shares / shares.sum())]
    size = np.array(body.size) * rng.normal(1, (0.065, 0.045, 0.04))
    _add_body(builder.frame(position, yaw, builder.next_instance(), velocity), body, size, 'Car',
              False)


def add_van(builder: SceneBuilder, position: Sequence[float], yaw: float,
            velocity: Sequence[float] = STILL) -> None:
    """A delivery van or a minibus; labelled Van."""
    rng = builder.rng
    size = np.array(VAN.size) * rng.normal(1, (0.07, 0.1, 0.04))
    _add_body(builder.frame(position, yaw, builder.next_instance(), velocity), VAN, size, 'Van',
              rng.random() < 0.6)


def _add_body(frame: Frame, body: Body, size: np.ndarray, label: str, blind: bool) -> None:
    """Bonnet, rear, two wedges of glass, roof, pillars, wheels, lights; blind: no side windows."""
    builder, rng = frame.builder, frame.builder.rng
    length, height, width = size
    colour = np.array(COLOURS[rng.integers(len(COLOURS))]) * rng.uniform(0.8, 1.2)
    paint = builder.paint(colour, gloss=rng.uniform(0.1, 0.6), mirror=builder.shine(0.02, 0.2))
    glass = builder.paint(rng.uniform(0.08, 0.25) * np.array([0.9, 1, 1.1]),
                          gloss=rng.uniform(0.2, 0.8), plain=0.6, mirror=builder.shine(0.1, 0.5))
    foot, roof_front = (np.array(body.windscreen) + rng.normal(0, 0.01)) * length
    roof_rear, tail = (np.array(body.rear) + rng.normal(0, 0.008)) * length
    waist, bonnet = np.array([body.waist, body.bonnet]) * height * rng.uniform(0.95, 1.05)
    clearance = 0.13 * height
    _add_slab(frame, -length / 2, length / 2, clearance, bonnet, width / 2, paint, (0.05, 0.03))
    _add_slab(frame, -length / 2, foot + 0.03, bonnet, waist, 0.485 * width, paint, (0.03, 0.04))
    steep, flat = roof_rear - tail, foot - roof_front
    _add_slab(frame, tail, foot, waist, height, 0.452 * width, glass,
              (2 * flat / (foot - tail), 0.18))
    _add_slab(frame, tail, roof_front + steep, waist, height, 0.458 * width,
              paint if blind else glass, (2 * steep / (roof_front + steep - tail), 0.18))
    _add_slab(frame, roof_rear, roof_front, 0.95 * height, height, 0.385 * width, paint,
              (0.0, 0.05))
    radius = 0.2 * min(height, 1.75)
    rubber = builder.paint((0.1, 0.1, 0.1))
    for side in (-1, 1):
        for low, high in ((foot, roof_front), (tail, roof_rear)):
            frame.bar((low, -waist, side * 0.45 * width),
                      (high, -0.97 * height, side * 0.375 * width), 0.045, paint)
        for end, light in ((1, (1.5, 1.5, 1.3)), (-1, (0.8, 0.05, 0.05))):
            frame.add(Kind.CYLINDER, (end * 0.3 * length, -radius, side * (width / 2 - 0.1)),
                      (radius, 0.1, radius), rubber, WHEELS_UP)
            level = 0.8 * bonnet if end == 1 else 0.85 * waist
            frame.add(Kind.BOX, (end * (length / 2 - 0.06), -level, side * 0.37 * width),
                      (0.055, 0.06 * rng.uniform(0.8, 1.8), 0.15),
                      builder.paint(light, gloss=0.5, glow=0.6))
    plate = builder.fitted('text', (0.26, 0.26), (0.5, 0.5))
    frame.add(Kind.BOX, (-length / 2 + 0.03, -0.6 * bonnet, 0), (0.028, 0.06, 0.26), plate)
    frame.add(Kind.BOX, (length / 2 - 0.03, -0.66 * bonnet, 0),
              (0.027, 0.1 * bonnet, 0.22 * width), rubber)
    frame.label(label)
    frame.shadow((0.52 * length, 0.55 * width))


def _add_slab(frame: Frame, rear: float, front: float, low: float, high: float, half_width: float,
              material: Material, taper: tuple[float, float]) -> None:
    """Add a box between two heights above the ground."""
    frame.add(Kind.BOX, ((rear + front) / 2, -(low + high) / 2, 0),
              ((front - rear) / 2, (high - low) / 2, half_width), material, taper=taper)


def add_truck(builder: SceneBuilder, position: Sequence[float], yaw: float,
              velocity: Sequence[float] = STILL) -> None:
    """A lorry: cargo box, cab and wheels; labelled Truck."""
    rng = builder.rng
    length, height, width = rng.uniform(6, 11), rng.uniform(2.7, 3.7), rng.uniform(2.2, 2.6)
    frame = builder.frame(position, yaw, builder.next_instance(), velocity)
    cargo = 0.5 * length - rng.uniform(0.9, 1.2)
    _add_slab(frame, -length / 2, -length / 2 + 2 * cargo, 0.1 * height, height, width / 2,
              builder.material(10, plain=rng.choice([0, 0.5, 0.95]), metres=rng.uniform(2, 5),
                               tint=builder.tint(0.15)), (0.0, 0.0))
    paint = builder.paint(COLOURS[rng.integers(len(COLOURS))], gloss=0.4,
                          mirror=builder.shine(0.0, 0.15))
    cab = length / 2 - cargo
    frame.add(Kind.BOX, (length / 2 - cab, -0.45 * height, 0), (cab, 0.35 * height, 0.48 * width),
              paint, taper=(0.3, 0.1))
    frame.add(Kind.BOX, (length / 2 - cab + 0.03, -0.6 * height, 0),
              (0.93 * cab, 0.13 * height, 0.49 * width), builder.paint(
                  (0.1, 0.12, 0.14), gloss=0.6, plain=0.6, mirror=builder.shine(0.1, 0.5)))
    for side in (-1, 1):
        for x in (-0.3, 0.32):
            frame.add(Kind.CYLINDER, (x * length, -0.42, side * (width / 2 - 0.15)),
                      (0.42, 0.14, 0.42), builder.paint((0.1, 0.1, 0.1)), WHEELS_UP)
    frame.label('Truck')
    frame.shadow((length / 2, 0.52 * width))
