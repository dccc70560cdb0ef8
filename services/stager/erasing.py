"""Removing all that is kept of customers who were erased, a page a transaction.

What makes that they can't be found, and don't come back, is done when somebody asks for it
(`shared.store.erasures`). Nobody waits for the rest but who asked. First the customer's runs end: out of the
counts and flows, as if they had never been, and their accounts are folded anew without them; with that the
customer is gone, and consumers are told. Then the rows go that are left, so many a transaction, touchpoints
first. Last, the touchpoints of others who named one of the identities, though it was never linked to them or
is not any more, lose that name; and so do the dead letters that have it go.

Whatever is left says how far it is, so a process that ends on the way leaves nothing behind that the next one
couldn't go on from. An erasure that fails waits behind the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
from asyncpg import Record

from services.stager import sql
from services.stager.announce import erased, messages
from services.stager.changes import tell, write_changes
from services.stager.in_force import Folding, InForce
from services.stager.remaking import remake
from services.stager.sql import rows_of
from services.stager.tombstones import tombstones
from services.stager.vocabulary import add_unknown_types
from shared.clock import Clock
from shared.codec import decode, encode
from shared.errors import Contended, Permanent, Transient
from shared.failpoints import Failpoints
from shared.journey.state import NEVER
from shared.journey.touch import FIRST_POSITION, Position
from shared.store.customers import ID_BY_ID
from shared.store.engine import Connection, Pool, connection_of
from shared.tombstones import digest_of, is_erased
from shared.touchpoint import identifies_person
from shared.touchpoint_types import known_types

ROWS_AT_ONCE = 5_000
"""Removed, or looked through, by one transaction."""
_DEAD_LETTERS_AT_ONCE = 100

_NEXT = """
SELECT id, named_by FROM erasures WHERE waits_since IS NOT NULL ORDER BY waits_since, id LIMIT 1
FOR UPDATE SKIP LOCKED
"""
_PUT_OFF = """
UPDATE erasures SET waits_since = $1 WHERE id = (
    SELECT id FROM erasures WHERE waits_since IS NOT NULL ORDER BY waits_since, id LIMIT 1
)
"""
_LOCK = "SELECT id FROM customers WHERE id = $1 FOR UPDATE"
_DROP_MESSAGES = "DELETE FROM outbox WHERE key = ANY($1::bytea[])"
_ALIASES = "SELECT id FROM erased_aliases WHERE erasure_id = $1 ORDER BY id"
_ACCOUNTS = """
SELECT DISTINCT ON (account_id) account_id, id FROM account_touchpoints WHERE customer_id = $1
ORDER BY account_id, occurred_at, id
"""
_DROP_ACCOUNT_TOUCHPOINTS = """
DELETE FROM account_touchpoints AS t USING (
    SELECT account_id, occurred_at, id FROM account_touchpoints WHERE customer_id = $1 LIMIT $2
) AS n
WHERE t.account_id = n.account_id AND t.occurred_at = n.occurred_at AND t.id = n.id
"""
_DROP_MEMBERSHIPS = "DELETE FROM account_members WHERE customer_id = $1"
_DROP_CUSTOMER = "DELETE FROM customers WHERE id = $1"
_DROP_TOUCHPOINTS = """
DELETE FROM touchpoints AS t USING (
    SELECT occurred_at, id FROM touchpoints WHERE customer_id = $1 ORDER BY occurred_at, id LIMIT $2
) AS n
WHERE t.customer_id = $1 AND t.occurred_at = n.occurred_at AND t.id = n.id RETURNING t.type
"""
_REMOVED = "UPDATE erasures SET touchpoints = touchpoints + $2 WHERE id = $1"
# Who was merged into another customer has a history still, though a superseded one.
_DROP_FOLDED = (
    """
    DELETE FROM stage_transitions AS t USING (
        SELECT customer_id, journey_key, version, run, seq, revision FROM stage_transitions
        WHERE customer_id = ANY($1::uuid[]) LIMIT $2
    ) AS n
    WHERE t.customer_id = n.customer_id AND t.journey_key = n.journey_key AND t.version = n.version
        AND t.run = n.run AND t.seq = n.seq AND t.revision = n.revision
    """,
    """
    DELETE FROM checkpoints AS t USING (
        SELECT customer_id, journey_key, version, at, id FROM checkpoints
        WHERE customer_id = ANY($1::uuid[]) LIMIT $2
    ) AS n
    WHERE t.customer_id = n.customer_id AND t.journey_key = n.journey_key AND t.version = n.version
        AND t.at = n.at AND t.id = n.id
    """,
)
_TOMBSTONES = """
SELECT digest, begin_at, begin_id, end_at, end_id, shared FROM erased_identities
WHERE erasure_id = $1 AND NOT shared
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
_CARRIED_OUT = "UPDATE erasures SET waits_since = NULL, carried_out_at = $2 WHERE id = $1"

_DeadLetterKey = tuple[str, str, int, int, bytes]
_FIRST_DEAD_LETTER: _DeadLetterKey = ("", "", -1, -1, b"")


@dataclass(frozen=True, slots=True)
class Page:
    """What a page did: so many touchpoints were removed in so many seconds; and whether the customer's
    erasure is carried out by it."""

    touchpoints: int
    seconds: float
    ended: bool = False


@dataclass(slots=True)
class _Reading:
    """How far the touchpoints of somebody who named the customer are looked through (`whose`, by the id that
    they have now), or dead letters. It is not kept: who begins anew does no harm."""

    erasure_id: UUID
    whose: UUID | None = None
    position: Position = FIRST_POSITION
    dead_letter: _DeadLetterKey = _FIRST_DEAD_LETTER


class Erasing:
    """Carries out erasures, one after another; with `tells`, consumers are told by the outbox."""

    def __init__(
        self,
        pool: Pool,
        in_force: InForce,
        shard: int,
        clock: Clock,
        failpoints: Failpoints,
        *,
        tells: bool = False,
        rows: int = ROWS_AT_ONCE,
    ) -> None:
        self._pool = pool
        self._in_force = in_force
        self._shard = shard
        self._clock = clock
        self._failpoints = failpoints
        self._tells = tells
        self._rows = rows
        self._known_types = known_types()
        self._reading: _Reading | None = None

    async def page(self) -> Page | None:
        """Do the next part of the erasure that waits longest; None: none waits that no other stager is at.

        Raises:
            Transient: the store is away or busy; it can be run again.
            Contended: it can be run again at once.
            Permanent: the store refuses what that would write; nothing was written.
        """
        try:
            return await self._page()
        except Contended:
            self._reading = None
            raise
        except (Transient, Permanent):
            self._reading = None
            async with connection_of(self._pool) as connection:
                await connection.execute(_PUT_OFF, self._clock.now())
            raise

    async def _page(self) -> Page | None:
        began_s, now = self._clock.monotonic_s(), self._clock.now()
        folding = await self._in_force.latest()
        async with connection_of(self._pool) as connection, connection.transaction():
            await self._in_force.hold(connection, folding)
            row = await connection.fetchrow(_NEXT)
            if row is None:
                return None
            id_: UUID = row["id"]
            removed, ended = 0, False
            if await connection.fetchval(_LOCK, id_):
                await self._end(connection, id_, folding, now)
            elif types := await connection.fetch(_DROP_TOUCHPOINTS, id_, self._rows):
                removed = len(types)
                await self._count(connection, id_, types)
            elif not (
                await self._drop_folded(connection, id_)
                or await self._look_through(connection, id_, row["named_by"])
                or await self._look_through_dead_letters(connection, id_)
            ):
                await connection.execute(_CARRIED_OUT, id_, now)
                ended = True
            self._failpoints.reach("stager.erasing")
        return Page(removed, self._clock.monotonic_s() - began_s, ended)

    async def _end(self, connection: Connection, id_: UUID, folding: Folding, now: datetime) -> None:
        """End the customer's runs, fold the accounts anew that they acted for, and let the customer go."""
        aliases = await self._aliases(connection, id_)
        await connection.execute(_DROP_MESSAGES, [str(one).encode() for one in (id_, *aliases)])
        rows = await connection.fetch(_ACCOUNTS, id_)
        accounts: dict[UUID, UUID] = {row["account_id"]: row["id"] for row in rows}
        await connection.execute(sql.LOCK_ACCOUNTS, list(accounts))
        while rows_of(await connection.execute(_DROP_ACCOUNT_TOUCHPOINTS, id_, self._rows)):
            pass
        await connection.execute(_DROP_MEMBERSHIPS, id_)
        changes = await remake(connection, {}, {id_: id_}, accounts, folding, now)
        await write_changes(connection, changes, self._shard, now)
        if self._tells:
            told = [one for one in folding.of_active(changes) if one.customer_id != id_]
            await tell(connection, (*messages(told, now), erased(id_, aliases, now)))
        await connection.execute(_DROP_CUSTOMER, id_)

    async def _count(self, connection: Connection, id_: UUID, types: list[Record]) -> None:
        """Take removed touchpoints out of what is counted of them."""
        await connection.execute(_REMOVED, id_, len(types))
        unknown = Counter(row["type"] for row in types if row["type"] not in self._known_types)
        fewer = Counter({type_: -number for type_, number in unknown.items()})
        await add_unknown_types(connection, fewer, self._shard, NEVER)

    async def _drop_folded(self, connection: Connection, id_: UUID) -> bool:
        """Let the next part of histories go, or of checkpoints; False: there are none."""
        ids = [id_, *await self._aliases(connection, id_)]
        for statement in _DROP_FOLDED:
            if rows_of(await connection.execute(statement, ids, self._rows)):
                return True
        return False

    async def _aliases(self, connection: Connection, id_: UUID) -> list[UUID]:
        return [row["id"] for row in await connection.fetch(_ALIASES, id_)]

    async def _look_through(self, connection: Connection, id_: UUID, named_by: list[UUID]) -> bool:
        """Take the identities out of the next touchpoints of others who named them; False: all are done."""
        if not named_by:
            return False
        reading = self._reading_of(id_)
        other_id = await connection.fetchval(ID_BY_ID, named_by[0])
        if other_id != reading.whose:
            reading.whose, reading.position = other_id, FIRST_POSITION
        rows: list[Record] = []
        if other_id is not None and await connection.fetchval(_LOCK, other_id):
            found = tombstones(await connection.fetch(_TOMBSTONES, id_))
            rows = await connection.fetch(_TOUCHPOINTS_AFTER, other_id, *reading.position, self._rows)
            places, bodies = [], []
            for at, touchpoint_id, body in rows:
                touchpoint = decode(body)
                left = tuple(
                    one
                    for one in touchpoint.identities
                    if not (identifies_person(one) and is_erased((one,), (at, touchpoint_id), found))
                )
                if left != touchpoint.identities:
                    places.append((at, touchpoint_id))
                    bodies.append(encode(msgspec.structs.replace(touchpoint, identities=left)))
            times, ids = [at for at, _ in places], [one for _, one in places]
            await connection.execute(_REWRITE, other_id, times, ids, bodies)
        if rows:
            reading.position = rows[-1]["occurred_at"], rows[-1]["id"]
        else:
            reading.whose = None
            await connection.execute(_LOOKED_THROUGH, id_, named_by[0])
        return True

    async def _look_through_dead_letters(self, connection: Connection, id_: UUID) -> bool:
        """Let those of the next dead letters go that hold one of the identities; False: all are done."""
        reading = self._reading_of(id_)
        rows = await connection.fetch(_DEAD_LETTERS_AFTER, *reading.dead_letter, _DEAD_LETTERS_AT_ONCE)
        if not rows:
            self._reading = None
            return False
        found = tombstones(await connection.fetch(_TOMBSTONES, id_)).keys()
        for *key, value in rows:
            if any(digest_of(text) in found for text in _texts_of(value)):
                await connection.execute(_DROP_DEAD_LETTER, *key)
        reading.dead_letter = tuple(rows[-1])[:-1]
        return True

    def _reading_of(self, id_: UUID) -> _Reading:
        if self._reading is None or self._reading.erasure_id != id_:
            self._reading = _Reading(id_)
        return self._reading


def _texts_of(value: bytes) -> Iterator[str]:
    """What may be identities in a record that nobody could process."""
    try:
        record = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    identities = record.get("identities") if isinstance(record, dict) else None
    if isinstance(identities, list):
        yield from (one for one in identities if isinstance(one, str))
