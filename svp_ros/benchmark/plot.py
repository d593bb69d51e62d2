"""The scaling of a benchmark as a plot."""

from pathlib import Path

from svp_ros.eval.plots import draw_curves, new_figure


def plot_scaling(result: dict, path: Path) -> None:
    """Draw the time against size and against the pairs in one pass, and the rate against cameras.

    Args:
        result: of a benchmark.
        path: .png or .svg file to write.

    Raises:
        ValueError: If it holds nothing of this.
    """
    panels = [panel for panel in (_sizes(result), _batches(result), _cameras(result)) if panel[0]]
    if not panels:
        raise ValueError('the benchmark has no scaling to plot; run it with --parts scaling')
    figure = new_figure(4 * len(panels), 3.4)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        draw_curves(axes, *panel)
    figure.savefig(path, dpi=150)


def _sizes(result: dict) -> tuple[dict, str, str, str, bool]:
    rows = sorted((row for row in result.get('scaling', ()) if row['batch'] == 1),
                  key=lambda row: row['size'][0] * row['size'][1])
    return (_curves(rows, lambda row: row['size'][0] * row['size'][1] / 1e6, 'p50_ms'),
            "network's input, megapixels", 'ms', 'one pair', False)


def _batches(result: dict) -> tuple[dict, str, str, str, bool]:
    rows = result.get('scaling', ())
    rows = sorted((row for row in rows if row['size'] == rows[0]['size']),
                  key=lambda row: row['batch'])
    return (_curves(rows, lambda row: row['batch'], 'ms_per_pair'),
            'pairs in one pass', 'ms per pair', 'several pairs', True)


def _cameras(result: dict) -> tuple[dict, str, str, str, bool]:
    rows = result.get('cameras', ())
    return (_curves(rows, lambda row: row['cameras'], 'total_hz'), 'cameras, with a node each',
            'pairs/s of all', 'over DDS', True)


def _curves(rows, x, y: str) -> dict[str, tuple[list[float], list[float]]]:
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        curve = curves.setdefault(f'{row["model"]}, {row["engine"]} {row["precision"]}', ([], []))
        curve[0].append(x(row))
        curve[1].append(row[y])
    return curves
