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
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from services.stager import sql
from services.stager.announce import erased, messages
from services.stager.changes import tell, write_changes
from services.stager.in_force import Folding, InForce
from services.stager.remaking import remake
from services.stager.sql import rows_of
from services.stager.unnaming import Unnaming
from services.stager.vocabulary import add_unknown_types
from shared.clock import Clock
from shared.errors import Contended, Permanent, Transient
from shared.failpoints import Failpoints
from shared.journey.state import NEVER
from shared.store.engine import Connection, Pool, connection_of
from shared.touchpoint_types import known_types

ROWS_AT_ONCE = 5_000
"""Removed, or looked through, by one transaction."""

_NEXT = """
SELECT id, named_by FROM erasures WHERE waits_since IS NOT NULL ORDER BY waits_since, id LIMIT 1
FOR UPDATE SKIP LOCKED
"""
_PUT_OFF = """
UPDATE erasures SET waits_since = $1 WHERE id = (
    SELECT id FROM erasures WHERE waits_since IS NOT NULL ORDER BY waits_since, id LIMIT 1
    FOR UPDATE SKIP LOCKED
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
_CARRIED_OUT = "UPDATE erasures SET waits_since = NULL, carried_out_at = $2 WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Page:
    """What a page did: so many touchpoints were removed in so many seconds; and whether the customer's
    erasure is carried out by it."""

    touchpoints: int
    seconds: float
    ended: bool = False


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
        self._unnaming = Unnaming()

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
            self._unnaming.begin_anew()
            raise
        except (Transient, Permanent):
            self._unnaming.begin_anew()
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
                or await self._unnaming.page(connection, id_, row["named_by"], self._rows)
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
