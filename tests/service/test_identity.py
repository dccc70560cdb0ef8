"""Who is who, on a real PostgreSQL: the store against a plain model of the rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.stager.announce import with_id
from shared.journey.fold import Journey
from shared.journey.language import parse
from shared.store.engine import connection_of
from shared.store.ids import touchpoint_uid
from shared.touchpoint import Touchpoint, identifies_person, strongest_first
from tests.service.staging import Staging, staging
from tests.service.test_stager_store import NOW, touchpoint
from tests.support.journeys import EVERYTHING, all_journeys
from tests.support.people import People
from tests.support.told import TRANSITIONS, listen

_OF_THINGS = EVERYTHING.replace("key: everything", "key: things") + "subject: {property: order_id}\n"
_OF_ACCOUNTS = EVERYTHING.replace("key: everything", "key: accounts") + "subject: account\n"
_JOURNEYS = [*all_journeys()[:2], *(Journey(parse(text, "j.yaml")) for text in (_OF_THINGS, _OF_ACCOUNTS))]
_TABLES = """
customers, customer_aliases, identities, identity_links, parted_ends, identity_holders, identity_conflicts,
named_pairs, touchpoints, touchpoint_ids, accounts, account_members, account_touchpoints, journey_states,
stage_transitions, checkpoints, stage_counts, stage_flows, unknown_types, outbox, erasures, erased_aliases,
erased_identities, dead_letters
"""
_NAMES = [
    *(f"user_id:{number}" for number in range(3)),
    *(f"email:{number}@b.dk" for number in range(6)),
    "phone:+4533123456",
    *(f"anonymous_id:{number}" for number in range(3)),
    *("account_id:acme", "account_id:beta"),
]
_TYPES = ("order_completed", "product_viewed", "offer_declined", "call_ended", "account_left")

_said = st.tuples(
    st.lists(st.sampled_from(_NAMES), min_size=1, max_size=4, unique=True).filter(
        lambda names: any(map(identifies_person, names))
    ),
    st.integers(0, 20),
    st.sampled_from(_TYPES),
    st.sampled_from(["a", "b"]),
)


@pytest.fixture
async def stager(database_url: str) -> AsyncIterator[Staging]:
    async with staging(database_url, _JOURNEYS, NOW, tells=True) as running:
        yield running


async def clear(stager: Staging) -> None:
    async with connection_of(stager.pool) as connection:
        await connection.execute(f"TRUNCATE {_TABLES}")


async def timelines(stager: Staging) -> set[frozenset[UUID]]:
    """The touchpoints of everybody, as the store has them."""
    async with connection_of(stager.pool) as connection:
        rows = await connection.fetch("SELECT array_agg(id) FROM touchpoints GROUP BY customer_id")
    return {frozenset(ids) for (ids,) in rows}


async def identities(stager: Staging) -> set[frozenset[str]]:
    """What everybody is known by, as the store has it."""
    async with connection_of(stager.pool) as connection:
        rows = await connection.fetch("SELECT array_agg(identity) FROM identities GROUP BY customer_id")
    return {frozenset(names) for (names,) in rows}


async def told_wrongly(stager: Staging) -> list[str]:
    """What the outbox tells wrongly, or not at all."""
    async with connection_of(stager.pool) as connection:
        values = [
            with_id(row["value"], row["id"])
            for row in await connection.fetch("SELECT id, value FROM outbox ORDER BY id")
        ]
        rows = await connection.fetch(TRANSITIONS)
    return listen(values).differences([dict(row) for row in rows])


def met(people: People, one: Touchpoint) -> None:
    """Let the model take a touchpoint."""
    names = [name for name in one.identities if identifies_person(name)]
    people.meet(touchpoint_uid(one.source, one.id), one.occurred_at, names)


@given(said=st.lists(_said, min_size=15, max_size=40), data=st.data())
# Not shrunk: through a store that takes longer than reading a large example.
@settings(
    max_examples=25,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_everybody_is_who_the_plain_rules_say(
    stager: Staging, said: list[tuple[list[str], int, str, str]], data: st.DataObject
) -> None:
    """Links, merges, handovers and refusals, in any batches, with touchpoints late and sent again: customers,
    timelines, what is folded of them, counters and what consumers are told."""
    await clear(stager)
    sent = [
        touchpoint(
            str(number),
            *strongest_first(names),
            day=day * 2,
            type_=type_,
            body=b'{"order_id":"%s"}' % order.encode(),
        )
        for number, (names, day, type_, order) in enumerate(said)
    ]
    people = People()
    left = list(sent)
    merged = refused = handed_over = 0
    while left:
        size = data.draw(st.integers(1, 5))
        some, left = left[:size], left[size:]
        again = data.draw(st.lists(st.sampled_from(sent[: len(sent) - len(left)]), max_size=2))
        done = await stager.commit(NOW, *some, *again)
        merged, handed_over = merged + done.merged, handed_over + done.handed_over
        refused += len(done.refused)
        for one in some:
            met(people, one)
        if data.draw(st.booleans()):
            await stager.sweep(NOW + timedelta(seconds=10))

    assert await identities(stager) == people.identities()
    assert await timelines(stager) == {frozenset(ids) for ids in people.timelines().values()}
    assert (handed_over, refused) == (people.handovers, people.refused.total())
    assert await stager.differences() == []
    assert await told_wrongly(stager) == []
    async with connection_of(stager.pool) as connection:
        conflicts = await connection.fetch(
            "SELECT identity, kind, sum(count)::int FROM identity_conflicts GROUP BY 1, 2"
        )
        dangling = await connection.fetchval(
            "SELECT count(*) FROM customer_aliases WHERE customer_id NOT IN (SELECT id FROM customers)"
        )
    assert {(identity, kind): number for identity, kind, number in conflicts} == people.refused
    assert dangling == 0
    assert merged <= people.merges
