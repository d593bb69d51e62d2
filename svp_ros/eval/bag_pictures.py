"""Pictures of an evaluated recording: its worst pairs, and a contact sheet over all of it."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from svp_ros.data.formats import write_image
from svp_ros.eval.bag_run import ScoredPair
from svp_ros.eval.report import colour_confidence
from svp_ros.eval.worst import Worst
from svp_ros.pictures import colour_disparity, colour_error, stack_pictures

LARGEST_ERROR = 5.0  # pixels of disparity
LARGEST_DIFFERENCE = 50.0  # grey levels of the photometric error
THUMBNAIL, COLUMN = 240, 330  # widths, pixels


class PictureTaker:
    """Keep pictures of the worst pairs and of pairs evenly over the recording.

    A pair is as bad as the EPE of the first model, or its photometric error without truth.

    Args:
        models: their names, the first one decides.
        expected: number of pairs that will come.
        worst: number of pairs to show in full.
        thumbnails: number of rows of the contact sheet.
    """

    def __init__(self, models: Sequence[str], expected: int, worst: int = 3,
                 thumbnails: int = 12):
        self._models = list(models)
        self._worst = Worst(worst, expected // 20)
        count = min(thumbnails, max(expected, 1))
        self._shown = {int((index + 0.5) * expected / count) for index in range(count)}
        self._thumbnails: list[list[np.ndarray]] = []
        self._has_truth = False

    def __call__(self, scored: ScoredPair) -> None:
        """Look at one pair."""
        if self._models[0] not in scored.estimates:
            return
        if scored.index in self._shown:
            self._add_thumbnails(scored)
        row = scored.rows[self._models[0]]
        badness = row.get('epe', row.get('photometric_error', 0.0))
        self._worst.offer(badness, scored.index, lambda: (
            draw_pair(scored, self._models), describe_pair(scored)))

    def _add_thumbnails(self, scored: ScoredPair) -> None:
        low, high = _disparity_range(scored)
        maps = [scored.estimates[name].disparity if name in scored.estimates else None
                for name in self._models]
        if scored.truth is not None or self._has_truth:
            self._has_truth = True
            maps.append(scored.truth)
        H, W = scored.pair.left.shape[:2]
        pictures = [_rgb(scored.pair.left)]
        pictures += [np.zeros((H, W, 3), np.uint8) if values is None else
                     colour_disparity(values, low, high) for values in maps]
        size = THUMBNAIL, round(H * THUMBNAIL / W)
        self._thumbnails.append([cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
                                 for picture in pictures])

    def write(self, folder: Path) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
        """Write PNG files; returns (path, caption) of the worst pairs and of the sheet."""
        folder.mkdir(parents=True, exist_ok=True)
        worst, sheet = [], []
        for index, picture, caption in self._worst.items():
            worst.append((folder / f'pair_{index:06d}.png', caption))
            write_image(worst[-1][0], picture)
        if self._thumbnails:
            columns = max(map(len, self._thumbnails))
            rows = [row + [np.zeros_like(row[0])] * (columns - len(row))
                    for row in self._thumbnails]
            titles = ['left image', *self._models,
                      *['true disparity'] * (columns - 1 - len(self._models))]
            # two halves side by side: wide screens show more at once
            half = -(-len(rows) // 2)
            if len(rows) > 3:
                blank = [np.full_like(row, 255) for row in rows[0]]
                rows = [left + right for left, right in zip(
                    rows[:half], rows[half:] + [blank] * (2 * half - len(rows)))]
                titles = titles * 2
            sheet.append((folder / 'contact_sheet.png', (
                'Pairs evenly over the recording, in order of time down the columns; disparity '
                'from blue (far) to red (near) on a scale of each pair, black is not published.')))
            write_image(sheet[0][0], stack_pictures(titles, rows, THUMBNAIL))
        return worst, sheet


def draw_pair(scored: ScoredPair, models: Sequence[str]) -> np.ndarray:
    """Draw one pair as uint8 RGB, a row per model: images, disparity, errors, confidence."""
    low, high = _disparity_range(scored)
    truth, rows = scored.truth, []
    H, W = scored.pair.left.shape[:2]
    blank = np.full((H, W, 3), 90, np.uint8)
    for name in models:
        if name not in scored.estimates:
            continue
        estimate = scored.estimates[name]
        left = _rgb(scored.pair.left)
        row = {'left image': left if len(models) == 1 else
               write_name(left, name, left.shape[1] / COLUMN)}
        if truth is not None:
            row['true disparity'] = colour_disparity(truth, low, high)
        row['disparity'] = colour_disparity(estimate.disparity, low, high)
        if truth is not None:
            row['error'] = colour_error(np.abs(estimate.disparity - truth), LARGEST_ERROR)
        row['photometric error'] = colour_error(scored.errors[name], LARGEST_DIFFERENCE)
        row['confidence'] = (blank if estimate.confidence is None
                             else colour_confidence(estimate.confidence))
        rows.append(list(row.values()))
    return stack_pictures(list(row), rows, COLUMN)


def describe_pair(scored: ScoredPair) -> str:
    """Say stamp and figures of one pair in one line."""
    low, high = _disparity_range(scored)
    figures = [f'{name} ' + ', '.join(
        f'{label} {row[key]:.{digits}f}{unit}' for key, label, digits, unit in (
            ('epe', 'EPE', 2, ' px'), ('bad_3', 'bad-3', 1, ' %'),
            ('photometric_error', 'photometric error', 1, ' grey levels'),
            ('density', 'density', 1, ' %')) if key in row) for name, row in scored.rows.items()]
    error = f'error 0 to {LARGEST_ERROR:g} px, ' if scored.truth is not None else ''
    return (f'Pair {scored.index + 1}, stamp {scored.pair.stamp / 1e9:.3f} s: '
            f'{"; ".join(figures)}. Colours: disparity {low:.0f} to {high:.0f} px, {error}'
            f'photometric error 0 to {LARGEST_DIFFERENCE:g} grey levels, grey unknown, '
            'confidence 0 to 1.')


def write_name(picture: np.ndarray, name: str, scale: float = 1.0) -> np.ndarray:
    """Write a name into the upper left corner of a copy of a uint8 RGB picture."""
    place, size = (round(8 * scale), round(22 * scale)), 0.6 * scale
    for colour, width in ((0, 4), (255, 1)):
        picture = cv2.putText(picture.copy(), name, place, cv2.FONT_HERSHEY_SIMPLEX, size,
                              (colour,) * 3, max(1, round(width * scale)), cv2.LINE_AA)
    return picture


def _disparity_range(scored: ScoredPair) -> tuple[float, float]:
    """Colour scale of a pair: of its truth, else of all models."""
    maps = [scored.truth] if scored.truth is not None else [
        estimate.disparity for estimate in scored.estimates.values()]
    known = np.concatenate([values[np.isfinite(values)] for values in maps])
    return tuple(np.percentile(known, (1, 99))) if known.size else (0.0, 1.0)


def _rgb(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
