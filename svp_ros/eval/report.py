"""One self-contained HTML page for scored recordings: tables, and pictures side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import cv2
import numpy as np

from svp_ros.box_pictures import LEGEND, show_errors
from svp_ros.data.formats import write_image
from svp_ros.eval.box_report import (
    BOX_NOTE,
    box_tables,
    describe_matches,
    NO_HEAD,
)
from svp_ros.eval.box_score import SCORE_THRESHOLD
from svp_ros.eval.metrics import bad, epe
from svp_ros.eval.page import (
    figure,
    heading,
    note,
    paragraph,
    side_by_side,
    table,
    write_page,
)
from svp_ros.eval.recording import ScoredFrame
from svp_ros.eval.tables import name_band
from svp_ros.pictures import colour_disparity, colour_error

PANEL_WIDTH = 480
LARGEST_ERROR = 5.0
_FONT, _INK = cv2.FONT_HERSHEY_SIMPLEX, (40, 40, 40)


@dataclass
class Section:
    """One scored recording in the report.

    Attributes:
        name: heading and prefix of the picture files, such as `street`.
        description: what was played, one sentence.
        scores: from `score_recording`.
        pictures: (path, caption) of each picture.
    """

    name: str
    description: str
    scores: dict = field(default_factory=dict)
    pictures: list[tuple[Path, str]] = field(default_factory=list)


class PictureTaker:
    """Picks frames, evenly over a recording, and writes pictures of each; see `on_frame`.

    Args:
        section: gets the pictures.
        folder: where the PNG files go.
        expected: number of frames that are expected.
        count: number of pictures.
    """

    def __init__(self, section: Section, folder: Path, expected: int, count: int):
        self._section = section
        self._folder = folder
        self._wanted = {int((index + 0.5) * expected / count) for index in range(count)}

    def __call__(self, frame: ScoredFrame) -> None:
        """Write a picture of the frame, and of its boxes, if it is one of those to show."""
        if frame.index not in self._wanted:
            return
        path = self._folder / f'{self._section.name}_{frame.index:03d}.png'
        self._folder.mkdir(parents=True, exist_ok=True)
        write_image(path, draw_frame(frame))
        self._section.pictures.append((path, describe_frame(frame)))
        if frame.matches is not None:
            path = path.with_name(f'{path.stem}_boxes.png')
            write_image(path, show_errors(
                frame.left, frame.camera, frame.boxes, frame.true_boxes, SCORE_THRESHOLD,
                frame.matches.missed, frame.matches.false_alarms))
            self._section.pictures.append((path, (
                f'Boxes of frame {frame.index + 1}: {describe_matches(frame.matches)}.')))


def describe_frame(frame: ScoredFrame) -> str:
    """Say stamp, errors and density of one frame in one line."""
    scored = np.isfinite(frame.truth) & np.isfinite(frame.disparity)
    text = f'Frame {frame.index + 1}, stamp {frame.stamp / 1e9:.3f} s: '
    if scored.any():
        maps = frame.disparity, frame.truth, scored
        text += f'EPE {epe(*maps):.2f} px, bad-3 {bad(*maps, 3):.1f} %, '
    return text + f'{100 * np.isfinite(frame.disparity).mean():.1f} % of the pixels published.'


def draw_frame(frame: ScoredFrame) -> np.ndarray:
    """Draw left image, truth, disparity, error, confidence and depth as one uint8 RGB picture."""
    known = frame.truth[np.isfinite(frame.truth)]
    low, high = np.percentile(known, (1, 99))
    near, far = np.nanpercentile(frame.true_depth[np.isfinite(frame.true_depth)], (1, 99))

    def disparity_colours(values):
        return colour_disparity(values, low, high)

    def error_colours(values):
        return colour_error(values, LARGEST_ERROR)

    def depth_colours(values):
        with np.errstate(divide='ignore', invalid='ignore'):
            return colour_disparity(-np.log(values), -np.log(far), -np.log(near))

    pixels = np.linspace(low, high, PANEL_WIDTH)
    left = frame.left if frame.left.ndim == 3 else np.repeat(frame.left[..., None], 3, axis=2)
    panels = [
        _panel('left image', left),
        _panel('true disparity', disparity_colours(frame.truth), disparity_colours(pixels[None]),
               (f'{low:.0f} px', f'{high:.0f} px')),
        _panel('published disparity', disparity_colours(frame.disparity),
               disparity_colours(pixels[None]), (f'{low:.0f} px', f'{high:.0f} px')),
        _panel('error (grey: no truth or not published)',
               error_colours(np.abs(frame.disparity - frame.truth)),
               error_colours(np.linspace(0, LARGEST_ERROR, PANEL_WIDTH)[None]),
               ('0 px', f'{LARGEST_ERROR:.0f} px or more'))]
    if frame.confidence is not None:
        panels.append(_panel('confidence', colour_confidence(frame.confidence),
                             colour_confidence(np.linspace(0, 1, PANEL_WIDTH)[None]), ('0', '1')))
    panels.append(_panel(
        'published depth', depth_colours(frame.depth),
        depth_colours(np.geomspace(far, near, PANEL_WIDTH)[None]),
        (f'{far:.1f} m', f'{near:.1f} m')))
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % 3)
    return np.vstack([np.hstack(panels[index:index + 3]) for index in range(0, len(panels), 3)])


def write_report(path: Path, title: str, sections: Sequence[Section], run: dict) -> None:
    """Write the page with its pictures inside.

    Args:
        path: the HTML file.
        title: its heading.
        sections: one per scored recording.
        run: what is needed to repeat it (command, machine, versions, ...), shown as a table.
    """
    rows = [(key, ', '.join(f'{name} {item}' for name, item in value.items())
             if isinstance(value, dict) else value) for key, value in run.items()]
    write_page(path, title, [*(_section(section) for section in sections), heading('Run'),
                             table('', rows)])


def _section(section: Section) -> str:
    scores = section.scores
    disparity, depth, frames = scores['disparity'], scores['depth'], scores['frames']
    tables = [
        table('Disparity', [
            ('EPE', f'{disparity["epe"]:.3f} px'),
            *((f'bad-{n}', f'{disparity[f"bad_{n}"]:.2f} %') for n in (1, 2, 3)),
            ('D1', f'{disparity["d1"]:.2f} %'),
            ('density (of all pixels)', f'{disparity["density"]:.1f} %'),
            ('coverage (of true pixels)', f'{disparity["coverage"]:.1f} %')]),
        table('Depth', [
            ('all', *_depth_cells(depth)),
            *((name_band(band['from_m'], band['to_m']), *_depth_cells(band))
              for band in depth['bands'])],
            ('range', 'mean error', 'relative', 'pixels')),
        table('Frames', [
            ('played', frames['played']),
            *((label, 'unknown' if frames[key] is None else frames[key]) for label, key in (
                ('published by the node', 'published'),
                ('replaced by a newer pair', 'replaced'), ('dropped as bad', 'dropped'))),
            ('received', frames['received']), ('scored', frames['scored']),
            ('stamps equal to the input', 'yes' if scores['stamps']['equal'] else 'NO')]),
    ]
    boxes = scores.get('boxes')
    tables += [table(caption, rows, head)
               for caption, head, rows in box_tables({'published': boxes})]
    if scores['latency_ms']:
        tables.append(table('Latency, ms', [
            (stage.replace('_', ' '), *(f'{values[name]:.1f}' for name in ('p50', 'p95', 'p99')))
            for stage, values in scores['latency_ms'].items()], ('stage', 'p50', 'p95', 'p99')))
    return ''.join([
        heading(section.name.capitalize()), paragraph(section.description), side_by_side(tables),
        note('Errors are those of valid published pixels with ground truth; the message does not '
             'hold what the network guesses elsewhere.'),
        *([note(BOX_NOTE), note(LEGEND)] if boxes else []),
        *([note(f'3D boxes: {NO_HEAD}.')] if 'boxes' in scores and not boxes else []),
        *(figure(picture, caption) for picture, caption in section.pictures)])


def _depth_cells(values: dict) -> tuple[str, str, str]:
    return (f'{values["mean_abs_m"]:.3f} m', f'{100 * values["mean_abs_rel"]:.1f} %',
            f'{values["pixels"]:,}')


def _panel(title: str, picture: np.ndarray, scale: Optional[np.ndarray] = None,
           ends: tuple[str, str] = ('', '')) -> np.ndarray:
    """Put a title above and a colour scale below a picture of PANEL_WIDTH."""
    H, W = picture.shape[:2]
    height = round(H * PANEL_WIDTH / W)
    shrinks = W >= PANEL_WIDTH
    picture = cv2.resize(picture, (PANEL_WIDTH, height),
                         interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
    panel = cv2.copyMakeBorder(picture, 26, 34, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    cv2.putText(panel, title, (4, 18), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
    if scale is not None:
        top = 26 + height + 4
        panel[top:top + 8, 4:4 + PANEL_WIDTH] = scale
        cv2.putText(panel, ends[0], (4, top + 24), _FONT, 0.42, _INK, 1, cv2.LINE_AA)
        (width, _), _ = cv2.getTextSize(ends[1], _FONT, 0.42, 1)
        cv2.putText(panel, ends[1], (4 + PANEL_WIDTH - width, top + 24), _FONT, 0.42, _INK, 1,
                    cv2.LINE_AA)
    return panel


def colour_confidence(values: np.ndarray) -> np.ndarray:
    """Colour (H, W) values of 0 to 1 from blue to yellow as uint8 RGB."""
    level = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
