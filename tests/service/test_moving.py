"""Long timelines that become another customer's, part by part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from services.stager.moving import merge
from shared.store.engine import connection_of, open_pool
from tests.service.test_stager_store import NOW, World, touchpoint
from tests.support.journeys import all_journeys

_LENGTHS = "SELECT customer_id, count(*) FROM touchpoints GROUP BY customer_id"
_WHO = "SELECT customer_id FROM identities WHERE identity = $1"


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with await open_pool(database_url, connections_max=3, service="test") as pool:
        yield World(pool, all_journeys())


async def test_timelines_longer_than_a_statement_moves_are_moved_whole(world: World) -> None:
    """However many touchpoints each customer has, more, less or as many as one statement moves, or its
    multiple: all of them become the other's, and nobody else's does."""
    writer = await world.writer()
    lengths = {"a": 1, "b": 2, "c": 4, "d": 5, "other": 3}
    await writer.commit(
        *(touchpoint(f"{who}{n}", f"user_id:{who}") for who, length in lengths.items() for n in range(length))
    )
    async with connection_of(world.pool) as connection, connection.transaction():
        ids = {who: await connection.fetchval(_WHO, f"user_id:{who}") for who in lengths}
        goes = [ids[who] for who in "bcd"]
        evidence = UUID(int=1)
        await merge(connection, dict.fromkeys(goes, evidence), dict.fromkeys(goes, ids["a"]), NOW, at_once=2)
        found = {row["customer_id"]: row["count"] for row in await connection.fetch(_LENGTHS)}

    assert found == {ids["a"]: 12, ids["other"]: 3}
