"""Transitions packed into rows on a real PostgreSQL: what is read is what was written."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product
from uuid import UUID

from services.stager.assign import Change, Held
from services.stager.copying import copy_transitions
from shared.journey.fold import Journey
from shared.journey.state import NOWHERE, Transition
from shared.store.engine import connection_of, open_pool
from tests.service.test_stager_store import NOW
from tests.support.journeys import all_journeys

_READ = """
SELECT customer_id, journey_key, version, run, revision, recorded_at, superseded_at,
    seq, at, kind, from_stage, from_paused, to_stage, to_paused, touchpoint_id, rule
FROM stage_transitions ORDER BY customer_id, seq
"""


async def test_transitions_are_read_as_they_were_written(database_url: str) -> None:
    """By touchpoint and by time, from nowhere and from a place, paused or not, of a customer and of things
    with names in any script, at the earliest and the latest times; known no earlier than what they follow
    from."""
    journey = Journey(replace(all_journeys()[0].definition, key="çøpied-旅", version=2**31 - 1))
    cases = product((None, UUID(int=(1 << 128) - 1)), (None, "først"), (False, True), (False, True))
    added = [
        Transition(seq, at, "enter", place, was_paused, "zuletzt-後", is_paused, cause, "r" * 300)
        for seq, (cause, place, was_paused, is_paused) in enumerate(cases)
        for at in (NOW.replace(year=1990) + timedelta(microseconds=seq) if seq % 2 else NOW,)
    ]
    later = NOW + timedelta(hours=1)
    before = {"": Held(), "ordre-é": Held(not_before=later), "x" * 200: Held(revision=2)}
    changes = [
        Change(UUID(int=number), journey, held, Held(NOWHERE, held.revision + 1), added, (), run)
        for number, (run, held) in enumerate(before.items())
    ]

    async with (
        await open_pool(database_url, connections_max=1, service="test") as pool,
        connection_of(pool) as connection,
    ):
        await copy_transitions(connection, [], NOW)
        await copy_transitions(connection, changes, NOW)
        rows = [tuple(row) for row in await connection.fetch(_READ)]

    assert rows == [
        (
            *(UUID(int=number), *journey.version, run, held.revision + 1, max(NOW, held.not_before), None),
            *(one.seq, one.at, one.kind, one.from_place, one.from_paused, one.to_place, one.to_paused),
            *(one.touchpoint_id, one.rule),
        )
        for number, (run, held) in enumerate(before.items())
        for one in added
    ]
