"""How far the stamps of two image streams lie apart, and the tolerance that would pair them."""

from collections.abc import Iterable
from dataclasses import dataclass
import math
from typing import Optional

import numpy as np

MARGIN = 1.25  # of a suggested tolerance over the offsets that were seen


@dataclass(frozen=True)
class StampOffsets:
    """Offsets right - left of images that would be partners, seconds.

    `spread` is half the range that holds the middle 90 % of them, `largest` is the 95th percentile
    of their size, `period` the time between images of the slower stream (None if not known).
    """

    median: float
    spread: float
    largest: float
    period: Optional[float]

    @property
    def suggested_tolerance(self) -> float:
        """Smallest sensible approximate_sync_tolerance, seconds, rounded up to 0.1 ms."""
        tolerance = MARGIN * self.largest
        if self.period is not None:
            tolerance = max(min(tolerance, self.period / 2), self.largest)
        return math.ceil(tolerance * 1e4 - 1e-6) / 1e4


def measure_offsets(left: Iterable[int], right: Iterable[int]) -> Optional[StampOffsets]:
    """Compare the latest stamps of two streams, nanoseconds each; None without any.

    Each image of the slower stream is compared with the nearest of the other one. Where that lies
    more than half a period away, the true partner got lost and the image does not count. Streams
    whose times do not overlap at all are compared by their newest images.
    """
    left, right = np.unique(np.array(left, np.int64)), np.unique(np.array(right, np.int64))
    if not left.size or not right.size:
        return None
    sparse, dense = (left, right) if left.size <= right.size else (right, left)
    period = float(np.median(np.diff(sparse))) if sparse.size > 1 else None
    inside = sparse[(sparse >= dense[0]) & (sparse <= dense[-1])]
    if inside.size:
        after = np.searchsorted(dense, inside)
        before = np.maximum(after - 1, 0)
        nearest = np.where(dense[after] - inside < inside - dense[before], dense[after],
                           dense[before])
        offsets = nearest - inside
        reach = np.median(np.diff(dense)) / 2 if dense.size > 1 else np.inf
        if (np.abs(offsets) <= reach).any():
            offsets = offsets[np.abs(offsets) <= reach]
    else:
        offsets = dense[-1:] - sparse[-1:]
    offsets = (offsets if sparse is left else -offsets) / 1e9
    low, median, high = np.percentile(offsets, (5, 50, 95))
    return StampOffsets(float(median), float(high - low) / 2,
                        float(np.percentile(np.abs(offsets), 95)),
                        None if period is None else period / 1e9)
