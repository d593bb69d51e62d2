"""What the images alone say about a disparity map: warp error, flicker, rectification."""

from typing import NamedTuple, Optional

import cv2
import numpy as np

from svp_ros.data.bags import StereoPair
from svp_ros.row_alignment import align_rows, match_corners, RowAlignment

LONGEST_STEP = 500_000_000  # nanoseconds between two pairs that are compared
SAME_GREY = 10  # grey levels by which a pixel may change along its motion


class Motion(NamedTuple):
    """Where the pixels of an image were in the one before, and which were seen there."""

    x: np.ndarray
    y: np.ndarray
    seen: np.ndarray


def to_grey(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB or (H, W) uint8 -> (H, W) uint8."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image


def photometric_error(left: np.ndarray, right: np.ndarray, disparity: np.ndarray,
                      inside: Optional[np.ndarray] = None) -> np.ndarray:
    """Compare the left image with the right one, moved by the disparity.

    A constant difference in brightness between the cameras is taken out (its median). Where the
    scene has no texture or shines, the error says little; at occlusions it is large even if the
    disparity is right.

    Args:
        left: (H, W, 3) RGB or (H, W) grey, uint8, rectified.
        right: likewise.
        disparity: (H, W) x_left - x_right, NaN where unknown.
        inside: (H, W) bool, the left pixels that a raw pixel covers; None if all do.

    Returns:
        (H, W) float32 absolute difference in grey levels of 255, NaN where the disparity is
        unknown or points outside the right image.
    """
    H, W = disparity.shape
    left, right = (to_grey(image).astype(np.float32) for image in (left, right))
    x, y = np.meshgrid(np.arange(W, dtype=np.float32), np.arange(H, dtype=np.float32))
    known = np.isfinite(disparity)
    target = x - np.where(known, disparity, 0).astype(np.float32)
    warped = cv2.remap(right, target, y, cv2.INTER_LINEAR)
    known &= (target >= 0) & (target <= W - 1)
    if inside is not None:
        known &= warped > 0  # black is what no raw pixel of the right camera covers
    if not known.any():
        return np.full((H, W), np.nan, np.float32)
    difference = left - warped
    return np.where(known, np.abs(difference - np.median(difference[known])), np.float32(np.nan))


class MotionEstimator:
    """Dense optical flow from each image to the one before (Kroeger et al. 2016, OpenCV's DIS)."""

    def __init__(self):
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._before: Optional[np.ndarray] = None
        self._stamp = 0

    def step(self, pair: StereoPair) -> Optional[Motion]:
        """Return the motion since the last pair; None for the first and after a long pause."""
        grey = np.ascontiguousarray(to_grey(pair.left))
        before, self._before = self._before, grey
        gap, self._stamp = pair.stamp - self._stamp, pair.stamp
        if before is None or before.shape != grey.shape or not 0 < gap <= LONGEST_STEP:
            return None
        H, W = grey.shape
        flow = self._flow.calc(grey, before, None)
        x, y = np.meshgrid(np.arange(W, dtype=np.float32), np.arange(H, dtype=np.float32))
        x, y = x + flow[..., 0], y + flow[..., 1]
        warped = cv2.remap(before, x, y, cv2.INTER_LINEAR)
        seen = (x >= 0) & (x <= W - 1) & (y >= 0) & (y <= H - 1)
        return Motion(x, y, seen & (cv2.absdiff(grey, warped) <= SAME_GREY))


def flicker(disparity: np.ndarray, before: np.ndarray, motion: Motion) -> np.ndarray:
    """Compare a disparity map with the one before, along the motion of the pixels.

    What the camera's own motion changes counts too, which is little between two frames.

    Args:
        disparity: (H, W) pixels, NaN where unknown.
        before: that of the pair before.
        motion: between the two.

    Returns:
        (H, W) absolute difference, pixels; NaN where one is unknown or the pixel was hidden.
    """
    moved = cv2.remap(before.astype(np.float32), motion.x, motion.y, cv2.INTER_LINEAR,
                      borderMode=cv2.BORDER_CONSTANT, borderValue=float('nan'))
    return np.where(motion.seen, np.abs(disparity - moved), np.float32(np.nan))


class Rectification:
    """Estimate from all pairs how well their rows line up."""

    def __init__(self):
        self._matches = []
        self._pair: Optional[StereoPair] = None

    def add(self, pair: StereoPair) -> Optional[RowAlignment]:
        """Return the estimate of this pair alone; None if it has too few corners."""
        self._pair = pair
        matches = match_corners(pair.left, pair.right)
        self._matches.append(matches)
        return self._align(matches)

    def result(self) -> Optional[RowAlignment]:
        """Return the estimate of all pairs together; None with too few corners."""
        return self._align(np.concatenate(self._matches)) if self._matches else None

    def _align(self, matches: np.ndarray) -> Optional[RowAlignment]:
        camera = self._pair.camera
        return align_rows(matches, camera.width, camera.height, camera.doffs)
