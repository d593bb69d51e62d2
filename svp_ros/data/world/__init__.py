"""Procedural stereo world: random scenes with exact ground truth, ray-cast in plain torch."""

from svp_ros.data.world.config import WorldConfig
from svp_ros.data.world.world import StereoSample, World

__all__ = ['StereoSample', 'World', 'WorldConfig']
