"""Settings of the procedural world: every distribution that scenes are drawn from."""

from dataclasses import dataclass, fields

Range = tuple[float, float]


@dataclass(frozen=True)
class WorldConfig:
    """Distributions of scenes; ranges are (low, high), shares are probabilities or weights.

    Raises:
        ValueError: If a range is not ascending, a share is outside [0, 1] or all kinds are 0.
    """

    room: float = 0.25                  # weights of the kinds of scene
    street: float = 0.3
    clutter: float = 0.25
    table: float = 0.2

    max_disparity: Range = (0.04, 0.3)  # of the image width, log-uniform; not for streets
    focal_length: Range = (0.6, 1.6)    # fx / width, log-uniform; not for streets
    pixel_aspect: Range = (0.8, 1.25)   # fy / fx, log-uniform
    street_focal_length: Range = (0.5, 0.75)
    street_baseline: Range = (0.4, 0.65)     # metres
    street_camera_height: Range = (1.4, 1.9)  # metres
    street_pixel_aspect: Range = (0.9, 2.6)  # wide road images are often squeezed to 4:3
    street_pitch_degrees: Range = (-1.0, 1.0)

    plain_share: float = 0.2            # surfaces without texture
    photograph_share: float = 0.3       # textured surfaces that show a photograph
    gloss_share: float = 0.2
    texels_per_pixel: Range = (0.35, 3.0)    # log-uniform
    clutter_objects: tuple[int, int] = (18, 45)
    table_objects: tuple[int, int] = (5, 16)
    thin_share: float = 0.15

    effects: bool = True                # camera effects: exposure, vignetting, blur, noise
    specular: bool = True
    exposure: Range = (0.6, 1.5)        # log-uniform, both eyes
    exposure_difference: float = 0.05   # standard deviation of the log ratio between the eyes
    noise: Range = (0.001, 0.025)       # log-uniform, standard deviation at mid grey
    blur: Range = (0.0, 0.9)            # pixels
    vignetting: Range = (0.0, 0.35)     # darkening of the corners

    def __post_init__(self):
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple) and not (len(value) == 2 and value[0] <= value[1]):
                raise ValueError(f'{item.name} must be (low, high) with low <= high, got {value}')
            if item.name.endswith('_share') and not 0 <= value <= 1:
                raise ValueError(f'{item.name} must lie in [0, 1], got {value}')
        weights = [self.room, self.street, self.clutter, self.table]
        if min(weights) < 0 or sum(weights) == 0:
            raise ValueError('room, street, clutter and table are weights: none may be negative '
                             f'and one must be positive, got {weights}')
        for name in ('max_disparity', 'focal_length', 'pixel_aspect', 'street_focal_length',
                     'street_baseline', 'street_camera_height', 'street_pixel_aspect',
                     'texels_per_pixel', 'exposure', 'noise'):
            if getattr(self, name)[0] <= 0:
                raise ValueError(f'{name} must be positive, got {getattr(self, name)}')
