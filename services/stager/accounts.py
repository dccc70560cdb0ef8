"""Accounts in the store: which touchpoints are about them, and which customers belong to them.

`membership` has the rule. Whom a touchpoint is about hangs on its customer's timeline alone. So whoever has
locked a customer can tell which accounts' timelines change by what becomes theirs, lock those, and write.
Mostly a new touchpoint is about whom its customer acts for anyway: it goes to the end of the account's
timeline. One that names another account, or comes late, may alter what the others around it are about; then
that part of the customer's timeline is told anew, and accounts that get or lose touchpoints of before are to
be folded anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from services.stager import sql, sql_accounts
from services.stager.batch import Incoming
from services.stager.membership import LEAVING, WHOLE, Accounts, Said, Span, about, meet
from services.stager.sql import columns
from shared.journey.touch import Position
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
    """That a touchpoint is about an account, as the store has it."""

    account_id: UUID
    at: datetime
    id: UUID
    customer_id: UUID
    named: bool


@dataclass(slots=True)
class _Changes:
    """What becomes another of what touchpoints are about, the touchpoints by which it does, and of whom it is
    to be looked at whether they are members."""

    added: set[_Row] = field(default_factory=set)
    dropped: set[_Row] = field(default_factory=set)
    causes: dict[UUID, UUID] = field(default_factory=dict)
    members_of: set[tuple[UUID, UUID]] = field(default_factory=set)

    def add(self, customer_id: UUID, said: Said, accounts: Iterable[UUID]) -> None:
        at, id_ = said.position
        self.added |= {_Row(one, at, id_, customer_id, bool(said.names)) for one in accounts}


async def file_accounts(connection: Connection, arrived: Arrived, now: datetime) -> FiledAccounts:
    """Note which accounts new touchpoints are about, and whatever else becomes another by them. The customers
    must be locked, and the touchpoints stored; all accounts whose timelines change are locked."""
    if not (arrived.names or arrived.members or arrived.outdated):
        return NO_ACCOUNTS
    ids = {name: account_uid(name) for names in arrived.names.values() for name in names}
    names = {uid: frozenset(ids[name] for name in names) for uid, names in arrived.names.items()}
    whole = await _whole(connection, arrived)
    changes = _Changes()
    altered = await _meet(connection, arrived, whole, names, changes)
    spans = {**dict.fromkeys(whole, WHOLE), **altered}
    await _tell_anew(connection, spans, names, changes)
    changes.causes |= whole
    fresh = {one.uid: one for incoming in arrived.by_customer.values() for one in incoming}
    return await _write(connection, changes, whole, ids, fresh, now)


async def tell_anew(
    connection: Connection, customers: Mapping[UUID, UUID], now: datetime
) -> Mapping[UUID, UUID]:
    """Let all that touchpoints of some customers are about follow from their timelines, after these have got
    touchpoints or lost some, in `touchpoints` and `account_touchpoints` alike. The customers must be locked.
    They are given with the touchpoint that did it, and so are the accounts returned that have other timelines
    now: these are locked, and to be folded anew."""
    changes = _Changes(causes=dict(customers))
    await _tell_anew(connection, dict.fromkeys(customers, WHOLE), {}, changes)
    return (await _write(connection, changes, customers, {}, {}, now)).remade


async def _whole(connection: Connection, arrived: Arrived) -> dict[UUID, UUID]:
    """The customers whose whole timelines are to be told anew, with the touchpoint that asks for it."""
    found: dict[UUID, UUID] = {}
    if arrived.remade:
        rows = await connection.fetch(sql_accounts.HAVE_ACCOUNTS, list(arrived.remade))
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
    names: Mapping[UUID, Accounts],
    changes: _Changes,
) -> Mapping[UUID, Span]:
    """Let new touchpoints of customers be about their accounts. Returns where in the timelines of the
    customers others are about other accounts now."""
    new: dict[UUID, list[Said]] = {}
    for customer_id, incoming in arrived.by_customer.items():
        is_new = customer_id in arrived.new_customers
        if customer_id in whole or not (
            customer_id in arrived.members or (is_new and any(one.uid in names for one in incoming))
        ):
            continue
        new[customer_id] = sorted(
            Said(
                (one.touchpoint.occurred_at, one.uid),
                names.get(one.uid, _NAMES_NONE),
                one.touchpoint.type == LEAVING,
            )
            for one in incoming
        )
    known = await _namings_around(
        connection,
        {
            customer_id: (said[0].position, said[-1].position)
            for customer_id, said in new.items()
            if customer_id not in arrived.new_customers
        },
    )
    altered: dict[UUID, Span] = {}
    for customer_id, said in new.items():
        met = meet(known.get(customer_id, ()), said)
        for one, accounts in zip(said, met.about, strict=True):
            changes.add(customer_id, one, accounts)
        changes.members_of |= {(customer_id, account_id) for account_id in met.members_of}
        if met.altered and customer_id not in arrived.new_customers:
            altered[customer_id] = met.altered
            changes.causes[customer_id] = next(one.position[1] for one in said if one.names)
    return altered


async def _namings_around(
    connection: Connection, places: Mapping[UUID, tuple[Position, Position]]
) -> Mapping[UUID, Sequence[Said]]:
    """What names accounts around places of customers' timelines, as `meet` wants it."""
    found: defaultdict[UUID, list[Said]] = defaultdict(list)
    if places:
        rows = [(customer_id, *first, *last) for customer_id, (first, last) in places.items()]
        for customer_id, at, id_, leaves, accounts in await connection.fetch(
            sql_accounts.NAMINGS_AROUND, *columns(rows)
        ):
            found[customer_id].append(Said((at, id_), frozenset(accounts), leaves))
    return found


async def _tell_anew(
    connection: Connection, spans: Mapping[UUID, Span], names: Mapping[UUID, Accounts], changes: _Changes
) -> None:
    """What touchpoints in parts of customers' timelines are about now; `names` has what new ones name."""
    said: dict[UUID, list[Said]] = {customer_id: [] for customer_id in spans}
    stored: dict[UUID, Accounts] = {}
    left = dict(spans)
    while left:
        rows = await connection.fetch(
            sql_accounts.ABOUT_ACCOUNTS,
            *columns((customer_id, *span.begin, *span.end) for customer_id, span in left.items()),
            _TOUCHPOINTS_AT_ONCE,
        )
        read = dict.fromkeys(left, 0)
        for customer_id, at, id_, leaves, named, account_ids in rows:
            accounts = stored[id_] = frozenset(account_ids or ())
            is_named = accounts if named else _NAMES_NONE
            said[customer_id].append(Said((at, id_), names.get(id_, is_named), leaves))
            read[customer_id] += 1
        left = {
            customer_id: span._replace(begin=said[customer_id][-1].position)
            for customer_id, span in left.items()
            if read[customer_id] == _TOUCHPOINTS_AT_ONCE
        }
    for customer_id, span in spans.items():
        for one, accounts in zip(said[customer_id], about(said[customer_id], span.acts_for), strict=True):
            was = stored[one.position[1]]
            if accounts != was:
                changes.add(customer_id, one, accounts - was)
                changes.dropped |= {
                    _Row(account_id, *one.position, customer_id, named=False) for account_id in was - accounts
                }
            changes.members_of |= {(customer_id, account_id) for account_id in one.names}


async def _write(
    connection: Connection,
    changes: _Changes,
    whole: Collection[UUID],
    ids: Mapping[str, UUID],
    fresh: Mapping[UUID, Incoming],
    now: datetime,
) -> FiledAccounts:
    """Make the accounts that are new, lock all whose timelines change, and write."""
    named = sorted(ids, key=lambda account: ids[account])
    account_ids = [ids[account] for account in named]
    new = await connection.fetch(sql_accounts.NEW_ACCOUNTS, account_ids, named, now) if named else []
    changed = {row.account_id for rows in (changes.added, changes.dropped) for row in rows}
    await connection.execute(sql.LOCK_ACCOUNTS, sorted(changed.union(account_ids)))
    for some in _parts(sorted(changes.dropped)):
        await connection.execute(
            sql_accounts.DROP_ACCOUNT_TOUCHPOINTS, *columns((row.account_id, row.at, row.id) for row in some)
        )
    added = sorted(changes.added)
    if added:
        await connection.copy_records_to_table(
            "account_touchpoints", columns=sql_accounts.ACCOUNT_TOUCHPOINT_COLUMNS, records=added
        )
    await _write_members(connection, changes, whole, now)
    remade: dict[UUID, UUID] = {}
    by_account: dict[UUID, list[Incoming]] = defaultdict(list)
    for row in sorted(changes.dropped):
        remade.setdefault(row.account_id, changes.causes[row.customer_id])
    for row in added:
        if row.id in fresh:
            by_account[row.account_id].append(fresh[row.id])
        else:
            remade.setdefault(row.account_id, changes.causes[row.customer_id])
    return FiledAccounts(
        {one: incoming for one, incoming in by_account.items() if one not in remade},
        frozenset(row["id"] for row in new),
        remade,
    )


async def _write_members(
    connection: Connection, changes: _Changes, whole: Collection[UUID], now: datetime
) -> None:
    if whole:
        await connection.execute(sql_accounts.DROP_MEMBERS, list(whole))
        await connection.execute(sql_accounts.ARE_MEMBERS, list(whole))
    if changes.members_of:
        await connection.execute(sql_accounts.MEMBERS_OF, *columns(sorted(changes.members_of)), now)


def _parts(rows: Sequence[_Row]) -> Iterable[Sequence[_Row]]:
    return (rows[begin : begin + _TOUCHPOINTS_AT_ONCE] for begin in range(0, len(rows), _TOUCHPOINTS_AT_ONCE))
