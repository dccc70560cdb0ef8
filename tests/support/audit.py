"""The oracle of the store: recomputes everything from the timelines and names what differs.

`python -m tests.support.audit DATABASE_URL` prints the differences of the active journeys, one a line, and
ends with 1 if there are any.

It trusts the `touchpoints` table alone. States, standing transitions, counts and flows must be what the fold
of each customer's and each account's timeline gives, run by run; the counts of unknown types what the
timelines hold; and accounts, their members and their timelines what the plain rule of `acting` says.
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
from shared.journey.fold import Journey, fold, runs_of
from shared.journey.state import NOWHERE, Kept, Transition, decode_states
from shared.journey.touch import Lens, Touch
from shared.store.definitions import fetch_active
from shared.store.engine import Connection
from shared.store.ids import account_uid
from shared.touchpoint_types import known_types
from tests.support.acting import Saying, about_whom, memberships

_TIMELINES = "SELECT customer_id, id, body FROM touchpoints ORDER BY customer_id, occurred_at, id"
_STATES = "SELECT customer_id, run, due_at, states FROM journey_states"
_HISTORIES = """
SELECT customer_id, run, seq, at, kind, from_stage, from_paused, to_stage, to_paused, touchpoint_id, rule
FROM stage_transitions WHERE journey_key = $1 AND version = $2 AND superseded_at IS NULL
ORDER BY customer_id, run, seq
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
_ACCOUNTS = "SELECT id, identity FROM accounts"
_MEMBERS = "SELECT customer_id, account_id, touchpoint_id, since, until FROM account_members"
_ACCOUNT_TOUCHPOINTS = "SELECT account_id, id, customer_id, occurred_at, leaves FROM account_touchpoints"
# Of an erased customer's touchpoints the ids are left, and of those that came later too.
_UNMATCHED = """
SELECT CASE WHEN erased > 0 AND bare >= erased AND without_id = 0 THEN 0 ELSE bare + without_id END
FROM (
    SELECT count(*) FILTER (WHERE touchpoints.id IS NULL) AS bare,
        count(*) FILTER (WHERE touchpoint_ids.id IS NULL) AS without_id
    FROM touchpoints FULL JOIN touchpoint_ids USING (id)
    WHERE touchpoints.id IS NULL OR touchpoint_ids.id IS NULL
) AS unmatched
CROSS JOIN (SELECT coalesce(sum(touchpoints), 0) AS erased FROM erasures) AS removed
"""
_ERASED = "SELECT EXISTS (SELECT FROM erasures)"


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
    of_accounts: dict[UUID, list[Touch]] = defaultdict(list)
    sayings: dict[UUID, list[Saying]] = defaultdict(list)
    accounts: set[tuple[UUID, str]] = set()
    members, about = set(), set()
    lens = Lens(journey.asks for journey in journeys)
    for customer_id, id_, body in await connection.fetch(_TIMELINES):
        touchpoint = decode(body)
        touch = lens.touch(id_, touchpoint)
        timelines[customer_id].append(touch)
        names = {account_uid(one): one for one in touchpoint.identities if one.startswith("account_id:")}
        accounts |= names.items()
        sayings[customer_id].append(Saying(touch.at, id_, touch.type, names.keys()))
    for customer_id, said in sayings.items():
        if not any(one.names for one in said):
            continue
        members |= {(customer_id, *membership) for membership in memberships(said)}
        for saying, touch in zip(said, timelines[customer_id], strict=True):
            leaves = saying.type == "account_left" if saying.names else None
            for account_id in about_whom(said, saying):
                of_accounts[account_id].append(touch)
                about.add((account_id, saying.id, customer_id, saying.at, leaves))
    if await connection.fetchval(_ERASED):
        # An account stays that nobody acts for any more.
        accounts |= {tuple(row) for row in await connection.fetch(_ACCOUNTS)}
    for query, expected in ((_ACCOUNTS, accounts), (_MEMBERS, members), (_ACCOUNT_TOUCHPOINTS, about)):
        stored = {tuple(row) for row in await connection.fetch(query)}
        if wrong := len(stored ^ expected):
            found.append(f"{wrong} rows are not what touchpoints say: {query}")
    for touches in of_accounts.values():
        touches.sort(key=lambda touch: (touch.at, touch.id))
    found += await _unknown_differences(connection, timelines)
    kept: dict[tuple[str, int], dict[tuple[UUID, str], Kept]] = {journey.version: {} for journey in journeys}
    for customer_id, run, due_at, states in await connection.fetch(_STATES):
        for one in decode_states(states):
            version = (one.journey_key, one.version)
            if version not in kept:
                continue
            kept[version][customer_id, run] = one
            if one.due_at is not None and (due_at is None or due_at > one.due_at):
                found.append(f"{one.journey_key}: run {customer_id, run} is due before it is looked at")
    for journey in journeys:
        owners = of_accounts if journey.definition.subject.kind == "account" else timelines
        found += await _journey_differences(connection, journey, owners, kept[journey.version], now)
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
    states: dict[tuple[UUID, str], Kept],
    now: datetime | None,
) -> list[str]:
    key, version = journey.version
    found: list[str] = []
    histories: dict[tuple[UUID, str], list[Transition]] = defaultdict(list)
    for row in await connection.fetch(_HISTORIES, key, version):
        histories[row["customer_id"], row["run"]].append(Transition(*list(row)[2:]))
    counts: Counter[Any] = Counter()
    flows: Counter[Any] = Counter()
    runs = {
        (owner_id, run): touches
        for owner_id, timeline in timelines.items()
        for run, touches in runs_of(journey, timeline).items()
    }
    for who, touches in runs.items():
        if who not in states:
            found.append(f"{key}: run {who} has no state")
            continue
        kept = states.pop(who)
        state, history = fold(journey, touches, now or kept.state.at)
        if kept.state != state:
            found.append(f"{key}: run {who} is {kept.state}, the fold says {state}")
        due_at = journey.due_at(state)
        if due_at is not None and (kept.due_at is None or kept.due_at > due_at):
            found.append(f"{key}: run {who} is due {due_at}, and only looked at {kept.due_at}")
        if histories.pop(who, []) != history:
            found.append(f"{key}: run {who} has another history than the fold's")
        counts[state.place, state.paused] += state.place is not None
        moves = (one for one in history if (one.from_place, one.from_paused) != (one.to_place, one.to_paused))
        flows.update(flow for one in moves for flow in _flows(one))
    # What another customer's touchpoints were taken from keeps the number of its revisions.
    states = {who: kept for who, kept in states.items() if kept.state != NOWHERE}
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
