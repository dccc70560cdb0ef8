"""Touchpoints that become another customer's: by a merge all of them, by a handover those of one identity, by
a link that is withdrawn those of several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from services.stager import identity_sql, sql
from services.stager.identity import Handover
from services.stager.parting import Part
from services.stager.sql import rows_of
from services.stager.unnaming import tombstones_of_named, unname
from shared.codec import decode
from shared.journey.touch import FIRST_POSITION, Position
from shared.store.engine import Connection
from shared.tombstones import Tombstone
from shared.touchpoint import identifies_person

TOUCHPOINTS_AT_ONCE = 20_000
"""Moved by one statement, of each timeline; they take a second."""


async def merge(
    connection: Connection,
    merged: Mapping[UUID, UUID],
    into: Mapping[UUID, UUID],
    now: datetime,
    at_once: int = TOUCHPOINTS_AT_ONCE,
) -> None:
    """Let everything of some customers be that of others, but for what was folded; they must be locked.
    `merged` has the evidence by the customer that goes, `into` the customer that stays."""
    goes = sorted(merged)
    stays = [into[one] for one in goes]
    await connection.execute(identity_sql.NEW_ALIASES, goes, stays, [merged[one] for one in goes], now)
    for statement in identity_sql.MERGE:
        await connection.execute(statement, goes, stays)
    for statement in (identity_sql.MERGE_TOUCHPOINTS, identity_sql.MERGE_ACCOUNT_TOUCHPOINTS):
        while rows_of(await connection.execute(statement, goes, stays, at_once)) >= at_once:
            pass
    for statement in identity_sql.MERGED_AWAY:
        await connection.execute(statement, goes)


async def hand_over(connection: Connection, handovers: Sequence[Handover]) -> Mapping[UUID, UUID]:
    """Let identities be those of other customers, from an instant on, with the touchpoints that belong to
    whoever has them; the customers must be locked. Returns the customers whose timelines have changed, with
    the touchpoint that did it."""
    holders = [one.first for one in handovers if one.first] + [one.holder for one in handovers]
    names = [one.identity for one in handovers if one.first] + [one.identity for one in handovers]
    await connection.execute(
        identity_sql.NEW_HOLDERS,
        names,
        [one.since for one in holders],
        [one.touchpoint_id for one in holders],
        [one.customer_id for one in holders],
    )
    # One that was handed over before and stays where it is may be a customer's that nobody has locked.
    has_now: dict[str, UUID | None] = {}
    for one in handovers:
        if one.latest:
            has_now[one.identity] = one.holder.customer_id
        elif one.first:
            has_now.setdefault(one.identity)
    if has_now:
        await connection.execute(identity_sql.HAND_OVER, list(has_now), list(has_now.values()))
    erased = await tombstones_of_named(connection, {one.giver_id for one in handovers})
    moved: dict[UUID, UUID] = {}
    for one in handovers:
        if await _move(connection, one, erased):
            moved[one.giver_id] = moved[one.holder.customer_id] = one.holder.touchpoint_id
    return moved


async def _move(
    connection: Connection, handover: Handover, erased: Mapping[bytes, Sequence[Tombstone]]
) -> bool:
    giver_id, taker_id = handover.giver_id, handover.holder.customer_id
    rows = await connection.fetch(identity_sql.TOUCHPOINTS_OF, giver_id, *handover.begin, *handover.end)
    places = [row[:2] for row in rows if _strongest(row["body"]) == handover.identity]
    if not places or giver_id == taker_id:
        return False
    await unname(connection, giver_id, rows, erased)
    await _give(connection, giver_id, taker_id, places)
    return True


async def lose(connection: Connection, customer_id: UUID, parts: Mapping[UUID, Part], now: datetime) -> None:
    """Let customers have what a customer loses to them, but for what was folded; that one must be locked.
    The new ones are by their ids."""
    # Asked before the ids go: by one of them this customer may be noted.
    erased = await tombstones_of_named(connection, [customer_id])
    takers = {name: taker_id for taker_id, lost in parts.items() for name in lost.identities}
    # Before aliases go as well.
    await connection.execute(identity_sql.MOVE_ENDS, customer_id, list(takers), list(takers.values()))
    for taker_id, lost in parts.items():
        created_at = lost.names[0].created_at if lost.names else None
        await connection.execute(identity_sql.PARTED_CUSTOMER, taker_id, created_at or now)
        for statement in identity_sql.PART:
            await connection.execute(statement, customer_id, taker_id, list(lost.identities))
        await connection.execute(identity_sql.REVIVED, taker_id)
        await connection.execute(identity_sql.PART_NAMES, taker_id, [name.id for name in lost.names])
    evidence = {
        row["touchpoint_id"] for row in await connection.fetch(identity_sql.CONFLICT_EVIDENCE, customer_id)
    }
    position = FIRST_POSITION
    while rows := await connection.fetch(
        identity_sql.TOUCHPOINTS_AFTER, customer_id, *position, TOUCHPOINTS_AT_ONCE
    ):
        position = rows[-1]["occurred_at"], rows[-1]["id"]
        await unname(connection, customer_id, rows, erased)
        places: defaultdict[UUID, list[Position]] = defaultdict(list)
        for at, id_, body in rows:
            taker = takers.get(_strongest(body) or "")
            if taker is not None:
                places[taker].append((at, id_))
        for taker_id, its in places.items():
            await _give(connection, customer_id, taker_id, its)
            refused = [id_ for _, id_ in its if id_ in evidence]
            await connection.execute(identity_sql.MOVE_CONFLICTS, customer_id, taker_id, refused)


async def _give(connection: Connection, giver_id: UUID, taker_id: UUID, places: Sequence[Position]) -> None:
    """Let touchpoints be another customer's."""
    times, ids = [at for at, _ in places], [id_ for _, id_ in places]
    await connection.execute(identity_sql.MOVE_TOUCHPOINTS, giver_id, taker_id, times, ids)
    await connection.execute(sql.MOVE_ACCOUNT_TOUCHPOINTS, giver_id, taker_id, ids)


def _strongest(body: bytes) -> str | None:
    return next((one for one in decode(body).identities if identifies_person(one)), None)
