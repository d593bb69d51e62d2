"""Open ground under the sky, seen by a low camera: grass, gravel, stones, bushes, fences."""

import numpy as np

from svp_ros.data.world.builder import SceneBuilder
from svp_ros.data.world.lights import make_daylight, make_night
from svp_ros.data.world.objects import add_furniture, add_pole
from svp_ros.data.world.people import add_pedestrian
from svp_ros.data.world.plants import add_bush, add_spikes, add_tree, add_tuft
from svp_ros.data.world.scene import (
    Kind,
    Light,
    log_uniform,
    Pose,
    random_rotation,
    rotation_xyz,
)
from svp_ros.geometry import StereoCamera

FLAT = rotation_xyz(np.pi / 2)


def build_field(builder: SceneBuilder, camera: StereoCamera, nearest: float
                ) -> tuple[Light, Pose]:
    """Add ground whose nearest visible point has depth `nearest`, and things that stand on it."""
    rng, config = builder.rng, builder.config
    pitch = -np.radians(rng.uniform(*config.field_pitch_degrees))  # about x, which points right
    rotation = rotation_xyz(pitch, 0, rng.normal(0, 0.06))
    corners = np.array([[(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, 1]
                        for x in (0, camera.width) for y in (0, camera.height)])
    height = nearest * max((corners @ rotation.T)[:, 1].max(), 0.05)
    far = nearest * log_uniform(rng, 10, 60)
    _add_ground(builder, height, far)
    for _ in range(rng.integers(8, 30)):
        distance = 1 / rng.uniform(1 / far, 0.6 / nearest)
        x = distance * rng.uniform(-0.6, 0.6) * camera.width / camera.fx
        _add_thing(builder, np.array([x, height, distance]), nearest)
    pose = Pose(np.zeros(3), rotation)
    middle = np.array([0, height, 3 * nearest])
    if rng.random() < config.night_share:
        return make_night(builder, np.array([rng.normal(0, 0.5), -0.3, -0.3]) * nearest, middle,
                          2.5 * nearest), pose
    return make_daylight(builder, middle, rng.uniform(2, 5) * nearest), pose


def _add_ground(builder: SceneBuilder, height: float, far: float) -> None:
    """Add a plane with paths and patches, hills behind it and perhaps a wall or a wood."""
    rng = builder.rng
    group = str(rng.choice(['grass', 'grass', 'asphalt', 'stone', 'leaf', 'speckle', 'pattern']))
    metres = log_uniform(rng, 0.8, 5) * max(height, 0.4)
    cover = builder.material(far, group, rng.choice([0, rng.uniform(0, 0.7)]), gloss=0, mirror=0,
                             metres=metres)
    builder.add(Kind.CARD, (0, height, 0), (100 * far, 100 * far, 0), cover, FLAT, ground=True)
    for _ in range(rng.integers(0, 3)):
        half = (log_uniform(rng, 0.3, 3) * height, far * rng.uniform(0.3, 2))
        path = builder.material(far, str(rng.choice(['asphalt', 'stone', 'grass', 'speckle'])),
                                gloss=0, mirror=0, metres=2 * half[0])
        builder.add(Kind.CARD, (rng.normal(0, 2) * height, height - 0.004 * height, far / 2),
                    (*half, 0), path, rotation_xyz(0, rng.normal(0, 0.7)) @ FLAT, ground=True)
    for _ in range(rng.integers(0, 4)):  # hills
        half = far * np.array([rng.uniform(0.4, 2), rng.uniform(0.3, 1), rng.uniform(0.01, 0.12)])
        grass = builder.material(far, str(rng.choice(['grass', 'leaf', 'stone'])), 0.3, gloss=0,
                                 mirror=0, metres=rng.uniform(0.2, 1) * far)
        if rng.random() < builder.config.curved_share * 3:
            builder.add(Kind.SHEET, (rng.uniform(-1, 1) * far, height + 0.2 * half[2],
                                     far * rng.uniform(1, 1.5)), half, grass,
                        rotation_xyz(0, rng.uniform(-3, 3)) @ FLAT, tuple(rng.normal(0, 2, 2)))
        else:
            half[2] = half[1]
            half[1] = far * rng.uniform(0.02, 0.15)
            builder.add(Kind.ELLIPSOID, (rng.uniform(-1.5, 1.5) * far, height, 2.2 * far), half,
                        grass)
    if rng.random() < 0.4:
        wall = builder.wall(far)
        tall = far * rng.uniform(0.03, 0.4)
        builder.add(Kind.BOX, (rng.normal(0, 0.4) * far, height - tall, 1.2 * far),
                    (far * rng.uniform(0.2, 1.5), tall, 0.1 * far), wall,
                    rotation_xyz(0, rng.normal(0, 0.3)))


def _add_thing(builder: SceneBuilder, foot: np.ndarray, nearest: float) -> None:
    """Add a plant, a stone, a fence, a pole, furniture or a person, not too near."""
    rng = builder.rng
    distance = foot[2]
    choice = rng.random()
    if choice < 0.12 and distance > nearest + 7:
        add_tree(builder, foot)
    elif choice < 0.2 and distance > nearest + 1.5:
        add_pedestrian(builder, foot, rng.uniform(-np.pi, np.pi))
    elif choice < 0.27 and distance > nearest + 1:
        add_pole(builder, foot, rng.uniform(-np.pi, np.pi))
    elif choice < 0.35 and distance > nearest + 2.5:
        add_furniture(builder, foot, rng.uniform(-np.pi, np.pi))
    else:
        size = min(distance * log_uniform(rng, 0.03, 0.2), 0.25 * (distance - nearest))
        if size <= 0:
            return
        if choice < 0.5:
            add_tuft(builder, foot, size)
        elif choice < 0.6:
            add_bush(builder, foot - (0, 0.6 * size, 0), size * rng.uniform(0.7, 1.3, 3))
        elif choice < 0.7:
            add_spikes(builder, foot, size, distance)
        elif choice < 0.8:
            half = size * np.array([rng.uniform(1, 2.5), rng.uniform(0.4, 1), 0])
            group = str(rng.choice(['fence', 'fence', 'twigs']))
            builder.add(Kind.CUTOUT, foot - (0, half[1], 0), half,
                        builder.fitted(group, half[:2], (rng.uniform(1, 3), 1)),
                        rotation_xyz(0, rng.normal(0, 0.6)))
        elif choice < 0.92:
            add_rock(builder, foot - (0, 0.3 * size, 0), size, distance)
        else:
            builder.random_object(foot - (0, size, 0), 0.6 * size, distance, 0.2, nearest)


def add_rock(builder: SceneBuilder, centre: np.ndarray, size: float, depth: float) -> None:
    """Add a stone: blocks and balls that run into each other."""
    rng = builder.rng
    instance = builder.next_instance()
    skin = builder.material(depth, str(rng.choice(['stone', 'stone', 'plaster', 'noise'])),
                            rng.uniform(0, 0.6), gloss=0, mirror=0)
    for _ in range(rng.integers(2, 5)):
        kind, taper = ((Kind.ELLIPSOID, (0.0, 0.0)) if rng.random() < 0.3 else
                       (Kind.BOX, tuple(rng.uniform(0.1, 0.7, 2))))
        builder.add(kind, centre + rng.normal(0, 0.2, 3) * size, size * rng.uniform(0.3, 0.8, 3),
                    skin, random_rotation(rng), taper, instance)
