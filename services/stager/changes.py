"""Folding anew; and writing what the fold changed: transitions, and the counters that must equal them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from services.stager import assign, sql
from services.stager.assign import Change, Held
from shared.journey.fold import Journey, runs_of
from shared.journey.state import NEVER, Transition
from shared.store.engine import Connection
from shared.store.timelines import read_timelines

# Bounds what a batch of late touchpoints holds in memory.
_REFOLDS_AT_ONCE = 500


async def refold(
    connection: Connection,
    journey: Journey,
    held: Mapping[UUID, Mapping[str, Held]],
    *,
    whole: bool = False,
    until: datetime = NEVER,
) -> list[Change]:
    """Fold the whole timelines of customers, or of accounts, anew in one journey, at least to `until`:
    those of their runs that are given; `whole` means all that the timelines have, given or not."""
    customer_ids = sorted(held)
    changes: list[Change] = []
    for begin in range(0, len(customer_ids), _REFOLDS_AT_ONCE):
        page = {one: held[one] for one in customer_ids[begin : begin + _REFOLDS_AT_ONCE]}
        changes += await _refold_page(connection, journey, page, whole, until)
    return changes


async def _refold_page(
    connection: Connection,
    journey: Journey,
    held: Mapping[UUID, Mapping[str, Held]],
    whole: bool,
    until: datetime,
) -> list[Change]:
    timelines = await read_timelines(connection, list(held), [journey])
    histories: dict[tuple[UUID, str], list[Transition]] = defaultdict(list)
    for customer_id, run, *transition in await connection.fetch(sql.HISTORIES, list(held), *journey.version):
        histories[customer_id, run].append(Transition(*transition))
    changes = []
    for customer_id, states in held.items():
        runs = runs_of(journey, timelines.get(customer_id, ()))
        for run in runs if whole else states:
            history, touches = histories[customer_id, run], runs.get(run, ())
            state = states.get(run, Held())
            changes.append(assign.refold(customer_id, journey, state, history, touches, run, until))
    return changes


async def write_changes(connection: Connection, changes: Sequence[Change], shard: int, now: datetime) -> None:
    """Write transitions, counts and flows of the changes; their customers and accounts must be locked, and
    their states are for the caller to save."""
    if changes:
        await _write_transitions(connection, changes, now)
        await _write_counts(connection, changes, shard)


async def _write_transitions(connection: Connection, changes: Sequence[Change], now: datetime) -> None:
    superseded = [
        (
            change.customer_id,
            change.journey.definition.key,
            change.journey.definition.version,
            change.run,
            old.seq,
        )
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
            change.run,
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
