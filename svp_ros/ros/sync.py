"""Pairing of left and right images by stamp into a slot that holds the newest pair.

The executor thread calls `add`, the worker thread calls `take`; the lock is held for the
book-keeping only, never while a pair is processed.
"""

from collections import Counter, deque
from statistics import median
from threading import Condition
from time import monotonic
from typing import Any, Optional

from svp_ros.ros.stamp_offsets import measure_offsets, StampOffsets

TIME_JUMP = 1_000_000_000  # ns; stamps going back further than this mean a restarted recording
HISTORY = 32  # stamps kept per side, to measure their offsets
FROZEN = 4  # equal stamps in a row that are no accident
OPPOSITE = {'left': 'right', 'right': 'left'}


class PairSynchronizer:
    """Pair two streams whose stamps agree, or nearly agree.

    `counts` holds, of the images, those received (`left`, `right`), those whose partner never came
    (`unpaired left`, `unpaired right`) and `late` ones (not newer than a pair already made); of
    the pairs, those `paired` and among them `replaced` by a newer one before anybody took them;
    and how often stamps made `jumps back`.
    `last` has the times (time.monotonic) of the last `left` and `right` image and `pair`, at first
    that of the construction.

    Args:
        tolerance: largest stamp difference of a pair, nanoseconds; 0 asks for equal stamps. Keep
            it below half the frame period, so that at most one image of the other side fits.
        queue_size: images kept per side while waiting for their partner.
    """

    def __init__(self, tolerance: int = 0, queue_size: int = 5):
        self.tolerance = tolerance
        self.queue_size = queue_size
        self.counts = Counter()
        self._condition = Condition()
        self._closed = False
        self._pair = None
        self._waiting = {'left': {}, 'right': {}}
        self._forget()
        self._restart_clocks()

    def add(self, side: str, stamp: int, message: Any) -> None:
        """Store an image of `side` ('left' or 'right') with its stamp in nanoseconds."""
        with self._condition:
            self.counts[side] += 1
            self.last[side] = monotonic()
            if stamp < self._newest[side] - TIME_JUMP:
                self._restart(side, stamp)
            self._newest[side] = max(self._newest[side], stamp)
            self._stamps[side].append(stamp)
            self._clock[side].append(stamp / 1e9 - self.last[side])
            if stamp <= self._paired[side]:
                self.counts['late'] += 1
                return
            candidates = self._waiting[OPPOSITE[side]]
            partner = min(candidates, key=lambda other: abs(other - stamp), default=None)
            if partner is not None and abs(partner - stamp) <= self.tolerance:
                self._complete({side: (stamp, message),
                                OPPOSITE[side]: (partner, candidates.pop(partner))})
                return
            self.counts[f'unpaired {side}'] += stamp in self._waiting[side]
            self._waiting[side][stamp] = message
            if len(self._waiting[side]) > self.queue_size:
                self._drop(side, min(self._waiting[side]))

    def take(self, timeout: Optional[float] = None) -> Optional[tuple[Any, Any]]:
        """Wait for a pair and return (left, right), or None after `timeout` s or once closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._pair is not None or self._closed, timeout)
            pair, self._pair = self._pair, None
            return pair

    def clear(self) -> None:
        """Drop everything, as for a pause that was asked for."""
        with self._condition:
            self._forget()
        self._restart_clocks()

    def close(self) -> None:
        """Drop everything and make `take` return None at once."""
        with self._condition:
            self._forget()
            self._closed = True
            self._condition.notify_all()

    def offsets(self) -> Optional[StampOffsets]:
        """Measure how far the latest stamps of both sides lie apart; None before both came."""
        with self._condition:
            stamps = [list(self._stamps[side]) for side in ('left', 'right')]
        return measure_offsets(*stamps)

    def lead(self) -> float:
        """Return by how much the stamps of right images are ahead of left ones that come at once.

        Seconds; large if the cameras have different clocks or the left images are delayed.
        """
        with self._condition:
            clocks = [list(self._clock[side])[-HISTORY // 4:] for side in ('left', 'right')]
        return median(clocks[1]) - median(clocks[0]) if all(clocks) else 0.0

    def frozen(self) -> list[str]:
        """Return the sides whose latest images all have one stamp."""
        with self._condition:
            latest = {side: list(stamps)[-FROZEN:] for side, stamps in self._stamps.items()}
        return [side for side, stamps in latest.items()
                if len(stamps) == FROZEN and len(set(stamps)) == 1]

    def _restart_clocks(self) -> None:
        self.last = dict.fromkeys(('left', 'right', 'pair'), monotonic())

    def _forget(self) -> None:
        self.counts['replaced'] += self._pair is not None
        for side, waiting in self._waiting.items():
            self.counts[f'unpaired {side}'] += len(waiting)
        self._pair = None
        self._newest = {'left': -1, 'right': -1}
        self._paired = {'left': -1, 'right': -1}
        self._waiting = {'left': {}, 'right': {}}
        self._stamps = {side: deque(maxlen=HISTORY) for side in OPPOSITE}
        self._clock = {side: deque(maxlen=HISTORY) for side in OPPOSITE}

    def _restart(self, side: str, stamp: int) -> None:
        """Forget what came before the stamps of `side` went back; the other may have done so."""
        self.counts['jumps back'] += 1
        self.counts['replaced'] += self._pair is not None
        self._pair = None
        self._newest[side] = self._paired[side] = -1
        self._stamps[side].clear()
        self._clock[side].clear()
        for waiting_side, waiting in self._waiting.items():
            for other in [other for other in waiting
                          if waiting_side == side or other > stamp + TIME_JUMP]:
                self._drop(waiting_side, other)

    def _complete(self, pair: dict[str, tuple[int, Any]]) -> None:
        self.counts['paired'] += 1
        self.counts['replaced'] += self._pair is not None
        self.last['pair'] = monotonic()
        self._pair = pair['left'][1], pair['right'][1]
        for side, (stamp, _) in pair.items():
            self._paired[side] = stamp
            for older in [other for other in self._waiting[side] if other < stamp]:
                self._drop(side, older)
        self._condition.notify()

    def _drop(self, side: str, stamp: int) -> None:
        del self._waiting[side][stamp]
        self.counts[f'unpaired {side}'] += 1
