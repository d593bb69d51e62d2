"""Check every few seconds, on a thread of its own, that pairs are rectified and not swapped."""

from collections import deque
from threading import Condition, Thread
from time import monotonic
from typing import Optional

import numpy as np

from svp_ros.calibration import Finding
from svp_ros.geometry import StereoCamera
from svp_ros.row_alignment import align_rows, alignment_findings, match_corners, RowAlignment

PERIOD_S = 2.0
POOLED = 3  # pairs whose matches are judged together


class PairCheck:
    """Keep an up-to-date `alignment` of the pairs that were offered; None while not known.

    The thread that processes pairs asks `due` and then offers one, which takes no time.

    Args:
        logger: of the node; told if the check itself fails, which the pairs do not suffer from.
    """

    def __init__(self, logger):
        self.alignment: Optional[RowAlignment] = None
        self._logger = logger
        self._condition = Condition()
        self._offered = None
        self._closed = False
        self._next = 0.0
        self._camera = None
        self._matches = deque(maxlen=POOLED)
        self._thread = Thread(target=self._work, name='pair_check', daemon=True)
        self._thread.start()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What there is to say about the latest pairs."""
        return alignment_findings(self.alignment)

    def due(self) -> bool:
        """Tell whether the time has come for another pair; then it comes again later."""
        now = monotonic()
        if now < self._next:
            return False
        self._next = now + PERIOD_S
        return True

    def offer(self, left: np.ndarray, right: np.ndarray, camera: StereoCamera) -> None:
        """Give a rectified pair, (H, W, 3) or (H, W) uint8, with its camera; returns at once."""
        with self._condition:
            self._offered = left, right, camera
            self._condition.notify()

    def close(self) -> None:
        """End the thread after the check in progress, which is not waited for if it takes long."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join(PERIOD_S)

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._closed or self._offered is not None)
                if self._closed:
                    return
                offered, self._offered = self._offered, None
            try:
                self._check(*offered)
            except Exception as error:  # a check must never stop what it watches
                self.alignment = None
                self._logger.error(f'the images cannot be checked: {type(error).__name__}: '
                                   f'{error}', throttle_duration_sec=60.0)

    def _check(self, left: np.ndarray, right: np.ndarray, camera: StereoCamera) -> None:
        if camera != self._camera:
            self._camera = camera
            self._matches.clear()
        self._matches.append(match_corners(left, right))
        self.alignment = align_rows(np.concatenate(self._matches), camera.width, camera.height,
                                    camera.doffs)
