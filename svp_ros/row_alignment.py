"""Do the rows of two images line up? Sparse sub-pixel matching that knows no calibration.

Corners of the left image are looked up in the right one, first in small images, then at full
resolution around what was found. A plane through their vertical offsets says how far rectification
is off, the signs of their disparities whether the eyes are swapped.
"""

from dataclasses import dataclass
from typing import Optional

import cv2
import numpy as np

from svp_ros.calibration import Finding

COARSE_WIDTH = 320  # pixels; the width of the first search
LARGEST_SHIFT = 0.4, 0.05  # of the image width: searched to the left and right, up and down
CORNERS = 160
COARSE_PATCH, PATCH = 5, 7  # half sizes, pixels
SCORE = 0.85  # smallest normalised correlation of a match
UNIQUE = 0.06  # by which any other place must correlate less
MIN_MATCHES = 20
LARGEST_ERROR = 1.0  # pixels; above it rectification counts as wrong
SWAPPED = 0.8  # share of negative disparities above which the eyes count as swapped


@dataclass(frozen=True)
class RowAlignment:
    """How the rows of an image pair lie, from `matches` corners.

    Args:
        offset: mean vertical offset, y_right - y_left, pixels.
        error: root mean square of the offset over the image, pixels; rotation counts too.
        negative: share of the disparities (cx_left - cx_right subtracted) below -1 px.
        positive: share of those above 1 px.
        matches: number of corners.
    """

    offset: float
    error: float
    negative: float
    positive: float
    matches: int


def match_corners(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Match corners of the left image anywhere near their row of the right image.

    Args:
        left: (H, W) grey or (H, W, 3) RGB, uint8.
        right: the same size.

    Returns:
        (N, 4) float32: x, y, x_left - x_right, y_right - y_left in pixels; N may be 0.
    """
    left, right = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3
                   else np.ascontiguousarray(image) for image in (left, right))
    H, W = left.shape
    scale = min(1.0, COARSE_WIDTH / W)
    size = max(1, round(W * scale)), max(1, round(H * scale))
    small_left, small_right = (cv2.resize(image, size, interpolation=cv2.INTER_AREA)
                               for image in (left, right))
    corners = cv2.goodFeaturesToTrack(small_left, CORNERS, 0.01, 6)
    if corners is None:
        return np.zeros((0, 4), np.float32)
    reach = tuple(round(share * size[0]) for share in LARGEST_SHIFT)
    matches = []
    for x, y in corners.reshape(-1, 2).round().astype(int):
        coarse = _search(small_left, small_right, x, y, x, y, reach, COARSE_PATCH, True)
        if coarse is None:
            continue
        column, row = round((x + 0.5) / scale - 0.5), round((y + 0.5) / scale - 0.5)
        guess = (round(column + (coarse[0] - x) / scale), round(row + (coarse[1] - y) / scale))
        margin = 1 + round(1 / scale)
        fine = _search(left, right, column, row, *guess, (margin, margin), PATCH, False)
        if fine is not None:
            matches.append((column, row, column - fine[0], fine[1] - row))
    return np.array(matches, np.float32).reshape(-1, 4)


def _search(left: np.ndarray, right: np.ndarray, x: int, y: int, x_right: int, y_right: int,
            reach: tuple[int, int], half: int, unique: bool) -> Optional[tuple[float, float]]:
    """Find the patch around (x, y) of `left` around (x_right, y_right) of `right`, sub-pixel."""
    H, W = left.shape
    patch = left[max(y - half, 0):y + half + 1, max(x - half, 0):x + half + 1]
    if patch.shape != (2 * half + 1, 2 * half + 1):
        return None
    x0, y0 = max(x_right - reach[0] - half, 0), max(y_right - reach[1] - half, 0)
    window = right[y0:min(y_right + reach[1] + half + 1, H),
                   x0:min(x_right + reach[0] + half + 1, W)]
    if window.shape[0] < patch.shape[0] + 2 or window.shape[1] < patch.shape[1] + 2:
        return None
    score = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
    _, best, _, (column, row) = cv2.minMaxLoc(score)
    if not (best >= SCORE and 0 < row < score.shape[0] - 1 and 0 < column < score.shape[1] - 1):
        return None
    dx = _peak(*score[row, column - 1:column + 2])
    dy = _peak(*score[row - 1:row + 2, column])
    if unique:
        score[max(row - 3, 0):row + 4, max(column - 3, 0):column + 4] = -1
        if score.max() > best - UNIQUE:
            return None
    return x0 + half + column + dx, y0 + half + row + dy


def _peak(before: float, middle: float, after: float) -> float:
    """Return where the parabola through three samples has its maximum, -0.5 to 0.5."""
    curvature = before - 2 * middle + after
    return 0.5 * (before - after) / curvature if curvature < 0 else 0.0


def align_rows(matches: np.ndarray, width: int, height: int,
               doffs: float = 0.0) -> Optional[RowAlignment]:
    """Fit the vertical offset over the image to matches; None if there are too few.

    Args:
        matches: (N, 4) from `match_corners`, of one or several pairs.
        width: of the images, pixels.
        height: of the images.
        doffs: cx_left - cx_right of the calibration, pixels.
    """
    x, y, disparity, dy = matches.T.astype(np.float64)
    design = np.stack([np.ones_like(x), 2 * x / width - 1, 2 * y / height - 1], 1)
    keep = np.ones(len(x), bool)
    for _ in range(5):
        if keep.sum() < MIN_MATCHES:
            return None
        plane = np.linalg.lstsq(design[keep], dy[keep], rcond=None)[0]
        residual = np.abs(design @ plane - dy)
        keep = residual <= max(0.5, 3 * np.median(residual))
    error = np.sqrt(plane[0] ** 2 + (plane[1] ** 2 + plane[2] ** 2) / 3)
    d = disparity[keep] - doffs
    if 2 * keep.sum() < len(keep):
        return None
    return RowAlignment(float(plane[0]), float(error), float((d < -1).mean()),
                        float((d > 1).mean()), int(keep.sum()))


def alignment_findings(alignment: Optional[RowAlignment]) -> tuple[Finding, ...]:
    """Say what is wrong with a pair that should be rectified; nothing without an estimate."""
    findings = []
    if alignment is None:
        return ()
    if alignment.error > LARGEST_ERROR:
        findings.append(Finding('vertical offset', (
            f'rows do not line up: points lie {alignment.error:.1f} px higher or lower in the '
            f'right image (mean {alignment.offset:+.1f} px, {alignment.matches} points), more '
            f'than {LARGEST_ERROR:g} px; rectify the images (parameter rectify) or calibrate the '
            'pair again')))
    if alignment.negative > SWAPPED:
        findings.append(Finding('swapped eyes', (
            f'left and right images are swapped: {100 * alignment.negative:.0f} % of '
            f'{alignment.matches} points lie farther right in the right image, which nothing in '
            'front of the cameras does; exchange the topics left/image_rect and '
            'right/image_rect')))
    return tuple(findings)
