"""Accounts: which customers belong to them, and which touchpoints are about them.

A touchpoint is about the accounts that it names itself. So an account's timeline depends on its touchpoints
alone, and on nobody's being linked or merged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.stager import sql
from services.stager.batch import Incoming
from shared.store.engine import Connection
from shared.store.ids import account_uid


@dataclass(frozen=True, slots=True)
class Naming:
    """A touchpoint, filed under a customer, that names an account."""

    account: str
    customer_id: UUID
    incoming: Incoming


@dataclass(frozen=True, slots=True)
class FiledAccounts:
    """Touchpoints by account, and which of the accounts are new."""

    by_account: Mapping[UUID, Sequence[Incoming]]
    new_accounts: frozenset[UUID]


NO_ACCOUNTS = FiledAccounts({}, frozenset())


async def file_accounts(connection: Connection, namings: Sequence[Naming], now: datetime) -> FiledAccounts:
    """Make the accounts that are new, lock all, and note whom and which touchpoints they have; the customers
    must be locked."""
    if not namings:
        return NO_ACCOUNTS
    ids = {naming.account: account_uid(naming.account) for naming in namings}
    accounts = sorted(ids, key=lambda account: ids[account])
    account_ids = [ids[account] for account in accounts]
    new = await connection.fetch(sql.NEW_ACCOUNTS, account_ids, accounts, now)
    await connection.execute(sql.LOCK_ACCOUNTS, account_ids)
    await _note(connection, ids, namings, now)
    by_account: dict[UUID, list[Incoming]] = defaultdict(list)
    for naming in namings:
        by_account[ids[naming.account]].append(naming.incoming)
    return FiledAccounts(by_account, frozenset(row["id"] for row in new))


async def _note(
    connection: Connection, ids: Mapping[str, UUID], namings: Sequence[Naming], now: datetime
) -> None:
    members: dict[tuple[UUID, UUID], UUID] = {}
    for naming in namings:
        members.setdefault((naming.customer_id, ids[naming.account]), naming.incoming.uid)
    columns = zip(*((*member, evidence) for member, evidence in members.items()), strict=True)
    await connection.execute(sql.NEW_MEMBERS, *(list(column) for column in columns), now)
    rows = sorted(
        (ids[one.account], one.incoming.touchpoint.occurred_at, one.incoming.uid, one.customer_id)
        for one in namings
    )
    await connection.copy_records_to_table(
        "account_touchpoints", columns=sql.ACCOUNT_TOUCHPOINT_COLUMNS, records=rows
    )
