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


def stack_pictures(titles: Sequence[str], rows: Sequence[Sequence[np.ndarray]],
                   width: int = 256) -> np.ndarray:
    """Put rows of (H, W, 3) uint8 RGB pictures below each other, with a title on every column.

    Args:
        titles: one per column.
        rows: pictures of one size, as many per row as titles.
        width: of a cell, pixels.

    Raises:
        ValueError: If there is no row, or one has another number of pictures.
    """
    if not rows or any(len(row) != len(titles) for row in rows):
        raise ValueError(f'{len(titles)} titles need rows of as many pictures, got rows of '
                         f'{", ".join(str(len(row)) for row in rows) or "none"}')
    H, W = rows[0][0].shape[:2]
    size = (width, round(H * width / W))
    smooth = cv2.INTER_AREA if width <= W else cv2.INTER_NEAREST
    grid = np.vstack([np.hstack([cv2.copyMakeBorder(
        cv2.resize(picture, size, interpolation=smooth), 2, 2, 2, 2, cv2.BORDER_CONSTANT,
        value=(255, 255, 255)) for picture in row]) for row in rows])
    grid = cv2.copyMakeBorder(grid, 20, 0, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    for column, title in enumerate(titles):
        cv2.putText(grid, title, (column * (width + 4) + 4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45,
                    (0, 0, 0), 1, cv2.LINE_AA)
    return grid


def _apply_colours(level: np.ndarray, palette: int, known: np.ndarray,
                   unknown: int = 0) -> np.ndarray:
    index = np.round(np.clip(level, 0, 1) * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(index, palette), cv2.COLOR_BGR2RGB)
    colours[~known] = unknown
    return colours
