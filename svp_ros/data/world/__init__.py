"""Procedural stereo world: random scenes with exact ground truth, ray-cast in plain torch."""

from svp_ros.data.world.config import WorldConfig
from svp_ros.data.world.world import Boxes3D, StereoSample, World

__all__ = ['Boxes3D', 'StereoSample', 'World', 'WorldConfig']
