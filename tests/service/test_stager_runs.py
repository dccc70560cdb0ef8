"""Runs of accounts and of things, beside those of customers, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.stager.sweeper import SETTLE
from shared.journey.fold import Journey
from shared.journey.language import parse
from shared.store.engine import connection_of, open_pool
from shared.touchpoint import Touchpoint
from tests.service.test_stager_store import NOW, World, Writer, touchpoint
from tests.support.clock import ManualClock
from tests.support.journeys import EVERYTHING, all_journeys

_OF_THINGS = EVERYTHING.replace("key: everything", "key: things") + "subject: {property: order_id}\n"
_OF_ACCOUNTS = EVERYTHING.replace("key: everything", "key: accounts") + "subject: account\n"
THINGS, ACCOUNTS = (Journey(parse(text, "j.yaml")) for text in (_OF_THINGS, _OF_ACCOUNTS))

_CLEAR = (
    "TRUNCATE customers, identities, touchpoints, touchpoint_ids, accounts, account_members, "
    "account_touchpoints, journey_definitions, journey_states, stage_transitions, stage_counts, stage_flows, "
    "stager_offsets, unknown_types"
)

Said: TypeAlias = tuple[int, int, str, str | int | None, frozenset[str]]
"""Who, after so many days, did what, about which order, for which accounts."""

_said = st.tuples(
    st.integers(0, 3),
    st.integers(0, 20),
    st.sampled_from(["order_completed", "product_viewed", "offer_declined", "call_ended", "account_left"]),
    st.sampled_from([None, "a", "b", 7, "7", "ø" * 101]),
    st.frozensets(st.sampled_from(["account_id:acme", "account_id:beta"])),
)


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    pool = await open_pool(database_url, connections_max=6, service="test")
    yield World(pool, [*all_journeys(), THINGS, ACCOUNTS])
    await pool.close()


def told(number: int, said: Said) -> Touchpoint:
    who, day, type_, order, accounts = said
    body = b"{}" if order is None else msgspec.json.encode({"order_id": order})
    if number % 3 == 0:
        body = body.replace(b"order_id", rb"order\u005fid")
    return touchpoint(str(number), f"user_id:{who}", *sorted(accounts), day=day * 2, type_=type_, body=body)


async def share(writers: Sequence[Writer], turns: Sequence[tuple[int, Touchpoint]], size: int) -> None:
    """Commit what each writer is given, all at once, so many touchpoints a batch."""

    async def work(writer: Writer) -> None:
        its = [one for number, one in turns if number == writer.partition]
        for begin in range(0, len(its), size):
            await writer.commit(*its[begin : begin + size])

    await asyncio.gather(*(work(writer) for writer in writers))


@given(events=st.lists(_said, min_size=1, max_size=25), data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_kind_of_run_ends_in_its_fold(
    world: World, events: list[Said], data: st.DataObject
) -> None:
    """Any order, duplication, batching, sharing between two stagers and sweeping, with the definitions there
    from the beginning or coming later: customers', accounts' and things' runs are the plain folds."""
    async with connection_of(world.pool) as connection:
        await connection.execute(_CLEAR)
    sent = [told(number, said) for number, said in enumerate(events)]
    arriving = data.draw(st.permutations(sent + data.draw(st.lists(st.sampled_from(sent), max_size=5))))
    before = arriving[: data.draw(st.integers(0, len(arriving)))]
    await share([await World(world.pool, []).writer()], [(0, one) for one in before], 10)
    clock = ManualClock(NOW + SETTLE)
    writers = [await world.writer(0), await world.writer(1)]
    if not before or data.draw(st.booleans()):
        await world.backfill(clock)
    rest = arriving[len(before) :]
    while rest:
        some, rest = rest[:8], rest[8:]
        turns = [(data.draw(st.integers(0, 1)), one) for one in some]
        await share(writers, turns, data.draw(st.integers(1, 8)))
        if data.draw(st.booleans()):
            await world.sweep(clock)
    await world.backfill(clock)
    clock.advance(86_400 * 300)
    await world.sweep(clock)

    assert await world.count("touchpoints") == len(sent)
    assert await world.differences(clock.now()) == []


async def test_stagers_with_overlapping_accounts_never_wait_in_a_circle(world: World) -> None:
    """Customers before accounts, each by id: whoever meets whom in whatever order, nothing is deadlocked."""
    writers = [await world.writer(partition) for partition in range(4)]
    turns = [
        (number % 4, told(number, (number * 7 % 19, number * 13 % 20, "order_completed", number % 3, names)))
        for number in range(800)
        for names in (frozenset({f"account_id:{number * 5 % 6}", f"account_id:{number * 11 % 6}"}),)
    ]
    await share(writers, turns, 25)

    async with connection_of(world.pool) as connection:
        deadlocks = await connection.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
    assert deadlocks == 0
    assert await world.count("account_touchpoints") >= 800
    assert await world.differences() == []


async def test_an_account_is_no_customer_and_has_each_member_once(world: World) -> None:
    """Two colleagues stay two customers; the account's run is the one that both their touchpoints make, those
    too that name none behind one that does."""
    writer = await world.writer()
    await writer.commit(
        touchpoint("a", "user_id:1", "account_id:acme"),
        touchpoint("b", "user_id:2", "account_id:acme", day=1),
        touchpoint("c", "user_id:2", "account_id:acme", "account_id:beta", day=2),
        touchpoint("d", "user_id:2", day=3),
    )

    assert (await world.count("customers"), await world.count("accounts")) == (2, 2)
    assert (await world.count("account_members"), await world.count("account_touchpoints")) == (3, 6)
    assert await world.count("identities WHERE identity LIKE 'account%'") == 0
    assert await world.count("stage_transitions WHERE journey_key = 'accounts' AND to_stage = 'loyal'") == 1
    assert await world.differences() == []
