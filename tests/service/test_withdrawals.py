"""Links that several withdraw and take back at once, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from shared.store.engine import connect
from shared.store.withdrawals import take_back, withdraw
from tests.service.test_stager_store import NOW
from tests.support.crowd import DEADLOCKS

ANN = "user_id:ann"
OTHERS = 60
_LINK = """
INSERT INTO identity_links (identity, other, touchpoint_id, occurred_at, linked_at)
SELECT $1, 'phone:' || n, gen_random_uuid(), now(), now() FROM generate_series(1, $2::int) AS n
"""


@pytest.fixture
async def connections(database_url: str) -> AsyncIterator[Sequence[asyncpg.Connection[asyncpg.Record]]]:
    """To a store in which Ann has many numbers."""
    opened = [await connect(database_url, 20.0) for _ in range(6)]
    await opened[0].execute(_LINK, ANN, OTHERS)
    yield opened
    for one in opened:
        await one.close()


async def test_nobody_waits_in_a_circle(
    connections: Sequence[asyncpg.Connection[asyncpg.Record]], database_url: str
) -> None:
    """Some say something of all links of an identity, others of single ones, at once and by turns the
    opposite: each word writes rows to new places, so that others come to them in another order."""
    async with asyncio.TaskGroup() as tasks:
        for number, connection in enumerate(connections):
            tasks.create_task(_say(connection, number, to_all=number % 2 == 0))

    for one in connections:
        await one.close()
    last = await connect(database_url, 20.0)
    try:
        assert await last.fetchval(DEADLOCKS) == 0
    finally:
        await last.close()


async def _say(connection: asyncpg.Connection[asyncpg.Record], seed: int, *, to_all: bool) -> None:
    draw = random.Random(seed)
    for _ in range(150):
        say = draw.choice((withdraw, take_back))
        for _ in range(1 if to_all else OTHERS // 6):
            await say(connection, ANN, None if to_all else f"phone:{draw.randint(1, OTHERS)}", NOW)
