"""Settling links that a person has withdrawn, or has taken back: one a transaction.

What is to be so stands on the pair; who is who follows. A withdrawn link parts the customer whose both
identities are, unless others hold them together. One that was taken back links as the touchpoint did that
told of it, so limits hold for it too, and it may be that it stands and the two are apart: then a touchpoint
links them that finds room. Until a pair is settled no touchpoint links it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from uuid import UUID

import asyncpg

from services.stager import identity_sql, sql
from services.stager.accounts import FiledAccounts, tell_anew
from services.stager.filing import Filed, file_again
from services.stager.identity import Claim, Limits
from services.stager.moving import lose
from services.stager.parting import Edge, Name, Node, Part, parts_of
from services.stager.sql import columns
from shared.errors import Contended
from shared.ids import NewId
from shared.store.engine import Connection


async def settle_next(connection: Connection, limits: Limits, new_id: NewId, now: datetime) -> Filed | None:
    """Settle the link that waits longest; what that has done, or None: none waits that no other is at.

    Raises:
        Contended: another transaction has altered whose the identities are.
    """
    pair = await connection.fetchrow(identity_sql.NEXT_UNSETTLED)
    if pair is None:
        return None
    await connection.execute(identity_sql.SETTLED, pair["identity"], pair["other"])
    settle = _link if pair["withdrawn_at"] is None else _part
    filed = await settle(connection, pair, limits, new_id, now)
    # Accounts are locked behind all customers.
    accounts = FiledAccounts({}, remade=await tell_anew(connection, filed.remade, now))
    return replace(filed, accounts=accounts)


async def _link(
    connection: Connection, pair: asyncpg.Record, limits: Limits, new_id: NewId, now: datetime
) -> Filed:
    """Link both as the touchpoint did; but one that was handed over links whom it was taken from, and nobody
    if they are erased: who has it now is somebody else."""
    names = (pair["identity"], pair["other"])
    claim = Claim(pair["touchpoint_id"], pair["occurred_at"], names)
    ends = await connection.fetch(identity_sql.ENDS, *names)
    parted = [list(both) for _, both in groupby(ends, key=itemgetter("place"))]
    remade: dict[UUID, UUID] = {}
    merged: dict[UUID, UUID] = {}
    into: dict[UUID, UUID] = {}
    refused: list[str] = []
    are_one = True
    # Several are united one after another, and all locks are taken in the customers' order.
    await connection.execute(sql.LOCK_ALL_CUSTOMERS, [end["customer_id"] for end in ends])
    if await connection.fetch(identity_sql.ENDS, *names) != ends:
        raise Contended("who had the identities was altered by another transaction")
    for both in parted or [[]]:
        if any(end["erased"] for end in both):
            are_one = False
            continue
        where = {end["name"]: end["customer_id"] for end in both if end["by_turns"]}
        where = {name: into.get(owner_id, owner_id) for name, owner_id in where.items()}
        filed = await file_again(connection, claim, where, limits, new_id, now)
        merged |= filed.merged
        # Who stayed may have gone since.
        into = {goes: filed.into.get(stays, stays) for goes, stays in into.items()} | dict(filed.into)
        remade = {one: by for one, by in remade.items() if one not in merged} | dict(filed.remade)
        refused += filed.refused
    if are_one and not refused:
        await connection.execute(identity_sql.DROP_ENDS, *names)
    return Filed({}, frozenset(), remade=remade, merged=merged, into=into, refused=refused)


async def _part(
    connection: Connection, pair: asyncpg.Record, _: Limits, new_id: NewId, now: datetime
) -> Filed:
    """Part who has or had both, unless others hold them together. Whoever has or had one of them hears of it
    too: else a batch that knows of no withdrawal would unite them behind it."""
    names = (pair["identity"], pair["other"])
    concerned = await _ids(connection, identity_sql.OWNERS_OF_EITHER, names)
    await connection.execute(sql.LOCK_ALL_CUSTOMERS, concerned)
    if await _ids(connection, identity_sql.OWNERS_OF_EITHER, names) != concerned:
        raise Contended("the identities were altered by another transaction")
    owners = await _ids(connection, identity_sql.OWNERS_OF_BOTH, names)
    parted: dict[UUID, UUID] = {}
    ends: list[tuple[int, str, UUID]] = []
    for place, owner_id in enumerate(owners):
        parts = await _part_of(connection, owner_id, new_id, now)
        parted |= dict.fromkeys(parts, owner_id)
        for name in names:
            its = next((id_ for id_, part in parts.items() if name in part.identities), owner_id)
            ends.append((place, name, its))
    if ends:
        await connection.execute(identity_sql.DROP_ENDS, *names)
        await connection.execute(identity_sql.NEW_ENDS, *names, *columns(ends))
    await connection.execute(identity_sql.RELINKED, [*concerned, *parted])
    remade = dict.fromkeys([*parted, *parted.values()], pair["touchpoint_id"])
    return Filed({}, frozenset(), remade=remade, parted=parted)


async def _part_of(
    connection: Connection, customer_id: UUID, new_id: NewId, now: datetime
) -> Mapping[UUID, Part]:
    """Part a customer; what it has lost, by whose it is."""
    nodes = [Node(*row) for row in await connection.fetch(identity_sql.IDENTITIES_EVER, customer_id)]
    edges = [
        Edge(*row)
        for row in await connection.fetch(identity_sql.LINKS_AMONG, [one.identity for one in nodes])
    ]
    names = [Name(*row) for row in await connection.fetch(identity_sql.ALIASES, customer_id)]
    parts = {one.names[0].id if one.names else new_id(): one for one in parts_of(nodes, edges, names)}
    if parts:
        await lose(connection, customer_id, parts, now)
    return parts


async def _ids(connection: Connection, query: str, names: tuple[str, str]) -> list[UUID]:
    return [row["customer_id"] for row in await connection.fetch(query, *names)]
