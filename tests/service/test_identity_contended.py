"""Another transaction alters a customer's identities after a batch has read them and before it locks them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from services.stager.batch import read_batch
from services.stager.store import Done
from shared.codec import encode
from shared.errors import Contended
from shared.store.engine import connection_of, open_pool
from shared.touchpoint import Touchpoint
from tests.service.test_stager_store import NOW, World, touchpoint
from tests.support.eventually import eventually_async
from tests.support.journeys import all_journeys

_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""
_HELD = """
INSERT INTO identities (identity, customer_id, touchpoint_id, linked_at)
VALUES ('user_id:held', gen_random_uuid(), gen_random_uuid(), now())
"""


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with await open_pool(database_url, connections_max=6, service="test") as pool:
        yield World(pool, all_journeys())


async def committed_late(
    world: World, database_url: str, batch: Sequence[Touchpoint], meanwhile: Touchpoint
) -> Done:
    """Commit a batch that is held up by an identity of somebody's, while another stager commits one more
    touchpoint."""
    ours, other = await world.writer(1), await world.writer(2)
    holder = await asyncpg.connect(database_url)
    try:
        held = holder.transaction()
        await held.start()
        await holder.execute(_HELD)
        records = read_batch(ours.records([encode(one) for one in (*batch, touchpoint("h", "user_id:held"))]))
        async with asyncio.TaskGroup() as tasks:
            late = tasks.create_task(ours.store.commit(records, {1: ours.stands}, NOW))
            await eventually_async(lambda: holder.fetchval(_WAITING))
            await other.commit(meanwhile)
            await held.rollback()
        return late.result()
    finally:
        await holder.close()


async def test_what_alters_no_decision_costs_no_second_run(world: World, database_url: str) -> None:
    """A customer has got one more identity meanwhile: that is nothing to a touchpoint of theirs, nor to one
    that links them to somebody else."""
    writer = await world.writer()
    await writer.commit(touchpoint("a"), touchpoint("b", "anonymous_id:b"))
    batch = [touchpoint("c"), touchpoint("d", "user_id:1", "anonymous_id:b", day=1)]
    done = await committed_late(world, database_url, batch, touchpoint("e", "user_id:1", "email:a@b.dk"))

    assert done.merged == 1
    async with connection_of(world.pool) as connection:
        numbers = await connection.fetch("SELECT count(*) FROM identities GROUP BY customer_id ORDER BY 1")
    assert [number for (number,) in numbers] == [1, 3]
    assert await world.differences() == []


async def test_what_alters_a_decision_runs_the_batch_again(world: World, database_url: str) -> None:
    """Whom the batch would merge with somebody has become another login's meanwhile."""
    writer = await world.writer()
    await writer.commit(touchpoint("a"), touchpoint("b", "anonymous_id:b"))
    batch = [touchpoint("d", "user_id:1", "anonymous_id:b", day=1)]
    with pytest.raises(ExceptionGroup) as raised:
        await committed_late(world, database_url, batch, touchpoint("e", "user_id:2", "anonymous_id:b"))

    assert raised.group_contains(Contended)
    async with connection_of(world.pool) as connection:
        assert await connection.fetchval("SELECT count(*) FROM customers") == 2
