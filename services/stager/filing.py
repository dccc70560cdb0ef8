"""Filing: each new touchpoint is stored under its customer, and what it teaches about identities is kept.

Who they are is told by what was read before they were locked. Another transaction may have altered their
identities meanwhile; each that does leaves its number in the customers, so the lock tells. Then what is known
by now is asked for, and unless the touchpoints would be filed the same by that, the batch is run again
(`Contended`). A customer that was merged away is not there to be locked, which tells as well.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from services.stager import identity, identity_sql, sql
from services.stager.accounts import NO_ACCOUNTS, Arrived, FiledAccounts, file_accounts
from services.stager.batch import Incoming
from services.stager.identity import Claim, Filing, Holder, Known, Limits, Link, Pair, pairs_of
from services.stager.moving import hand_over, merge
from services.stager.pairs import KnownPairs
from services.stager.sql import rows_of
from shared.errors import Contended
from shared.ids import NewId
from shared.journey.state import NEVER
from shared.store.engine import Connection
from shared.tombstones import digest_of
from shared.touchpoint import identity_kind


@dataclass(frozen=True, slots=True)
class Filed:
    """New touchpoints by customer and by account, and which of the customers are new too.

    `remade` are the customers whose timelines have got touchpoints of others or lost some, with the
    touchpoint that did it; `merged` those that are gone, with the same.
    """

    by_customer: Mapping[UUID, Sequence[Incoming]]
    new_customers: frozenset[UUID]
    accounts: FiledAccounts = NO_ACCOUNTS
    remade: Mapping[UUID, UUID] = field(default_factory=dict)
    merged: Mapping[UUID, UUID] = field(default_factory=dict)
    into: Mapping[UUID, UUID] = field(default_factory=dict)
    handed_over: int = 0
    refused: Sequence[str] = ()
    """The kind of identity that each refused link had, with its repetitions."""
    pairs: Sequence[Pair] = ()
    """Those that were linked for the first time, as far as was known."""
    withheld: int = 0
    parted: Mapping[UUID, UUID] = field(default_factory=dict)
    """The customer that each new or revived one was a part of."""

    def is_new(self, owner_id: UUID) -> bool:
        """Whether a customer or an account has no timeline from before."""
        return owner_id in self.new_customers or owner_id in self.accounts.new_accounts


class _Locked(NamedTuple):
    """What locked customers say: whether another transaction has altered the identities of one, and which of
    them are members of accounts, or were told by what was known of that once."""

    altered: bool
    members: Sequence[UUID]
    outdated: Sequence[UUID]


NOTHING = Filed({}, frozenset())
_NO_ID = UUID(int=0)


async def file_touchpoints(
    connection: Connection,
    fresh: Sequence[Incoming],
    snapshot: str,
    limits: Limits,
    known_pairs: KnownPairs,
    new_id: NewId,
    now: datetime,
) -> Filed:
    """Find or make the customer of each touchpoint, lock the customers, and store the touchpoints. `snapshot`
    is one of the same transaction, from before. What `known_pairs` has is not kept again.

    Raises:
        Contended: another transaction has altered what the identities were.
    """
    if not fresh:
        return NOTHING
    claims = [Claim(one.uid, one.touchpoint.occurred_at, one.touchpoint.identities) for one in fresh]
    filing, pairs, locked = await _decide(connection, claims, snapshot, limits, known_pairs, new_id, now)
    by_customer: dict[UUID, list[Incoming]] = defaultdict(list)
    for customer_id, incoming in zip(filing.customer_ids, fresh, strict=True):
        by_customer[customer_id].append(incoming)
    remade = await _merge(connection, filing, now)
    await _store(connection, by_customer)
    remade |= await _hand_over(connection, filing)
    arrived = _arrived(by_customer, fresh, filing, locked, remade)
    accounts = await file_accounts(connection, arrived, now)
    await _note(connection, filing, now)
    return _filed(filing, remade, pairs, by_customer, accounts)


async def file_again(
    connection: Connection,
    claim: Claim,
    where: Mapping[str, UUID],
    limits: Limits,
    new_id: NewId,
    now: datetime,
) -> Filed:
    """Let a touchpoint that is stored link its identities again, as if it came now; those that `where` has
    as the ones of that customer, and then none is handed over. What accounts get or lose by it is still to
    be told.

    Raises:
        Contended: another transaction has altered what the identities were.
    """
    snapshot = await connection.fetchval(identity_sql.SNAPSHOT)
    if where:
        limits = Limits(limits.of_kinds, ())
    filing, pairs, _ = await _decide(connection, [claim], snapshot, limits, KnownPairs(), new_id, now, where)
    remade = await _merge(connection, filing, now)
    remade |= await _hand_over(connection, filing)
    await _note(connection, filing, now)
    return _filed(filing, remade, pairs)


def _filed(
    filing: Filing,
    remade: Mapping[UUID, UUID],
    pairs: Sequence[Pair],
    by_customer: Mapping[UUID, Sequence[Incoming]] = MappingProxyType({}),
    accounts: FiledAccounts = NO_ACCOUNTS,
) -> Filed:
    return Filed(
        {one: incoming for one, incoming in by_customer.items() if one not in remade},
        frozenset(filing.new_customers),
        accounts,
        remade,
        filing.merged,
        filing.into,
        len(filing.handovers),
        [identity_kind(one.identity) for one in filing.refusals],
        pairs,
        filing.withheld,
    )


async def _merge(connection: Connection, filing: Filing, now: datetime) -> dict[UUID, UUID]:
    """Let customers become one; those that stay, with the touchpoint that did it."""
    if not filing.merged:
        return {}
    await merge(connection, filing.merged, filing.into, now)
    return {stays: filing.merged[goes] for goes, stays in sorted(filing.into.items())}


async def _hand_over(connection: Connection, filing: Filing) -> Mapping[UUID, UUID]:
    """Hand identities over; whose timelines have changed, with the touchpoint that did it."""
    return await hand_over(connection, filing.handovers) if filing.handovers else {}


async def _note(connection: Connection, filing: Filing, now: datetime) -> None:
    """Note whose identities have changed, and what was refused."""
    if filing.altered:
        await connection.execute(identity_sql.RELINKED, list(filing.altered))
    if filing.refusals:
        await _note_refusals(connection, filing, now)


def _arrived(
    by_customer: Mapping[UUID, Sequence[Incoming]],
    fresh: Sequence[Incoming],
    filing: Filing,
    locked: _Locked,
    remade: Mapping[UUID, UUID],
) -> Arrived:
    names: defaultdict[UUID, list[str]] = defaultdict(list)
    for number, account in filing.accounts:
        names[fresh[number].uid].append(account)
    return Arrived(
        by_customer,
        names,
        {filing.into.get(one, one) for one in locked.members},
        {filing.into.get(one, one) for one in locked.outdated},
        frozenset(filing.new_customers),
        remade,
    )


async def _decide(
    connection: Connection,
    claims: Sequence[Claim],
    snapshot: str,
    limits: Limits,
    known_pairs: KnownPairs,
    new_id: NewId,
    now: datetime,
    where: Mapping[str, UUID] = MappingProxyType({}),
) -> tuple[Filing, Sequence[Pair], _Locked]:
    """Whose each touchpoint is, with all customers that this alters locked, and what it teaches kept; the
    pairs among that, and what the locked say."""
    made: list[UUID] = []

    def make() -> UUID:
        made.append(new_id())
        return made[-1]

    filing = identity.file(claims, await _known(connection, claims, where), limits, make)
    pairs = known_pairs.new_of(filing.pairs)
    await _learn(connection, filing, pairs, now)
    locked = await _lock(connection, filing, snapshot)
    if locked.altered:
        new = {link.identity for link in filing.new_links}
        known = await _known(connection, claims, where, but_for=new)
        ids = iter(made)
        if identity.file(claims, known, limits, lambda: next(ids, _NO_ID)) != filing:
            raise Contended("a customer's identities were altered by another transaction")
    return filing, pairs, locked


async def _known(
    connection: Connection,
    claims: Sequence[Claim],
    where: Mapping[str, UUID],
    but_for: Collection[str] = frozenset(),
) -> Known:
    """What the store says of the identities of claims, `but_for` those that it has from these; and whose they
    are by `where`."""
    identities = {one for claim in claims for one in claim.identities}.difference(but_for)
    rows = await connection.fetch(identity_sql.KNOWN_IDENTITIES, list(identities))
    handed_over = {row["identity"] for row in rows if row["handed_over"]}.difference(where)
    known = Known(
        {row["identity"]: row["customer_id"] for row in rows} | dict(where),
        await _holders(connection, claims, handed_over) if handed_over else {},
    )
    gaining = identity.gaining(claims, known)
    if not gaining:
        return known
    members: dict[UUID, dict[str, Link]] = {customer_id: {} for customer_id in gaining}
    for customer_id, name, touchpoint_id, since in await connection.fetch(
        identity_sql.MEMBERS, list(gaining)
    ):
        if name not in but_for:
            members[customer_id][name] = Link(name, customer_id, touchpoint_id, since or NEVER)
    pairs = {pair for claim in claims if len(claim.identities) > 1 for pair in pairs_of(claim)}
    names, others = [one for one, _ in pairs], [other for _, other in pairs]
    withheld = {
        (row[0], row[1]) for row in await connection.fetch(identity_sql.WITHHELD_PAIRS, names, others)
    }
    return Known(known.owners, known.holders, members, withheld)


async def _holders(
    connection: Connection, claims: Sequence[Claim], handed_over: set[str]
) -> Mapping[str, Sequence[Holder]]:
    since: dict[str, datetime] = {}
    for claim in claims:
        for one in handed_over.intersection(claim.identities):
            since[one] = min(since.get(one, claim.at), claim.at)
    found: dict[str, list[Holder]] = defaultdict(list)
    for name, *holder in await connection.fetch(identity_sql.HOLDERS, list(since), list(since.values())):
        found[name].append(Holder(*holder))
    return found


async def _learn(connection: Connection, filing: Filing, pairs: Sequence[Pair], now: datetime) -> None:
    """Keep new customers, identities and pairs of them.

    Raises:
        Contended: another transaction made one of the identities first.
    """
    if filing.new_customers:
        members = list({filing.customer_ids[number] for number, _ in filing.accounts})
        await connection.execute(identity_sql.NEW_CUSTOMERS, filing.new_customers, now, members)
    if filing.new_links:
        links = sorted(filing.new_links, key=lambda link: link.identity)
        status = await connection.execute(
            identity_sql.NEW_IDENTITIES,
            [link.identity for link in links],
            [link.customer_id for link in links],
            [link.touchpoint_id for link in links],
            [link.at for link in links],
            now,
        )
        if rows_of(status) != len(links):
            raise Contended("an identity was made by another transaction first")
    if pairs:
        await connection.execute(
            identity_sql.NEW_LINKS,
            [pair.identity for pair in pairs],
            [pair.other for pair in pairs],
            [pair.touchpoint_id for pair in pairs],
            [pair.at for pair in pairs],
            now,
        )


async def _lock(connection: Connection, filing: Filing, snapshot: str) -> _Locked:
    """Lock all customers that are about to change, to hear what they say since the snapshot.

    Raises:
        Contended: one of them isn't there any more.
    """
    ids = {
        *filing.customer_ids,
        *filing.merged,
        *filing.altered,
        *(one.customer_id for one in filing.refusals),
    }
    locked = await connection.fetchrow(identity_sql.LOCK_CUSTOMERS, list(ids), snapshot)
    assert locked is not None
    if locked["count"] != len(ids):
        raise Contended("a customer was merged by another transaction")
    return _Locked(bool(locked["relinked"]), locked["members"] or (), locked["outdated"] or ())


async def _store(connection: Connection, by_customer: Mapping[UUID, Sequence[Incoming]]) -> None:
    rows = [
        (
            customer_id,
            one.touchpoint.occurred_at,
            one.uid,
            one.touchpoint.type,
            one.touchpoint.channel,
            one.value,
        )
        for customer_id in sorted(by_customer)
        for one in by_customer[customer_id]
    ]
    await connection.copy_records_to_table("touchpoints", columns=sql.TOUCHPOINT_COLUMNS, records=rows)


async def _note_refusals(connection: Connection, filing: Filing, now: datetime) -> None:
    numbers = Counter((one.customer_id, one.identity, one.kind) for one in filing.refusals)
    latest = {(one.customer_id, one.identity, one.kind): one for one in filing.refusals}
    pairs = sorted({(one.strongest, digest_of(one.identity)) for one in filing.refusals})
    await connection.execute(identity_sql.NEW_NAMED_PAIRS, *sql.columns(pairs))
    keys = sorted(numbers)
    await connection.execute(
        identity_sql.NEW_CONFLICTS,
        *([key[column] for key in keys] for column in range(3)),
        [filing.into.get(other, other) if (other := latest[key].other_id) else None for key in keys],
        [latest[key].touchpoint_id for key in keys],
        [numbers[key] for key in keys],
        now,
    )
