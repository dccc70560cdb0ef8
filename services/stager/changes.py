"""Writing what the fold changed: states, transitions, and the counters that must equal them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from services.stager import assign, sql
from services.stager.assign import Change, Held
from shared.codec import decode
from shared.journey.fold import Journey
from shared.journey.state import Transition, decode_state, encode_state
from shared.journey.touch import Lens, Touch
from shared.store.engine import Connection

# Bounds what a batch of late touchpoints holds in memory.
_REFOLDS_AT_ONCE = 500

StateKey = tuple[UUID, str]
"""A customer and a journey's key."""


async def read_states(
    connection: Connection, customer_ids: Sequence[UUID], journeys: Sequence[Journey]
) -> dict[StateKey, Held]:
    """The held states of customers in journeys, as far as they have any."""
    keys = [journey.definition.key for journey in journeys]
    versions = [journey.definition.version for journey in journeys]
    rows = await connection.fetch(sql.STATES, customer_ids, keys, versions)
    return {
        (row["customer_id"], row["journey_key"]): Held(decode_state(row["state"]), row["revision"])
        for row in rows
    }


async def refold(connection: Connection, journey: Journey, held: Mapping[UUID, Held]) -> list[Change]:
    """Fold the whole timelines of customers anew, in one journey."""
    customer_ids = sorted(held)
    changes: list[Change] = []
    for begin in range(0, len(customer_ids), _REFOLDS_AT_ONCE):
        page = customer_ids[begin : begin + _REFOLDS_AT_ONCE]
        changes += await _refold_page(connection, journey, {one: held[one] for one in page})
    return changes


async def _refold_page(connection: Connection, journey: Journey, held: Mapping[UUID, Held]) -> list[Change]:
    types = None if journey.types is None else sorted(journey.types)
    key, version = journey.definition.key, journey.definition.version
    lens = Lens([journey.asks])
    timelines: dict[UUID, list[Touch]] = defaultdict(list)
    for row in await connection.fetch(sql.TIMELINES, list(held), types, lens.types_with_content):
        timelines[row["customer_id"]].append(_touch(lens, row))
    histories: dict[UUID, list[Transition]] = defaultdict(list)
    for customer_id, *transition in await connection.fetch(sql.HISTORIES, list(held), key, version):
        histories[customer_id].append(Transition(*transition))
    return [
        assign.refold(customer_id, journey, state, histories[customer_id], timelines[customer_id])
        for customer_id, state in held.items()
    ]


def _touch(lens: Lens, row: asyncpg.Record) -> Touch:
    if row["body"] is None:
        return Touch(row["occurred_at"], row["id"], row["type"], row["channel"])
    return lens.touch(row["id"], decode(row["body"]))


async def write_changes(connection: Connection, changes: Sequence[Change], shard: int, now: datetime) -> None:
    """Write states, transitions, counts and flows of the changes; their customers must be locked."""
    if not changes:
        return
    await _write_transitions(connection, changes, now)
    await _write_states(connection, changes, now)
    await _write_counts(connection, changes, shard)


async def _write_states(connection: Connection, changes: Sequence[Change], now: datetime) -> None:
    rows = [
        (
            change.customer_id,
            change.journey.definition.key,
            change.journey.definition.version,
            change.after.state.place,
            change.after.state.paused,
            change.after.state.entered_at,
            change.after.state.furthest,
            change.journey.due_at(change.after.state),
            change.after.revision,
            encode_state(change.after.state),
        )
        for change in changes
    ]
    await connection.execute(sql.SAVE_STATES, *_columns(rows), now)


async def _write_transitions(connection: Connection, changes: Sequence[Change], now: datetime) -> None:
    superseded = [
        (change.customer_id, change.journey.definition.key, change.journey.definition.version, old.seq)
        for change in changes
        for old in change.superseded
    ]
    if superseded:
        await connection.execute(sql.SUPERSEDE, *_columns(superseded), now)
    added = [
        (
            change.customer_id,
            change.journey.definition.key,
            change.journey.definition.version,
            new.seq,
            change.after.revision,
            new.at,
            new.kind,
            new.from_place,
            new.from_paused,
            new.to_place,
            new.to_paused,
            new.touchpoint_id,
            new.rule,
            now,
        )
        for change in changes
        for new in change.added
    ]
    if added:
        await connection.copy_records_to_table(
            "stage_transitions", columns=sql.TRANSITION_COLUMNS, records=added
        )


async def _write_counts(connection: Connection, changes: Sequence[Change], shard: int) -> None:
    counts = [
        (presence.journey_key, presence.version, *presence.place, delta)
        for presence, delta in assign.presences(changes).items()
    ]
    if counts:
        await connection.execute(sql.ADD_COUNTS, *_columns(sorted(counts)), shard)
    flows = [
        (flow.journey_key, flow.version, flow.span, flow.since, *flow.origin, *flow.target, delta)
        for flow, delta in assign.flows(changes).items()
    ]
    if flows:
        await connection.execute(sql.ADD_FLOWS, *_columns(sorted(flows)), shard)


def _columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
