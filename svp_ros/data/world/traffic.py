"""What stands and moves on streets: vehicles, people and cyclists, none inside another."""

from dataclasses import dataclass
from typing import Callable

import numpy as np

from svp_ros.data.world.builder import SceneBuilder
from svp_ros.data.world.people import add_bicycle, add_cyclist, add_pedestrian
from svp_ros.data.world.scene import log_uniform
from svp_ros.data.world.vehicles import add_car, add_truck, add_van

FORWARD, BACKWARD = -np.pi / 2, np.pi / 2  # yaw along +z and -z
FARTHEST = 70.0  # metres
VEHICLES = (add_car, add_van, add_truck)
HALF_LENGTHS = {add_car: 2.5, add_van: 3.0, add_truck: 5.8}


@dataclass(frozen=True)
class Lanes:
    """A road of `road` metres to either side, and the camera's place and speed on it."""

    road: float
    own_x: float
    own_speed: float


class Spots:
    """The rectangles on the ground that are taken."""

    def __init__(self):
        self.taken: list[tuple[float, float, float, float]] = []

    def take(self, x: float, z: float, half_x: float, half_z: float) -> bool:
        """Take a rectangle around (x, z) if all of it is free."""
        free = all(abs(x - other_x) >= half_x + other_half_x
                   or abs(z - other_z) >= half_z + other_half_z
                   for other_x, other_z, other_half_x, other_half_z in self.taken)
        if free:
            self.taken.append((x, z, half_x, half_z))
        return free


def add_traffic(builder: SceneBuilder, lanes: Lanes, spots: Spots) -> None:
    """Add parked, leading, oncoming and crossing vehicles."""
    rng, config = builder.rng, builder.config
    count = rng.integers(config.street_vehicles[0], config.street_vehicles[1] + 1)
    parked = rng.binomial(count, rng.choice([0.0, 0.4, 0.7, 0.9]))
    for side, some in zip((-1, 1), rng.multinomial(parked, [0.5, 0.5])):
        _park(builder, lanes, spots, side, some)
    for _ in range(count - parked):
        _drive(builder, lanes, spots)
    if rng.random() < 0.3:  # a bicycle without rider
        z = rng.uniform(5, 30)
        x = rng.choice([-1, 1]) * (lanes.road + rng.uniform(0.5, 1.5))
        if spots.take(x, z, 0.5, 0.9):
            add_bicycle(builder.frame((x, 0, z), rng.uniform(-np.pi, np.pi),
                                      builder.next_instance()))


def _park(builder: SceneBuilder, lanes: Lanes, spots: Spots, side: int, count: int) -> None:
    """Add a row of vehicles with gaps at one kerb, along the road or across it."""
    rng = builder.rng
    across = rng.random() < 0.15
    z = log_uniform(rng, 3, 40)
    x = side * (lanes.road + (rng.uniform(0.3, 1.0) if across else rng.uniform(-0.95, 0.5)))
    usual = rng.choice([FORWARD, BACKWARD])
    pitch = rng.uniform(2.4, 3.0) if across else rng.uniform(5.0, 6.0)
    while count and z < FARTHEST:
        count -= 1
        add = add_van if rng.random() < 0.1 else add_car
        yaw = usual if rng.random() < 0.8 else -usual
        half_x, half_z = 1.05, HALF_LENGTHS[add]
        if across:
            half_x, half_z, yaw = half_z, 1.15, yaw + np.pi / 2
        if spots.take(x, z, half_x, half_z):
            add(builder, (x + rng.normal(0, 0.08), 0, z), yaw + rng.normal(0, 0.04))
        z += pitch * (1 if rng.random() < 0.7 else rng.integers(2, 5))


def _drive(builder: SceneBuilder, lanes: Lanes, spots: Spots) -> None:
    """Add a vehicle that leads, comes towards the camera, crosses or turns."""
    rng = builder.rng
    add = VEHICLES[rng.choice(3, p=[0.84, 0.08, 0.08])]
    half = HALF_LENGTHS[add]
    for _ in range(4):
        manner = rng.choice(4, p=[0.35, 0.4, 0.15, 0.1])
        z, speed = log_uniform(rng, 7, FARTHEST), 0.0
        if manner == 0:
            x, yaw, speed = lanes.own_x, FORWARD, lanes.own_speed + rng.uniform(0, 3)
        elif manner == 1:
            x, yaw, speed = -0.45 * lanes.road, BACKWARD, rng.uniform(4, 14)
        else:
            x, z = lanes.own_x + rng.uniform(-0.5, 0.5) * max(z, 12), max(z, 12)
            yaw = rng.choice([0, np.pi]) + rng.normal(0, 0.1) if manner == 2 else \
                rng.uniform(-np.pi, np.pi)
        half_x = abs(half * np.cos(yaw)) + 1.1 * abs(np.sin(yaw))
        half_z = abs(half * np.sin(yaw)) + 1.1 * abs(np.cos(yaw))
        if spots.take(x, z, half_x, half_z):
            _add_moving(builder, add, x + rng.normal(0, 0.15), z, yaw + rng.normal(0, 0.03), speed)
            return


def add_people(builder: SceneBuilder, lanes: Lanes, spots: Spots) -> None:
    """Add pedestrians, some of them in groups, and cyclists."""
    rng, config = builder.rng, builder.config
    x, z = 0.0, 0.0
    for _ in range(rng.integers(config.street_people[0], config.street_people[1] + 1)):
        if z and rng.random() < 0.35:  # beside the one before
            x, z = x + rng.choice([-1, 1]) * rng.uniform(0.75, 1.2), z + rng.normal(0, 0.6)
        else:
            x = rng.choice([-1, 1]) * (lanes.road + rng.uniform(0.3, 3))
            if rng.random() < 0.3:
                x = lanes.own_x + rng.choice([-1, 1]) * rng.uniform(1.5, 4)
            z = log_uniform(rng, 4, 45)
        yaw = rng.choice([FORWARD, BACKWARD]) + rng.normal(0, 0.4)
        if rng.random() < 0.3:
            yaw = rng.uniform(-np.pi, np.pi)
        if spots.take(x, z, 0.35, 0.35):
            _add_moving(builder, add_pedestrian, x, z, yaw, rng.uniform(0, 1.6))
    for _ in range(rng.integers(config.street_cyclists[0], config.street_cyclists[1] + 1)):
        x = lanes.own_x + rng.choice([-1, 1]) * rng.uniform(1.5, 5)
        yaw = rng.choice([FORWARD, BACKWARD]) + rng.normal(0, 0.2)
        if rng.random() < 0.2:
            yaw = rng.uniform(-np.pi, np.pi)
        z = log_uniform(rng, 4.5, 45)
        if spots.take(x, z, 0.9, 0.9):
            _add_moving(builder, add_cyclist, x, z, yaw, rng.uniform(2, 6))


def _add_moving(builder: SceneBuilder, add: Callable, x: float, z: float, yaw: float,
                speed: float) -> None:
    add(builder, (x, 0, z), yaw, (speed * np.cos(yaw), 0, -speed * np.sin(yaw)))
