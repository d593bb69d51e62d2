"""Free-floating clutter and tabletops: things whose depths are set by the wanted disparities."""

from typing import Optional

import numpy as np

from svp_ros.data.world.builder import keep_off, SceneBuilder
from svp_ros.data.world.fields import add_rock
from svp_ros.data.world.lights import make_lamp
from svp_ros.data.world.plants import add_lattice, add_spikes, add_wires
from svp_ros.data.world.scene import Kind, Light, log_uniform, random_rotation, rotation_xyz
from svp_ros.geometry import StereoCamera


def build_clutter(builder: SceneBuilder, camera: StereoCamera, nearest: float) -> Light:
    """Random primitives in front of a wall, a room or the sky."""
    rng, config = builder.rng, builder.config
    back = nearest * log_uniform(rng, 2.0, 12.0)
    if rng.random() < 0.85:
        _backdrop(builder, camera, back)
    if rng.random() < 0.3:
        _ground(builder, camera, nearest, back)
    for _ in range(rng.integers(*config.clutter_objects)):
        depth = 1 / rng.uniform(0.9 / back, 0.8 / nearest)
        size = depth * log_uniform(rng, 0.02, 0.2) * camera.width / camera.fx
        centre = _inside_view(rng, camera, depth)
        if rng.random() < 0.5 * config.thin_share:
            _thin_object(builder, centre, size, depth, nearest)
        else:
            builder.random_object(centre, size, depth, config.thin_share, nearest)
    return _lamp(builder, camera, nearest, back)


def build_table(builder: SceneBuilder, camera: StereoCamera, nearest: float) -> Light:
    """Large, close, often blank things before a near backdrop, as on a photographer's table."""
    rng, config = builder.rng, builder.config
    back = nearest * log_uniform(rng, 1.6, 4.0)
    _backdrop(builder, camera, back)
    floor = None
    if rng.random() < 0.6:
        floor = _ground(builder, camera, nearest, back)
    for _ in range(rng.integers(*config.table_objects)):
        depth = 1 / rng.uniform(1 / back, 0.9 / nearest)
        size = depth * log_uniform(rng, 0.04, 0.3) * camera.width / camera.fx
        centre = _inside_view(rng, camera, depth)
        if rng.random() < 0.5 * config.thin_share:
            _thin_object(builder, centre, size, depth, nearest)
        elif rng.random() < 0.25:
            builder.random_object(centre, size, depth, config.thin_share, nearest)
        else:
            _standing_object(builder, centre, size, depth, floor, nearest)
    return _lamp(builder, camera, nearest, back)


def _standing_object(builder: SceneBuilder, centre: np.ndarray, size: float, depth: float,
                     floor: Optional[float], nearest: float) -> None:
    """Add a box, ball, pot, stone, leaning board or cloth, on the table if there is one."""
    rng = builder.rng
    if rng.random() < 0.1:
        add_rock(builder, keep_off(centre, np.full(3, 0.9 * size), nearest), size, depth)
        return
    if rng.random() < builder.config.curved_share:
        turn = rotation_xyz(rng.normal(0, 0.5), rng.uniform(-1, 1), rng.choice([0, np.pi / 2]))
        builder.add_sheet(centre, 1.3 * size * np.exp(rng.normal(0, 0.3, 2)), depth, turn,
                          builder.next_instance(), nearest)
        return
    half = size * np.exp(rng.normal(0, 0.3, 3))
    rotation = rotation_xyz(0, rng.uniform(-np.pi, np.pi), 0)
    taper = (0.0, 0.0)
    kind = Kind(rng.choice([Kind.BOX, Kind.ELLIPSOID, Kind.CYLINDER, Kind.CARD],
                           p=[0.35, 0.2, 0.25, 0.2]))
    if kind is Kind.CYLINDER:
        half[2] = half[0]
        taper = (float(rng.choice([0, rng.uniform(0.1, 0.6), 1])), 0.0)
    elif kind is Kind.CARD:
        rotation = rotation_xyz(rng.uniform(-0.6, 0.6), rng.uniform(-1.1, 1.1),
                                rng.choice([0, rng.uniform(-0.5, 0.5)]))
    elif kind is Kind.BOX and rng.random() < 0.25:
        taper = tuple(rng.uniform(0, 1, 2).tolist())
    centre = keep_off(centre, half, nearest)
    if floor is not None:
        centre = np.array([centre[0], floor - half[1], centre[2]])
    builder.add(kind, centre, half, builder.material(depth), rotation, taper,
                builder.next_instance())


def _thin_object(builder: SceneBuilder, centre: np.ndarray, size: float, depth: float,
                 nearest: float) -> None:
    """Add a lattice, a spiky plant or wires."""
    rng = builder.rng
    choice = rng.integers(3)
    centre = keep_off(centre, np.full(3, 1.5 * size), nearest)
    if choice == 0:
        add_lattice(builder, centre, 1.2 * size, depth, random_rotation(rng),
                    builder.next_instance())
    elif choice == 1:
        add_spikes(builder, centre, 1.6 * size, depth, builder.next_instance())
    else:
        add_wires(builder, centre, 1.5 * size, depth)


def _inside_view(rng: np.random.Generator, camera: StereoCamera, depth: float) -> np.ndarray:
    x, y = rng.uniform(-0.05, 1.05, 2) * (camera.width, camera.height)
    return depth * np.array([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, 1])


def _backdrop(builder: SceneBuilder, camera: StereoCamera, depth: float) -> None:
    """Add a wall, or a cloth that hangs in folds, which fills the view at about `depth`."""
    rng = builder.rng
    size = 6 * depth * max(camera.width / camera.fx, camera.height / camera.fy)
    rotation = rotation_xyz(rng.normal(0, 0.12), rng.normal(0, 0.25), rng.normal(0, 0.2))
    material = builder.wall(depth)
    if rng.random() < builder.config.curved_share:
        folds = depth * log_uniform(rng, 0.01, 0.08)
        builder.add(Kind.SHEET, (0, 0, depth + folds), (size, size, folds), material, rotation,
                    (rng.choice([-1, 1]) * log_uniform(rng, 6, 60), rng.normal(0, 8)))
    else:
        builder.add(Kind.CARD, (0, 0, depth), (size, size, 0), material, rotation)


def _ground(builder: SceneBuilder, camera: StereoCamera, nearest: float, back: float) -> float:
    """Add a level plane that rises to somewhere between the horizon and the lower edge."""
    rng = builder.rng
    row = rng.uniform(0.55, 0.95) * camera.height  # where it meets the backdrop
    height = max(back * (row - camera.cy), nearest * (camera.height - camera.cy)) / camera.fy
    rotation = rotation_xyz(np.pi / 2, 0, 0)
    size = 10 * back * camera.width / camera.fx
    builder.add(Kind.CARD, (0, height, 0), (size, size, 0), builder.material(1.2 * nearest),
                rotation)
    return height


def _lamp(builder: SceneBuilder, camera: StereoCamera, nearest: float, back: float) -> Light:
    rng = builder.rng
    position = rng.normal(0, 1, 3) * back
    position[1] = -abs(position[1]) - 0.3 * back
    position[2] = min(position[2], 0.5 * back)
    middle = np.array([0, 0, 0.5 * (nearest + back)])
    return make_lamp(builder, position, back * log_uniform(rng, 0.7, 10), middle,
                     0.7 * back * camera.width / camera.fx)
