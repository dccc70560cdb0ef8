"""Reading the local log: all partitions at once, looking for new records by SQLite's own change counter.

There is no group: every reader gets every partition and every record. That one process alone acts on them
is the work of the claim on the stored offsets, as it is with Kafka.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from shared.clock import Clock
from shared.errors import LogReplaced
from shared.eventlog.local.file import LocalLog, bounds_of, in_transaction, offset_of, place_of
from shared.eventlog.local.progress import write_progress
from shared.eventlog.port import Assignment, Bounds, Record
from shared.lifecycle import Deadline

_PAUSE_S_MIN = 0.002
_PAUSE_S_MAX = 0.02
_PAUSE_GROWTH = 1.05
"""Pauses grow from 2 to 20 ms over half a second without a record: quick when busy, cheap when idle."""


class LocalReader:
    """An `EventReader` on a local log, which it owns and closes."""

    def __init__(self, log: LocalLog, folder: Path, clock: Clock) -> None:
        self.log = log
        self._folder = folder
        self._hinted: Mapping[int, int] = {}
        self._clock = clock
        self._assignment = Assignment(1, frozenset(range(log.partitions)))
        self._next: dict[int, int] = {}
        self._pause_s = _PAUSE_S_MIN
        self._turn = 0
        self._no_more = threading.Event()

    @classmethod
    async def open(cls, folder: Path, clock: Clock, partitions: int = 1) -> LocalReader:
        """A reader of the log in a folder, which is made when missing.

        Raises:
            Transient: the disk is full or fails.
            ConfigError: the file there is none of ours, or damaged.
        """
        return cls(await LocalLog.open(folder, partitions), folder, clock)

    @property
    def log_id(self) -> str:
        return self.log.log_id

    def assignment(self) -> Assignment:
        return self._assignment

    async def bounds(self, partitions: Collection[int]) -> Mapping[int, Bounds]:
        return await self.log.run(
            lambda connection: {partition: bounds_of(connection, partition) for partition in partitions}
        )

    async def ends(self) -> Mapping[int, int]:
        bounds = await self.bounds(list(self._next))
        return {partition: bound.end for partition, bound in bounds.items()}

    async def read_each(self, offsets: Mapping[int, int]) -> Mapping[int, Record]:
        return await self.log.run(partial(_read_each, offsets=offsets))

    def start(self, partition: int, offset: int) -> None:
        if partition in self._assignment.partitions:
            self._next[partition] = offset

    def stop(self, partition: int) -> None:
        self._next.pop(partition, None)

    async def poll(
        self, records_max: int, timeout_s: float, besides: Collection[int] = ()
    ) -> Sequence[Record]:
        self._no_more = no_more = threading.Event()
        look = partial(_look, wanted=self._in_turn(besides), records_max=records_max)
        deadline = Deadline(timeout_s, self._clock)
        try:
            records = await self.log.run(lambda connection: self._wait(connection, look, deadline, no_more))
        except LogReplaced as error:
            if error.partition is not None:
                self.stop(error.partition)
            raise
        finally:
            no_more.set()
        for record in records:
            self._next[record.partition] = record.offset + 1
        return records

    async def hint(self, next_offsets: Mapping[int, int]) -> None:
        """Note it beside the log, so that the writer knows what it may trim."""
        if next_offsets and next_offsets != self._hinted:
            self._hinted = dict(next_offsets)
            await asyncio.to_thread(write_progress, self._folder, self.log_id, self._hinted)

    async def close(self, timeout_s: float) -> None:
        self._no_more.set()
        await self.log.close(timeout_s)

    def _in_turn(self, besides: Collection[int]) -> Mapping[int, int]:
        """The offsets to read on from, another partition first every time, so that none is starved."""
        self._turn += 1
        order = sorted(self._next.keys() - set(besides))
        turn = self._turn % max(1, len(order))
        return {partition: self._next[partition] for partition in order[turn:] + order[:turn]}

    def _wait(
        self,
        connection: sqlite3.Connection,
        look: partial[Sequence[Record]],
        deadline: Deadline,
        no_more: threading.Event,
    ) -> Sequence[Record]:
        """In the thread: look whenever another connection has committed, until there is something."""
        seen = None
        while True:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            if version != seen:
                seen = version
                if records := look(connection):
                    self._pause_s = _PAUSE_S_MIN
                    return records
            if no_more.wait(min(self._pause_s, deadline.remaining_s())) or not deadline.remaining_s():
                return ()
            self._pause_s = min(_PAUSE_S_MAX, self._pause_s * _PAUSE_GROWTH)


def _look(connection: sqlite3.Connection, wanted: Mapping[int, int], records_max: int) -> Sequence[Record]:
    def read(connection: sqlite3.Connection) -> Sequence[Record]:
        records: list[Record] = []
        for partition, offset in wanted.items():
            bounds = bounds_of(connection, partition)
            if not bounds.begin <= offset <= bounds.end:
                raise LogReplaced(f"offset {offset} of partition {partition} lies outside the log", partition)
            if offset < bounds.end and len(records) < records_max:
                records += _read(connection, partition, offset, records_max - len(records))
        return records

    # One snapshot: a truncation between the two statements would be a gap.
    return in_transaction(read, "BEGIN")(connection)


def _read(connection: sqlite3.Connection, partition: int, offset: int, records_max: int) -> list[Record]:
    rows = connection.execute(
        "SELECT place, value FROM records WHERE place >= ? AND place < ? ORDER BY place LIMIT ?",
        (place_of(partition, offset), place_of(partition + 1, 0), records_max),
    )
    return [Record(partition, offset_of(place), value) for place, value in rows]


def _read_each(connection: sqlite3.Connection, offsets: Mapping[int, int]) -> Mapping[int, Record]:
    found: dict[int, Record] = {}
    for partition, offset in offsets.items():
        place = place_of(partition, max(0, offset))
        row = connection.execute("SELECT value FROM records WHERE place = ?", (place,)).fetchone()
        if row is not None and offset >= 0:
            found[partition] = Record(partition, offset, row[0])
    return found
