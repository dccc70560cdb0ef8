"""Members of a store in which touchpoints were about whom they name alone: brought up to the rule."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.stager.changes import write_changes
from services.stager.remaking import remake
from services.stager.retelling import Retelling
from shared.store.engine import connection_of, open_pool
from tests.service.test_stager_runs import ACCOUNTS
from tests.service.test_stager_store import NOW, World, touchpoint
from tests.support.clock import ManualClock
from tests.support.journeys import all_journeys

_AS_OF_BEFORE = """
DELETE FROM account_touchpoints WHERE leaves IS NULL;
UPDATE customers SET is_member = NULL WHERE is_member;
UPDATE account_members SET until = NULL
"""


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with await open_pool(database_url, connections_max=4, service="test") as pool:
        yield World(pool, [*all_journeys()[:1], ACCOUNTS])


async def test_members_of_before_are_told_anew_by_a_batch_or_a_page(world: World) -> None:
    """Whoever is met by a batch is told anew in it, all others by two stagers at once, whichever way each has
    become a member or left: then everything is as if the rule had always been there, and nothing is left."""
    writer = await world.writer()
    for number in range(12):
        who = f"user_id:{number}"
        await writer.commit(
            touchpoint(f"{number}-browsed", who, day=number),
            touchpoint(f"{number}-named", who, f"account_id:{number % 3}", day=number + 1),
            touchpoint(f"{number}-bought", who, day=number + 2),
            touchpoint(
                f"{number}-left", who, f"account_id:{number % 2}", day=number + 3, type_="account_left"
            ),
            touchpoint(f"{number}-wrote", who, day=number + 4),
        )
    await writer.commit(touchpoint("other", "user_id:other"))
    await _undo(world)
    undone = await world.differences()

    await writer.commit(touchpoint("0-came", "user_id:0", day=40))
    await writer.commit(touchpoint("1-changed", "user_id:1", "account_id:2", day=1.5))
    left = await world.count("customers WHERE is_member IS NULL")
    both = [Retelling(world.pool, world.in_force, shard, ManualClock(NOW)) for shard in (3, 4)]
    await asyncio.gather(*(_all_pages(one) for one in both))

    assert undone
    assert left == 10
    assert await world.count("customers WHERE is_member IS NULL") == 0
    assert await world.differences() == []


async def _undo(world: World) -> None:
    """Let the store be as the rule of before would have made it."""
    await world.in_force.follow()
    async with connection_of(world.pool) as connection, connection.transaction():
        await connection.execute(_AS_OF_BEFORE)
        accounts = {row["id"]: row["id"] for row in await connection.fetch("SELECT id FROM accounts")}
        changes = await remake(connection, {}, {}, accounts, await world.in_force.latest(), NOW)
        await write_changes(connection, changes, 0, NOW)


async def _all_pages(retelling: Retelling) -> None:
    while await retelling.page() is not None:
        pass
