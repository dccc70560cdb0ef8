"""Every wait for the store ends: for a connection, for a lock, for a statement, for a frozen owner."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from shared.errors import Transient
from shared.store import engine
from shared.store.engine import Pool, connection_of, open_pool
from tests.support.ports import free_port
from tests.support.proxy import Mood, Proxy


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool as a service has it, of two connections."""
    pool = await open_pool(database_url, connections_max=2, service="test")
    yield pool
    pool.terminate()


async def setting_s(pool: Pool, name: str) -> float:
    """A session's setting, as PostgreSQL has it, in seconds."""
    async with connection_of(pool) as connection:
        found = await connection.fetchval("SELECT current_setting($1)::interval", name)
    assert isinstance(found, timedelta)
    return found.total_seconds()


async def test_the_server_gives_up_before_its_client_does(pool: Pool) -> None:
    """A client that gave up first would leave a statement running that nobody waits for; and a wait for a
    lock must end before the statement that waits does, to be told apart."""
    lock_s = await setting_s(pool, "lock_timeout")
    statement_s = await setting_s(pool, "statement_timeout")

    assert 0 < lock_s < statement_s < engine.COMMAND_TIMEOUT_S
    assert 0 < await setting_s(pool, "idle_in_transaction_session_timeout") <= 10


async def test_a_pool_that_is_used_up_is_waited_for_no_longer_than_its_time(pool: Pool) -> None:
    """Then the store counts as busy."""
    async with connection_of(pool), connection_of(pool):
        begun_s = time.monotonic()
        with pytest.raises(Transient):
            async with connection_of(pool):
                pass
        waited_s = time.monotonic() - begun_s

    assert engine.ACQUIRE_TIMEOUT_S * 0.9 < waited_s < engine.ACQUIRE_TIMEOUT_S + 2


@pytest.mark.parametrize(
    ("timeout", "statement"),
    [
        ("statement_timeout", "SELECT pg_sleep(20)"),
        ("lock_timeout", "LOCK TABLE customers IN ACCESS EXCLUSIVE MODE"),
    ],
)
async def test_a_statement_that_takes_too_long_is_transient(pool: Pool, timeout: str, statement: str) -> None:
    """It costs no record: whatever held it up may be gone the next time."""
    async with connection_of(pool) as holder, holder.transaction():
        await holder.execute("LOCK TABLE customers IN ACCESS SHARE MODE")
        with pytest.raises(Transient):
            await run(pool, f"SET LOCAL {timeout} = '100ms'", statement)


async def test_an_owner_that_is_frozen_in_a_transaction_loses_its_locks(pool: Pool) -> None:
    """PostgreSQL ends its session, so that a takeover never waits for it; it finds out when it wakes."""
    with pytest.raises(Transient):
        await freeze_with_a_lock(pool)


async def run(pool: Pool, *statements: str) -> None:
    """Run statements in one transaction."""
    async with connection_of(pool) as connection, connection.transaction():
        for statement in statements:
            await connection.execute(statement)


async def freeze_with_a_lock(pool: Pool) -> None:
    """Hold a lock in a transaction that does nothing until another session has got past it; then wake."""
    async with connection_of(pool) as frozen, frozen.transaction():
        await frozen.execute("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE")
        await frozen.execute("SET LOCAL idle_in_transaction_session_timeout = '200ms'")
        async with connection_of(pool) as other:
            assert await other.fetchval("SELECT count(*) FROM customers") == 0
        await frozen.execute("SELECT 1")


async def test_who_is_cancelled_while_the_store_is_silent_ends_as_cancelled(database_url: str) -> None:
    """A rollback that gets no answer makes an error of its own of a cancellation; a task that took that for
    a store that is away would go on, and whoever waits for its end wait for ever."""
    server, port = urlsplit(database_url).port, free_port()
    assert server is not None
    began = asyncio.Event()

    async def work(pool: Pool) -> None:
        async with connection_of(pool) as connection, connection.transaction():
            began.set()
            await connection.execute("SELECT pg_sleep(5)")

    with Proxy(port, server) as proxy:
        pool = await open_pool(
            database_url.replace(f":{server}/", f":{port}/"), connections_max=1, service="test"
        )
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(work(pool))
            await began.wait()
            proxy.set(Mood(hole=True))
            task.cancel()
            await asyncio.wait([task], timeout=0.2)
            pool.terminate()

    assert task.cancelled()
