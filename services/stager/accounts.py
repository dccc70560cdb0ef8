"""Accounts in the store: which touchpoints are about them, and which customers belong to them.

`membership` has the rule. Whom a touchpoint is about hangs on its customer's timeline alone. So whoever has
locked a customer can tell which accounts' timelines change by what becomes theirs, lock those, and write.
Mostly a new touchpoint is about whom its customer acts for anyway: it goes to the end of the account's
timeline. One that names another account, or comes late, may alter what the others around it are about; then
that part of the customer's timeline is told anew, and accounts that get or lose touchpoints of before are to
be folded anew.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from asyncpg import Record

from services.stager import accounts_sql, sql
from services.stager.batch import Incoming
from services.stager.membership import LEAVING, WHOLE, Accounts, Said, Span, about, meet
from services.stager.sql import columns
from shared.store.engine import Connection
from shared.store.ids import account_uid

_TOUCHPOINTS_AT_ONCE = 20_000
"""Read or written by one statement, of each timeline."""

_NAMES_NONE: Accounts = frozenset()


@dataclass(frozen=True, slots=True)
class Arrived:
    """What a batch brings to customers, who are locked: new touchpoints, and which of them name accounts.

    `members` have named accounts before; so have the `outdated`, whose timelines are to be told anew all the
    same. Those of `remade` have got touchpoints of others or lost some, by a touchpoint.
    """

    by_customer: Mapping[UUID, Sequence[Incoming]]
    names: Mapping[UUID, Sequence[str]]
    members: Collection[UUID]
    outdated: Collection[UUID]
    new_customers: Collection[UUID]
    remade: Mapping[UUID, UUID]


@dataclass(frozen=True, slots=True)
class FiledAccounts:
    """New touchpoints by account, and which of the accounts are new. `remade` are those whose timelines have
    got touchpoints of before or lost some, with the touchpoint that did it."""

    by_account: Mapping[UUID, Sequence[Incoming]]
    new_accounts: frozenset[UUID] = frozenset()
    remade: Mapping[UUID, UUID] = field(default_factory=dict)


NO_ACCOUNTS = FiledAccounts({})


class _Row(NamedTuple):
    """That a touchpoint is about an account, as the store has it. It names the account, perhaps because its
    customer leaves it; or it names none (`leaves` is None)."""

    account_id: UUID
    at: datetime
    id: UUID
    customer_id: UUID
    leaves: bool | None


@dataclass(slots=True)
class _Changes:
    """What becomes another of what touchpoints are about, and the touchpoints by which it does, by customer.
    Of the pairs of a customer and an account in `members_of` it is to be looked at whether one is the other's
    member. `filed` has what new touchpoints are about, as far as that is among the changes."""

    added: list[_Row] = field(default_factory=list)
    dropped: list[_Row] = field(default_factory=list)
    causes: dict[UUID, UUID] = field(default_factory=dict)
    members_of: set[tuple[UUID, UUID]] = field(default_factory=set)
    filed: dict[UUID, Accounts] = field(default_factory=dict)

    def add(self, customer_id: UUID, said: Said, accounts: Iterable[UUID]) -> None:
        """Let a touchpoint be about accounts."""
        leaves = said.leaves if said.names else None
        self.added += [_Row(one, *said.position, customer_id, leaves) for one in accounts]


async def file_accounts(connection: Connection, arrived: Arrived, now: datetime) -> FiledAccounts:
    """Note which accounts new touchpoints are about, and whatever else becomes another by them. The customers
    must be locked, and the touchpoints stored; all accounts whose timelines change are locked."""
    if not (arrived.names or arrived.members or arrived.outdated):
        return NO_ACCOUNTS
    ids = {name: account_uid(name) for names in arrived.names.values() for name in names}
    fresh = {one.uid: one for incoming in arrived.by_customer.values() for one in incoming}
    namings = {
        uid: _said(fresh[uid], frozenset(ids[name] for name in names)) for uid, names in arrived.names.items()
    }
    whole = await _whole(connection, arrived)
    changes = _Changes(causes=dict(whole))
    altered = await _meet(connection, arrived, whole.keys(), namings, changes)
    await _tell_anew(connection, {**dict.fromkeys(whole, WHOLE), **altered}, namings, changes)
    return await _write(connection, changes, list(whole), ids, fresh, now)


async def tell_anew(
    connection: Connection, customers: Mapping[UUID, UUID], now: datetime
) -> Mapping[UUID, UUID]:
    """Let all that touchpoints of some customers are about follow from their timelines, after these have got
    touchpoints or lost some, in `touchpoints` and `account_touchpoints` alike. The customers must be locked.
    They are given with the touchpoint that did it, and so are the accounts returned that have other timelines
    now: these are locked, and to be folded anew."""
    rows = await connection.fetch(accounts_sql.HAVE_ACCOUNTS, list(customers))
    changes = _Changes(causes={row["id"]: customers[row["id"]] for row in rows})
    if not changes.causes:
        return {}
    await _tell_anew(connection, dict.fromkeys(changes.causes, WHOLE), {}, changes)
    return (await _write(connection, changes, list(changes.causes), {}, {}, now)).remade


def _said(incoming: Incoming, names: Accounts = _NAMES_NONE) -> Said:
    one = incoming.touchpoint
    return Said((one.occurred_at, incoming.uid), names, one.type == LEAVING)


async def _whole(connection: Connection, arrived: Arrived) -> dict[UUID, UUID]:
    """The customers whose whole timelines are to be told anew, with the touchpoint that asks for it."""
    found: dict[UUID, UUID] = {}
    if arrived.remade:
        rows = await connection.fetch(accounts_sql.HAVE_ACCOUNTS, list(arrived.remade))
        has_any = {*arrived.members, *arrived.outdated, *(row["id"] for row in rows)}
        found |= {one: cause for one, cause in arrived.remade.items() if one in has_any}
    for customer_id, incoming in arrived.by_customer.items():
        if customer_id in found or customer_id in arrived.members:
            continue
        naming = next((one.uid for one in incoming if one.uid in arrived.names), None)
        if customer_id in arrived.outdated:
            found[customer_id] = naming or incoming[0].uid
        elif naming and (customer_id not in arrived.new_customers or customer_id in arrived.remade):
            found[customer_id] = naming
    return found


async def _meet(
    connection: Connection,
    arrived: Arrived,
    whole: Collection[UUID],
    namings: Mapping[UUID, Said],
    changes: _Changes,
) -> Mapping[UUID, Span]:
    """Let new touchpoints be about accounts, but for those of customers whose `whole` timelines are told
    anew. Returns where in the timelines of the others touchpoints of before are about other accounts now."""
    new: dict[UUID, list[Said]] = {}
    for customer_id, incoming in arrived.by_customer.items():
        if customer_id in whole:
            continue
        if customer_id in arrived.members or any(one.uid in namings for one in incoming):
            new[customer_id] = sorted(namings.get(one.uid) or _said(one) for one in incoming)
    known = await _namings_around(
        connection, {one: said for one, said in new.items() if one not in arrived.new_customers}
    )
    altered: dict[UUID, Span] = {}
    for customer_id, said in new.items():
        met = meet(known.get(customer_id, ()), said)
        for one, accounts in zip(said, met.about, strict=True):
            changes.filed[one.position[1]] = accounts
            changes.add(customer_id, one, accounts)
        changes.members_of |= {(customer_id, account_id) for account_id in met.members_of}
        if met.altered and customer_id not in arrived.new_customers:
            altered[customer_id] = met.altered
            changes.causes[customer_id] = next(one.position[1] for one in said if one.names)
    return altered


async def _namings_around(
    connection: Connection, new: Mapping[UUID, Sequence[Said]]
) -> Mapping[UUID, Sequence[Said]]:
    """What names accounts around new touchpoints of customers, as `meet` wants it."""
    found: defaultdict[UUID, list[Said]] = defaultdict(list)
    if new:
        places = columns((one, *said[0].position, *said[-1].position) for one, said in new.items())
        for customer_id, at, id_, leaves, names in await connection.fetch(
            accounts_sql.NAMINGS_AROUND, *places
        ):
            found[customer_id].append(Said((at, id_), frozenset(names), leaves))
    return found


async def _tell_anew(
    connection: Connection,
    spans: Mapping[UUID, Span],
    namings: Mapping[UUID, Said],
    changes: _Changes,
) -> None:
    """Find out what touchpoints in parts of customers' timelines are about now. New ones are among them:
    those that name accounts are in `namings`."""
    stored: dict[UUID, Accounts] = {}
    timelines: dict[UUID, list[Said]] = {customer_id: [] for customer_id in spans}
    left = dict(spans)
    while left:
        places = columns((one, *span.begin, *span.end) for one, span in left.items())
        rows = await connection.fetch(accounts_sql.ABOUT_ACCOUNTS, *places, _TOUCHPOINTS_AT_ONCE)
        for customer_id, at, id_, leaves, account_ids in rows:
            accounts = stored[id_] = frozenset(account_ids or ())
            names = _NAMES_NONE if leaves is None else accounts
            timelines[customer_id].append(namings.get(id_) or Said((at, id_), names, bool(leaves)))
        read = Counter(row["customer_id"] for row in rows)
        left = {
            one: span._replace(begin=timelines[one][-1].position)
            for one, span in left.items()
            if read[one] == _TOUCHPOINTS_AT_ONCE
        }
    stored |= changes.filed
    for customer_id, timeline in timelines.items():
        for one, accounts in zip(timeline, about(timeline, spans[customer_id].acts_for), strict=True):
            was = stored[one.position[1]]
            if accounts != was:
                changes.add(customer_id, one, accounts - was)
                changes.dropped += [
                    _Row(account_id, *one.position, customer_id, None) for account_id in was - accounts
                ]
            changes.members_of |= {(customer_id, account_id) for account_id in one.names}


async def _write(
    connection: Connection,
    changes: _Changes,
    whole: Sequence[UUID],
    ids: Mapping[str, UUID],
    fresh: Mapping[UUID, Incoming],
    now: datetime,
) -> FiledAccounts:
    """Make the accounts that are new, lock all whose timelines change, and write."""
    named = sorted(ids, key=lambda account: ids[account])
    new: Sequence[Record] = ()
    if named:
        new = await connection.fetch(accounts_sql.NEW_ACCOUNTS, [ids[one] for one in named], named, now)
    changed = {row.account_id for rows in (changes.added, changes.dropped) for row in rows}
    await connection.execute(sql.LOCK_ACCOUNTS, list(changed))
    dropped, added = sorted(changes.dropped), sorted(changes.added)
    for begin in range(0, len(dropped), _TOUCHPOINTS_AT_ONCE):
        places = columns(row[:3] for row in dropped[begin : begin + _TOUCHPOINTS_AT_ONCE])
        await connection.execute(accounts_sql.DROP_ACCOUNT_TOUCHPOINTS, *places)
    if added:
        await connection.copy_records_to_table(
            "account_touchpoints", columns=accounts_sql.ACCOUNT_TOUCHPOINT_COLUMNS, records=added
        )
    if whole:
        await connection.execute(accounts_sql.DROP_MEMBERS, whole)
        await connection.execute(accounts_sql.ARE_MEMBERS, whole)
    if changes.members_of:
        await connection.execute(accounts_sql.MEMBERS_OF, *columns(sorted(changes.members_of)), now)
    remade = {
        row.account_id: changes.causes[row.customer_id]
        for row in (*dropped, *(row for row in added if row.id not in fresh))
    }
    by_account: dict[UUID, list[Incoming]] = defaultdict(list)
    for row in added:
        if row.account_id not in remade:
            by_account[row.account_id].append(fresh[row.id])
    return FiledAccounts(by_account, frozenset(row["id"] for row in new), remade)
