"""Limit how often a loop runs, with a rate that may change while it waits."""

from collections.abc import Callable
from threading import Event
from time import perf_counter

SLICE_S = 0.1  # after which a changed rate counts


class Pacer:
    """Let rounds of a loop begin at most `rate()` times per second.

    Args:
        rate: returns hertz; 0 means no limit.
    """

    def __init__(self, rate: Callable[[], float]):
        self._rate = rate
        self._stopped = Event()
        self._begun = float('-inf')

    def wait(self) -> bool:
        """Wait until the next round may begin; return False once stopped."""
        while not self._stopped.is_set():
            rate, now = self._rate(), perf_counter()
            due = self._begun + 1 / rate if rate else now
            if now >= due:
                self._begun = max(due, now - SLICE_S)  # catch up with a little lateness only
                return True
            self._stopped.wait(min(due - now, SLICE_S))
        return False

    def stop(self) -> None:
        """Make `wait` return False, now and from now on."""
        self._stopped.set()
