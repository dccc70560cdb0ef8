"""The file of a local event log: its schema, its id, and making room in it."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from pathlib import Path

from shared.errors import ConfigError
from shared.eventlog.local.thread import Job, SqliteThread, T
from shared.eventlog.port import Bounds

FILE_NAME = "log.sqlite3"
_OFFSET_BITS = 40
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
_TRUNCATE_RECORDS = 5_000

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS log (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS partitions"
    " (partition INTEGER PRIMARY KEY, begin_offset INTEGER NOT NULL, end_offset INTEGER NOT NULL)",
    # One integer key holds partition and offset, so that a partition's records lie in their order.
    "CREATE TABLE IF NOT EXISTS records (place INTEGER PRIMARY KEY, value BLOB NOT NULL)",
)


class LocalLog:
    """One connection to the file, and its thread. Each writer and each reader has one of its own.

    Any number of processes may have the file open. Made by `open`.
    """

    def __init__(self, thread: SqliteThread, log_id: str, partitions: int) -> None:
        self._thread = thread
        self.log_id = log_id
        self.partitions = partitions
        self.run = thread.run
        self.submit = thread.submit
        self.close = thread.close

    @classmethod
    async def open(cls, folder: Path, partitions: int = 1) -> LocalLog:
        """Open the log in a folder, and make both when missing. A log that exists keeps its partitions.

        Raises:
            Transient: the disk is full or fails.
            ConfigError: the folder can't be made, or the file there is none of ours, or damaged.
        """
        await asyncio.to_thread(_make, folder)
        thread = SqliteThread(folder / FILE_NAME)
        try:
            log_id, partitions = await thread.run(lambda connection: _prepare(connection, partitions))
        except BaseException:
            await thread.close(1.0)
            raise
        return cls(thread, log_id, partitions)

    async def truncate_before(self, partition: int, offset: int) -> None:
        """Delete the records of a partition before an offset. Their space is used again; the file stays as
        large as it is. This writes: call it on the writer's log.

        Raises:
            Transient: the file is locked, or its disk fails.
        """
        while not await self._thread.run(lambda connection: truncate_some(connection, partition, offset)):
            pass

    async def bounds(self, partition: int) -> Bounds:
        """The bounds of a partition.

        Raises:
            Transient: the file is locked, or its disk fails.
        """
        return await self._thread.run(lambda connection: bounds_of(connection, partition))

    async def bytes_used(self) -> int:
        """The bytes of the file that records take, in whole pages.

        Raises:
            Transient: the file is locked, or its disk fails.
        """
        return await self._thread.run(bytes_used)


def place_of(partition: int, offset: int) -> int:
    """The key of a record."""
    return partition << _OFFSET_BITS | offset


def offset_of(place: int) -> int:
    """The offset in a record's key."""
    return place & _OFFSET_MASK


def bytes_used(connection: sqlite3.Connection) -> int:
    """The bytes of the pages that are in use."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * page_bytes)


def bounds_of(connection: sqlite3.Connection, partition: int) -> Bounds:
    """The bounds of a partition."""
    found = connection.execute(
        "SELECT begin_offset, end_offset FROM partitions WHERE partition = ?", (partition,)
    ).fetchone()
    return Bounds(*found)


def in_transaction(job: Job[T], begin: str = "BEGIN IMMEDIATE") -> Job[T]:
    """The job in one transaction, which is rolled back when it raises."""

    def whole(connection: sqlite3.Connection) -> T:
        connection.execute(begin)
        try:
            result = job(connection)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return result

    return whole


def truncate_some(connection: sqlite3.Connection, partition: int, offset: int) -> bool:
    """Delete so many of a partition's records before an offset that a writer who waits for the lock hardly
    notices; whether all are gone."""

    def some(connection: sqlite3.Connection) -> bool:
        bounds = bounds_of(connection, partition)
        goal = min(offset, bounds.end)
        begin = min(goal, bounds.begin + _TRUNCATE_RECORDS)
        if begin > bounds.begin:
            connection.execute(
                "DELETE FROM records WHERE place >= ? AND place < ?",
                (place_of(partition, bounds.begin), place_of(partition, begin)),
            )
            connection.execute(
                "UPDATE partitions SET begin_offset = ? WHERE partition = ?", (begin, partition)
            )
        return begin >= goal

    return in_transaction(some)(connection)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the event log's folder can't be made: {error.strerror}") from error


def _prepare(connection: sqlite3.Connection, partitions: int) -> tuple[str, int]:
    def make(connection: sqlite3.Connection) -> tuple[str, int]:
        for statement in _SCHEMA:
            connection.execute(statement)
        if not connection.execute("SELECT 1 FROM log").fetchone():
            connection.execute("INSERT INTO log VALUES (1, ?)", (secrets.token_hex(16),))
            connection.executemany(
                "INSERT INTO partitions VALUES (?, 0, 0)", ((number,) for number in range(partitions))
            )
        (log_id,) = connection.execute("SELECT id FROM log").fetchone()
        (count,) = connection.execute("SELECT count(*) FROM partitions").fetchone()
        return log_id, count

    return in_transaction(make)(connection)
