"""Self-contained HTML pages: tables, and pictures inside the file."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Optional

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1460px;
       margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { margin-top: 2em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: 0 2em 1em 0; }
caption { text-align: left; font-weight: 600; padding: 0.3em 0; white-space: nowrap; }
th, td { padding: 0.15em 0.9em 0.15em 0; text-align: right; border-bottom: 1px solid #eee; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 500; color: #666; }
.row { display: flex; flex-wrap: wrap; align-items: flex-start; }
figure { margin: 1.5em 0; } img { max-width: 100%; } figcaption, .note { color: #666; }
pre { background: #f6f6f6; padding: 0.8em; overflow-x: auto; }
"""


def write_page(path: Path, title: str, parts: Sequence[str]) -> None:
    """Write a page of a title and parts in HTML."""
    path.write_text(
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f'</title>\n<style>{_STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n'
        f'{"".join(parts)}</body></html>\n')


def heading(text: str) -> str:
    """Heading of a section."""
    return f'<h2>{escape(text)}</h2>\n'


def paragraph(text: str) -> str:
    """One paragraph."""
    return f'<p>{escape(text)}</p>\n'


def note(text: str) -> str:
    """One paragraph in grey."""
    return f'<p class="note">{escape(text)}</p>\n'


def table(caption: str, rows: Sequence[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """One table; the first column is aligned to the left."""
    def line(cells, tag):
        return '<tr>' + ''.join(f'<{tag}>{escape(str(cell))}</{tag}>' for cell in cells) + '</tr>'

    return (f'<table><caption>{escape(caption)}</caption>' + (line(head, 'th') if head else '')
            + ''.join(line(row, 'td') for row in rows) + '</table>\n')


def side_by_side(parts: Sequence[str]) -> str:
    """Tables or figures beside each other, as far as the window is wide enough."""
    return f'<div class="row">{"".join(parts)}</div>\n'


def figure(picture: Path, caption: str, width: Optional[int] = None) -> str:
    """Picture of a PNG file, inside the page, above its caption; `width` in pixels."""
    content = base64.b64encode(picture.read_bytes()).decode()
    style = f' style="width: min({width}px, 100%)"' if width else ''
    return (f'<figure{style}>'
            f'<img alt="{escape(caption)}" src="data:image/png;base64,{content}">\n'
            f'<figcaption>{escape(caption)}</figcaption></figure>\n')
