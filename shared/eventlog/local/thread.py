"""A SQLite connection in a thread of its own, so that a slow disk never holds up the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from shared.errors import ConfigError, RejseError, Transient

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

_BUSY_TIMEOUT_S = 5.0
_PRAGMAS = (
    # An answered append has to survive a power cut, and in WAL mode only FULL syncs every commit.
    "PRAGMA synchronous = FULL",
    # A checkpoint syncs the whole file, so it shouldn't come with every few hundred records.
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA journal_size_limit = 67108864",
)


class SqliteThread:
    """Runs jobs on one connection, one after the other.

    The connection is opened by the first job. After any error of SQLite it is closed, and opened anew by
    the next job: what a failed sync has left in its memory is not to be trusted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite-{path.parent.name}")
        self._closed = False

    async def run(self, job: Job[T]) -> T:
        """Run a job and wait for it. A job that hasn't begun when the wait is cancelled never runs.

        Raises:
            Transient: the file is locked, its disk is full or fails.
            ConfigError: the file is none of ours, or damaged.
        """
        return await asyncio.wrap_future(self.submit(job))

    def submit(self, job: Job[T]) -> Future[T]:
        """Queue a job, from any thread; its future raises what `run` does."""
        return self._executor.submit(self._attempt, job)

    async def close(self, timeout_s: float) -> None:
        """Run what is queued, close the connection and end the thread, waiting for it up to `timeout_s`
        seconds. Idempotent."""
        if self._closed:
            return
        self._closed = True
        closing = asyncio.wrap_future(self._executor.submit(self._disconnect))
        self._executor.shutdown(wait=False)
        await asyncio.wait([closing], timeout=timeout_s)

    def _attempt(self, job: Job[T]) -> T:
        try:
            if self._connection is None:
                self._connection = _connect(self._path)
            return job(self._connection)
        except sqlite3.Error as error:
            self._disconnect()
            raise _translated(error) from error

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    try:
        _use_wal(connection)
        for pragma in _PRAGMAS:
            connection.execute(pragma)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Processes that make the file at once may lock each other out, which SQLite tells without waiting."""
    for _ in range(10):
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode = WAL")
            return
    connection.execute("PRAGMA journal_mode = WAL")


def _translated(error: sqlite3.Error) -> RejseError:
    if isinstance(error, sqlite3.OperationalError):
        return Transient(f"the local event log: {error.sqlite_errorname}")
    return ConfigError(f"the local event log's file is damaged or none of ours: {error}")
