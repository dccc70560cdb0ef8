"""Erasing a customer: what is done at once, so that nobody can find them and nothing brings them back. All
that is left of them a stager removes.

Theory of operation. While a customer is erased no batch is under way, nor is a link settled: both hold
erasures off (the function `last_erasure`). So a batch has ended, and what it wrote is the customer's and goes
with them; or it sees the tombstones. The identities are let go of here, so whatever names one later than the
erasure is about somebody new, and no transaction that follows has a way to the customer's rows but by their
id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from shared.errors import Transient
from shared.refs import CustomerRef
from shared.store.customers import find_id
from shared.store.engine import Connection
from shared.tombstones import Held, digest_of, tombstones_of

_HOLD_OFF = "SELECT set_config('lock_timeout', '2s', true), pg_advisory_xact_lock(hashtext('rejse.erasures'))"
_LAST = "SELECT max(erased_at) FROM erasures"
# Whoever has locked it may wait for a batch, and that one for us.
_LOCK = "SELECT FROM customers WHERE id = $1 FOR UPDATE NOWAIT"
_IDENTITIES = """
SELECT identity, customer_id FROM identities
WHERE customer_id = $1 OR identity IN (SELECT identity FROM identity_holders WHERE customer_id = $1)
"""
_HOLDERS = """
SELECT identity, since, touchpoint_id, customer_id FROM identity_holders WHERE identity = ANY($1::text[])
ORDER BY identity, since, touchpoint_id
"""
# Nobody says anything of them from now on. In the order of their keys, as whoever says something locks them.
_LOCK_LINKS = """
SELECT coalesce(bool_or(unsettled_at IS NOT NULL), false) AS is_one_unsettled FROM (
    SELECT unsettled_at FROM identity_links WHERE identity = ANY($1::text[]) OR other = ANY($1::text[])
    ORDER BY identity, other FOR UPDATE
) AS locked
"""
# Whose touchpoints may name an identity that was never linked to them, or is not any more. They are of
# whoever has or had their strongest one, however customers have parted since or become one, so the pairs
# tell.
_NAMED_BY = """
WITH beside AS (
    SELECT other AS identity FROM identity_links WHERE identity = ANY($2::text[])
    UNION SELECT identity FROM identity_links WHERE other = ANY($2::text[])
    UNION SELECT identity FROM named_pairs WHERE digest = ANY($3::bytea[])
)
SELECT customer_id FROM (
    SELECT customer_id FROM identities JOIN beside USING (identity)
    UNION SELECT customer_id FROM identity_holders JOIN beside USING (identity)
) AS found WHERE customer_id <> $1 ORDER BY customer_id
"""
_ERASURE = """
INSERT INTO erasures (id, erased_at, waits_since, touchpoints, named_by) VALUES ($1, $2, $2, 0, $3)
"""
_TOMBSTONES = """
INSERT INTO erased_identities (erasure_id, digest, begin_at, begin_id, end_at, end_id, shared)
SELECT $1::uuid, * FROM unnest(
    $2::bytea[], $3::timestamptz[], $4::uuid[], $5::timestamptz[], $6::uuid[], $7::bool[]
)
"""
_ALIASES = """
WITH gone AS (DELETE FROM customer_aliases WHERE customer_id = $1 RETURNING alias_id)
INSERT INTO erased_aliases (id, erasure_id) SELECT alias_id, $1 FROM gone
"""
_DROP_LINKS = """
DELETE FROM identity_links WHERE identity = ANY($1::text[]) OR other = ANY($1::text[])
RETURNING identity, other
"""
# Nobody else has told that both are one's; once withdrawn it is somebody's word that they are not.
_DROP_SHARED_LINKS = """
DELETE FROM identity_links AS l
WHERE l.identity = ANY($1::text[]) AND l.other = ANY($1::text[]) AND l.withdrawn_at IS NULL AND NOT EXISTS (
    SELECT customer_id FROM identity_holders WHERE identity = l.identity
    INTERSECT SELECT customer_id FROM identity_holders WHERE identity = l.other
)
"""
_DROP_NAMED_PAIRS = "DELETE FROM named_pairs WHERE identity = ANY($1::text[])"
_KEEP_NAMED_PAIRS = """
INSERT INTO named_pairs (identity, digest)
SELECT * FROM unnest($1::text[], $2::bytea[]) ON CONFLICT DO NOTHING
"""
_DROP_CONFLICTS = "DELETE FROM identity_conflicts WHERE customer_id = $1 OR identity = ANY($2::text[])"
_DROP_HOLDERS = "DELETE FROM identity_holders WHERE customer_id = $1"
_DROP_IDENTITIES = "DELETE FROM identities WHERE identity = ANY($1::text[])"
# Of those who had an identity by turns the others are left.
_GIVE_BACK = """
UPDATE identities AS i SET since = f.since, touchpoint_id = f.touchpoint_id,
    customer_id = CASE WHEN i.customer_id = $1 THEN l.customer_id ELSE i.customer_id END
FROM unnest($2::text[]) AS n (identity)
CROSS JOIN LATERAL (
    SELECT since, touchpoint_id FROM identity_holders
    WHERE identity = n.identity ORDER BY since, touchpoint_id LIMIT 1
) AS f
CROSS JOIN LATERAL (
    SELECT customer_id FROM identity_holders
    WHERE identity = n.identity ORDER BY since DESC, touchpoint_id DESC LIMIT 1
) AS l
WHERE i.identity = n.identity
"""
_MARK = """
UPDATE customers SET erased_at = $2, relinked = pg_current_xact_id()::text::bigint WHERE id = $1
"""
_FIND = """
SELECT id, erased_at, carried_out_at IS NOT NULL AS carried_out FROM erasures
WHERE id = coalesce((SELECT erasure_id FROM erased_aliases WHERE id = $1), $1)
"""


class NotSettled(Transient):
    """Who is who is about to change: a link was withdrawn, or taken back, and that is not carried out."""


class Erasure(msgspec.Struct, frozen=True):
    """A customer who was erased, by the id that was theirs: since when nobody can find them, and whether a
    stager has removed all that was kept of them."""

    customer: UUID
    erased_at: datetime
    carried_out: bool


async def erase(connection: Connection, ref: CustomerRef, now: datetime) -> Erasure | None:
    """Erase the customer that `ref` names; None: there is none. Of one who is erased already it tells how
    that stands. The connection must be in a transaction.

    Raises:
        NotSettled: a link of theirs was withdrawn, or taken back, and a stager has still to carry that out.
    """
    if isinstance(ref, UUID) and (found := await find_erasure(connection, ref)):
        return found
    await connection.execute(_HOLD_OFF)
    customer_id = await find_id(connection, ref)
    if customer_id is None:
        return await find_erasure(connection, ref) if isinstance(ref, UUID) else None
    await connection.execute(_LOCK, customer_id)
    alone, shared = await _identities(connection, customer_id)
    if await connection.fetchval(_LOCK_LINKS, [*alone, *shared]):
        raise NotSettled("a link of theirs was withdrawn or taken back, and is not carried out yet")
    last = await connection.fetchval(_LAST)
    # Each has a time of its own, by which stagers tell that there is one more.
    erased_at = now if last is None else max(now, last + timedelta(microseconds=1))
    await _bury(connection, customer_id, alone, shared, erased_at)
    await connection.execute(_ALIASES, customer_id)
    await _drop_pairs(connection, alone)
    await connection.execute(_DROP_CONFLICTS, customer_id, list(alone))
    await connection.execute(_DROP_HOLDERS, customer_id)
    await connection.execute(_DROP_IDENTITIES, list(alone))
    if shared:
        await connection.execute(_GIVE_BACK, customer_id, list(shared))
        await connection.execute(_DROP_SHARED_LINKS, list(shared))
    await connection.execute(_MARK, customer_id, erased_at)
    return Erasure(customer_id, erased_at, carried_out=False)


async def find_erasure(
    connection: Connection, customer_id: UUID, timeout_s: float | None = None
) -> Erasure | None:
    """How the erasure stands of the customer whose id that was; None: none of this id was erased."""
    row = await connection.fetchrow(_FIND, customer_id, timeout=timeout_s)
    return Erasure(*row) if row else None


async def _identities(
    connection: Connection, customer_id: UUID
) -> tuple[Collection[str], Mapping[str, Sequence[Held]]]:
    """The identities that a customer has or had: those that are theirs alone, and those that others have had
    as well, with who had each when."""
    owners = {row["identity"]: row["customer_id"] for row in await connection.fetch(_IDENTITIES, customer_id)}
    holders: defaultdict[str, list[Held]] = defaultdict(list)
    for identity, since, touchpoint_id, holder_id in await connection.fetch(_HOLDERS, list(owners)):
        holders[identity].append(Held((since, touchpoint_id), holder_id))
    shared = {
        identity: its
        for identity, its in holders.items()
        if owners[identity] != customer_id or any(one.customer_id != customer_id for one in its)
    }
    return owners.keys() - shared.keys(), shared


async def _bury(
    connection: Connection,
    customer_id: UUID,
    alone: Collection[str],
    shared: Mapping[str, Sequence[Held]],
    erased_at: datetime,
) -> None:
    digests = [digest_of(one) for one in alone]
    rows = await connection.fetch(_NAMED_BY, customer_id, list(alone), digests)
    named_by = [row["customer_id"] for row in rows]
    await connection.execute(_ERASURE, customer_id, erased_at, named_by)
    stones = list(tombstones_of(customer_id, alone, shared, erased_at))
    await connection.execute(
        _TOMBSTONES,
        customer_id,
        [one.digest for one in stones],
        [one.begin[0] for one in stones],
        [one.begin[1] for one in stones],
        [one.end[0] for one in stones],
        [one.end[1] for one in stones],
        [one.shared for one in stones],
    )


async def _drop_pairs(connection: Connection, alone: Collection[str]) -> None:
    """Let pairs go that have one of the identities. Others' touchpoints that happen later name somebody new
    by it, who may be erased as well: of those it stays known that they do."""
    await connection.execute(_DROP_NAMED_PAIRS, list(alone))
    links = await connection.fetch(_DROP_LINKS, list(alone))
    named = [(one, digest_of(other)) for one, other in links if one not in alone]
    await connection.execute(_KEEP_NAMED_PAIRS, [one for one, _ in named], [digest for _, digest in named])
