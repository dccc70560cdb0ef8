"""Connections to the store: asyncpg pools with every wait bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import asyncpg

from shared.errors import ConfigError, RejseError
from shared.store.errors import classified

COMMAND_TIMEOUT_S = 15.0
CONNECT_TIMEOUT_S = 5.0
ACQUIRE_TIMEOUT_S = 2.0

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)
"""A connection, of its own or out of a pool."""

SERVER_SETTINGS = {
    # A frozen owner inside a transaction would otherwise hold its locks for ever.
    "idle_in_transaction_session_timeout": "10s",
    # Less than COMMAND_TIMEOUT_S, or a statement would go on that nobody waits for any more.
    "lock_timeout": "5s",
    "statement_timeout": "10s",
    "timezone": "UTC",
    # Compiling a plan costs more than any statement of ours takes to run.
    "jit": "off",
}

_WEAK = {
    "data_checksums": (
        "off",
        "the pages have no checksums, so a disk that returns other bytes goes unnoticed",
    ),
    "is_superuser": ("on", "the role is a superuser, which the services need not be"),
}
"""Settings, which of their values is weak, and what that means."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


async def open_pool(
    database_url: str,
    *,
    connections_max: int,
    service: str,
    server_settings: Mapping[str, str] | None = None,
) -> Pool:
    """A pool that connects when first used, so that a service starts while the store is away.

    `server_settings` are session settings of PostgreSQL beside those that every session of ours has.
    """
    return await asyncpg.create_pool(
        database_url,
        min_size=0,
        max_size=connections_max,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        init=_encode_times,
        reset=_keep_session,
        server_settings={
            **SERVER_SETTINGS,
            "application_name": f"rejse-{service}",
            **(server_settings or {}),
        },
    )


async def connect(database_url: str, timeout_s: float) -> asyncpg.Connection[asyncpg.Record]:
    """A connection outside of a pool, for one who asks once: to connect, and each statement, takes so long at
    most. What it writes is what the services read."""
    connection = await asyncpg.connect(database_url, timeout=timeout_s, command_timeout=timeout_s)
    await _encode_times(connection)
    return connection


async def _encode_times(connection: Connection) -> None:
    """Take times with a zone to PostgreSQL and back in half of what the driver needs for it, which also makes
    infinite ones of the first and the last that Python knows: here they are what they are."""
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", format="tuple", encoder=_encode_time, decoder=_decode_time
    )


def micros_of(moment: datetime) -> int:
    """A time as PostgreSQL keeps it, for whoever packs rows."""
    return (moment - _EPOCH) // _MICROSECOND


def _encode_time(moment: datetime) -> tuple[int]:
    # Not by `micros_of`: every batch sends thousands of times.
    return ((moment - _EPOCH) // _MICROSECOND,)


def _decode_time(encoded: tuple[int]) -> datetime:
    return _EPOCH + encoded[0] * _MICROSECOND


async def _keep_session(_: Connection) -> None:
    """Save the round trip that resets a session on release: ours change nothing that outlives a
    transaction, and the driver still rolls an open one back."""


@asynccontextmanager
async def connection_of(pool: Pool) -> AsyncIterator[Connection]:
    """A connection out of a pool; what the driver raises inside comes out as an error of ours.

    Raises:
        Transient: the store is away or busy. After a commit was sent, its outcome is unknown.
        Permanent: the store refuses what it was given.
        ConfigError: it doesn't let us in, or was not migrated.
    """
    try:
        async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            yield connection
    except RejseError:
        raise
    except Exception as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # A rollback that fails hides why it was made; whoever cancelled would wait for ever.
            raise asyncio.CancelledError from error
        known = classified(error)
        if known is None:
            raise
        raise known from error


async def require_durable(connection: Connection) -> None:
    """Refuse a store that acknowledges what a power cut would take back.

    Raises:
        ConfigError: names the settings that are off.
    """
    off = [
        name
        for name in ("fsync", "full_page_writes", "synchronous_commit")
        if await connection.fetchval("SELECT current_setting($1)", name) == "off"
    ]
    if off:
        raise ConfigError(f"PostgreSQL runs with {', '.join(off)} off: what it commits may be lost")


async def weaknesses(connection: Connection) -> Sequence[str]:
    """What of a store is less than it should be, and no reason to stand still."""
    found = []
    for name, (weak, meaning) in _WEAK.items():
        if await connection.fetchval("SELECT current_setting($1)", name) == weak:
            found.append(meaning)
    return found
