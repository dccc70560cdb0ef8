"""Checkpoints in the store: states along a timeline at which a refold may begin. `assign` says which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from services.stager import sql
from services.stager.assign import Change, has_checkpoints
from shared.journey.fold import Journey
from shared.journey.state import State, decode_state, encode_state
from shared.journey.touch import Touch
from shared.store.engine import Connection


async def read_checkpoints(
    connection: Connection, journey: Journey, before: Mapping[UUID, Touch]
) -> Mapping[UUID, State]:
    """The last checkpoint of each customer that lies before a touch, where there is one."""
    if not before or not has_checkpoints(journey):
        return {}
    rows = await connection.fetch(
        sql.CHECKPOINTS,
        *journey.version,
        list(before),
        [touch.at for touch in before.values()],
        [touch.id for touch in before.values()],
    )
    return {row["customer_id"]: decode_state(row["state"]) for row in rows}


async def write_checkpoints(connection: Connection, changes: Sequence[Change]) -> None:
    """Drop those that a refold has passed, and keep the new ones."""
    outdated = [
        (change.customer_id, *change.journey.version, change.since.at, change.since.id)
        for change in changes
        if change.since is not None
    ]
    if outdated:
        columns = [list(column) for column in zip(*outdated, strict=True)]
        await connection.execute(sql.DROP_CHECKPOINTS, *columns)
    kept = [
        (change.customer_id, *change.journey.version, state.at, state.id, encode_state(state))
        for change in changes
        for state in change.checkpoints
    ]
    if kept:
        await connection.copy_records_to_table("checkpoints", columns=sql.CHECKPOINT_COLUMNS, records=kept)
