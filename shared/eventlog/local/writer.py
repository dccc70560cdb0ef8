"""Appending to the local log: whatever calls came while the last commit was on its way to the disk go into
the next one together."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from shared.clock import Clock
from shared.eventlog.local.file import LocalLog, bytes_used, in_transaction, place_of
from shared.eventlog.local.trim import Trim
from shared.eventlog.port import NewRecord, Outcome, is_too_large, partition_of
from shared.logs import fields

_COMMIT_RECORDS_MAX = 10_000
_ROW_BYTES = 16
_PAGE_FILL_MIN = 0.5
"""A record's row takes so much of its pages at least: two that don't fit into one page take two."""

_log = logging.getLogger(__name__)


class LocalWriter:
    """An `EventWriter` on a local log, which it owns and closes.

    One process at a time should write a log: SQLite before 3.51.3 can lose commits when one connection
    writes in the very moment that another one checkpoints (sqlite.org/wal.html, the WAL-reset bug).
    With `bytes_max` a call whose records might take more of the file than that is answered `FULL` for all
    of them; and so is every call while `has_disk` says no. With `trim` the log is trimmed whenever it is
    written to.
    """

    def __init__(
        self,
        log: LocalLog,
        clock: Clock,
        *,
        bytes_max: int | None = None,
        has_disk: Callable[[], bool] | None = None,
        trim: Trim | None = None,
    ) -> None:
        self.log = log
        self._clock = clock
        self._bytes_max = bytes_max
        self._has_disk = has_disk
        self._trim = trim
        self._queue: deque[_Call] = deque()
        self._in_hand: Sequence[_Call] = ()
        self._commit_is_due = False
        self._closed = False
        self._last_kept_s: float | None = None

    @classmethod
    async def open(
        cls,
        folder: Path,
        clock: Clock,
        partitions: int = 1,
        *,
        bytes_max: int | None = None,
        free_bytes_min: int = 0,
        keep_bytes: int | None = None,
        awaits_reader: bool = True,
    ) -> LocalWriter:
        """A writer on the log in a folder, which is made when missing. It takes nothing while its disk has
        less than `free_bytes_min` free. With `keep_bytes` it keeps no more than that of what its reader has
        done with; unless it `awaits_reader`, of all.

        Raises:
            Transient: the disk is full or fails.
            ConfigError: the file there is none of ours, or damaged.
        """
        log = await LocalLog.open(folder, partitions)
        trim = (
            None if keep_bytes is None else Trim(folder, log, keep_bytes, clock, awaits_reader=awaits_reader)
        )
        has_disk = partial(_has_free, folder, free_bytes_min) if free_bytes_min else None
        return cls(log, clock, bytes_max=bytes_max, has_disk=has_disk, trim=trim)

    async def append(self, records: Sequence[NewRecord], timeout_s: float) -> Sequence[Outcome]:
        call = _Call(records)
        if call.to_keep:
            self._queue.append(call)
            self._commit_soon()
            try:
                async with asyncio.timeout(timeout_s):
                    call.settle(await call.answer)
            except TimeoutError:
                pass
        return call.outcomes

    async def partitions(self, timeout_s: float) -> int:
        return self.log.partitions

    def last_kept_age_s(self) -> float | None:
        return None if self._last_kept_s is None else self._clock.monotonic_s() - self._last_kept_s

    def wrong(self) -> str | None:
        """None: what can be wrong with the file is told upon opening it."""
        return None

    async def close(self, timeout_s: float) -> None:
        self._closed = True
        await self.log.close(timeout_s)

    def _commit_soon(self) -> None:
        if not self._commit_is_due:
            self._commit_is_due = True
            self.log.submit(self._commit).add_done_callback(self._committed)

    def _commit(self, connection: sqlite3.Connection) -> None:
        """In the thread: commit what is queued and answer it."""
        self._commit_is_due = False
        self._in_hand = calls = self._taken()
        outcomes = in_transaction(lambda connection: self._insert(connection, calls))(connection)
        self._in_hand = ()
        self._deliver(calls, outcomes)

    def _committed(self, commit: Future[None]) -> None:
        """In the thread: a commit that failed answers its calls, and one that couldn't begin those queued."""
        error = commit.exception()
        if error is None:
            return
        self._commit_is_due = False
        _log.warning("local_append_failed", extra=fields(error=str(error)))
        calls, self._in_hand = self._in_hand or self._taken(), ()
        self._deliver(calls, [Outcome.UNKNOWN] * len(calls))

    def _deliver(self, calls: Sequence[_Call], outcomes: Sequence[Outcome]) -> None:
        if calls:
            calls[0].answer.get_loop().call_soon_threadsafe(self._answer, calls, outcomes)

    def _taken(self) -> Sequence[_Call]:
        calls: list[_Call] = []
        count = 0
        while self._queue and count < _COMMIT_RECORDS_MAX:
            call = self._queue.popleft()
            if not call.answer.cancelled():
                calls.append(call)
                count += len(call.to_keep)
        return calls

    def _insert(self, connection: sqlite3.Connection, calls: Sequence[_Call]) -> Sequence[Outcome]:
        ends = dict(connection.execute("SELECT partition, end_offset FROM partitions").fetchall())
        room = self._room(connection)
        outcomes: list[Outcome] = []
        rows: list[tuple[int, bytes]] = []
        for call in calls:
            if room is not None:
                size = call.bytes()
                if size > room:
                    outcomes.append(Outcome.FULL)
                    continue
                room -= size
            for record in call.to_keep:
                partition = partition_of(record.key, self.log.partitions)
                rows.append((place_of(partition, ends[partition]), record.value))
                ends[partition] += 1
            outcomes.append(Outcome.KEPT)
        if rows:
            connection.executemany("INSERT INTO records VALUES (?, ?)", rows)
            connection.executemany(
                "UPDATE partitions SET end_offset = ? WHERE partition = ?",
                ((end, partition) for partition, end in ends.items()),
            )
        return outcomes

    def _room(self, connection: sqlite3.Connection) -> int | None:
        """How many bytes more may be kept; None: there is no bound."""
        if self._has_disk is not None and not self._has_disk():
            return 0
        return None if self._bytes_max is None else self._bytes_max - bytes_used(connection)

    def _answer(self, calls: Sequence[_Call], outcomes: Sequence[Outcome]) -> None:
        if Outcome.KEPT in outcomes:
            self._last_kept_s = self._clock.monotonic_s()
        for call, outcome in zip(calls, outcomes, strict=True):
            if not call.answer.done():
                call.answer.set_result(outcome)
        if self._closed:
            return
        if self._trim is not None and self._trim.is_due():
            self.log.submit(self._trim.step).add_done_callback(_trimmed)
        if self._queue:
            self._commit_soon()


def _has_free(folder: Path, bytes_min: int) -> bool:
    return shutil.disk_usage(folder).free >= bytes_min


def _trimmed(step: Future[None]) -> None:
    if error := step.exception():
        _log.warning("local_log_not_trimmed", extra=fields(error=str(error)))


class _Call:
    """One call of `append`: what of it is to be kept, and the future of what became of that."""

    def __init__(self, records: Sequence[NewRecord]) -> None:
        self.outcomes = [Outcome.REFUSED if is_too_large(record) else Outcome.UNKNOWN for record in records]
        self.to_keep = [record for record in records if not is_too_large(record)]
        self.answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def settle(self, outcome: Outcome) -> None:
        self.outcomes = [outcome if before is Outcome.UNKNOWN else before for before in self.outcomes]

    def bytes(self) -> int:
        """The most that its records can take in the file."""
        return int(sum(len(record.value) + _ROW_BYTES for record in self.to_keep) / _PAGE_FILL_MIN)
