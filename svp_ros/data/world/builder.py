"""Collects the primitives of one scene and draws their materials."""

from typing import Optional, Sequence

import numpy as np

from svp_ros.data.world.config import WorldConfig
from svp_ros.data.world.scene import (
    Kind,
    LabelledBox,
    log_uniform,
    Material,
    Primitive,
    random_rotation,
    rotation_xyz,
)
from svp_ros.data.world.textures import SIZE

PAINTED = ('noise', 'noise', 'blob', 'pattern', 'pattern', 'speckle', 'figure', 'text')
NATURAL = ('wood', 'wood', 'stone', 'stone', 'plaster', 'plaster', 'cloth', 'cloth', 'asphalt',
           'grass', 'bark', 'leaf')
REPEATING = ('facade', 'pattern', 'cloth', 'text')
IDENTITY = np.eye(3)


def keep_off(centre: Sequence[float], half: np.ndarray, nearest: float) -> np.ndarray:
    """Push a centre away along its ray until the whole shape lies beyond `nearest` metres."""
    limit = nearest + np.linalg.norm(half)
    return np.asarray(centre) * max(1.0, limit / centre[2]) if nearest > 0 else np.asarray(centre)


class SceneBuilder:
    """Primitives and boxes under construction.

    Args:
        rng: source of all random choices of this scene.
        groups: texture numbers by group name.
        config: distributions.
        pixels: fx in pixels, which decides how fine a texture should be at a depth.
    """

    def __init__(self, rng: np.random.Generator, groups: dict[str, range], config: WorldConfig,
                 pixels: float):
        self.rng, self.groups, self.config, self.pixels = rng, groups, config, pixels
        self.primitives: list[Primitive] = []
        self.boxes: list[LabelledBox] = []
        self.last_instance = 0
        self.vivid = float(rng.choice([0.06, 0.12, 0.25]))

    def texture(self, group: str) -> int:
        """Draw a texture of one group."""
        return int(self.rng.choice(self.groups[group]))

    def tint(self, spread: Optional[float] = None) -> tuple[float, float, float]:
        """Draw a colour factor around 1; a larger spread than the scene's is more colourful."""
        spread = self.vivid if spread is None else spread
        grey = self.rng.uniform(0.6, 1.25)
        return tuple((grey * np.exp(self.rng.normal(0, spread, 3))).clip(0.05, 1.6).tolist())

    def material(self, depth: float, group: Optional[str] = None, plain: Optional[float] = None,
                 tint: Optional[Sequence[float]] = None,
                 gloss: Optional[float] = None, metres: Optional[float] = None,
                 mirror: Optional[float] = None, glow: float = 0.0) -> Material:
        """Draw a surface for something at `depth` metres.

        Args:
            depth: decides the texture's scale (config.texels_per_pixel).
            group: texture group; None draws a photograph or a pattern.
            plain: 0 textured ... 1 blank; None draws it.
            tint: None draws it.
            gloss: None draws it.
            metres: length of one texture repeat instead of a scale by depth.
            mirror: None draws it where gloss is drawn, too.
            glow: light of its own.
        """
        rng, config = self.rng, self.config
        if group is None:
            group = self._draw_group()
        if plain is None:
            plain = rng.uniform(0.9, 1.0) if rng.random() < config.plain_share else \
                rng.choice([0.0, rng.uniform(0, 0.7)])
        if tint is None:  # blank things are more colourful
            tint = self.tint(self.vivid + 0.2 * plain)
        if mirror is None:
            mirror = log_uniform(rng, 0.03, 0.6) if (
                gloss is None and rng.random() < config.reflective_share) else 0.0
        if gloss is None:
            gloss = rng.uniform(0.1, 0.6) if rng.random() < config.gloss_share else 0.0
        if metres is None:
            density = log_uniform(rng, *config.texels_per_pixel) * self.pixels / depth
        else:
            density = SIZE / metres
        return Material(self.texture(group), (density, density),
                        tuple(rng.uniform(0, SIZE, 2).tolist()),
                        tuple(tint), float(plain), float(gloss), float(mirror), 0.0, glow)

    def _draw_group(self) -> str:
        rng, config = self.rng, self.config
        if rng.random() < config.photograph_share:
            return 'photo'
        groups = NATURAL if rng.random() < config.natural_share else PAINTED
        return groups[rng.integers(len(groups))]

    def wall(self, depth: float) -> Material:
        """Draw a material for a large wall, which may repeat one small motif."""
        if self.rng.random() >= self.config.repeat_share:
            return self.material(depth)
        motif = log_uniform(self.rng, 12, 60) * depth / self.pixels  # that many pixels wide
        repeats = self.rng.integers(1, 4)
        group = REPEATING[self.rng.integers(len(REPEATING))]
        return self.material(depth, group, self.rng.uniform(0, 0.7), gloss=0.0,
                             metres=repeats * motif)

    def shine(self, low: float, high: float) -> float:
        """Draw how much glass or paint reflects; nothing below 0 or where reflections are off."""
        value = self.rng.uniform(low, high)
        return float(max(value, 0.0)) if self.config.reflective_share else 0.0

    def paint(self, colour: Sequence[float], gloss: float = 0.0, plain: Optional[float] = None,
              mirror: float = 0.0, glow: float = 0.0) -> Material:
        """Draw an almost blank material of this colour."""
        plain = self.rng.uniform(0.85, 1) if plain is None else plain
        return self.material(8, 'noise', plain, tint=colour, gloss=gloss, mirror=mirror, glow=glow)

    def fitted(self, group: str, half: Sequence[float], repeats: tuple[float, float] = (1, 1),
               tint: Optional[Sequence[float]] = None, plain: float = 0.0,
               mirror: float = 0.0, glow: float = 0.0) -> Material:
        """Draw a material whose texture covers a card of this half size `repeats` times."""
        density = tuple(SIZE * n / (2 * side) for n, side in zip(repeats, half))
        return Material(self.texture(group), density,
                        tuple(SIZE * n / 2 for n in repeats),
                        self.tint(0.1) if tint is None else tuple(tint), plain, 0.0, mirror, 0.0,
                        glow)

    def add(self, kind: Kind, centre: Sequence[float], half: Sequence[float], material: Material,
            rotation: np.ndarray = IDENTITY, taper: tuple[float, float] = (0.0, 0.0),
            instance: int = 0, velocity: Sequence[float] = (0.0, 0.0, 0.0),
            ground: bool = False) -> None:
        """Add one primitive."""
        self.primitives.append(Primitive(
            kind, np.asarray(centre, float), np.asarray(half, float), rotation, material, taper,
            instance, np.asarray(velocity, float), ground))

    def next_instance(self) -> int:
        """Return a new instance number, from 1."""
        self.last_instance += 1
        return self.last_instance

    def random_object(self, centre: Sequence[float], size: float, depth: float,
                      thin: float, nearest: float = 0.0) -> None:
        """Add one random primitive of about this half size, freely rotated.

        No part of it comes nearer than `nearest` metres to the plane of the eyes.
        """
        rng = self.rng
        instance = self.next_instance()
        if rng.random() < self.config.curved_share:
            self.add_sheet(centre, size * np.exp(rng.normal(0, 0.4, 2)), depth,
                           random_rotation(rng), instance, nearest)
            return
        kind = Kind(rng.choice(5, p=[0.36, 0.2, 0.2, 0.16, 0.08]))
        half = size * np.exp(rng.normal(0, 0.4, 3))
        if rng.random() < thin and kind in (Kind.BOX, Kind.CYLINDER):
            half = size * np.array([0.06, 1.6, 0.06]) * np.exp(rng.normal(0, 0.4, 3))
        if kind is Kind.CYLINDER:
            half[2] = half[0]
        rotation = random_rotation(rng)
        taper = (0.0, 0.0)
        if kind in (Kind.BOX, Kind.CYLINDER) and rng.random() < 0.35:
            taper = tuple(rng.choice([0.0, 1.0, rng.uniform(0, 1)], 2).tolist())
        if kind is Kind.CUTOUT:
            group = str(rng.choice(['leaf', 'fence', 'fence', 'disc', 'twigs', 'spray']))
            repeats = rng.uniform(1, 3, 2) if group == 'fence' else (1, 1)
            material = self.fitted(group, half[:2], tuple(repeats), self.tint(0.3))
        else:
            material = self.material(depth)
        self.add(kind, keep_off(centre, half, nearest), half, material, rotation, taper, instance)

    def add_sheet(self, centre: Sequence[float], half: Sequence[float], depth: float,
                  rotation: np.ndarray, instance: int = 0, nearest: float = 0.0) -> None:
        """Add a bent board or a piece of cloth with folds."""
        rng = self.rng
        if rng.random() < 0.6:  # bent
            waves, depth_of_waves = rng.normal(0, 1.3, 2), rng.uniform(0.1, 0.5)
            material = self.material(depth)
        else:
            waves = rng.uniform(3, 12), rng.normal(0, 1.5)
            depth_of_waves = rng.uniform(0.02, 0.1)
            material = self.material(depth, str(rng.choice(['cloth', 'plaster', 'photo'])))
        half = np.array([*half, depth_of_waves * min(half)])
        self.add(Kind.SHEET, keep_off(centre, half, nearest), half, material, rotation,
                 tuple(waves), instance)

    def frame(self, position: Sequence[float], yaw: float, instance: int = 0,
              velocity: Sequence[float] = (0.0, 0.0, 0.0)) -> 'Frame':
        """Return axes at `position` turned by `yaw`, in which the parts of a thing are added."""
        return Frame(self, np.asarray(position, float), yaw, instance, velocity)


class Frame:
    """Adds the parts of one thing: x forward, y down, z to its right, origin on the ground."""

    def __init__(self, builder: SceneBuilder, position: np.ndarray, yaw: float, instance: int,
                 velocity: Sequence[float]):
        self.builder, self.position, self.yaw = builder, position, yaw
        self.instance, self.velocity = instance, np.asarray(velocity, float)
        self.axes = rotation_xyz(0, yaw, 0)

    def add(self, kind: Kind, centre: Sequence[float], half: Sequence[float], material: Material,
            rotation: np.ndarray = IDENTITY, taper: tuple[float, float] = (0.0, 0.0),
            ground: bool = False) -> None:
        """Add a part at `centre` in the axes of this frame."""
        self.builder.add(kind, self.position + self.axes @ centre, half, material,
                         self.axes @ rotation, taper, self.instance, self.velocity, ground)

    def bar(self, start: Sequence[float], end: Sequence[float], radius: float,
            material: Material) -> None:
        """Add a round bar between two points."""
        self._rod(start, end, radius, material, 0.0)

    def spike(self, start: Sequence[float], end: Sequence[float], radius: float,
              material: Material) -> None:
        """Add a round bar that narrows to a point at `end`."""
        self._rod(end, start, radius, material, 1.0)

    def _rod(self, start: Sequence[float], end: Sequence[float], radius: float,
             material: Material, taper: float) -> None:
        start, end = np.asarray(start, float), np.asarray(end, float)
        length = np.linalg.norm(end - start)
        y = (end - start) / length
        # cross products by hand: np.cross took as long as the rest of building a scene
        x = np.array([y[1], -y[0], 0.0] if abs(y[2]) < 0.9 else [0.0, y[2], -y[1]])
        x /= np.linalg.norm(x)
        z = np.array([x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2],
                      x[0] * y[1] - x[1] * y[0]])
        self.add(Kind.CYLINDER, (start + end) / 2, (radius, length / 2, radius), material,
                 np.stack([x, y, z], 1), (taper, 0.0))

    def label(self, name: str) -> None:
        """Give the thing a 3D box around all parts that it has."""
        reach = [_reach(part, self.axes.T) for part in self.builder.primitives
                 if part.instance == self.instance]
        low, high = np.array(reach).swapaxes(0, 1)
        low, high = low.min(0), high.max(0)
        centre = self.axes @ ((low + high) / 2)
        self.builder.boxes.append(LabelledBox(name, centre, tuple((high - low).tolist()), self.yaw,
                                              self.instance, self.velocity))

    def shadow(self, half: tuple[float, float]) -> None:
        """Add a dark patch on the ground below the thing, which is no part of it."""
        self.builder.add(Kind.CARD, self.position - (0, 0.01, 0), (*half, 0),
                         self.builder.paint((0.12,) * 3), self.axes @ rotation_xyz(np.pi / 2),
                         velocity=self.velocity, ground=True)


def _reach(part: Primitive, to_frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and largest coordinates of an untapered shape in other axes."""
    centre, axes = to_frame @ part.centre, to_frame @ part.rotation * part.half
    if part.kind in (Kind.ELLIPSOID, Kind.FOLIAGE):
        reach = np.sqrt((axes ** 2).sum(1))
    elif part.kind is Kind.CYLINDER:
        reach = abs(axes[:, 1]) + np.hypot(axes[:, 0], axes[:, 2])
    else:
        reach = abs(axes).sum(1)
    return centre - reach, centre + reach
