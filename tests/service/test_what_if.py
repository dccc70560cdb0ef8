"""A what-if over a real PostgreSQL says beforehand what a takeover makes true, and writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from services.stager.sweeper import SETTLE
from shared.clock import SystemClock
from shared.journey.fold import Journey
from shared.journey.language import parse
from shared.store.engine import connection_of, open_pool
from shared.store.what_if import WhatIf, what_if
from tests.service.test_stager_store import NOW, World, touchpoint
from tests.service.test_takeover import FIRST, TYPES, ask_for
from tests.support.clock import ManualClock
from tests.support.journeys import EVERYTHING

SECOND = parse(
    EVERYTHING.replace("version: 1", "version: 2")
    .replace("after: 2d, since", "after: 900d, since")
    .replace("at_least: 3, distinct: days", "at_least: 2, distinct: days"),
    "second",
)
_PLACES = "SELECT stage, sum(count)::int AS count FROM stage_counts WHERE version = $1 GROUP BY stage"
_ROWS = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables"


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """Twenty customers who have done different things."""
    pool = await open_pool(database_url, connections_max=4, service="test")
    world = World(pool, [Journey(FIRST)])
    writer = await world.writer()
    await writer.commit(
        *(
            touchpoint(f"{who}-{n}", f"user_id:{who}", day=who % 3 + n * 2, type_=TYPES[(who + n) % who % 4])
            for who in range(1, 21)
            for n in range(who % 5 + 1)
        )
    )
    yield world
    await pool.close()


async def tried(world: World, at: datetime = NOW, samples: int = 10, seconds: float | None = None) -> WhatIf:
    async with connection_of(world.pool) as connection:
        return await what_if(
            connection, SECOND, FIRST, at, SystemClock(), samples=samples, seconds_max=seconds
        )


async def places(world: World, version: int) -> Counter[str]:
    async with connection_of(world.pool) as connection:
        return Counter(
            {row["stage"]: row["count"] for row in await connection.fetch(_PLACES, version) if row["count"]}
        )


async def test_what_would_be_is_what_comes_to_be(world: World) -> None:
    """Counts, moves and samples are those of the states on both sides of the takeover."""
    clock = ManualClock(NOW + SETTLE)
    await world.sweep(clock)
    found = await tried(world)
    await ask_for(world, SECOND)
    await world.backfill(clock)

    before = Counter({one.stage: one.before for one in found.stages if one.before})
    after = Counter({one.stage: one.after for one in found.stages if one.after})
    assert before == await places(world, 1)
    assert after == await places(world, 2)
    assert before != after
    assert (found.customers, found.complete, found.active_version) == (20, True, 1)
    assert sum(move.count for move in found.moves) == 20
    assert found.moved == sum(move.count for move in found.moves if move.from_ != move.to)
    assert len(found.samples) == min(10, found.moved)
    for one in found.samples:
        assert one.before is not None
        assert one.before.stage != one.after.stage
        assert one.after.transitions[-1].to == one.after.stage
        assert one.after.touchpoints_seen > 0


async def test_a_what_if_writes_nothing(world: World) -> None:
    """Not one row, in no table."""
    async with connection_of(world.pool) as connection:
        counts = [await connection.fetchval(_ROWS)]
        await tried(world)
        counts.append(await connection.fetchval(_ROWS))

    assert counts[0] == counts[1]


async def test_a_what_if_of_the_past_leaves_out_what_came_later(world: World) -> None:
    """As of a time, by event time: only what had happened by then is folded."""
    then = await tried(world, at=datetime(2026, 1, 1, 12, tzinfo=NOW.tzinfo))
    now = await tried(world)

    assert 0 < then.touchpoints < now.touchpoints
    assert then.customers == now.customers


async def test_a_what_if_ends_when_its_time_is_up(world: World) -> None:
    """It says that it is not complete, and how many customers it is about."""
    found = await tried(world, seconds=0.0)

    assert (found.complete, found.customers) == (False, 0)


async def test_there_are_no_more_samples_than_asked_for(world: World) -> None:
    """And they are of different moves first, the commonest before the others."""
    none, some, every = [await tried(world, samples=samples) for samples in (0, 2, 100)]
    moves, shown = (
        {(one.before and one.before.stage, one.after.stage) for one in found.samples}
        for found in (every, some)
    )

    assert (len(none.samples), len(some.samples), len(every.samples)) == (0, 2, every.moved)
    assert len(shown) == min(2, len(moves))


@pytest.mark.parametrize(("subject", "about"), [("account", "account"), ("{property: order_id}", "thing")])
async def test_runs_are_compared_one_by_one(world: World, subject: str, about: str) -> None:
    """Of accounts and of things too, each by its name; with a version whose runs are about something else
    nothing is compared."""
    writer = await World(world.pool, []).writer(1)
    names = ("user_id:1", "account_id:a"), ("user_id:1", "account_id:b"), ("user_id:2", "account_id:b")
    await writer.commit(
        *(
            touchpoint(f"of-{number}", *who, day=number * 20, body=b'{"order_id": "o-%d"}' % (number % 2))
            for number, who in enumerate(names)
        )
    )
    first, second = (parse(f"{one.source}subject: {subject}\n", "about.yaml") for one in (FIRST, SECOND))
    async with connection_of(world.pool) as connection:
        found = await what_if(connection, second, first, NOW, SystemClock())
        alone = await what_if(connection, second, FIRST, NOW, SystemClock())

    runs = [move for move in found.moves if (move.from_, move.to) != (None, None)]
    assert (found.active_version, alone.active_version) == (1, None)
    assert sum(move.count for move in runs) == (2 if about == "account" else 3)
    assert found.samples
    for one in found.samples:
        assert one.before is not None
        assert (one.before.about, one.before.about.kind) == (one.after.about, about)
        assert one.before.about.value in ("a", "b", "o-0", "o-1")
