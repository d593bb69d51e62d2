"""Parts of a labelled image that are scored on their own."""

import cv2
import numpy as np

JUMP = 3.0  # pixels of disparity between neighbours
WIDEST_GAP = 3  # pixels between two known ones that still count as neighbours, in sparse truth
NEAR = 5  # pixels from a jump


def near_jumps(disparity: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Find the surroundings of depth discontinuities.

    A jump is a difference of more than 3 px between neighbours in a row or column. Where truth is
    sparse, the next known pixel at most 3 px away is the neighbour, so that lidar has edges too.

    Args:
        disparity: (H, W) ground truth, pixels.
        valid: (H, W) bool, True where known.

    Returns:
        (H, W) bool, True up to 5 px (in both axes) from a pixel at a jump.

    Source: areas near discontinuities, Scharstein and Szeliski 2002, section 5.
    """
    at_jump = _jumps_in_rows(disparity, valid) | _jumps_in_rows(disparity.T, valid.T).T
    window = np.ones((2 * NEAR + 1, 2 * NEAR + 1), np.uint8)
    return cv2.dilate(at_jump.astype(np.uint8), window).astype(bool)


def left_right_difference(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Compare the disparity of each left pixel with that of the right pixel it points to.

    Args:
        left: (H, W) disparity of the left image, pixels.
        right: (H, W) disparity of the right image, pixels, both >= 0.

    Returns:
        (H, W) absolute difference, pixels; NaN where the match lies outside the right image.
    """
    H, W = left.shape
    x, y = np.meshgrid(np.arange(W, dtype=np.float32), np.arange(H, dtype=np.float32))
    target = x - left.astype(np.float32)
    matched = cv2.remap(right.astype(np.float32), target, y, cv2.INTER_LINEAR,
                        borderMode=cv2.BORDER_REPLICATE)
    return np.where((target >= 0) & (target <= W - 1), np.abs(left - matched), np.nan)


def _jumps_in_rows(disparity: np.ndarray, valid: np.ndarray) -> np.ndarray:
    W = valid.shape[1]
    x = np.arange(W)
    last = np.maximum.accumulate(np.where(valid, x, -1), axis=1)
    before = np.pad(last[:, :-1], ((0, 0), (1, 0)), constant_values=-1)  # known pixel before x
    step = np.abs(disparity - np.take_along_axis(disparity, np.maximum(before, 0), axis=1))
    ends = valid & (before >= 0) & (x - before <= WIDEST_GAP) & (step > JUMP)
    starts = np.zeros_like(ends)
    rows, columns = np.nonzero(ends)
    starts[rows, before[rows, columns]] = True
    return starts | ends
