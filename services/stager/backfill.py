"""Staging by a new definition those customers who were there before it.

Live staging goes on meanwhile: it folds a customer's whole timeline the first time that it meets one without
a state, and this meets all others, a page of customers a transaction; and so with accounts. A process that
ends on the way leaves nothing behind that the next one couldn't go on from.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.stager import sql
from services.stager.assign import unheard
from services.stager.changes import refold, write_changes
from services.stager.runs import is_of_accounts
from services.stager.states import read_states
from shared.clock import Clock
from shared.journey.fold import Journey
from shared.store.engine import Connection, Pool, connection_of

CUSTOMERS_MAX = 200
_BEFORE_ALL = UUID(int=0)


class Backfill:
    """Brings journeys that are new to the store up to its timelines."""

    def __init__(self, pool: Pool, journeys: Sequence[Journey], shard: int, clock: Clock) -> None:
        self._pool = pool
        self.journeys = journeys
        self._shard = shard
        self._clock = clock

    async def pending(self) -> list[Journey]:
        """The journeys that not every customer has been staged by."""
        keys = [journey.definition.key for journey in self.journeys]
        versions = [journey.definition.version for journey in self.journeys]
        async with connection_of(self._pool) as connection:
            rows = await connection.fetch(sql.NOT_BACKFILLED, keys, versions)
        keys = [row["key"] for row in rows]
        return [journey for journey in self.journeys if journey.definition.key in keys]

    async def page(self, journey: Journey, after: UUID = _BEFORE_ALL) -> UUID | None:
        """Stage some customers, or accounts, in the order of their ids, and say up to which; None: that was
        all.

        Raises:
            Transient: the store is away or busy; the page can be run again.
        """
        key, version = journey.definition.key, journey.definition.version
        next_ones = sql.ACCOUNTS_AFTER if is_of_accounts(journey) else sql.CUSTOMERS_AFTER
        async with connection_of(self._pool) as connection, connection.transaction():
            rows = await connection.fetch(next_ones, after, CUSTOMERS_MAX)
            if not rows:
                await connection.execute(sql.BACKFILLED, key, version, self._clock.now())
                return None
            customer_ids: list[UUID] = [row["id"] for row in rows]
            await self._stage(connection, journey, customer_ids)
        return customer_ids[-1]

    async def _stage(self, connection: Connection, journey: Journey, customer_ids: Sequence[UUID]) -> None:
        now = self._clock.now()
        lock = sql.LOCK_ACCOUNTS if is_of_accounts(journey) else sql.LOCK_CUSTOMERS
        await connection.execute(lock, customer_ids)
        states = await read_states(connection, [(one, "") for one in customer_ids], now, whole=True)
        missing = [one for one in customer_ids if not states.has(one, journey)]
        # A state without a transition is written too: it may be half-way to one.
        refolded = await refold(connection, journey, {one: {} for one in missing})
        changes = [unheard(change, now) for change in refolded]
        await states.save(connection, changes, now)
        await write_changes(connection, changes, self._shard, now)
