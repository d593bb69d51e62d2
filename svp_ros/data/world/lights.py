"""Lights: sun and sky, lamps, and the night."""

import numpy as np

from svp_ros.data.world.builder import SceneBuilder
from svp_ros.data.world.scene import Light, log_uniform


def make_daylight(builder: SceneBuilder, shadow_centre: np.ndarray, shadow_radius: float) -> Light:
    """Draw a sun, or a grey sky, and cast shadows around a place."""
    rng = builder.rng
    elevation, azimuth = rng.uniform(0.25, 1.3), rng.uniform(-np.pi, np.pi)
    direction = np.array([np.cos(elevation) * np.sin(azimuth), -np.sin(elevation),
                          np.cos(elevation) * np.cos(azimuth)])
    horizon = np.array([0.85, 0.9, 0.97]) * rng.uniform(0.7, 1.3)
    grey = rng.uniform(0.3, 0.95)  # from blue to overcast
    zenith = np.array([0.9 * grey, 0.4 + 0.6 * grey, 1.0]) * rng.uniform(0.6, 1)
    sunny = rng.random() < builder.config.shadow_share
    return Light(1e4 * direction, rng.uniform(0.12, 0.5) if sunny else rng.uniform(0.4, 0.85),
                 np.array([1.05, 1.0, 0.95]), np.inf, log_uniform(rng, 1e-4, 8e-3), horizon,
                 zenith, builder.texture('cloud'), builder.texture('photo'),
                 log_uniform(rng, 8, 60), shadow_centre, shadow_radius if sunny else 0.0)


def make_night(builder: SceneBuilder, place: np.ndarray, shadow_centre: np.ndarray,
               shadow_radius: float) -> Light:
    """Draw a lamp at `place`, such as a headlight, under a dark sky."""
    rng = builder.rng
    sky = rng.uniform(0.01, 0.12) * np.array([1.0, 0.95, 1.1])
    warm = rng.normal(0.1, 0.15)
    shadows = rng.random() < builder.config.shadow_share
    return Light(place, rng.uniform(0.03, 0.25), np.array([1 + warm, 1, 1 - warm]),
                 log_uniform(rng, 0.3, 2) * np.linalg.norm(place - shadow_centre),
                 log_uniform(rng, 1e-4, 5e-3), sky * rng.uniform(1, 3), sky,
                 builder.texture('cloud'), builder.texture('photo'), log_uniform(rng, 8, 60),
                 shadow_centre, shadow_radius if shadows else 0.0)


def make_lamp(builder: SceneBuilder, place: np.ndarray, reach: float, shadow_centre: np.ndarray,
              shadow_radius: float) -> Light:
    """Draw a lamp at `place` that lights a room or a table."""
    rng, config = builder.rng, builder.config
    dark = rng.random() < config.night_share
    warmth = rng.normal(0.06, 0.14)
    colour = np.array([1 + warmth, 1, 1 - warmth]) * (rng.uniform(0.15, 0.4) if dark else 1)
    sky = rng.uniform(0.2, 1.0, (2, 3))
    shadows = rng.random() < config.shadow_share
    return Light(place, rng.uniform(0.25, 0.6) if shadows else rng.uniform(0.4, 0.85), colour,
                 reach, horizon=sky[0], zenith=sky[1], surroundings=builder.texture('photo'),
                 surroundings_distance=log_uniform(rng, 0.5, 4) * np.linalg.norm(shadow_centre),
                 shadow_centre=shadow_centre, shadow_radius=shadow_radius if shadows else 0.0)
