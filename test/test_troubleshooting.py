"""The table of symptoms in docs quotes what the node really says."""

import ast
from pathlib import Path
import re

from faults import FAULTS
import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / 'docs/troubleshooting.md').read_text()
ROWS = [[cell.strip() for cell in line.strip('|').split('|')]
        for line in PAGE.splitlines() if line.startswith('| ')][1:]


@pytest.fixture(scope='module')
def texts():
    """Every piece of text in the sources, an f-string's between its placeholders."""
    return [node.value for path in sorted((ROOT / 'svp_ros').glob('**/*.py'))
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def pieces_of(message):
    """What a row quotes, between what varies."""
    return [piece.strip() for piece in re.split('…|[;:,] ', message) if len(piece.strip()) > 3]


@pytest.mark.parametrize('symptom, message', ROWS)
def test_messages_are_quoted_literally(symptom, message, texts):
    pieces = pieces_of(message)
    missing = [piece for piece in pieces if not any(piece in text for text in texts)]
    assert pieces and missing == [], f'not in the code: {missing}'


@pytest.mark.parametrize('fault', [fault for faults in FAULTS.values() for fault in faults
                                   if fault.level != 'OK'], ids=lambda fault: fault.name)
def test_every_fault_that_the_node_complains_of_has_a_row(fault):
    assert any(all(piece in fault.says for piece in pieces_of(message)) for _, message in ROWS)
