"""The oracle turns red on whatever is left of who was erased, and on erasures that are not what was acked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import msgspec
import pytest

from shared.store.engine import connection_of
from shared.store.erasures import erase
from shared.touchpoint import Touchpoint, strongest_first
from tests.faults.erasures import (
    bare_ids,
    erased_until,
    graves,
    known_ids,
    must_be_nowhere,
    of_the_erasures,
    of_their_ids,
)
from tests.faults.ledger import Account, Asked
from tests.faults.promises import Kept, Obligations, line, of_the_timelines
from tests.faults.remains import remains
from tests.faults.traffic import Event, Traffic, face_in, micros_of, return_event
from tests.service.staging import Staging, staging
from tests.service.test_stager_store import NOW
from tests.support.journeys import all_journeys

TRAFFIC = Traffic(seed=1, batch=400)
EARLY, LATE = (1, 2), 3
"""Requests that are staged before anybody is erased, and one that is staged then."""
_MORTAL = """
SELECT customer_id AS id, array_agg(identity ORDER BY identity) AS names FROM identities
WHERE identity ~ 'mortal-|:[+]459' GROUP BY customer_id HAVING count(*) > 1 ORDER BY 2 LIMIT 1
"""
_KEEP_ASIDE = "CREATE TEMP TABLE aside AS SELECT * FROM touchpoints WHERE customer_id = '{id}'"
_LIVING = "SELECT id FROM touchpoints ORDER BY id LIMIT 1"

LOST, ALTERED = "I1 acked events lost", "I2 stored events that nobody sent so"
UNDONE, HALF = "acked erasures, of 1, that", "erasures, of 1, that"
LEFT, FORGOTTEN, STRAY = "what is left", "events of erased people", "ids of others"
_LIES = {
    "INSERT INTO touchpoints SELECT * FROM aside LIMIT 1": {LEFT},
    "INSERT INTO customers (id, created_at) VALUES ('{id}', now())": {LEFT},
    """
    INSERT INTO identities (identity, customer_id, touchpoint_id, linked_at)
    VALUES ('{name}', gen_random_uuid(), gen_random_uuid(), now())
    """: {LEFT},
    """
    INSERT INTO dead_letters (log_id, topic, partition, "offset", digest, reason, value, recorded_at)
    VALUES ('log', 'touchpoints', 0, 0, '', '', '["{name}"]', now())
    """: {LEFT},
    "UPDATE touchpoints SET body = body || '{name}' WHERE id = '{living}'": {LEFT, LOST, ALTERED},
    "DELETE FROM touchpoint_ids WHERE id IN (SELECT id FROM aside LIMIT 1)": {FORGOTTEN},
    "DELETE FROM touchpoints WHERE id = '{living}'": {LOST, STRAY},
    "UPDATE erasures SET waits_since = now()": {UNDONE, HALF},
    "UPDATE erasures SET named_by = ARRAY[gen_random_uuid()]": {UNDONE, HALF},
    "DELETE FROM erasures; DELETE FROM erased_identities": {UNDONE, LOST, STRAY},
    "UPDATE erased_identities SET digest = digest || digest": {UNDONE, HALF, LOST, STRAY},
}
"""What somebody does to a store, and the lines that don't hold then."""


@dataclass
class World:
    """A store, and what the oracle has booked; `mortal` is the id of somebody who can be erased."""

    stager: Staging
    connection: asyncpg.Connection[asyncpg.Record]
    mortal: UUID
    names: Sequence[str]
    account: Account = field(default_factory=Account)

    async def erase(self) -> datetime:
        """Erase the mortal; when that was."""
        async with connection_of(self.stager.pool) as connection, connection.transaction():
            erasure = await erase(connection, self.mortal, NOW)
        assert erasure
        return erasure.erased_at

    def ask(self, at: datetime | None = None) -> None:
        """Book that the mortal is to be erased, and perhaps that it was acked."""
        number = int(self.names[0].partition("mortal-")[2].partition("@")[0])
        acked = (self.mortal, at) if at else None
        self.account.erasures.append(Asked(number, frozenset(self.names), acked))

    async def stage(self, *numbers: int) -> None:
        """Send requests, and stage them."""
        for number in numbers:
            events = TRAFFIC.request(number).events
            self.account.intended.add(number)
            refused = frozenset(index for index, event in enumerate(events) if event.face is None)
            self.account.taken.setdefault(number, []).append(refused)
            await self.stager.commit(NOW, *_touchpoints(events))

    async def broken(self) -> Set[str]:
        """The promises that don't hold, by how they begin."""
        found = await graves(self.connection, self.account)
        obligations = Obligations.of(self.account, TRAFFIC, erased_until(found))
        kept = Kept()
        for (body,) in await self.connection.fetch("SELECT body FROM touchpoints"):
            kept.add(face_in(body), obligations)
        known, bare = await known_ids(self.connection, obligations), await bare_ids(self.connection)
        left = await remains(self.connection, *must_be_nowhere(self.account, found, obligations))
        lines = [
            *of_the_timelines(obligations, kept),
            *of_the_erasures(self.account, found),
            *of_their_ids(obligations, obligations.sent.keys(), known, bare),
            line(LEFT, "0", left),
        ]
        beginnings = (LOST, ALTERED, UNDONE, HALF, LEFT, FORGOTTEN, STRAY)
        return {next(filter(one.what.startswith, beginnings)) for one in lines if not one.held}


def _touchpoints(events: Sequence[Event]) -> Sequence[Touchpoint]:
    return [
        Touchpoint(
            id=face.id,
            type=face.type,
            channel=event.json["channel"],
            occurred_at=datetime.fromisoformat(event.json["occurred_at"]).astimezone(UTC),
            received_at=NOW,
            source=face.source,
            identities=strongest_first(face.identities),
            properties=msgspec.Raw(face.properties),
        )
        for event in events
        if (face := event.face)
    ]


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    connection = await asyncpg.connect(database_url)
    try:
        async with staging(database_url, all_journeys()[-1:], NOW) as stager:
            world = World(stager, connection, UUID(int=0), ())
            await world.stage(*EARLY)
            row = await connection.fetchrow(_MORTAL)
            assert row
            world.mortal, world.names = row["id"], row["names"]
            await connection.execute(_KEEP_ASIDE.format(id=world.mortal))
            yield world
    finally:
        await connection.close()


async def test_each_lie_about_an_erasure_is_seen(world: World) -> None:
    """Whoever was erased is gone, and stays gone whatever is sent late or again: that is well. One row of
    theirs anywhere, an id that is forgotten, an erasure that is half done or not at all: each is seen, and
    nothing else with it."""
    world.ask(await world.erase())
    assert await world.broken() >= {UNDONE, HALF}
    await world.stager.erase(NOW)
    await world.stage(LATE, *EARLY)
    assert await world.broken() == set()

    living = await world.connection.fetchval(_LIVING)
    for lie, seen in _LIES.items():
        transaction = world.connection.transaction()
        await transaction.start()
        await world.connection.execute(lie.format(id=world.mortal, name=world.names[0], living=living))
        assert await world.broken() == seen, lie
        await transaction.rollback()
    assert await world.broken() == set()


async def test_what_was_acked_and_never_done_is_seen(world: World) -> None:
    """Nobody was erased: all that they did has to be there, and the ack is a lie."""
    world.ask(NOW)
    assert await world.broken() == {UNDONE}


async def test_what_was_not_acked_may_have_happened_but_not_by_half(world: World) -> None:
    """Before and after all is well, and between it isn't; whom nobody asked to erase has to be there."""
    world.ask()
    assert await world.broken() == set()
    await world.erase()
    assert HALF in await world.broken()
    await world.stager.erase(NOW)
    assert await world.broken() == set()
    world.account.erasures.clear()
    assert await world.broken() == {HALF, LOST, STRAY}


async def test_who_comes_back_after_an_erasure_is_somebody_new(world: World) -> None:
    """What happened afterwards is kept, under a name that was erased, and its loss is seen."""
    at = await world.erase()
    await world.stager.erase(NOW)
    world.ask(at)
    later = (world.names[0], micros_of(at) + 1)
    world.account.returns[later] = True
    assert await world.broken() == {LOST}
    await world.stager.commit(NOW, *_touchpoints([return_event(*later)]))
    await world.stage(LATE)
    assert await world.broken() == set()
