"""Scenes of the procedural world: textured primitives, light, sky, cameras and labelled boxes.

A scene is built in its own frame, which has the axes of an optical frame (x right, y down,
z forward) but stands level on the ground; `Scene.pose` says where the camera is in it.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
import math
from typing import Sequence

import numpy as np

from svp_ros.geometry import StereoCamera


class Kind(IntEnum):
    """Shapes; each fills the cube [-1, 1]^3 of its own axes before half size and rotation.

    BOX and CYLINDER (axis y) taper towards y = -1: radius 1 at y = 1, 1 - taper at y = -1.
    CARD and CUTOUT are the rectangle z = 0; a CUTOUT has holes where its texture has none.
    FOLIAGE is an ellipsoid's shell with such holes.
    SHEET is the wavy surface z = sheet_height(x, y) with taper as its waves: bent boards, hills,
    curtains, cloth.
    """

    BOX = 0
    ELLIPSOID = 1
    CYLINDER = 2
    CARD = 3
    CUTOUT = 4
    FOLIAGE = 5
    SHEET = 6


@dataclass(frozen=True)
class Material:
    """How a surface looks: a texture, more or less faded, times a tint, plus a highlight.

    Args:
        texture: number in the texture bank.
        density: texels per metre along u and v.
        offset: texels.
        tint: RGB factor.
        plain: 0 textured ... 1 blank.
        gloss: strength of the highlight, 0 is matt.
        mirror: share of the surroundings' reflection in the colour, seen head-on.
        glass: the same where the texture has holes, such as the panes of a facade.
        glow: light of its own, 0 is none.
    """

    texture: int
    density: tuple[float, float]
    offset: tuple[float, float]
    tint: tuple[float, float, float]
    plain: float = 0.0
    gloss: float = 0.0
    mirror: float = 0.0
    glass: float = 0.0
    glow: float = 0.0


@dataclass(frozen=True)
class Primitive:
    """One textured shape; `velocity` in metres per second moves it through a sequence.

    What is `ground`, with the marks on it, casts no shadow on other ground.
    """

    kind: Kind
    centre: np.ndarray
    half: np.ndarray
    rotation: np.ndarray
    material: Material
    taper: tuple[float, float] = (0.0, 0.0)
    instance: int = 0
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(3))
    ground: bool = False


@dataclass(frozen=True)
class LabelledBox:
    """A 3D box in the scene's frame: geometric centre, (l, h, w), yaw about +y."""

    label: str
    centre: np.ndarray
    size: tuple[float, float, float]
    yaw: float
    instance: int
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(3))


@dataclass(frozen=True)
class Light:
    """A lamp or sun at `position`, ambient light, air, sky and what mirrors reflect.

    Things cast shadows within `shadow_radius` metres of `shadow_centre`.
    """

    position: np.ndarray
    ambient: float
    colour: np.ndarray
    reach: float  # metres at which a lamp has half its strength; inf for the sun
    haze: float = 0.0  # 1 / metre
    horizon: np.ndarray = field(default_factory=lambda: np.ones(3))  # colours of the sky
    zenith: np.ndarray = field(default_factory=lambda: np.ones(3))
    clouds: int = 0  # texture number
    surroundings: int = 0  # texture number
    surroundings_distance: float = 10.0  # metres
    shadow_centre: np.ndarray = field(default_factory=lambda: np.zeros(3))
    shadow_radius: float = 0.0


@dataclass(frozen=True)
class Pose:
    """Camera in the scene: position of the left eye and rotation camera axes -> scene axes."""

    position: np.ndarray = field(default_factory=lambda: np.zeros(3))
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))


@dataclass(frozen=True)
class Scene:
    """Everything needed to render one stereo pair."""

    primitives: Sequence[Primitive]
    light: Light
    camera: StereoCamera
    pose: Pose = field(default_factory=Pose)
    boxes: Sequence[LabelledBox] = ()
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(3))  # of the camera, m / s

    def after(self, seconds: float) -> 'Scene':
        """Return the scene with camera, things and boxes moved on by their velocities."""
        def moved(item):
            return replace(item, centre=item.centre + seconds * item.velocity)

        pose = replace(self.pose, position=self.pose.position + seconds * self.velocity)
        return replace(self, primitives=[moved(item) for item in self.primitives], pose=pose,
                       boxes=[moved(item) for item in self.boxes])


def rotation_xyz(pitch: float = 0.0, yaw: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Return R_y(yaw) @ R_x(pitch) @ R_z(roll), radians."""
    cx, sx, cy, sy, cz, sz = (math.cos(pitch), math.sin(pitch), math.cos(yaw), math.sin(yaw),
                              math.cos(roll), math.sin(roll))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation uniformly (unit quaternion)."""
    w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw from [low, high] with uniform logarithm."""
    return float(low * (high / low) ** rng.random())
