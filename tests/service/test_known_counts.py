"""Counts and flows in two times on a real PostgreSQL: of when, and as known when."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.api.views.active import ActiveJourney, activate
from services.api.views.counts import counts_as_of, counts_now
from services.api.views.flows import flows_until
from services.api.views.histories import AsOf, find_history
from shared.journey.fold import Journey
from shared.journey.language import parse
from shared.store.engine import connection_of
from shared.store.keys import create_key
from shared.touchpoint import Touchpoint
from tests.service.api_store import serving
from tests.service.staging import Staging, staging
from tests.support.journeys import EPOCH, EVERYTHING

JOURNEY = Journey(parse(EVERYTHING, "everything.yaml"))
ACTIVE: ActiveJourney = activate(JOURNEY.definition)
HOUR, TICK = timedelta(hours=1), timedelta(microseconds=1)
TYPES = ("order_completed", "product_viewed", "call_ended", "offer_declined", "page_viewed")
LIVE = EPOCH + timedelta(days=100)
LATER = LIVE + timedelta(days=400)
_TABLES = """
customers, customer_aliases, identities, identity_links, parted_ends, identity_holders, identity_conflicts,
named_pairs, touchpoints, touchpoint_ids, journey_states, stage_transitions, checkpoints, stage_counts,
stage_flows, unknown_types
"""
_NAMES = [
    ["user_id:1"],
    ["user_id:2"],
    ["anonymous_id:a"],
    ["anonymous_id:a", "user_id:1"],
    ["anonymous_id:a", "user_id:2"],
    ["email:a@b.dk"],
    ["email:a@b.dk", "user_id:1"],
    ["email:a@b.dk", "anonymous_id:b"],
]
"""Some make two customers one, and some hand a device over."""
_OF_THE_GONE = """
SELECT DISTINCT ON (customer_id) to_stage, to_paused FROM stage_transitions
WHERE customer_id IN (SELECT alias_id FROM customer_aliases) AND at <= $1 AND recorded_at <= $2
    AND (superseded_at IS NULL OR superseded_at > $2)
ORDER BY customer_id, seq DESC
"""
_numbers = count()

# Minutes from the clock, mostly within an hour or two of it, so that what is late and early is so by all
# lengths; and days back.
_minutes = st.one_of(st.integers(-130, 130), st.integers(-90, 1).map(lambda days: days * 1_440))
Step = tuple[Literal["batch", "sweep"], int, list[tuple[list[str], int, str]]]
_step: st.SearchStrategy[Step] = st.one_of(
    st.tuples(
        st.just("batch"),
        st.sampled_from([1, 20, 60, 61, 200]),
        st.lists(
            st.tuples(st.sampled_from(_NAMES), _minutes, st.sampled_from(TYPES)), min_size=1, max_size=4
        ),
    ),
    st.tuples(st.just("sweep"), st.sampled_from([1, 30, 3_000]), st.just([])),
)
_steps = st.lists(_step, min_size=4, max_size=12)


@pytest.fixture
async def stager(database_url: str) -> AsyncIterator[Staging]:
    async with staging(database_url, [JOURNEY], EPOCH) as staging_:
        yield staging_


def touchpoint(names: list[str], at: datetime, type_: str, now: datetime) -> Touchpoint:
    return Touchpoint(
        id=str(next(_numbers)),
        type=type_,
        channel="store",
        occurred_at=at,
        received_at=now,
        source="till",
        identities=tuple(names),
    )


async def take(stager: Staging, now: datetime, step: Step) -> None:
    kind, _, said = step
    if kind == "sweep":
        await stager.sweep(now)
        return
    batch = [touchpoint(names, now + timedelta(minutes=at), type_, now) for names, at, type_ in said]
    await stager.commit(now, *batch)


async def clear(stager: Staging) -> None:
    async with connection_of(stager.pool) as connection:
        await connection.execute(f"TRUNCATE {_TABLES}")


def numbers(places: Iterable[Any]) -> dict[str, tuple[int, int]]:
    return {one.stage: (one.count, one.paused) for one in places if one.count}


async def counts(stager: Staging, at: datetime, known_at: datetime | None) -> dict[str, tuple[int, int]]:
    found = await counts_as_of(stager.pool, ACTIVE, at, known_at, LATER)
    return numbers(found.stages)


async def told(stager: Staging, at: datetime, known_at: datetime | None) -> Any:
    """Counts and flows."""
    flows = await flows_until(stager.pool, ACTIVE, at, known_at, LATER)
    return await counts(stager, at, known_at), flows.flows


# Not shrunk: through a store that takes longer than reading a large example.
_HELD_TO = settings(
    max_examples=12,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@given(steps=_steps)
@_HELD_TO
async def test_what_was_answered_once_is_answered_again(stager: Staging, steps: list[Step]) -> None:
    """Of any time, late touchpoints, merges and handovers since notwithstanding: counts and flows as known
    at K are those that were answered at K."""
    await clear(stager)
    now, answered = LIVE, {}
    for step in steps:
        now += timedelta(minutes=step[1])
        await take(stager, now, step)
        for at in (now - 80 * HOUR, now - HOUR, now - HOUR / 3, now, now + HOUR / 3, now + 3 * HOUR):
            answered[at, now] = await told(stager, at, None)
        assert numbers((await counts_now(stager.pool, ACTIVE, now)).stages) == await counts(
            stager, LATER, now
        )
    for (at, known_at), answer in answered.items():
        assert await told(stager, at, known_at) == answer


@given(steps=_steps)
@_HELD_TO
async def test_counts_are_what_each_history_tells(stager: Staging, steps: list[Step]) -> None:
    """For any pair of times, also where the clock goes back, and of customers that are others' by now: as
    many runs are in a place as there are histories that end in it."""
    await clear(stager)
    moments = {LIVE}
    for number, step in enumerate(steps):
        now = LIVE + timedelta(minutes=step[1]) * (number % 3)
        await take(stager, now, step)
        moments.add(now)
    async with connection_of(stager.pool) as connection:
        ids = [row["id"] for row in await connection.fetch("SELECT id FROM customers")]
        happened = {row["at"] for row in await connection.fetch("SELECT at FROM stage_transitions")}
    for known_at in {moment + tick for moment in moments for tick in (-TICK, 0 * TICK)}:
        for at in [*sorted(happened)[:: len(happened) // 5 + 1], known_at, LATER]:
            places: Counter[tuple[str, bool]] = Counter()
            for one in ids:
                history = await find_history(stager.pool, ACTIVE, one, AsOf(at, known_at), LATER, 1)
                assert history is not None
                if history.stage:
                    places[history.stage, history.paused] += 1
            async with connection_of(stager.pool) as connection:
                places.update(tuple(row) for row in await connection.fetch(_OF_THE_GONE, at, known_at))
            stages = {stage for stage, _ in places}
            assert await counts(stager, at, known_at) == {
                one: (places[one, False] + places[one, True], places[one, True]) for one in stages
            }


async def test_the_routes_tell_counts_and_flows_as_known(stager: Staging, database_url: str) -> None:
    """Both times are in the answer; a known time of the future is refused by name."""
    await stager.commit(LIVE, touchpoint(["user_id:eva"], EPOCH, "page_viewed", LIVE))
    file_at = LIVE + timedelta(days=3)
    await stager.commit(file_at, touchpoint(["user_id:eva"], EPOCH + HOUR, "order_completed", file_at))
    asked = {"at": (EPOCH + 2 * HOUR).isoformat(), "known_at": (file_at - TICK).isoformat()}
    async with connection_of(stager.pool) as connection:
        key = await create_key(connection, "read", "desk", EPOCH)
    async with serving(database_url, key) as client:
        path = "/v1/journeys/everything"
        then = (await client.get(f"{path}/counts", params=asked)).json()
        now = (await client.get(f"{path}/counts", params={"at": asked["at"]})).json()
        flows = (await client.get(f"{path}/flows", params=asked)).json()
        future = await client.get(f"{path}/counts", params={"known_at": "2999-01-01T00:00:00Z"})

    assert [one["stage"] for one in then["stages"] if one["count"]] == ["aware"]
    assert [one["stage"] for one in now["stages"] if one["count"]] == ["buying"]
    assert [(one["from"], one["to"]) for one in flows["flows"]] == [(None, "aware")]
    assert (then["at"], then["known_at"]) == ("2026-01-01T02:00:00Z", "2026-04-13T23:59:59.999999Z")
    assert future.json()["errors"][0]["parameter"] == "known_at"
