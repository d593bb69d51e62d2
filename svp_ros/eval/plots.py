"""Line plots, for reports and the README; matplotlib is imported when one is drawn."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Optional

import numpy as np

# Okabe and Ito 2008: told apart with any colour vision; the palest are left out.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00')
INK, PALE = '#333333', '#DDDDDD'
MOST_POINTS = 12  # of a curve whose points are drawn

Curve = tuple[Sequence[float], Sequence[float]]
Band = tuple[Sequence[float], Sequence[float], Sequence[float]]


def plot_curves(path: Path, curves: Mapping[str, Curve], x_label: str, y_label: str, title: str,
                log_x: bool = False, bands: Optional[Mapping[str, Band]] = None,
                levels: Optional[Mapping[str, float]] = None) -> None:
    """Draw curves over one axis that starts at 0, for a width of 700 pixels.

    Args:
        path: .png or .svg file to write.
        curves: x and y by label; curves of few points show them.
        x_label: quantity and unit.
        y_label: quantity and unit.
        title: what is seen.
        log_x: logarithmic x, with ticks at the points if they are few.
        bands: x, lowest and highest y by the label of a curve, drawn in its colour.
        levels: y of dashed lines over the whole width, by label, such as that of a baseline.

    Raises:
        ValueError: If there is no curve, a curve's x and y differ in length or a band has no
            curve.
    """
    _check_curves(curves, bands or {})
    figure = new_figure(7, 4)
    draw_curves(figure.add_subplot(), curves, x_label, y_label, title, log_x, bands, levels)
    figure.savefig(path, dpi=200)


def draw_curves(axes, curves: Mapping[str, Curve], x_label: str, y_label: str, title: str,
                log_x: bool = False, bands: Optional[Mapping[str, Band]] = None,
                levels: Optional[Mapping[str, float]] = None) -> None:
    """Do so in the axes of a matplotlib figure."""
    for colour, (label, (x, y)) in zip(cycle(COLOURS), curves.items()):
        axes.plot(x, y, color=colour, linewidth=1.8, label=label, zorder=3,
                  marker='o' if len(x) <= MOST_POINTS else None, markersize=4.5)
        if label in (bands or {}):
            axes.fill_between(*bands[label], color=colour, alpha=0.18, linewidth=0)
    for grey, (label, y) in zip((INK, '#888888', '#AAAAAA'), (levels or {}).items()):
        axes.axhline(y, color=grey, linewidth=1.4, linestyle='--', label=label)
    if log_x:
        axes.set_xscale('log')
        points = sorted({value for x, _ in curves.values() for value in x})
        if len(points) <= MOST_POINTS:
            axes.set_xticks(points, [f'{value:g}' for value in points])
            axes.minorticks_off()
    axes.set_ylim(0, 1.08 * axes.dataLim.y1)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, loc='left', fontsize=11, color=INK)
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color('#888888')
    axes.tick_params(colors=INK, length=3)
    axes.legend(frameon=True, framealpha=0.85, edgecolor='none', fontsize=9.5)


def new_figure(width: float, height: float):
    """Make an empty matplotlib figure of a size in inches that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure((width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def draw_figure(figure, dpi: int = 100) -> np.ndarray:
    """Render a figure as (H, W, 3) uint8 RGB."""
    figure.set_dpi(dpi)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _check_curves(curves: Mapping[str, Curve], bands: Mapping[str, Band]) -> None:
    if not curves:
        raise ValueError('no curve to plot')
    for label, (x, y) in curves.items():
        if len(x) != len(y):
            raise ValueError(f'curve "{label}" has {len(x)} x but {len(y)} y')
    for label in bands:
        if label not in curves:
            raise ValueError(f'band "{label}" belongs to no curve; there are '
                             f'{", ".join(curves)}')
