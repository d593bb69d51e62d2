"""Settings of the procedural world: every distribution that scenes are drawn from."""

from dataclasses import dataclass, fields

Range = tuple[float, float]


@dataclass(frozen=True)
class WorldConfig:
    """Distributions of scenes; ranges are (low, high), shares are probabilities or weights.

    What has a share is a group that a share of 0 switches off.

    Raises:
        ValueError: If a range is not ascending, a share is outside [0, 1] or all kinds are 0.
    """

    room: float = 0.25                  # weights of the kinds of scene
    street: float = 0.3
    clutter: float = 0.25
    table: float = 0.2
    field_share: float = 0.35           # of clutter: open ground under the sky instead

    max_disparity: Range = (0.04, 0.3)  # of the image width, log-uniform; not for streets
    focal_length: Range = (0.6, 1.6)    # fx / width, log-uniform; not for streets
    pixel_aspect: Range = (0.8, 1.25)   # fy / fx, log-uniform
    street_focal_length: Range = (0.5, 0.75)
    street_baseline: Range = (0.4, 0.65)     # metres
    street_camera_height: Range = (1.4, 1.9)  # metres
    street_pixel_aspect: Range = (0.9, 2.6)  # wide road images are often squeezed to 4:3
    street_pitch_degrees: Range = (-1.0, 1.0)
    street_centre_x: Range = (0.5, 0.5)      # principal point, share of the width
    street_centre_y: Range = (0.4, 0.6)      # and of the height
    street_vehicles: tuple[int, int] = (0, 9)  # fewer where there is no room
    street_people: tuple[int, int] = (0, 4)
    street_cyclists: tuple[int, int] = (0, 2)
    field_pitch_degrees: Range = (-5.0, 30.0)  # positive looks down

    plain_share: float = 0.2            # surfaces without texture
    photograph_share: float = 0.3       # textured surfaces that show a photograph
    natural_share: float = 0.5          # of the others: wood, stone, cloth, plaster, grass
    repeat_share: float = 0.12          # backdrops and walls that repeat one small motif
    texels_per_pixel: Range = (0.45, 3.5)    # log-uniform
    clutter_objects: tuple[int, int] = (18, 45)
    table_objects: tuple[int, int] = (5, 16)
    curved_share: float = 0.2           # free things and backdrops that are wavy sheets, curtains
    thin_share: float = 0.15            # free things that are bars, lattices or spiky plants
    foliage_share: float = 0.85         # plants with leaves and gaps instead of balls and cards

    gloss_share: float = 0.2            # surfaces with a highlight
    reflective_share: float = 0.15      # free things that reflect; 0: nor do windows and cars
    shadow_share: float = 0.6           # scenes with cast shadows
    night_share: float = 0.08           # dark streets, fields and rooms

    effects: bool = True                # all of the camera's effects below
    specular: bool = True               # all highlights and reflections
    brightness: Range = (0.3, 0.65)     # mean that automatic exposure aims at, log-uniform
    exposure: Range = (0.6, 1.5)        # log-uniform, error of the exposure of both eyes
    exposure_difference: float = 0.05   # standard deviation of the log ratio between the eyes
    contrast: Range = (-0.2, 1.0)       # bend of the tone curve; above 0 darkens shadows
    noise: Range = (0.001, 0.025)       # log-uniform, standard deviation at mid grey and gain 1
    gain: Range = (0.6, 5.0)            # limits of automatic exposure; noise grows with it
    blur: Range = (0.0, 0.8)            # pixels
    vignetting: Range = (0.0, 0.35)     # darkening of the corners
    defocus_share: float = 0.1          # pairs that are sharp at one distance only
    defocus: Range = (0.6, 2.2)         # pixels, standard deviation at the worst distance
    motion_share: float = 0.1           # pairs blurred by the camera's own motion
    motion: Range = (0.004, 0.016)      # of the image width
    sharpen_share: float = 0.35         # pairs that the camera sharpens
    sharpen: Range = (0.3, 1.5)         # strength
    bayer_share: float = 0.3            # pairs from sensors with one colour per pixel
    jpeg_share: float = 0.1             # pairs that were compressed
    jpeg_step: Range = (0.01, 0.06)     # coarseness of the compression, of full scale

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
                     'texels_per_pixel', 'exposure', 'noise', 'jpeg_step', 'brightness'):
            if getattr(self, name)[0] <= 0:
                raise ValueError(f'{name} must be positive, got {getattr(self, name)}')
