"""Folding anew; and writing what the fold changed: transitions, and the counters that must equal them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from services.stager import assign, sql
from services.stager.assign import Change, Held
from services.stager.checkpoints import write_checkpoints
from services.stager.copying import copy_transitions
from services.stager.refolding import refolded
from services.stager.sql import columns, parts
from shared.journey.fold import Journey, runs_of
from shared.journey.state import Transition
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
) -> list[Change]:
    """Fold the whole timelines of customers, or of accounts, anew in one journey: those of their runs that
    are given; `whole` means all that the timelines and histories have, given or not."""
    customer_ids = sorted(held)
    changes: list[Change] = []
    for begin in range(0, len(customer_ids), _REFOLDS_AT_ONCE):
        page = customer_ids[begin : begin + _REFOLDS_AT_ONCE]
        changes += await _refold_page(connection, journey, {one: held[one] for one in page}, whole)
    return changes


async def _refold_page(
    connection: Connection, journey: Journey, held: Mapping[UUID, Mapping[str, Held]], whole: bool
) -> list[Change]:
    timelines = await read_timelines(connection, list(held), [journey])
    histories = await histories_of(connection, list(held), journey)
    begun = await begun_before(connection, list(held), journey) if whole else {}
    changes = []
    for customer_id, states in held.items():
        runs = runs_of(journey, timelines.get(customer_id, ()))
        states = {**begun.get(customer_id, {}), **states}
        # One that a touchpoint of another customer's was taken from may have none left.
        for run in {**runs, **states} if whole else states:
            history, touches = histories[customer_id, run], runs.get(run, ())
            state = states.get(run, Held())
            changes.append(refolded(customer_id, journey, state, history, touches, run))
    return changes


async def begun_before(
    connection: Connection, owner_ids: Sequence[UUID], journey: Journey
) -> Mapping[UUID, Mapping[str, Held]]:
    """The beginnings of runs that have a history: what was there before goes on behind the history of then,
    though its state may be gone."""
    found: defaultdict[UUID, dict[str, Held]] = defaultdict(dict)
    for owner_id, run, revision in await connection.fetch(sql.REVISIONS, owner_ids, *journey.version):
        found[owner_id][run] = Held(revision=revision + 1)
    return found


async def histories_of(
    connection: Connection, owner_ids: Sequence[UUID], journey: Journey
) -> defaultdict[tuple[UUID, str], list[Transition]]:
    """What stands of the histories of customers, or of accounts, in a journey, by run."""
    found: defaultdict[tuple[UUID, str], list[Transition]] = defaultdict(list)
    for owner_id, run, *transition in await connection.fetch(sql.HISTORIES, owner_ids, *journey.version):
        found[owner_id, run].append(Transition(*transition))
    return found


async def write_changes(connection: Connection, changes: Sequence[Change], shard: int, now: datetime) -> None:
    """Write transitions, counts, flows and checkpoints of the changes; their customers and accounts must be
    locked, and their states are for the caller to save."""
    if changes:
        await _write_transitions(connection, changes, now)
        await _write_counts(connection, changes, shard)
        await write_checkpoints(connection, changes)


async def tell(connection: Connection, told: Iterable[tuple[UUID, bytes]]) -> None:
    """Put what consumers are told, by whom it is about, into the outbox; the customers and accounts must be
    locked."""
    rows = [(str(owner_id).encode(), message) for owner_id, message in told]
    if rows:
        await connection.copy_records_to_table("outbox", columns=sql.OUTBOX_COLUMNS, records=rows)


async def _write_transitions(connection: Connection, changes: Sequence[Change], now: datetime) -> None:
    superseded = (
        (change.customer_id, *change.journey.version, change.run, old.seq, change.known_at(now))
        for change in changes
        for old in change.superseded
    )
    for part in parts(superseded):
        await connection.execute(sql.SUPERSEDE, *columns(part))
    await copy_transitions(connection, changes, now)


async def _write_counts(connection: Connection, changes: Sequence[Change], shard: int) -> None:
    counts = [(*stand, delta) for stand, delta in assign.presences(changes).items()]
    if counts:
        await connection.execute(sql.ADD_COUNTS, *columns(sorted(counts)), shard)
    flows = assign.flows(changes)
    if flows:
        await connection.execute(sql.ADD_FLOWS, *_columns_of(flows), shard)


def _columns_of(flows: assign.Flows) -> list[list[object]]:
    """Ways in their order; and how many went which, by its number, and when."""
    ways = sorted(flows)
    numbers: list[object] = []
    hours: list[object] = []
    deltas: list[object] = []
    for number, way in enumerate(ways, 1):
        by_hour = flows[way]
        numbers += [number] * len(by_hour)
        hours += by_hour.keys()
        deltas += by_hour.values()
    return [*columns(ways), numbers, hours, deltas]
