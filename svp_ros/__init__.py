"""Real-time stereo perception for ROS 2: disparity and depth from one small network."""

__version__ = '0.1.0'
