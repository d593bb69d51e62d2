"""Colour pictures of disparity and its error, and labelled rows of pictures."""

from collections.abc import Sequence

import cv2
import numpy as np


def colour_disparity(disparity: np.ndarray, low: float, high: float) -> np.ndarray:
    """Colour (H, W) disparity from blue (`low`, far) to red (`high`, near) as uint8 RGB.

    Pixels that are not finite are black.
    """
    known = np.isfinite(disparity)
    level = (np.where(known, disparity, low) - low) / max(high - low, 1e-6)
    return _apply_colours(level, cv2.COLORMAP_TURBO, known)


def colour_error(error: np.ndarray, largest: float = 10.0) -> np.ndarray:
    """Colour (H, W) absolute error from dark (0) to bright (`largest` px) as uint8 RGB.

    Pixels that are not finite (no ground truth) are grey.
    """
    known = np.isfinite(error)
    level = np.where(known, error, 0) / largest
    return _apply_colours(level, cv2.COLORMAP_INFERNO, known, unknown=90)


def join_pictures(pictures: Sequence[tuple[str, np.ndarray]], height: int = 240) -> np.ndarray:
    """Put (title, (H, W, 3) uint8 RGB) pictures into one row of the given height."""
    cells = []
    for title, picture in pictures:
        H, W = picture.shape[:2]
        cell = cv2.resize(picture, (round(W * height / H), height), interpolation=cv2.INTER_AREA)
        cell = cv2.copyMakeBorder(cell, 22, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        cells.append(cv2.putText(cell, title, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1,
                                 cv2.LINE_AA))
    return np.hstack(cells)


def _apply_colours(level: np.ndarray, palette: int, known: np.ndarray,
                   unknown: int = 0) -> np.ndarray:
    index = np.round(np.clip(level, 0, 1) * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(index, palette), cv2.COLOR_BGR2RGB)
    colours[~known] = unknown
    return colours
