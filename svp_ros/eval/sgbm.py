"""OpenCV's semi-global block matching, the classical baseline beside every score."""

import cv2
import numpy as np


def sgbm_disparity(left: np.ndarray, right: np.ndarray, max_disparity: float) -> np.ndarray:
    """Match a rectified pair by `match_blocks` and fill the holes; (H, W) float32, pixels."""
    return fill_holes(*match_blocks(left, right, max_disparity))


def match_blocks(left: np.ndarray, right: np.ndarray,
                 max_disparity: float) -> tuple[np.ndarray, np.ndarray]:
    """Match a rectified pair with semi-global block matching.

    Args:
        left: (H, W, 3) or (H, W) uint8.
        right: the same shape.
        max_disparity: upper end of the search range, pixels.

    Returns:
        (H, W) float32 disparity x_left - x_right, and (H, W) bool where it is known: unique, the
        same from the other eye, and no speckle.

    Source: Hirschmueller, Stereo processing by semiglobal matching and mutual information, 2008;
    parameters near OpenCV's stereo_match sample (8 paths, 3x3 blocks).
    """
    block = 3
    channels = 3 if left.ndim == 3 else 1
    search = 16 * max(1, int(np.ceil((max_disparity + 1) / 16)))
    matcher = cv2.StereoSGBM_create(
        minDisparity=0, numDisparities=search, blockSize=block,
        P1=8 * channels * block ** 2, P2=32 * channels * block ** 2, disp12MaxDiff=1,
        preFilterCap=63, uniquenessRatio=10, speckleWindowSize=200, speckleRange=1,
        mode=cv2.STEREO_SGBM_MODE_HH)
    # Without a margin the matcher leaves the first numDisparities columns unmatched.
    margin = ((0, 0), (search, 0)) + ((0, 0),) * (left.ndim - 2)
    disparity = matcher.compute(np.pad(left, margin, mode='edge'),
                                np.pad(right, margin, mode='edge'))[:, search:]
    return disparity.astype(np.float32) / 16.0, disparity >= 0


def fill_holes(disparity: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill unknown pixels from the known left or right neighbour with the smaller disparity.

    What a hole hides is mostly an occlusion, so it belongs to the surface farther away. Rows
    without any known pixel take the value of the nearest row that has one; nothing known gives 0.

    Args:
        disparity: (H, W) float32, pixels.
        known: (H, W) bool.

    Returns:
        (H, W) float32 without holes.
    """
    from_left = _carry(disparity, known)
    from_right = _carry(disparity[:, ::-1], known[:, ::-1])[:, ::-1]
    filled = np.minimum(from_left, from_right)
    rows = np.flatnonzero(known.any(1))
    if not len(rows):
        return np.zeros_like(disparity)
    nearest = np.abs(np.arange(len(filled))[:, None] - rows[None]).argmin(1)
    return filled[rows[nearest]]


def _carry(disparity: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Repeat the last known value of each row to the right; inf before the first one."""
    last = np.maximum.accumulate(np.where(known, np.arange(disparity.shape[1]), -1), axis=1)
    values = np.take_along_axis(disparity, np.maximum(last, 0), axis=1)
    return np.where(last >= 0, values, np.float32(np.inf))
