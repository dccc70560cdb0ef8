"""How large a batch may be: learnt from what a broker refuses, and tried again now and then.

A topic's limit can be altered while its producers run, either way. Halving finds a lower one in a few round
trips; doubling after many batches that were kept finds a higher one, at the price of one refusal in as many.
"""

from __future__ import annotations

BATCH_BYTES_MAX = 1_000_000
"""Of one batch, in bytes: a little less than what a broker takes by default (1,048,588)."""
BATCH_BYTES_MIN = 1_000
KEPT_BEFORE_LARGER = 200
"""How many batches are kept one after the other before a larger one is tried."""


class BatchSize:
    """The largest batch (bytes) that is worth sending now."""

    def __init__(self) -> None:
        self.bytes_max = BATCH_BYTES_MAX
        self._kept = 0

    def refused(self, batch_bytes: int) -> None:
        """Note that a batch of several records was too large."""
        self.bytes_max = min(self.bytes_max, max(BATCH_BYTES_MIN, batch_bytes // 2))
        self._kept = 0

    def kept(self) -> None:
        """Note that a batch was kept."""
        if self.bytes_max == BATCH_BYTES_MAX:
            return
        self._kept += 1
        if self._kept == KEPT_BEFORE_LARGER:
            self.bytes_max = min(2 * self.bytes_max, BATCH_BYTES_MAX)
            self._kept = 0
