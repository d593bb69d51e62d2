"""Streets: a road with kerbs and lane marks, houses, trees and poles."""

from dataclasses import replace

import numpy as np

from svp_ros.data.world.builder import SceneBuilder
from svp_ros.data.world.lights import make_daylight, make_night
from svp_ros.data.world.objects import add_pole
from svp_ros.data.world.plants import add_bush, add_tree
from svp_ros.data.world.scene import Kind, Light, Pose, rotation_xyz
from svp_ros.data.world.traffic import add_people, add_traffic, Lanes, Spots

FLAT = rotation_xyz(np.pi / 2)  # card on the ground: u to the right, v forward or back
FAR = 140.0  # metres


def build_street(builder: SceneBuilder) -> tuple[Light, Pose, np.ndarray]:
    """Add a straight street along +z; return light, camera pose and camera velocity."""
    rng, config = builder.rng, builder.config
    road = rng.uniform(3.0, 6.5)  # half width
    own_x, own_speed = rng.uniform(0.15, 0.8) * (road - 1.8), rng.uniform(5, 10)
    _add_road(builder, road)
    for side in (-1, 1):
        _add_side(builder, side, road)
    lanes, spots = Lanes(road, own_x, own_speed), Spots()
    spots.take(own_x, 0, 1.2, 3.5)  # the camera's own car
    add_traffic(builder, lanes, spots)
    add_people(builder, lanes, spots)
    height = rng.uniform(*config.street_camera_height)
    pitch = np.radians(rng.uniform(*config.street_pitch_degrees))
    yaw = rng.normal(0, 0.03) if rng.random() < 0.8 else rng.normal(0, 0.3)
    roll = rng.normal(0, 0.006)
    pose = Pose(np.array([own_x, -height, 0.0]), rotation_xyz(pitch, yaw, roll))
    shaded = np.array([own_x, 0, rng.uniform(9, 14)])
    if rng.random() < config.night_share:
        lamp = pose.position + (rng.uniform(-0.6, 0.6), rng.uniform(-3, 0.8), rng.uniform(-2, 0.5))
        light = make_night(builder, lamp, shaded, 9.0)
    else:
        light = make_daylight(builder, shaded, rng.uniform(9, 22))
    return light, pose, np.array([0, 0, own_speed])


def _add_road(builder: SceneBuilder, road: float) -> None:
    rng = builder.rng
    green = rng.random() < 0.5
    verge = builder.material(8, 'grass' if green else 'speckle', plain=rng.uniform(0, 0.5),
                             gloss=0, metres=rng.uniform(2, 6))
    builder.add(Kind.CARD, (0, 0.02, 60), (250, 250, 0), verge, FLAT, ground=True)
    asphalt = builder.material(8, str(rng.choice(['asphalt', 'asphalt', 'speckle'])),
                               plain=rng.uniform(0.0, 0.8), gloss=0,
                               metres=rng.uniform(3, 8), tint=rng.uniform(0.5, 1.0) * np.ones(3))
    builder.add(Kind.CARD, (0, 0, 60), (road, 200, 0), asphalt, FLAT, ground=True)
    if rng.random() < 0.4:  # a side street
        z = rng.uniform(12, 50)
        builder.add(Kind.CARD, (0, 0.01, z), (60, rng.uniform(3, 5), 0), asphalt, FLAT,
                    ground=True)
    lines = [(0.0, True)] if rng.random() < 0.8 else []
    if rng.random() < 0.6:
        lines += [(-road + 0.25, False), (road - 0.25, False)]
    if road > 5:
        lines += [(-road / 2, True), (road / 2, True)]
    white = rng.uniform(0.7, 1.3) * np.array([1, 1, rng.choice([1, 1, 0.6])])
    for x, dashed in lines:
        half = (rng.uniform(0.05, 0.1), 60)
        if dashed:
            material = builder.fitted('mark', half, (0.3, 60 / rng.uniform(3, 9)), white)
            builder.add(Kind.CUTOUT, (x, -0.008, 58), (*half, 0), material, FLAT, ground=True)
        else:
            builder.add(Kind.CARD, (x, -0.008, 58), (*half, 0),
                        builder.fitted('mark', half, (0.3, 40), white), FLAT, ground=True)
    if rng.random() < 0.3:  # a crossing
        half = (rng.uniform(1, 2), road)
        builder.add(Kind.CUTOUT, (0, -0.009, rng.uniform(8, 30)), (*half, 0),
                    builder.fitted('mark', half, (0.5, 2 * road), white),
                    FLAT @ rotation_xyz(roll=np.pi / 2), ground=True)
    for _ in range(rng.integers(0, 3)):  # leaves and patches of tar
        size = rng.uniform(0.8, 4, 2)
        tint = rng.uniform(0.1, 0.5) * np.ones(3)
        builder.add(Kind.CUTOUT, (rng.uniform(-road, road), -0.006, rng.uniform(4, 40)),
                    (*size, 0), builder.fitted('leaf', size, tint=tint, plain=0.7), FLAT,
                    ground=True)


def _add_side(builder: SceneBuilder, side: int, road: float) -> None:
    """Pavement, then a row of houses, hedges, fences or trees."""
    rng = builder.rng
    pavement = rng.uniform(1, 4) if rng.random() < 0.8 else 0
    if pavement:
        slabs = builder.material(8, str(rng.choice(['asphalt', 'speckle', 'pattern', 'stone'])),
                                 plain=rng.uniform(0.2, 0.8), gloss=0, metres=rng.uniform(2, 4),
                                 tint=rng.uniform(0.6, 1.2) * np.ones(3))
        builder.add(Kind.BOX, (side * (road + pavement / 2), 0, 60), (pavement / 2, 0.12, 200),
                    slabs, ground=True)
    edge = road + pavement
    line = edge + (rng.uniform(0, 2) if rng.random() < 0.5 else rng.uniform(2, 12))
    z = rng.uniform(-6, 6)
    while z < FAR:
        length = rng.uniform(7, 22)
        choice = rng.random()
        if choice < 0.5:
            _add_house(builder, side, line + rng.uniform(0, 2), z, length)
        elif choice < 0.65:
            _add_hedge(builder, side, line, z, length)
        elif choice < 0.85:
            _add_wood(builder, side, line, z, length)
        elif choice < 0.95:
            _add_fence(builder, side, edge + 0.2, z, length)
        z += length + (rng.uniform(0, 3) if rng.random() < 0.7 else rng.uniform(3, 15))
        if rng.random() < 0.35 and z < 40:
            _add_fence(builder, side, edge + 0.3, z - length, length)
    spacing = rng.uniform(7, 25)
    if rng.random() < 0.25:  # a slope beside the road
        bank = builder.material(10, 'grass', 0.2, gloss=0, metres=rng.uniform(2, 5))
        builder.add(Kind.CARD, (side * (line + 3), -0.6, 60), (6, 100, 0), bank,
                    rotation_xyz(roll=-side * rng.uniform(0.15, 0.6)) @ FLAT, ground=True)
    for z in np.arange(rng.uniform(3, 15), 60, spacing):
        position = (side * (road + 0.4), 0, z + rng.normal(0, 0.5))
        if rng.random() < 0.5:
            add_pole(builder, position, 0 if side < 0 else np.pi)
        elif z < 45:
            add_tree(builder, position)
    if rng.random() < 0.3:
        metal = builder.material(10, 'noise', 0.9, tint=(0.15,) * 3)
        frame = builder.frame((side * (road + 0.4), 0, 0), 0)
        for _ in range(rng.integers(1, 4)):
            height = rng.uniform(5, 8)
            frame.bar((rng.normal(0, 0.3), -height, -2), (rng.normal(0, 0.3), -height, 80), 0.02,
                      metal)


def _add_house(builder: SceneBuilder, side: int, line: float, z: float, length: float) -> None:
    rng = builder.rng
    depth, height = rng.uniform(6, 12), rng.uniform(3.5, 14)
    centre = np.array([side * (line + depth / 2), -height / 2, z + length / 2])
    blank = rng.random() < 0.3 * builder.config.plain_share
    wall = builder.material(20, 'plaster' if blank else 'facade', rng.uniform(0, 0.3),
                            builder.tint(0.08), gloss=0, metres=rng.uniform(3, 7))
    wall = replace(wall, glass=builder.shine(-0.2, 0.6))
    builder.add(Kind.BOX, centre, (depth / 2, height / 2, length / 2), wall)
    if rng.random() < 0.6:
        roof = rng.uniform(1, 4)
        tiles = builder.material(20, str(rng.choice(['pattern', 'speckle'])),
                                 rng.uniform(0.2, 0.9), gloss=0,
                                 tint=rng.uniform(0.3, 1) * np.array([1, 0.65, 0.55]))
        builder.add(Kind.BOX, centre - (0, height / 2 + roof / 2, 0),
                    (depth / 2 + 0.4, roof / 2, length / 2 + 0.3), tiles, taper=(1.0, 0.0))
    for _ in range(rng.integers(0, 4)):  # doors, shop windows, balconies, signs
        wide, tall = rng.uniform(0.4, 1.5), rng.uniform(0.4, 1.2)
        level = tall if rng.random() < 0.5 else rng.uniform(0, height - tall)
        builder.add(Kind.BOX, (side * line, -max(level, tall), z + rng.uniform(0, length)),
                    (rng.uniform(0.03, 0.5), tall, wide), builder.material(15))


def _add_hedge(builder: SceneBuilder, side: int, line: float, z: float, length: float) -> None:
    rng = builder.rng
    height = rng.uniform(0.5, 1.3)
    leaves = builder.material(10, 'leaf', 0, metres=rng.uniform(0.8, 2), gloss=0,
                              tint=builder.tint(0.15))
    builder.add(Kind.BOX, (side * (line + 0.4), -height, z + length / 2),
                (rng.uniform(0.3, 0.8), height, length / 2), leaves, taper=(0.2, 0.05))
    for _ in range(rng.integers(2, 6) if z < 50 else 1):
        half = rng.uniform(0.5, 1.2) * height * np.array([1, 1, rng.uniform(1, 2)])
        add_bush(builder, (side * (line + 0.2), -height * rng.uniform(0.6, 1.5),
                           z + rng.uniform(0, length)), half, 2)


def _add_wood(builder: SceneBuilder, side: int, line: float, z: float, length: float) -> None:
    """A few trees before a dark green mass."""
    rng = builder.rng
    for _ in range(2):
        size = rng.uniform(0.3, 0.6, 3) * length
        size[1] = rng.uniform(2, 6)
        add_bush(builder, (side * (line + 5 + size[0]), -size[1] * 0.7,
                           z + rng.uniform(0, length)), size, 2 if z < 60 else 1)
    if z < 60:
        for _ in range(rng.integers(1, 4)):
            add_tree(builder, (side * (line + rng.uniform(0, 4)), 0, z + rng.uniform(0, length)))


def _add_fence(builder: SceneBuilder, side: int, x: float, z: float, length: float) -> None:
    rng = builder.rng
    height = rng.uniform(0.4, 0.9)
    if rng.random() < 0.3:
        builder.add(Kind.BOX, (side * x, -height, z + length / 2), (0.1, height, length / 2),
                    builder.material(10, metres=rng.uniform(1, 3), gloss=0))
        return
    pattern = builder.fitted('fence', (length / 2, height), (length / rng.uniform(1, 3), 1))
    builder.add(Kind.CUTOUT, (side * x, -height, z + length / 2), (length / 2, height, 0),
                pattern, rotation_xyz(0, np.pi / 2))
