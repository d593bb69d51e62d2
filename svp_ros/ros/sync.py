"""Pairing of left and right images by stamp into a slot that holds the newest pair.

The executor thread calls `add`, the worker thread calls `take`; the lock is held for the
book-keeping only, never while a pair is processed.
"""

from collections import Counter, deque
from threading import Condition
from typing import Any, Optional

TIME_JUMP = 1_000_000_000  # ns; stamps going back further than this mean a restarted recording
OPPOSITE = {'left': 'right', 'right': 'left'}


class PairSynchronizer:
    """Pair two streams whose stamps agree, or nearly agree.

    `counts` holds, of the images, those received (`left`, `right`), `unpaired` (no partner came)
    and `late` (not newer than a pair already made); of the pairs, those `paired` and among them
    `replaced` by a newer one before anybody took them. `offset` is the latest stamp difference
    right - left, nanoseconds, of a pair or of an image and its nearest non-partner.

    Args:
        tolerance: largest stamp difference of a pair, nanoseconds; 0 asks for equal stamps. Keep
            it below half the frame period, so that at most one image of the other side fits.
        queue_size: images kept per side while waiting for their partner.
    """

    def __init__(self, tolerance: int = 0, queue_size: int = 5):
        self.tolerance = tolerance
        self.queue_size = queue_size
        self.counts = Counter()
        self.offset: Optional[int] = None
        self._condition = Condition()
        self._closed = False
        self._forget()

    def add(self, side: str, stamp: int, message: Any) -> None:
        """Store an image of `side` ('left' or 'right') with its stamp in nanoseconds."""
        with self._condition:
            self.counts[side] += 1
            if stamp < self._newest[side] - TIME_JUMP:
                self._forget()
            self._newest[side] = max(self._newest[side], stamp)
            self._stamps[side].append(stamp)
            if stamp <= self._paired[side]:
                self.counts['late'] += 1
                return
            candidates = self._waiting[OPPOSITE[side]]
            partner = min(candidates, key=lambda other: abs(other - stamp), default=None)
            if partner is not None and abs(partner - stamp) <= self.tolerance:
                self._complete({side: (stamp, message),
                                OPPOSITE[side]: (partner, candidates.pop(partner))})
                return
            self._waiting[side][stamp] = message
            if len(self._waiting[side]) > self.queue_size:
                self._drop(side, min(self._waiting[side]))

    def take(self, timeout: Optional[float] = None) -> Optional[tuple[Any, Any]]:
        """Wait for a pair and return (left, right), or None after `timeout` s or once closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._pair is not None or self._closed, timeout)
            pair, self._pair = self._pair, None
            return pair

    def close(self) -> None:
        """Drop everything and make `take` return None at once."""
        with self._condition:
            self._forget()
            self._closed = True
            self._condition.notify_all()

    def _forget(self) -> None:
        self._pair = None
        self._newest = {'left': -1, 'right': -1}
        self._paired = {'left': -1, 'right': -1}
        self._waiting = {'left': {}, 'right': {}}
        self._stamps = {side: deque(maxlen=2 * self.queue_size) for side in OPPOSITE}

    def _complete(self, pair: dict[str, tuple[int, Any]]) -> None:
        self.counts['paired'] += 1
        self.counts['replaced'] += self._pair is not None
        self._pair = pair['left'][1], pair['right'][1]
        for side, (stamp, _) in pair.items():
            self._paired[side] = stamp
            for older in [other for other in self._waiting[side] if other < stamp]:
                self._drop(side, older)
        self.offset = pair['right'][0] - pair['left'][0]
        self._condition.notify()

    def _drop(self, side: str, stamp: int) -> None:
        del self._waiting[side][stamp]
        self.counts['unpaired'] += 1
        others = self._stamps[OPPOSITE[side]]
        if others:
            nearest = min(others, key=lambda other: abs(other - stamp))
            self.offset = nearest - stamp if side == 'left' else stamp - nearest
