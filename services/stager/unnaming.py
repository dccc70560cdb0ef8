"""Taking the identities of who was erased out of what is not theirs.

Somebody else's touchpoint may have named one: a link that was refused, or is withdrawn. It stays, without
that name; who may have such is noted with the erasure. Where touchpoints of theirs become another customer's
before they are looked through, the transaction that moves them takes the names out (`moving`); but in a merge
the id that goes is an alias then, by which all of who stays is looked through. A dead letter that names one
goes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec
from asyncpg import Record

from services.stager.sql import columns
from services.stager.tombstones import tombstones
from shared.codec import decode, encode
from shared.errors import Contended
from shared.journey.touch import FIRST_POSITION, Position
from shared.store.customers import ID_BY_ID
from shared.store.engine import Connection
from shared.tombstones import Tombstone, digest_of, is_erased
from shared.touchpoint import identifies_person

_DEAD_LETTERS_AT_ONCE = 100

_LOCK = "SELECT id FROM customers WHERE id = $1 FOR UPDATE"
_TOMBSTONES = """
SELECT digest, begin_at, begin_id, end_at, end_id, shared FROM erased_identities
WHERE erasure_id = $1 AND NOT shared
"""
# Of all erasures for which touchpoints of some customers are still to be looked through.
_TOMBSTONES_OF_NAMED = """
SELECT digest, begin_at, begin_id, end_at, end_id, shared FROM erased_identities
WHERE NOT shared AND erasure_id IN (
    SELECT e.id FROM erasures AS e CROSS JOIN unnest(e.named_by) AS n (id)
    LEFT JOIN customer_aliases AS a ON a.alias_id = n.id
    WHERE e.waits_since IS NOT NULL AND coalesce(a.customer_id, n.id) = ANY($1::uuid[])
)
"""
_TOUCHPOINTS_AFTER = """
SELECT occurred_at, id, body FROM touchpoints
WHERE customer_id = $1 AND (occurred_at, id) > ($2, $3) ORDER BY occurred_at, id LIMIT $4
"""
_REWRITE = """
UPDATE touchpoints AS t SET body = n.body
FROM unnest($2::timestamptz[], $3::uuid[], $4::bytea[]) AS n (occurred_at, id, body)
WHERE t.customer_id = $1 AND t.occurred_at = n.occurred_at AND t.id = n.id
"""
_LOOKED_THROUGH = "UPDATE erasures SET named_by = array_remove(named_by, $2) WHERE id = $1"
_DEAD_LETTERS_AFTER = """
SELECT log_id, topic, partition, "offset", digest, value FROM dead_letters
WHERE (log_id, topic, partition, "offset", digest) > ($1, $2, $3, $4, $5)
ORDER BY log_id, topic, partition, "offset", digest LIMIT $6
"""
_DROP_DEAD_LETTER = """
DELETE FROM dead_letters
WHERE log_id = $1 AND topic = $2 AND partition = $3 AND "offset" = $4 AND digest = $5
"""

_DeadLetterKey = tuple[str, str, int, int, bytes]
_FIRST_DEAD_LETTER: _DeadLetterKey = ("", "", -1, -1, b"")


@dataclass(slots=True)
class _Reading:
    """How far the touchpoints of somebody who named the customer are looked through (`named_by`; `whose` is
    the id that they have now), or dead letters. It is not kept: who begins anew does no harm."""

    erasure_id: UUID
    named_by: UUID | None = None
    whose: UUID | None = None
    position: Position = FIRST_POSITION
    dead_letter: _DeadLetterKey = _FIRST_DEAD_LETTER


class Unnaming:
    """Looks through others' touchpoints and dead letters, a page a transaction."""

    def __init__(self) -> None:
        self._reading: _Reading | None = None

    def begin_anew(self) -> None:
        """Forget how far it is: the transaction of the last page was rolled back."""
        self._reading = None

    async def page(
        self, connection: Connection, erasure_id: UUID, named_by: Sequence[UUID], rows_max: int
    ) -> bool:
        """Look through the next ones; False: nothing is left that names the customer."""
        if self._reading is None or self._reading.erasure_id != erasure_id:
            self._reading = _Reading(erasure_id)
        if named_by:
            await self._touchpoints(connection, self._reading, named_by[0], rows_max)
            return True
        return await self._dead_letters(connection, self._reading)

    async def _touchpoints(
        self, connection: Connection, reading: _Reading, named_by: UUID, rows_max: int
    ) -> None:
        """Take the identities out of the next touchpoints of somebody who named them."""
        other_id = await connection.fetchval(ID_BY_ID, named_by)
        if (named_by, other_id) != (reading.named_by, reading.whose):
            reading.named_by, reading.whose, reading.position = named_by, other_id, FIRST_POSITION
        rows: list[Record] = []
        if other_id is not None:
            await connection.execute(_LOCK, other_id)
            if await connection.fetchval(ID_BY_ID, named_by) != other_id:
                raise Contended("whoever named the customer was merged by another transaction")
            found = tombstones(await connection.fetch(_TOMBSTONES, reading.erasure_id))
            rows = await connection.fetch(_TOUCHPOINTS_AFTER, other_id, *reading.position, rows_max)
            await unname(connection, other_id, rows, found)
        if rows:
            reading.position = rows[-1]["occurred_at"], rows[-1]["id"]
        else:
            await connection.execute(_LOOKED_THROUGH, reading.erasure_id, named_by)

    async def _dead_letters(self, connection: Connection, reading: _Reading) -> bool:
        """Let those of the next dead letters go that have one of the identities; False: all are done."""
        rows = await connection.fetch(_DEAD_LETTERS_AFTER, *reading.dead_letter, _DEAD_LETTERS_AT_ONCE)
        if not rows:
            return False
        found = tombstones(await connection.fetch(_TOMBSTONES, reading.erasure_id)).keys()
        for *key, value in rows:
            if any(digest_of(text) in found for text in _texts_of(value)):
                await connection.execute(_DROP_DEAD_LETTER, *key)
        reading.dead_letter = tuple(rows[-1])[:-1]
        return True


async def tombstones_of_named(
    connection: Connection, customer_ids: Collection[UUID]
) -> Mapping[bytes, Sequence[Tombstone]]:
    """Of whom the touchpoints of some customers are still to be looked through, nearly always of nobody. The
    customers must be locked."""
    return tombstones(await connection.fetch(_TOMBSTONES_OF_NAMED, list(customer_ids)))


async def unname(
    connection: Connection,
    customer_id: UUID,
    rows: Iterable[Record],
    found: Mapping[bytes, Sequence[Tombstone]],
) -> None:
    """Take erased identities out of touchpoints of a customer, who must be locked, given when these happened,
    their ids and bodies."""
    if not found:
        return
    changed = []
    for at, id_, body in rows:
        touchpoint = decode(body)
        left = tuple(
            one
            for one in touchpoint.identities
            if not (identifies_person(one) and is_erased((one,), (at, id_), found))
        )
        if left != touchpoint.identities:
            changed.append((at, id_, encode(msgspec.structs.replace(touchpoint, identities=left))))
    if changed:
        await connection.execute(_REWRITE, customer_id, *columns(changed))


def _texts_of(value: bytes) -> Iterator[str]:
    """What may be identities in a record that nobody could process."""
    try:
        record = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    identities = record.get("identities") if isinstance(record, dict) else None
    if isinstance(identities, list):
        yield from (one for one in identities if isinstance(one, str))
