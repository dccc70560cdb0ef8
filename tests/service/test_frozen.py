"""A stager that stands still in the middle of a copy keeps its locks no longer than a statement may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest

from services.stager.frozen import end_frozen
from shared.errors import Transient
from shared.store.engine import Pool, connection_of, open_pool
from tests.support.eventually import eventually_async

_HEADER, _END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_LOCK = "LOCK TABLE unknown_types IN ACCESS EXCLUSIVE MODE"
_STANDING = """
SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state = 'active'
AND wait_event = $2 AND query_start < clock_timestamp() - interval '1100 milliseconds'
"""


@asynccontextmanager
async def connected(database_url: str, name: str, timeout: str = "1s") -> AsyncIterator[Pool]:
    """The connections of a process with this name, whose statements may take so long."""
    settings = {"application_name": name, "statement_timeout": timeout}
    pool = await open_pool(database_url, connections_max=2, service="stager", server_settings=settings)
    try:
        yield pool
    finally:
        pool.terminate()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """The connections of the stager that looks."""
    async with connected(database_url, "rejse-stager") as pool:
        yield pool


async def copy_and_stand_still(pool: Pool, woken: asyncio.Event) -> None:
    """Take a lock, begin to copy, and send the rest once woken."""

    async def source() -> AsyncIterator[bytes]:
        yield _HEADER
        await woken.wait()
        yield _END

    async with connection_of(pool) as connection, connection.transaction():
        await connection.execute(_LOCK)
        await connection.copy_to_table("dead_letters", source=source(), format="binary")


async def error_of(work: Awaitable[None]) -> Exception | None:
    """What a piece of work raises."""
    try:
        await work
    except Exception as error:
        return error
    return None


async def work_for_long(pool: Pool) -> None:
    """Let PostgreSQL itself be busy."""
    async with connection_of(pool) as connection:
        await connection.execute("SELECT pg_sleep(60)")


async def stands(pool: Pool, name: str, event: str) -> bool:
    """Whether a session with this name has waited for this for longer than a statement of ours may take."""
    return bool(await pool.fetchval(_STANDING, name, event))


async def test_who_stands_still_in_a_copy_loses_its_locks(pool: Pool, database_url: str) -> None:
    """PostgreSQL heeds no timeout of its own there. A stager that looks ends the session, and whoever wakes
    up in it is told that the store was away: the batch is read again."""
    woken = asyncio.Event()
    async with connected(database_url, "rejse-stager") as frozen, asyncio.TaskGroup() as tasks:
        copying = tasks.create_task(error_of(copy_and_stand_still(frozen, woken)))
        await eventually_async(lambda: stands(pool, "rejse-stager", "ClientRead"))

        assert await end_frozen(pool) == 1
        async with pool.acquire() as other, other.transaction():
            await other.execute("SET LOCAL statement_timeout = '10s'")
            await other.execute(_LOCK)
        woken.set()
    assert isinstance(copying.result(), Transient)
    assert await end_frozen(pool) == 0


async def test_a_statement_that_postgresql_works_at_is_left_to_its_timeout(
    pool: Pool, database_url: str
) -> None:
    """PostgreSQL ends it by itself where it should be ended."""
    async with connected(database_url, "rejse-stager", "10s") as busy, asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work_for_long(busy))
        await eventually_async(lambda: stands(pool, "rejse-stager", "PgSleep"))

        assert await end_frozen(pool) == 0
        working.cancel()


async def test_a_slow_copy_of_somebody_else_is_nothing_to_us(pool: Pool, database_url: str) -> None:
    """A restore, say, may take as long as it wants."""
    async with connected(database_url, "pg_restore") as slow, asyncio.TaskGroup() as tasks:
        copying = tasks.create_task(copy_and_stand_still(slow, asyncio.Event()))
        await eventually_async(lambda: stands(pool, "pg_restore", "ClientRead"))

        assert await end_frozen(pool) == 0
        copying.cancel()
