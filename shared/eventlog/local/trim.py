"""Keeping a local log to a window behind its reader, so that it doesn't grow for ever.

The window is there for a store that is restored from a backup: what came since is read again. Beyond it the
oldest records go, a few at a time and only such as the reader is done with. One that stands before the
window after all finds its offset gone, which halts it; nothing is skipped.
"""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

from shared.clock import Clock
from shared.eventlog.local.file import LocalLog, bounds_of, bytes_used, truncate_some
from shared.eventlog.local.progress import read_progress
from shared.eventlog.port import Bounds

EVERY_S = 10.0
_NOWHERE = Bounds(0, 0)


class Trim:
    """When to trim a log and how far; `keep_bytes` is the window, counted in the file's pages. Unless it
    `awaits_reader` the window lies at the log's end: whoever reads too seldom misses what was before."""

    def __init__(
        self, folder: Path, log: LocalLog, keep_bytes: int, clock: Clock, *, awaits_reader: bool = True
    ) -> None:
        self._folder = folder
        self._log = log
        self._keep_bytes = keep_bytes
        self._clock = clock
        self._awaits_reader = awaits_reader
        self._next_s = clock.monotonic_s()

    def is_due(self) -> bool:
        """Whether it is time to look again."""
        return self._clock.monotonic_s() >= self._next_s

    def step(self, connection: sqlite3.Connection) -> None:
        """In the log's thread: delete some records, if there are any beyond the window. It is due again at
        once while there are more."""
        self._next_s = self._clock.monotonic_s() + EVERY_S
        bounds = {partition: bounds_of(connection, partition) for partition in range(self._log.partitions)}
        window_bytes = self._keep_bytes // len(bounds)
        record_bytes = _record_bytes(connection, bounds)
        progress = {partition: bound.end for partition, bound in bounds.items()}
        if self._awaits_reader:
            progress = dict(read_progress(self._folder, self._log.log_id))
        for partition, next_offset in progress.items():
            bound = bounds.get(partition, _NOWHERE)
            goal = beyond_window(bound, next_offset, window_bytes, record_bytes)
            if goal > bound.begin and not truncate_some(connection, partition, goal):
                self._next_s = self._clock.monotonic_s()


def beyond_window(bounds: Bounds, next_offset: int, keep_bytes: int, record_bytes: float) -> int:
    """Where the window begins: what is before it may go.

    The last record that was read always stays, for it is what a reader tells the log by when it comes back.
    """
    if next_offset > bounds.end:
        return bounds.begin
    kept = max(1, math.ceil(keep_bytes / record_bytes))
    return max(bounds.begin, next_offset - kept)


def _record_bytes(connection: sqlite3.Connection, bounds: dict[int, Bounds]) -> float:
    """What a record takes in the file, on average."""
    records = sum(bound.end - bound.begin for bound in bounds.values())
    return max(1.0, bytes_used(connection) / max(1, records))
