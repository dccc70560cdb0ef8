"""Checkpoints in the store: states along a timeline at which a refold may begin. `assign` says which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from services.stager import sql
from services.stager.assign import Change
from services.stager.sql import columns
from shared.journey.fold import Journey
from shared.journey.state import State, decode_state, encode_state
from shared.journey.touch import Position
from shared.store.engine import Connection

Whose = tuple[UUID, Journey]
"""A customer or an account, and one of its journeys."""


class Span(NamedTuple):
    """The part of a timeline behind a position, up to and with another one."""

    owner_id: UUID
    journey: Journey
    begin: Position
    end: Position


async def last_before(
    connection: Connection, places: Iterable[tuple[Whose, Position]]
) -> Mapping[Whose, State]:
    """The last checkpoint before each position, where there is one."""
    by_version = {}
    rows = []
    for (owner_id, journey), position in places:
        by_version[journey.version] = journey
        rows.append((owner_id, *journey.version, *position))
    found = await connection.fetch(sql.LAST_CHECKPOINTS, *columns(rows))
    return {(row[0], by_version[row[1], row[2]]): decode_state(row[3]) for row in found}


async def between(connection: Connection, spans: Sequence[Span]) -> Mapping[Whose, Mapping[UUID, State]]:
    """The checkpoints in each part of a timeline, in order, by the touchpoint that they follow."""
    if not spans:
        return {}
    by_version = {span.journey.version: span.journey for span in spans}
    rows = [(span.owner_id, *span.journey.version, *span.begin, *span.end) for span in spans]
    found: defaultdict[Whose, dict[UUID, State]] = defaultdict(dict)
    for row in await connection.fetch(sql.CHECKPOINTS_BETWEEN, *columns(rows)):
        found[row[0], by_version[row[1], row[2]]][row[3]] = decode_state(row[4])
    return found


async def write_checkpoints(connection: Connection, changes: Sequence[Change]) -> None:
    """Drop those that are outdated, and keep the new ones."""
    outdated = [
        (change.customer_id, *change.journey.version, *change.outdated[0], *change.outdated[1])
        for change in changes
        if change.outdated is not None
    ]
    if outdated:
        await connection.execute(sql.DROP_CHECKPOINTS, *columns(outdated))
    kept = [
        (change.customer_id, *change.journey.version, state.at, state.id, encode_state(state))
        for change in changes
        for state in change.checkpoints
    ]
    if kept:
        await connection.copy_records_to_table("checkpoints", columns=sql.CHECKPOINT_COLUMNS, records=kept)
