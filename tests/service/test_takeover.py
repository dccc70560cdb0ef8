"""A version takes over from another one, on a real PostgreSQL, while touchpoints keep coming."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.stager.backfill import Backfill, Page
from services.stager.definitions import register
from services.stager.in_force import InForce
from services.stager.sweeper import SETTLE
from shared.errors import ConfigError, Transient
from shared.failpoints import Failpoints
from shared.journey.definition import Definition
from shared.journey.fold import Journey
from shared.journey.language import linked, parse
from shared.journey.state import mark_of
from shared.store.definitions import Version, fetch_active, fetch_version, fetch_versions, retire, want
from shared.store.engine import connection_of, open_pool
from tests.service.test_stager_store import NOW, World, Writer, touchpoint
from tests.support.audit import differences
from tests.support.clock import ManualClock
from tests.support.journeys import EVERYTHING

FIRST = parse(EVERYTHING, "first")
SECOND = parse(
    EVERYTHING.replace("version: 1", "version: 2")
    .replace("at_least: 3, distinct: days", "at_least: 2, distinct: days")
    .replace("pause: {after: 3d}", "pause: {after: 9d}"),
    "second",
)
_WITH_STATE = "SELECT count(*) FROM journey_states WHERE position($1::bytea IN states) > 0"
TYPES = ["order_completed", "product_viewed", "offer_declined", "call_ended"]


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    pool = await open_pool(database_url, connections_max=8, service="test")
    yield World(pool, [Journey(FIRST)])
    await pool.close()


async def ask_for(world: World, definition: Definition) -> Version:
    async with connection_of(world.pool) as connection:
        return await want(connection, definition, NOW)


async def active(world: World) -> dict[str, int]:
    async with connection_of(world.pool) as connection:
        return {one.key: one.version for one in await fetch_active(connection)}


async def wrong(world: World, definition: Definition, clock: ManualClock | None = None) -> list[str]:
    async with connection_of(world.pool) as connection:
        return await differences(connection, [Journey(definition)], None if clock is None else clock.now())


async def with_state(world: World, definition: Definition) -> int:
    """How many runs the store has a state of, by a version."""
    async with connection_of(world.pool) as connection:
        mark = mark_of(definition.key, definition.version)
        found: int = await connection.fetchval(_WITH_STATE, mark)
        return found


async def customers(writer: Writer, number: int, day: float = 0) -> None:
    who = range(number)
    await writer.commit(*(touchpoint(f"{one}-{day}", f"user_id:{one}", day=day) for one in who))


_steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("touch"), st.integers(0, 1), st.integers(0, 6), st.integers(0, 40), st.sampled_from(TYPES)
        ),
        st.tuples(st.sampled_from(["want", "page", "page"]), st.integers(0, 1)),
        st.tuples(st.just("sweep"), st.integers(0, 1), st.sampled_from([0, 3_600, 86_400 * 20])),
    ),
    max_size=30,
)


@pytest.mark.parametrize("subject", ["customer", "account", "{property: order_id}"])
@given(steps=_steps)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_what_is_active_is_the_fold_at_every_moment(
    world: World, subject: str, steps: list[tuple[Any, ...]]
) -> None:
    """Two stagers at work, each with its own idea of what is in force; versions asked for, given up, taken
    back; pages in between: whichever version is read, its states, histories and counts are the fold's, run by
    run, and none is looked at later than time moves it."""
    versions = {
        one.version: parse(f"{one.source}subject: {subject}\n", "about.yaml") for one in (FIRST, SECOND)
    }
    async with connection_of(world.pool) as connection:
        await connection.execute(
            "TRUNCATE customers, identities, touchpoints, touchpoint_ids, accounts, account_members, "
            "account_touchpoints, journey_definitions, journey_states, stage_transitions, stage_counts, "
            "stage_flows, stager_offsets, unknown_types"
        )
        await connection.execute("UPDATE journeys_in_force SET revision = revision + 1")
    worlds = [World(world.pool, [Journey(versions[1])]) for _ in range(2)]
    writers = [await one.writer(number) for number, one in enumerate(worlds)]
    clock = ManualClock(NOW + SETTLE)
    for number, (what, which, *more) in enumerate(steps):
        if what == "touch":
            who, day, type_ = more
            names = (f"user_id:{who}", f"account_id:{who // 2}")
            order = b'{"order_id": %d}' % (day % 3)
            await writers[which].commit(touchpoint(str(number), *names, day=day, type_=type_, body=order))
        elif what == "want":
            await ask_for(world, versions[which + 1])
        elif what == "page":
            await page(worlds[which], clock)
        else:
            clock.advance(more[0])
            await worlds[which].sweep(clock)
        assert await wrong(world, versions[(await active(world))["everything"]]) == []
    await worlds[0].backfill(clock)
    clock.advance(86_400 * 300)
    await worlds[0].in_force.follow()
    await worlds[0].sweep(clock)

    assert await wrong(world, versions[(await active(world))["everything"]], clock) == []


async def page(world: World, clock: ManualClock) -> Page | None:
    """A page of one customer, as one of a larger store."""
    await world.in_force.follow()
    backfill = Backfill(world.pool, world.in_force, 5, clock, Failpoints(), customers=1)
    return await backfill.page()


async def test_a_backfill_goes_on_where_it_stood(world: World) -> None:
    """What a page did is in the store: another stager goes on behind it, and meets everybody once."""
    await customers(await world.writer(), 6)
    asked = await ask_for(world, SECOND)
    clock = ManualClock(NOW)
    for heir in (world, World(world.pool, [])):
        for _ in range(2):
            assert await page(heir, clock)
    async with connection_of(world.pool) as connection:
        halfway = await fetch_version(connection, "everything", 2)
    await World(world.pool, []).backfill(clock)

    assert asked.is_wanted
    assert halfway is not None
    assert (halfway.done, halfway.total, halfway.is_wanted) == (4, 6, True)
    assert await active(world) == {"everything": 2}
    assert await wrong(world, SECOND) == []


async def test_two_stagers_are_never_at_the_same_page(world: World) -> None:
    """One has the version locked; the other finds nothing to do, and doesn't wait."""
    await customers(await world.writer(), 4)
    await ask_for(world, SECOND)
    async with connection_of(world.pool) as connection, connection.transaction():
        await connection.execute("SELECT FROM journey_definitions FOR UPDATE")
        async with asyncio.timeout(5):
            assert await page(world, ManualClock(NOW)) is None
    assert await page(world, ManualClock(NOW))


async def test_time_has_run_when_a_version_takes_over(world: World) -> None:
    """Whoever was due long ago has moved by then: the first counts that are read are those of now."""
    await customers(await world.writer(), 3)
    await ask_for(world, SECOND)
    clock = ManualClock(NOW)
    await world.backfill(clock)

    assert await wrong(world, SECOND, clock) == []
    lost = "stage_transitions WHERE version = 2 AND to_stage = 'lost' AND superseded_at IS NULL"
    assert await world.count(lost) == 3


async def test_a_batch_that_began_by_the_old_journeys_holds_up_the_request(world: World) -> None:
    """So there is no touchpoint that a page has not seen and live staging has not folded."""
    writer = await world.writer()
    async with asyncio.TaskGroup() as tasks, connection_of(world.pool) as connection:
        async with connection.transaction():
            await connection.execute("SELECT FROM journeys_in_force FOR SHARE")
            asking = tasks.create_task(ask_for(world, SECOND))
            done, _ = await asyncio.wait([asking], timeout=0.3)
            assert not done
        await asking
    await customers(writer, 1)

    assert await active(world) == {"everything": 2}
    assert await wrong(world, SECOND) == []


async def test_a_batch_that_meets_a_request_folds_by_what_was_asked_for(world: World) -> None:
    """It waits for the request to end, and then is rolled back and run again: it had read what was before."""
    writer = await world.writer()
    await customers(writer, 2)
    async with asyncio.TaskGroup() as tasks, connection_of(world.pool) as connection:
        async with connection.transaction():
            await want(connection, SECOND, NOW)
            committing = tasks.create_task(customers(writer, 3, day=1))
            done, _ = await asyncio.wait([committing], timeout=0.3)
            assert not done
        await committing

    assert await with_state(world, SECOND) == 3
    await world.backfill(ManualClock(NOW))
    assert await wrong(world, SECOND) == []


async def test_the_former_version_can_be_taken_back(world: World) -> None:
    """It has missed what came since: that is folded in before it is read again, late touchpoints too."""
    writer, clock = await world.writer(), ManualClock(NOW)
    await customers(writer, 3, day=10)
    await ask_for(world, SECOND)
    await world.backfill(clock)
    await customers(writer, 2, day=12)
    await customers(writer, 2, day=5)
    back = await ask_for(world, FIRST)
    await customers(writer, 3, day=14)
    assert await active(world) == {"everything": 2}
    await world.backfill(clock)

    assert back.is_wanted
    assert back.retired_at is not None
    assert await active(world) == {"everything": 1}
    assert await wrong(world, FIRST) == []


async def test_a_version_that_is_on_its_way_is_given_up_for_another(world: World) -> None:
    """Asking for the active one again is how to think better of it; there is one on its way at most."""
    await customers(await world.writer(), 3)
    await ask_for(world, SECOND)
    await page(world, ManualClock(NOW))
    again = await ask_for(world, FIRST)
    assert await page(world, ManualClock(NOW)) is None
    third = dataclasses.replace(SECOND, version=3, hash="another")
    wanted = [(await ask_for(world, one)).is_wanted for one in (SECOND, third)]
    async with connection_of(world.pool) as connection:
        stored = await fetch_versions(connection)

    assert again.is_active
    assert wanted == [True, True]
    assert [one.version for one in stored if one.is_wanted] == [3]


async def test_a_journey_can_be_let_go(world: World) -> None:
    """Nobody is staged in it any more, and a stager that begins again leaves it at that."""
    writer = await world.writer()
    await customers(writer, 2)
    async with connection_of(world.pool) as connection:
        assert await retire(connection, "everything", NOW)
        assert not await retire(connection, "everything", NOW)
    await customers(writer, 3, day=1)
    await world.register()

    assert await active(world) == {}
    assert await with_state(world, FIRST) == 2


async def test_the_settings_are_the_first_value(world: World) -> None:
    """A version that the store knows already is not asked for again by a stager that begins; a higher one
    is."""
    writer = await world.writer()
    await customers(writer, 1)
    await ask_for(world, SECOND)
    await world.backfill(ManualClock(NOW))
    await world.register()
    assert await active(world) == {"everything": 2}
    higher = World(world.pool, [Journey(parse(EVERYTHING.replace("version: 1", "version: 7"), "higher"))])
    await higher.register()
    await world.backfill(ManualClock(NOW))

    assert await active(world) == {"everything": 7}


async def test_another_text_of_the_same_version_is_refused(world: World) -> None:
    """Whoever asks: states of both would mix."""
    await ask_for(world, FIRST)
    changed = parse(EVERYTHING + "# changed\n", "changed")
    with pytest.raises(ConfigError, match="everything has changed but is still version 1: raise it"):
        await ask_for(world, changed)
    async with connection_of(world.pool) as connection:
        await register(connection, [FIRST], NOW)


async def test_who_starts_a_journey_is_kept_with_it(world: World) -> None:
    """A definition comes out of the store as it went in, with the rules by which others start it, whatever
    others there are by then."""
    starter = EVERYTHING.replace("key: everything", "key: starter")
    starter += "starts: [{journey: everything, on: {type: call_ended, property: {to: sales}}}]\n"
    started, _ = linked([FIRST, parse(starter, "starter")])
    await ask_for(world, started)
    (journey,) = (await InForce(world.pool).follow()).journeys
    async with connection_of(world.pool) as connection:
        await register(connection, [FIRST], NOW + timedelta(days=1))

    assert journey.definition == started
    assert journey.definition.started_by[0].rule == "starter.starts[0]"


async def test_what_an_older_rejse_folded_is_not_folded_on(world: World) -> None:
    """Its states mean something else: a stager refuses it, unless a newer version is to take over."""
    async with connection_of(world.pool) as connection:
        await want(connection, FIRST, NOW)
        await connection.execute("UPDATE journey_definitions SET hash = 'of another fold'")
    with pytest.raises(ConfigError, match="raise its version"):
        await world.in_force.follow()
    async with connection_of(world.pool) as connection:
        await connection.execute("INSERT INTO customers VALUES (gen_random_uuid(), now())")
    await ask_for(world, SECOND)

    assert [one.definition.version for one in (await world.in_force.follow()).journeys] == [2]


async def test_a_page_that_could_not_be_read_is_tried_smaller(world: World, database_url: str) -> None:
    """So timelines that are too long for a statement hold up nobody for ever: at last it is one customer."""
    await customers(await world.writer(), 4)
    await ask_for(world, SECOND)
    impatient = await open_pool(
        database_url, connections_max=2, service="test", server_settings={"lock_timeout": "100ms"}
    )
    backfill = Backfill(impatient, InForce(impatient), 5, ManualClock(NOW), Failpoints(), customers=4)
    async with connection_of(world.pool) as connection, connection.transaction():
        await connection.execute("SELECT FROM customers FOR UPDATE")
        with pytest.raises(Transient):
            await backfill.page()
    page = await backfill.page()
    await impatient.close()

    assert page is not None
    assert page.customers == 2
