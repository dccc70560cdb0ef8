"""Links that are withdrawn and taken back, on a real PostgreSQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.store.engine import connection_of
from shared.store.identities import REFUSED_LINKS
from shared.store.ids import touchpoint_uid
from shared.store.withdrawals import take_back, withdraw
from shared.touchpoint import Touchpoint, strongest_first
from tests.service.staging import Staging, staging
from tests.service.test_identity import _JOURNEYS as JOURNEYS
from tests.service.test_identity import _said as said_of_conflicts
from tests.service.test_identity import clear, identities, timelines, told_wrongly
from tests.service.test_stager_store import NOW, touchpoint
from tests.support.people import Pair, components

# Few enough of each kind that no limit holds anything back.
_NAMES = [
    "user_id:1",
    *(f"email:{number}@b.dk" for number in range(3)),
    *(f"crm:{number}" for number in range(3)),
    *(f"anonymous_id:{number}" for number in range(4)),
]
_said = st.tuples(
    st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3, unique=True),
    st.integers(0, 20),
    st.sampled_from(["order_completed", "product_viewed", "call_ended"]),
)
_slowly = settings(
    max_examples=20,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
async def stager(database_url: str) -> AsyncIterator[Staging]:
    async with staging(database_url, JOURNEYS, NOW, tells=True) as running:
        yield running


async def say(stager: Staging, pair: Pair, *, withdrawn: bool) -> None:
    """Withdraw a link, or take that back."""
    word = withdraw if withdrawn else take_back
    async with connection_of(stager.pool) as connection:
        assert await word(connection, *pair, NOW) == 1


async def pairs(stager: Staging) -> list[Pair]:
    """All links that touchpoints told of."""
    async with connection_of(stager.pool) as connection:
        rows = await connection.fetch("SELECT identity, other FROM identity_links ORDER BY 1, 2")
    return [(row["identity"], row["other"]) for row in rows]


@given(said=st.lists(_said, min_size=8, max_size=30), data=st.data())
@_slowly
async def test_customers_are_what_the_links_that_stand_hold_together(
    stager: Staging, said: list[tuple[list[str], int, str]], data: st.DataObject
) -> None:
    """Links, merges, withdrawals and words taken back in any order, carried out at once or later, with
    touchpoints in between, late and sent again: customers, timelines, what is folded of them, counters, and
    what consumers are told."""
    await clear(stager)
    await stager.restart()
    told: set[Pair] = set()
    withdrawn: set[Pair] = set()
    sent: list[Touchpoint] = []
    for number, (names, day, type_) in enumerate(said):
        one = touchpoint(str(number), *strongest_first(names), day=day, type_=type_)
        sent.append(one)
        again = data.draw(st.lists(st.sampled_from(sent), max_size=1))
        await stager.commit(NOW, one, *again)
        told |= {(one.identities[0], other) for other in one.identities[1:]}
        if told and data.draw(st.integers(0, 2)) == 0:
            pair = data.draw(st.sampled_from(sorted(told)))
            await say(stager, pair, withdrawn=pair not in withdrawn)
            withdrawn ^= {pair}
        if data.draw(st.booleans()):
            await stager.settle(NOW)
    await stager.settle(NOW)

    everybody = {name for one in sent for name in one.identities}
    expected = components(everybody, told - withdrawn)
    owner = {name: people for people in expected for name in people}
    its: defaultdict[frozenset[str], set[Any]] = defaultdict(set)
    for one in sent:
        its[owner[one.identities[0]]].add(touchpoint_uid(one.source, one.id))
    assert await identities(stager) == expected
    assert await timelines(stager) == set(map(frozenset, its.values()))
    assert await stager.differences() == []
    assert await told_wrongly(stager) == []


_STANDING = """
SELECT customer_id, journey_key, version, run, seq, at, kind, from_stage, to_stage, touchpoint_id, rule
FROM stage_transitions WHERE superseded_at IS NULL
"""
_COUNTS = """
SELECT journey_key, version, stage, paused, sum(count)::int FROM stage_counts GROUP BY 1, 2, 3, 4
HAVING sum(count) <> 0
"""
_WORLD = {
    "customers": "SELECT id, created_at FROM customers",
    "aliases": "SELECT alias_id, customer_id FROM customer_aliases",
    "identities": "SELECT identity, customer_id, touchpoint_id, since FROM identities",
    "holders": "SELECT identity, since, touchpoint_id, customer_id FROM identity_holders",
    "touchpoints": "SELECT id, customer_id FROM touchpoints",
    "members": "SELECT customer_id, account_id, since, until FROM account_members",
    "of accounts": "SELECT account_id, id, customer_id, leaves FROM account_touchpoints",
    "refused": REFUSED_LINKS,
    "histories": _STANDING,
    "counts": _COUNTS,
}


async def world(stager: Staging) -> dict[str, set[tuple[Any, ...]]]:
    """Everything that is so now, but for when Rejse knew it."""
    async with connection_of(stager.pool) as connection:
        return {what: {tuple(row) for row in await connection.fetch(sql)} for what, sql in _WORLD.items()}


@given(said=st.lists(said_of_conflicts, min_size=10, max_size=30), data=st.data())
@_slowly
async def test_taking_back_leaves_what_was_before(
    stager: Staging, said: list[tuple[list[str], int, str, str]], data: st.DataObject
) -> None:
    """Among logins that share devices and numbers too: links are withdrawn one after the other, and taken
    back the last one first. Between, everything is the fold of its timelines; at the end all is as before,
    but for ids that came to be: they name whom they were parts of, for ever."""
    await clear(stager)
    await stager.restart()
    sent = [
        touchpoint(str(number), *strongest_first(names), day=day, type_=type_)
        for number, (names, day, type_, _) in enumerate(said)
    ]
    for begin in range(0, len(sent), 4):
        await stager.commit(NOW, *sent[begin : begin + 4])
    before = await world(stager)
    told = await pairs(stager)
    if not told:
        return
    chosen = data.draw(st.lists(st.sampled_from(told), min_size=1, max_size=4, unique=True))
    for pair in chosen:
        await say(stager, pair, withdrawn=True)
        await stager.settle(NOW)
        assert await stager.differences() == []
        assert await misfiled(stager) == []
    for pair in reversed(chosen):
        await say(stager, pair, withdrawn=False)
        await stager.settle(NOW)
        assert await stager.differences() == []

    after = await world(stager)
    new_ids = {id_ for id_, _ in after["aliases"]} - {id_ for id_, _ in before["aliases"]}
    assert after | {"aliases": {one for one in after["aliases"] if one[0] not in new_ids}} == before
    assert await told_wrongly(stager) == []


_MISFILED = """
SELECT t.id FROM touchpoints AS t WHERE NOT EXISTS (
    SELECT FROM identities AS i WHERE i.customer_id = t.customer_id AND NOT i.handed_over
    UNION ALL SELECT FROM identity_holders AS h WHERE h.customer_id = t.customer_id
    UNION ALL SELECT FROM identities AS i WHERE i.customer_id = t.customer_id
)
"""


async def misfiled(stager: Staging) -> Sequence[Any]:
    """Touchpoints of customers who have no identity and never had one."""
    async with connection_of(stager.pool) as connection:
        return await connection.fetch(_MISFILED)


async def test_a_link_unites_who_had_the_device_and_was_parted_since(stager: Staging) -> None:
    """A tablet was Gil's before it was Dan's; it was parted from Gil, and then an address from what it was
    seen with in that time, whose id that had been. Taken back, the link of Gil and the tablet finds what the
    tablet did then."""
    gil, address, tablet = "user_id:gil", "email:gil@b.dk", "anonymous_id:gil"
    await stager.commit(NOW, touchpoint("address", address))
    await stager.commit(
        NOW, touchpoint("both", address, tablet, day=1), touchpoint("gil", gil, tablet, day=2)
    )
    await stager.commit(
        NOW, touchpoint("on it", tablet, day=3), touchpoint("dan now", "user_id:dan", tablet, day=4)
    )
    before = await timelines(stager)
    for pair in ((gil, tablet), (address, tablet)):
        await say(stager, pair, withdrawn=True)
        await stager.settle(NOW)
    apart = await timelines(stager)
    for pair in ((gil, tablet), (address, tablet)):
        await say(stager, pair, withdrawn=False)
        await stager.settle(NOW)

    assert len(apart) == len(before) + 2
    assert await timelines(stager) == before
    assert await stager.differences() == []
