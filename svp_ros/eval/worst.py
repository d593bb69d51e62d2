"""Keep the worst pairs of a recording, apart from each other."""

from collections.abc import Callable, Iterator
from typing import Any


class Worst:
    """Keep what belongs to the worst pairs while all pairs go by.

    Args:
        count: number of pairs to keep.
        apart: pairs between two that are kept; neighbours would look the same.
    """

    def __init__(self, count: int, apart: int):
        self._count = count
        self._apart = apart
        self._kept: list[tuple[float, int, tuple]] = []

    def offer(self, badness: float, index: int, make: Callable[[], tuple[Any, ...]]) -> None:
        """Keep what `make` returns if the pair is one of the worst so far.

        Args:
            badness: the larger, the worse.
            index: of the pair, larger than all before.
            make: called only for a pair to keep.
        """
        near = [item for item in self._kept if index - item[1] <= self._apart]
        rivals = near or (self._kept if len(self._kept) == self._count else [])
        weakest = min(rivals, key=lambda item: item[0], default=None)
        if self._count and (weakest is None or badness > weakest[0]):
            self._kept = [item for item in self._kept if item is not weakest]
            self._kept.append((badness, index, make()))

    def items(self) -> Iterator[tuple]:
        """Yield (index, *made), the worst first."""
        for _, index, made in sorted(self._kept, key=lambda item: -item[0]):
            yield (index, *made)
