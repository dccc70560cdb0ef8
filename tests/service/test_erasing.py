"""Customers who are erased, on a real PostgreSQL: nothing is left of them, and nothing brings them back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.codec import decode
from shared.store.engine import connection_of
from shared.store.erasures import Erasure, erase
from shared.store.ids import touchpoint_uid
from shared.store.withdrawals import take_back, withdraw
from shared.touchpoint import Touchpoint, strongest_first
from tests.service.staging import Staging, staging
from tests.service.test_identity import _JOURNEYS as JOURNEYS
from tests.service.test_identity import _said as said_of_conflicts
from tests.service.test_identity import clear, identities, timelines, told_wrongly
from tests.service.test_stager_store import NOW, touchpoint
from tests.service.test_unlinking import _said as said_of_links
from tests.service.test_unlinking import pairs, say, world
from tests.support.journeys import EPOCH
from tests.support.people import Pair, components

_slowly = settings(
    max_examples=12,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
_TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"


@pytest.fixture
async def stager(database_url: str) -> AsyncIterator[Staging]:
    async with staging(database_url, JOURNEYS, NOW, tells=True) as running:
        yield running


async def ask(stager: Staging, name: str | UUID, now: datetime) -> Erasure | None:
    """Ask for somebody to be erased."""
    async with connection_of(stager.pool) as connection, connection.transaction():
        return await erase(connection, name, now)


async def left_of(stager: Staging, words: Iterable[str]) -> list[tuple[str, str]]:
    """Where in the whole store words still stand: each table as text, and what is bytes as it is read."""
    found = []
    async with connection_of(stager.pool) as connection:
        tables = [row["relname"] for row in await connection.fetch(_TABLES)]
        for table in tables:
            text = b"\n".join(
                value if isinstance(value, bytes) else str(value).encode()
                for row in await connection.fetch(f"SELECT * FROM {table}")
                for value in row
            )
            found += [(table, word) for word in words if word.encode() in text]
    return found


def canary(number: int) -> bytes:
    return b'{"order_id":"a","canary":"canary-%d."}' % number


class Model:
    """Who is who by links alone, with withdrawals and erasures, told plainly: every question is answered by
    looking through all that is kept."""

    def __init__(self) -> None:
        self.kept: dict[UUID, tuple[str, datetime, set[str], int]] = {}
        """Of each touchpoint the strongest identity, when it happened, all identities and its number."""
        self.known: set[str] = set()
        self.told: set[tuple[str, str]] = set()
        self.withdrawn: set[tuple[str, str]] = set()
        self.erased: dict[str, datetime] = {}
        self.gone: set[int] = set()

    def meet(self, one: Touchpoint, number: int) -> bool:
        """Take a touchpoint; whether it is kept."""
        if any(one.occurred_at <= self.erased[name] for name in one.identities if name in self.erased):
            self.gone.add(number)
            return False
        id_ = touchpoint_uid(one.source, one.id)
        self.kept[id_] = (one.identities[0], one.occurred_at, set(one.identities), number)
        self.known |= set(one.identities)
        self.told |= {(one.identities[0], other) for other in one.identities[1:]}
        return True

    def people(self) -> Mapping[str, frozenset[str]]:
        found = components(self.known, self.told - self.withdrawn)
        return {name: people for people in found for name in people}

    def erase(self, name: str, at: datetime) -> None:
        person = self.people()[name]
        self.erased |= dict.fromkeys(person, at)
        self.known -= person
        its = {id_ for id_, one in self.kept.items() if one[0] in person}
        self.gone |= {self.kept[id_][3] for id_ in its}
        self.kept = {
            id_: (strongest, when, names - person if when <= at else names, number)
            for id_, (strongest, when, names, number) in self.kept.items()
            if id_ not in its
        }
        self.told = {pair for pair in self.told if not person.intersection(pair)}
        self.withdrawn &= self.told

    def timelines(self) -> set[frozenset[UUID]]:
        people = self.people()
        found: defaultdict[frozenset[str], set[UUID]] = defaultdict(set)
        for id_, (strongest, *_) in self.kept.items():
            found[people[strongest]].add(id_)
        return set(map(frozenset, found.values()))


@given(said=st.lists(said_of_links, min_size=8, max_size=30), data=st.data())
@_slowly
async def test_nothing_is_left_of_who_was_erased_and_nothing_brings_them_back(
    stager: Staging, said: list[tuple[list[str], int, str]], data: st.DataObject
) -> None:
    """Links, merges, withdrawals and erasures in any order, with touchpoints in between, from before and
    after the erasure, late and sent again: customers and timelines are what the plain rules say, everything
    is the fold of what is kept, no table has a name or a body of theirs, and all sent again changes
    nothing."""
    await clear(stager)
    await stager.restart()
    model = Model()
    sent: list[Touchpoint] = []
    last = EPOCH
    for number, (names, day, type_) in enumerate(said):
        one = touchpoint(str(number), *strongest_first(names), day=day, type_=type_, body=canary(number))
        sent.append(one)
        again = data.draw(st.lists(st.sampled_from(sent), max_size=1))
        done = await stager.commit(NOW, one, *again)
        assert done.erased == (not model.meet(one, number))
        if model.told and data.draw(st.integers(0, 3)) == 0:
            pair = data.draw(st.sampled_from(sorted(model.told)))
            await say(stager, pair, withdrawn=pair not in model.withdrawn)
            model.withdrawn ^= {pair}
        if data.draw(st.integers(0, 3)) == 0 and model.known:
            await stager.settle(NOW)
            name = data.draw(st.sampled_from(sorted(model.people())))
            asked = EPOCH + timedelta(days=data.draw(st.integers(0, 20)))
            erasure = await ask(stager, name, asked)
            assert erasure
            assert not erasure.carried_out
            last = max(asked, last + timedelta(microseconds=1)) if model.erased else asked
            assert erasure.erased_at == last
            model.erase(name, last)
        if data.draw(st.booleans()):
            await stager.erase(NOW)
        if data.draw(st.booleans()):
            await stager.settle(NOW)
    await stager.settle(NOW)
    await stager.erase(NOW)

    await assert_is(stager, model)
    before = await world(stager)
    for begin in range(0, len(sent), 4):
        done = await stager.commit(NOW, *sent[begin : begin + 4])
        assert (done.stored, done.erased) == (0, 0)
    assert await world(stager) == before


async def assert_is(stager: Staging, model: Model) -> None:
    named = {name for _, _, names, _ in model.kept.values() for name in names}
    words = [*(model.erased.keys() - model.known - named), *(f"canary-{number}." for number in model.gone)]
    assert await identities(stager) == set(model.people().values())
    assert await timelines(stager) == model.timelines()
    assert await stager.differences() == []
    assert await told_wrongly(stager) == []
    assert await left_of(stager, words) == []


_ASTRAY = """
SELECT 'identity' FROM identities WHERE customer_id NOT IN (SELECT id FROM customers)
UNION ALL SELECT 'holder' FROM identity_holders WHERE customer_id NOT IN (SELECT id FROM customers)
UNION ALL SELECT 'alias' FROM customer_aliases WHERE customer_id NOT IN (SELECT id FROM customers)
UNION ALL SELECT 'conflict' FROM identity_conflicts WHERE customer_id NOT IN (SELECT id FROM customers)
UNION ALL SELECT 'timeline' FROM touchpoints WHERE customer_id NOT IN (SELECT id FROM customers)
UNION ALL SELECT 'history' FROM stage_transitions
    WHERE customer_id IN (SELECT id FROM erasures UNION SELECT id FROM erased_aliases)
UNION ALL SELECT 'state' FROM journey_states
    WHERE customer_id IN (SELECT id FROM erasures UNION SELECT id FROM erased_aliases)
"""
_KEPT = "SELECT id, body FROM touchpoints"
_ALONE = """
SELECT identity FROM (
    SELECT identity FROM identities WHERE customer_id = $1
    UNION SELECT identity FROM identity_holders WHERE customer_id = $1
) AS its
WHERE NOT EXISTS (
    SELECT FROM identity_holders AS h WHERE h.identity = its.identity AND h.customer_id <> $1
)
"""


@given(said=st.lists(said_of_conflicts, min_size=15, max_size=40), data=st.data())
@_slowly
async def test_nothing_is_left_among_logins_that_share_what_goes_from_hand_to_hand(
    stager: Staging, said: list[tuple[list[str], int, str, str]], data: st.DataObject
) -> None:
    """Devices and numbers are handed over, links are refused, withdrawn and taken back, and customers act for
    accounts, before an erasure, after it, and between the pages that carry it out: nothing points to who was
    erased, everything is the fold of what is kept, whoever is left keeps all touchpoints, no table has a name
    that was theirs alone or a body, and all sent again changes nothing."""
    await clear(stager)
    await stager.restart()
    sent = [
        touchpoint(str(number), *strongest_first(names), day=day * 2, type_=type_, body=canary(number))
        for number, (names, day, type_, _) in enumerate(said)
    ]
    erased: dict[str, datetime] = {}
    gone: set[UUID] = set()
    for begin in range(0, len(sent), 3):
        before = await kept(stager)
        done = await stager.commit(NOW, *sent[begin : begin + 3])
        assert before.keys() <= (await kept(stager)).keys()
        told = await pairs(stager)
        if data.draw(st.booleans()) and told:
            await say_otherwise(stager, data.draw(st.sampled_from(told)))
            await stager.settle(NOW)
        await stager.erase_some(NOW, data.draw(st.integers(0, 4)))
        if done.stored == 0 or data.draw(st.integers(0, 2)):
            continue
        async with connection_of(stager.pool) as connection:
            rows = await connection.fetch("SELECT customer_id FROM touchpoints ORDER BY id")
            customer = data.draw(st.sampled_from([row["customer_id"] for row in rows]))
            its = await connection.fetch("SELECT id FROM touchpoints WHERE customer_id = $1", customer)
            names = await connection.fetch(_ALONE, customer)
        before = await kept(stager)
        erasure = await ask(stager, customer, EPOCH + timedelta(days=data.draw(st.integers(0, 40))))
        assert erasure
        known = {name for its in await identities(stager) for name in its}
        assert not known.intersection(row["identity"] for row in names)
        erased |= {row["identity"]: erasure.erased_at for row in names}
        gone |= {row["id"] for row in its}
        if data.draw(st.booleans()):
            await stager.erase(NOW)
            assert (await kept(stager)).keys() == before.keys() - gone
    await stager.erase(NOW)

    left = await kept(stager)
    dropped = {one.id for one in sent if touchpoint_uid(one.source, one.id) not in left}
    named = {name for _, body in left.items() for name in decode(body).identities}
    # Whoever had only a withdrawn link to the erased is there still, and nothing more is known of them.
    named |= {name for names in await identities(stager) for name in names}
    words = [*(erased.keys() - named), *(f"canary-{number}." for number in dropped)]
    assert await left_of(stager, words) == []
    assert not [
        (name, one)
        for one in map(decode, left.values())
        for name in erased.keys() & set(one.identities)
        if one.occurred_at <= erased[name]
    ]
    async with connection_of(stager.pool) as connection:
        assert [tuple(row) for row in await connection.fetch(_ASTRAY)] == []
    assert await stager.differences() == []
    assert await told_wrongly(stager) == []
    before_again = await world(stager)
    for begin in range(0, len(sent), 4):
        done = await stager.commit(NOW, *sent[begin : begin + 4])
        assert (done.stored, done.erased) == (0, 0)
    assert await world(stager) == before_again


async def say_otherwise(stager: Staging, pair: Pair) -> None:
    """Withdraw a link, or take back that it is."""
    async with connection_of(stager.pool) as connection:
        if not await withdraw(connection, *pair, NOW):
            await take_back(connection, *pair, NOW)


async def kept(stager: Staging) -> Mapping[UUID, bytes]:
    """All touchpoints, as they are stored."""
    async with connection_of(stager.pool) as connection:
        return {row["id"]: row["body"] for row in await connection.fetch(_KEPT)}
