"""The sweeper: applies what is due by time alone, exactly as the fold would have.

Several stagers sweep at once: each takes customers that no other transaction holds. A state that was written
a moment ago is left alone, because while history is being imported the next touchpoint is on its way and
would undo what time did.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from services.stager import sql
from services.stager.assign import Change, run_clock
from services.stager.changes import read_states, write_changes
from services.stager.in_force import InForce
from shared.clock import Clock
from shared.journey.fold import Journey
from shared.store.engine import Connection, Pool, connection_of

CUSTOMERS_MAX = 500
SETTLE = timedelta(seconds=2)


class Sweeper:
    """Applies due times of the journeys in force."""

    def __init__(self, pool: Pool, in_force: InForce, shard: int, clock: Clock) -> None:
        self._pool = pool
        self._in_force = in_force
        self._shard = shard
        self._clock = clock

    async def sweep(self) -> Sequence[Change]:
        """Apply what is due to some customers and say what changed; nothing changed: all is done for now.

        Raises:
            Transient: the store is away or busy; nothing was written, or all of it.
        """
        async with connection_of(self._pool) as connection:
            return await self._sweep(connection)

    async def _sweep(self, connection: Connection) -> Sequence[Change]:
        now = self._clock.now()
        journeys = self._in_force.now.journeys
        due = await self._due(connection, journeys)
        if not due:
            return []
        async with connection.transaction():
            rows = await connection.fetch(sql.LOCK_FREE_CUSTOMERS, due)
            states = await read_states(connection, [row["id"] for row in rows], journeys)
            changes = [
                run_clock(customer_id, journey, held, now) for (customer_id, journey), held in states.items()
            ]
            changes = [change for change in changes if change.added]
            await write_changes(connection, changes, self._shard, now)
        return changes

    async def _due(self, connection: Connection, journeys: Sequence[Journey]) -> list[UUID]:
        now = self._clock.now()
        keys = [journey.definition.key for journey in journeys]
        versions = [journey.definition.version for journey in journeys]
        rows = await connection.fetch(sql.DUE_CUSTOMERS, now, now - SETTLE, keys, versions, CUSTOMERS_MAX)
        return list({row["customer_id"] for row in rows})
