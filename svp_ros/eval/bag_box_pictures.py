"""Pictures of the 3D boxes of an evaluated recording: evenly over it, and its worst pairs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from svp_ros.box_pictures import show_errors
from svp_ros.data.formats import write_image
from svp_ros.eval.bag_pictures import write_name
from svp_ros.eval.bag_run import ScoredPair
from svp_ros.eval.box_report import describe_matches
from svp_ros.eval.worst import Worst


class BoxPictureTaker:
    """Keep pictures of boxes on the left image and from above: evenly, and the worst pairs.

    Args:
        models: their names, the first one decides which pairs are the worst.
        expected: number of pairs that will come.
        score_threshold: of the boxes to show.
        count: number of pictures of each kind.
    """

    def __init__(self, models: Sequence[str], expected: int, score_threshold: float,
                 count: int = 3):
        self._models = list(models)
        self._threshold = score_threshold
        self._shown = {int((index + 0.5) * expected / max(count, 1)) for index in range(count)}
        self._even: list[tuple[int, np.ndarray, str]] = []
        self._worst = Worst(count, expected // 20)

    def __call__(self, scored: ScoredPair) -> None:
        """Look at one pair."""
        models = [name for name in self._models
                  if name in scored.estimates and scored.estimates[name].boxes is not None]
        if not models:
            return

        def draw():
            return draw_box_pair(scored, models, self._threshold), describe_boxes(scored, models)

        if scored.index in self._shown:
            self._even.append((scored.index, *draw()))
        elif models[0] in scored.matches and scored.matches[models[0]].errors:
            self._worst.offer(scored.matches[models[0]].errors, scored.index, draw)

    def write(self, folder: Path) -> list[tuple[Path, str]]:
        """Write PNG files; returns (path, caption), the pairs evenly spread first."""
        folder.mkdir(parents=True, exist_ok=True)
        pictures = []
        for index, picture, caption in (*self._even, *self._worst.items()):
            pictures.append((folder / f'boxes_{index:06d}.png', caption))
            write_image(pictures[-1][0], picture)
        return pictures


def draw_box_pair(scored: ScoredPair, models: Sequence[str],
                  score_threshold: float) -> np.ndarray:
    """Draw the boxes of one pair on the left image and from above, a row per model."""
    rows = []
    for name in models:
        matches = scored.matches.get(name)
        errors = (matches.missed, matches.false_alarms) if matches else ()
        picture = show_errors(scored.pair.left, scored.pair.camera, scored.estimates[name].boxes,
                              scored.true_boxes, score_threshold, *errors)
        rows.append(write_name(picture, name) if len(models) > 1 else picture)
    return np.vstack(rows)


def describe_boxes(scored: ScoredPair, models: Sequence[str]) -> str:
    """Say stamp and figures of the boxes of one pair in one line."""
    parts = []
    for name in models:
        text = f'{scored.rows[name]["boxes"]:.0f} boxes'
        if name in scored.matches:
            text = describe_matches(scored.matches[name])
        parts.append(f'{name} {text}' if len(models) > 1 else text)
    return f'Pair {scored.index + 1}, stamp {scored.pair.stamp / 1e9:.3f} s: {"; ".join(parts)}.'
