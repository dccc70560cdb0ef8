"""Touchpoints that become another customer's: by a merge all of them, by a handover those of one identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from services.stager import sql
from services.stager.identity import Handover
from services.stager.sql import rows_of
from shared.codec import decode
from shared.store.engine import Connection
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
    for statement in sql.MERGE:
        await connection.execute(statement, goes, stays)
    for statement in (sql.MERGE_TOUCHPOINTS, sql.MERGE_ACCOUNT_TOUCHPOINTS):
        while rows_of(await connection.execute(statement, goes, stays, at_once)) >= at_once:
            pass
    for statement in sql.MERGED_AWAY:
        await connection.execute(statement, goes)
    await connection.execute(sql.NEW_ALIASES, goes, stays, [merged[one] for one in goes], now)


async def hand_over(connection: Connection, handovers: Sequence[Handover]) -> Mapping[UUID, UUID]:
    """Let identities be those of other customers, from an instant on, with the touchpoints that belong to
    whoever has them; the customers must be locked. Returns the customers whose timelines have changed, with
    the touchpoint that did it."""
    holders = [one.first for one in handovers if one.first] + [one.holder for one in handovers]
    names = [one.identity for one in handovers if one.first] + [one.identity for one in handovers]
    await connection.execute(
        sql.NEW_HOLDERS,
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
        await connection.execute(sql.HAND_OVER, list(has_now), list(has_now.values()))
    moved: dict[UUID, UUID] = {}
    for one in handovers:
        if await _move(connection, one):
            moved[one.giver_id] = moved[one.holder.customer_id] = one.holder.touchpoint_id
    return moved


async def _move(connection: Connection, handover: Handover) -> bool:
    giver_id, taker_id = handover.giver_id, handover.holder.customer_id
    rows = await connection.fetch(sql.TOUCHPOINTS_OF, giver_id, *handover.begin, *handover.end)
    places = [row[:2] for row in rows if _strongest(row["body"]) == handover.identity]
    if not places or giver_id == taker_id:
        return False
    times, ids = [at for at, _ in places], [id_ for _, id_ in places]
    await connection.execute(sql.MOVE_TOUCHPOINTS, giver_id, taker_id, times, ids)
    await connection.execute(sql.MOVE_ACCOUNT_TOUCHPOINTS, giver_id, taker_id, ids)
    return True


def _strongest(body: bytes) -> str | None:
    return next((one for one in decode(body).identities if identifies_person(one)), None)
