"""Real-time stereo perception for ROS 2: disparity, depth and 3D boxes from one small network."""

__version__ = '0.1.0'
