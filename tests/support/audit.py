"""The oracle of the store: recomputes everything from the timelines and names what differs.

`python -m tests.support.audit DATABASE_URL` prints the differences of the active journeys, one a line, and
ends with 1 if there are any.

It trusts the `touchpoints` table alone. States, standing transitions, counts and flows must be what the fold
of each customer's timeline gives, and the counts of unknown types what the timelines hold.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from shared.codec import decode
from shared.journey.fold import Journey, fold
from shared.journey.state import Transition, decode_state
from shared.journey.touch import Lens, Touch
from shared.store.definitions import fetch_active
from shared.store.engine import Connection
from shared.touchpoint_types import known_types

_TIMELINES = "SELECT customer_id, id, body FROM touchpoints ORDER BY customer_id, occurred_at, id"
_STATES = (
    "SELECT customer_id, stage, paused, state FROM journey_states WHERE journey_key = $1 AND version = $2"
)
_HISTORIES = """
SELECT customer_id, seq, at, kind, from_stage, from_paused, to_stage, to_paused, touchpoint_id, rule
FROM stage_transitions WHERE journey_key = $1 AND version = $2 AND superseded_at IS NULL
ORDER BY customer_id, seq
"""
_COUNTS = """
SELECT stage, paused, sum(count)::bigint AS count FROM stage_counts
WHERE journey_key = $1 AND version = $2 GROUP BY stage, paused
"""
_FLOWS = """
SELECT span, since, from_stage, from_paused, to_stage, to_paused, sum(count)::bigint AS count FROM stage_flows
WHERE journey_key = $1 AND version = $2 GROUP BY 1, 2, 3, 4, 5, 6
"""
_UNKNOWN_TYPES = "SELECT type, sum(count)::bigint AS count FROM unknown_types GROUP BY type"
_DOUBLED = "SELECT id FROM touchpoints GROUP BY id HAVING count(*) > 1"
_UNMATCHED = """
SELECT count(*) FROM touchpoints FULL JOIN touchpoint_ids USING (id)
WHERE touchpoints.id IS NULL OR touchpoint_ids.id IS NULL
"""


async def differences(
    connection: Connection, journeys: Sequence[Journey], now: datetime | None = None
) -> list[str]:
    """What in the store isn't the fold of its timelines; empty: all is well.

    With `now` all timers due by then must have been applied; without it each state is compared as far in
    time as it has come.
    """
    found: list[str] = []
    doubled = await connection.fetch(_DOUBLED)
    if doubled:
        found.append(f"{len(doubled)} touchpoints are on more than one place of a timeline")
    if unmatched := await connection.fetchval(_UNMATCHED):
        found.append(f"{unmatched} ids and touchpoints don't match")
    timelines: dict[UUID, list[Touch]] = defaultdict(list)
    lens = Lens(journey.asks for journey in journeys)
    for row in await connection.fetch(_TIMELINES):
        timelines[row["customer_id"]].append(lens.touch(row["id"], decode(row["body"])))
    found += await _unknown_differences(connection, timelines)
    for journey in journeys:
        found += await _journey_differences(connection, journey, timelines, now)
    return found


async def _unknown_differences(connection: Connection, timelines: dict[UUID, list[Touch]]) -> list[str]:
    types = Counter(touch.type for timeline in timelines.values() for touch in timeline)
    expected = Counter({type_: count for type_, count in types.items() if type_ not in known_types()})
    stored = {row["type"]: row["count"] for row in await connection.fetch(_UNKNOWN_TYPES)}
    if not stored.get("", 0):
        return _counter_differences("touchpoints of the unknown type", expected, stored)
    # Some have no name there: then the sum tells, and no name has more than there are.
    exceeding = [type_ for type_, count in stored.items() if type_ and count > expected[type_]]
    if exceeding or sum(stored.values()) != expected.total():
        return [f"{sum(stored.values())} touchpoints of unknown types, the timelines hold {expected.total()}"]
    return []


async def _journey_differences(
    connection: Connection,
    journey: Journey,
    timelines: dict[UUID, list[Touch]],
    now: datetime | None,
) -> list[str]:
    key, version = journey.definition.key, journey.definition.version
    found: list[str] = []
    states = {row["customer_id"]: row for row in await connection.fetch(_STATES, key, version)}
    histories: dict[UUID, list[Transition]] = defaultdict(list)
    for row in await connection.fetch(_HISTORIES, key, version):
        histories[row["customer_id"]].append(Transition(*list(row)[1:]))
    counts: Counter[Any] = Counter()
    flows: Counter[Any] = Counter()
    for customer_id, timeline in timelines.items():
        touches = [touch for touch in timeline if journey.concerns(touch.type)]
        if not touches:
            continue
        if customer_id not in states:
            found.append(f"{key}: customer {customer_id} has no state")
            continue
        row = states.pop(customer_id)
        stored = decode_state(row["state"])
        state, history = fold(journey, touches, now or stored.at)
        if stored != state or (row["stage"], row["paused"]) != (state.place, state.paused):
            found.append(f"{key}: customer {customer_id} is {stored}, the fold says {state}")
        if histories.pop(customer_id, []) != history:
            found.append(f"{key}: customer {customer_id} has another history than the fold's")
        counts[state.place, state.paused] += state.place is not None
        moves = (one for one in history if (one.from_place, one.from_paused) != (one.to_place, one.to_paused))
        flows.update(flow for one in moves for flow in _flows(one))
    if states or histories:
        found.append(f"{key}: {len(states)} states and {len(histories)} histories have no touchpoint")
    stored_counts = {
        (row["stage"], row["paused"]): row["count"] for row in await connection.fetch(_COUNTS, key, version)
    }
    found += _counter_differences(f"{key}: count of", counts, stored_counts)
    stored_flows = {tuple(row)[:-1]: row["count"] for row in await connection.fetch(_FLOWS, key, version)}
    found += _counter_differences(f"{key}: flow", flows, stored_flows)
    return found


def _flows(transition: Transition) -> list[tuple[str, datetime, str, bool, str, bool]]:
    """What a transition counts for, by hour, day and month."""
    hour = transition.at.replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    move = (
        transition.from_place or "",
        transition.from_paused,
        transition.to_place,
        transition.to_paused,
    )
    return [("hour", hour, *move), ("day", day, *move), ("month", day.replace(day=1), *move)]


def _counter_differences(what: str, expected: Counter[Any], stored: dict[Any, int]) -> list[str]:
    keys = {key for key, count in expected.items() if count} | {key for key, count in stored.items() if count}
    return [
        f"{what} {key} is {stored.get(key, 0)}, it must be {expected[key]}"
        for key in keys
        if stored.get(key, 0) != expected[key]
    ]


async def _audit(database_url: str) -> list[str]:
    connection = await asyncpg.connect(database_url)
    try:
        # One snapshot, so that a stager at work can't come between two of the questions.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            active = await fetch_active(connection)
            if not active:
                return ["no journey is active"]
            return await differences(connection, [Journey(one.definition()) for one in active])
    finally:
        await connection.close()


if __name__ == "__main__":
    found = asyncio.run(_audit(sys.argv[1]))
    print("\n".join(found))
    sys.exit(1 if found else 0)
