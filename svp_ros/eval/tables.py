"""Tables of scores as text; `svp_ros.eval.page` has them as HTML."""

from collections.abc import Sequence
from typing import Optional

# Caption, names of the columns, rows of cells.
Table = tuple[str, list[str], list[list[str]]]


def format_text(tables: Sequence[Table]) -> str:
    """Lay out tables as text of fixed width, the first column to the left."""
    texts = []
    for caption, head, rows in tables:
        widths = [max(map(len, column)) for column in zip(head, *rows)]
        lines = ['  '.join(cell.ljust(width) if i == 0 else cell.rjust(width)
                           for i, (cell, width) in enumerate(zip(row, widths))).rstrip()
                 for row in (head, *rows)]
        texts.append('\n'.join([caption, *lines]))
    return '\n\n'.join(texts)


def name_band(low: float, high: Optional[float]) -> str:
    """Name a band of distances, metres; one without `high` has no end."""
    return f'beyond {low:g} m' if high is None else f'{low:g} to {high:g} m'


def spread(rows: Sequence, most: int) -> list:
    """Return at most `most` rows, evenly spread."""
    count = min(len(rows), max(most, 0))
    return [rows[index * len(rows) // count] for index in range(count)]
