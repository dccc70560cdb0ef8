"""Why some identities are one customer: each with the touchpoint that is the evidence, out of the store.

Every list is bounded and tells its newest items. The customer, lists and evidence are read from one snapshot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from shared.refs import CustomerRef
from shared.store.customers import find_id
from shared.store.engine import Connection

LISTED_MAX = 500
"""Items of each list."""
HOLDERS_MAX = 20
"""Those whom one identity was handed over to."""


class Evidence(msgspec.Struct, frozen=True):
    """The touchpoint that told it. `at` is null where only its id was kept, `type` and `channel` are too
    where it belongs to another customer by now."""

    id: UUID
    at: datetime | None = None
    type: str | None = None
    channel: str | None = None


class Holding(msgspec.Struct, frozen=True):
    """Who has an identity that was handed over, from `since` (event time; null: from the beginning) until
    the next one has it."""

    customer: UUID
    since: datetime | None
    evidence: Evidence


class ProvedIdentity(msgspec.Struct, frozen=True):
    """An identity of a customer: since when it is theirs (event time; null: not known), when Rejse linked it
    first, and the touchpoint that is the evidence. `holders` has those whom it was handed over to, newest
    first; it is empty if it never was."""

    kind: str
    value: str
    since: datetime | None
    linked_at: datetime
    evidence: Evidence
    holders: Sequence[Holding]


class LinkedPair(msgspec.Struct, frozen=True):
    """Two identities, as `kind:value`, the stronger one first, and the first touchpoint that had both."""

    identity: str
    other: str
    linked_at: datetime
    evidence: Evidence


class WithdrawnLink(msgspec.Struct, frozen=True):
    """A link that a person has withdrawn, one of its identities the customer's at least: since when, and
    whether that is carried out."""

    identity: str
    other: str
    withdrawn_at: datetime
    carried_out: bool
    evidence: Evidence


class Alias(msgspec.Struct, frozen=True):
    """An id that was another customer's, until a touchpoint told that both are one."""

    id: UUID
    merged_at: datetime
    evidence: Evidence


class RefusedLink(msgspec.Struct, frozen=True):
    """An identity, as `kind:value`, that a customer's touchpoints named and that was not linked, because
    the customer would have too many identities of the kind `too_many`. `other` is the customer whose it is,
    null: nobody's; `touchpoint` the latest of `count` that named it. The times are when Rejse refused it."""

    customer: UUID
    identity: str
    too_many: str
    other: UUID | None
    count: int
    first_at: datetime
    last_at: datetime
    touchpoint: UUID


class IdentityProof(msgspec.Struct, frozen=True):
    """Why these identities are one customer: what each was linked by (the latest linked first), which pairs
    came together, and which customers were merged into this one. `former` are identities that were this
    customer's and then handed over: what they did until then is still theirs. `refused` are links that a
    limit held back, `withdrawn` those that count no more. `cut` names the lists that have more than is told
    here."""

    customer: UUID
    identities: Sequence[ProvedIdentity]
    former: Sequence[ProvedIdentity]
    links: Sequence[LinkedPair]
    aliases: Sequence[Alias]
    refused: Sequence[RefusedLink]
    withdrawn: Sequence[WithdrawnLink]
    cut: Sequence[str]


# Looked up by its whole key for each row; a join might read the whole timeline instead.
_EVIDENCE = """
LEFT JOIN LATERAL (
    SELECT type, channel FROM touchpoints
    WHERE customer_id = {customer} AND occurred_at = {at} AND id = {touchpoint} LIMIT 1
) AS t ON true
"""

# A holder from the beginning has the earliest time that there is.
_SINCE = "nullif({since}, '0001-01-01 00:00:00+00')"

_IDENTITIES = f"""
SELECT i.identity, i.linked_at, i.handed_over, i.has_now, e.touchpoint_id, e.since, t.type, t.channel
FROM (
    (SELECT *, true AS has_now FROM identities WHERE customer_id = $1
    ORDER BY linked_at DESC, identity LIMIT $2)
    UNION ALL
    (SELECT *, false FROM identities
    WHERE identity IN (SELECT identity FROM identity_holders WHERE customer_id = $1) AND customer_id <> $1
    ORDER BY linked_at DESC, identity LIMIT $2)
) AS i
LEFT JOIN LATERAL (
    SELECT since, touchpoint_id FROM identity_holders
    WHERE i.handed_over AND identity = i.identity AND customer_id = $1
    ORDER BY since DESC, touchpoint_id DESC LIMIT 1
) AS h ON true
CROSS JOIN LATERAL (
    SELECT {_SINCE.format(since="coalesce(h.since, i.since)")} AS since,
        coalesce(h.touchpoint_id, i.touchpoint_id) AS touchpoint_id
) AS e
{_EVIDENCE.format(customer="$1", at="e.since", touchpoint="e.touchpoint_id")}
ORDER BY i.linked_at DESC, i.identity
"""

_HOLDERS = f"""
SELECT h.identity, h.customer_id, h.touchpoint_id, {_SINCE.format(since="h.since")}, t.type, t.channel
FROM unnest($1::text[]) AS n (identity)
CROSS JOIN LATERAL (
    SELECT identity, customer_id, since, touchpoint_id FROM identity_holders
    WHERE identity = n.identity ORDER BY since DESC, touchpoint_id DESC LIMIT $2
) AS h
{_EVIDENCE.format(customer="h.customer_id", at="h.since", touchpoint="h.touchpoint_id")}
ORDER BY h.identity, h.since DESC, h.touchpoint_id DESC
"""

_LINKS = f"""
SELECT l.identity, l.other, l.linked_at, l.touchpoint_id, l.occurred_at, t.type, t.channel
FROM (
    SELECT * FROM identity_links
    WHERE identity = ANY($2::text[]) AND other = ANY($2::text[]) AND withdrawn_at IS NULL
    ORDER BY linked_at DESC, identity, other LIMIT $3
) AS l
{_EVIDENCE.format(customer="$1", at="l.occurred_at", touchpoint="l.touchpoint_id")}
ORDER BY l.linked_at DESC, l.identity, l.other
"""

_WITHDRAWN = f"""
SELECT l.identity, l.other, l.withdrawn_at, l.unsettled_at IS NULL,
    l.touchpoint_id, l.occurred_at, t.type, t.channel
FROM (
    SELECT * FROM identity_links
    WHERE (identity = ANY($2::text[]) OR other = ANY($2::text[])) AND withdrawn_at IS NOT NULL
    ORDER BY withdrawn_at DESC, identity, other LIMIT $3
) AS l
{_EVIDENCE.format(customer="$1", at="l.occurred_at", touchpoint="l.touchpoint_id")}
ORDER BY l.withdrawn_at DESC, l.identity, l.other
"""

_ALIASES = """
SELECT alias_id, merged_at, touchpoint_id FROM customer_aliases
WHERE customer_id = $1 ORDER BY merged_at DESC, alias_id DESC LIMIT $2
"""

REFUSED_LINKS = """
SELECT c.customer_id, c.identity, c.kind, o.customer_id, c.count, c.first_at, c.last_at, c.touchpoint_id
FROM identity_conflicts AS c LEFT JOIN LATERAL (
    SELECT customer_id FROM (
        SELECT customer_id, true AS has_now FROM identities WHERE identity = c.identity
        UNION ALL
        SELECT customer_id, false FROM identity_holders WHERE identity = c.identity
    ) AS n
    ORDER BY customer_id = coalesce(
        (SELECT customer_id FROM customer_aliases WHERE alias_id = c.other_id), c.other_id
    ) DESC NULLS LAST, has_now DESC LIMIT 1
) AS o ON true
"""
"""In the fields of RefusedLink. Customers part and become one, so whose the identity is is asked for anew: of
those who have it or had it, whoever it was refused for, else whoever has it now."""

_REFUSED = f"""
{REFUSED_LINKS} WHERE c.customer_id = $1 ORDER BY c.first_at DESC, c.identity DESC, c.kind DESC LIMIT $2
"""


async def prove_identity(
    connection: Connection, ref: CustomerRef, timeout_s: float | None = None
) -> IdentityProof | None:
    """Why the identities of the customer that `ref` names are theirs; None: there is no such customer.
    `timeout_s` is for each query."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        customer_id = await find_id(connection, ref, timeout_s)
        if customer_id is None:
            return None

        async def read(query: str, *asked: object) -> Sequence[asyncpg.Record]:
            return await connection.fetch(query, *asked, timeout=timeout_s)

        identities = await read(_IDENTITIES, customer_id, LISTED_MAX + 1)
        names = [row["identity"] for row in identities]
        handed_over = [row["identity"] for row in identities if row["handed_over"]]
        holders = await read(_HOLDERS, handed_over, HOLDERS_MAX + 1) if handed_over else ()
        links = await read(_LINKS, customer_id, names, LISTED_MAX + 1)
        withdrawn = await read(_WITHDRAWN, customer_id, names, LISTED_MAX + 1)
        aliases = await read(_ALIASES, customer_id, LISTED_MAX + 1)
        refused = await read(_REFUSED, customer_id, LISTED_MAX + 1)
    return _proof(customer_id, identities, holders, links, aliases, refused, withdrawn)


def _proof(
    customer_id: UUID,
    identities: Sequence[asyncpg.Record],
    holders: Sequence[asyncpg.Record],
    links: Sequence[asyncpg.Record],
    aliases: Sequence[asyncpg.Record],
    refused: Sequence[asyncpg.Record],
    withdrawn: Sequence[asyncpg.Record],
) -> IdentityProof:
    holdings: dict[str, list[Holding]] = defaultdict(list)
    for name, holder_id, *touchpoint in holders:
        evidence = Evidence(*touchpoint)
        holdings[name].append(Holding(holder_id, evidence.at, evidence))
    has_now = [_identity(row, holdings) for row in identities if row["has_now"]]
    former = [_identity(row, holdings) for row in identities if not row["has_now"]]
    pairs = [
        LinkedPair(one, other, linked_at, Evidence(*touchpoint))
        for one, other, linked_at, *touchpoint in links
    ]
    # Of the touchpoint of a merge only the id is kept; mostly it is the evidence of a pair as well.
    seen = {one.evidence.id: one.evidence for one in pairs}
    merged = [Alias(id_, at, seen.get(touchpoint, Evidence(touchpoint))) for id_, at, touchpoint in aliases]
    not_linked = [RefusedLink(*row) for row in refused]
    not_counting = [
        WithdrawnLink(one, other, at, carried_out, Evidence(*touchpoint))
        for one, other, at, carried_out, *touchpoint in withdrawn
    ]
    lists: Mapping[str, Sequence[object]] = {
        "identities": has_now,
        "former": former,
        "links": pairs,
        "aliases": merged,
        "refused": not_linked,
        "withdrawn": not_counting,
    }
    cut = [name for name, items in lists.items() if len(items) > LISTED_MAX]
    if any(len(one) > HOLDERS_MAX for one in holdings.values()):
        cut.append("holders")
    return IdentityProof(
        customer_id,
        has_now[:LISTED_MAX],
        former[:LISTED_MAX],
        pairs[:LISTED_MAX],
        merged[:LISTED_MAX],
        not_linked[:LISTED_MAX],
        not_counting[:LISTED_MAX],
        cut,
    )


def _identity(row: asyncpg.Record, holdings: Mapping[str, Sequence[Holding]]) -> ProvedIdentity:
    kind, _, value = row["identity"].partition(":")
    evidence = Evidence(*row[4:])
    holders = holdings.get(row["identity"], [])[:HOLDERS_MAX]
    return ProvedIdentity(kind, value, evidence.at, row["linked_at"], evidence, holders)
