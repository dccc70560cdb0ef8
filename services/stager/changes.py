"""Writing what the fold changed: states, transitions, and the counters that must equal them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from services.stager import assign, sql
from services.stager.assign import Change, Held
from shared.journey.fold import Journey
from shared.journey.state import NEVER, Transition, decode_state, encode_state
from shared.store.engine import Connection
from shared.store.timelines import read_timelines

# Bounds what a batch of late touchpoints holds in memory.
_REFOLDS_AT_ONCE = 500

StateKey = tuple[UUID, Journey]


async def read_states(
    connection: Connection, customer_ids: Sequence[UUID], journeys: Sequence[Journey]
) -> dict[StateKey, Held]:
    """The held states of customers in journeys, as far as they have any."""
    known = {(journey.definition.key, journey.definition.version): journey for journey in journeys}
    keys, versions = [key for key, _ in known], [version for _, version in known]
    rows = await connection.fetch(sql.STATES, customer_ids, keys, versions)
    return {
        (row["customer_id"], known[row["journey_key"], row["version"]]): Held(
            decode_state(row["state"]), row["revision"]
        )
        for row in rows
    }


async def refold(
    connection: Connection, journey: Journey, held: Mapping[UUID, Held], until: datetime = NEVER
) -> list[Change]:
    """Fold the whole timelines of customers anew, in one journey; time runs at least to `until`."""
    customer_ids = sorted(held)
    changes: list[Change] = []
    for begin in range(0, len(customer_ids), _REFOLDS_AT_ONCE):
        page = customer_ids[begin : begin + _REFOLDS_AT_ONCE]
        changes += await _refold_page(connection, journey, {one: held[one] for one in page}, until)
    return changes


async def _refold_page(
    connection: Connection, journey: Journey, held: Mapping[UUID, Held], until: datetime
) -> list[Change]:
    key, version = journey.definition.key, journey.definition.version
    timelines = await read_timelines(connection, list(held), [journey])
    histories: dict[UUID, list[Transition]] = defaultdict(list)
    for customer_id, *transition in await connection.fetch(sql.HISTORIES, list(held), key, version):
        histories[customer_id].append(Transition(*transition))
    return [
        assign.refold(
            customer_id, journey, state, histories[customer_id], timelines.get(customer_id, ()), until
        )
        for customer_id, state in held.items()
    ]


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
