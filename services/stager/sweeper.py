"""The sweeper: applies what is due by time alone, exactly as the fold would have.

Several stagers sweep at once: each takes runs of customers and accounts that no other transaction holds. A
state that was written a moment ago is left alone, because while history is being imported the next touchpoint
is on its way and would undo what time did.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.stager import sql
from services.stager.assign import Change, run_clock
from services.stager.changes import read_runs, write_changes
from services.stager.runs import Run, is_of_accounts
from shared.clock import Clock
from shared.journey.fold import Journey
from shared.store.engine import Connection, Pool, connection_of

RUNS_MAX = 500
SETTLE = timedelta(seconds=2)


class Sweeper:
    """Applies due times of the active journeys."""

    def __init__(self, pool: Pool, journeys: Sequence[Journey], shard: int, clock: Clock) -> None:
        self._pool = pool
        self._journeys = journeys
        self._by_key = {journey.definition.key: journey for journey in journeys}
        self._shard = shard
        self._clock = clock

    async def sweep(self) -> Sequence[Change]:
        """Apply what is due to some runs and say what changed; nothing changed: all is done for now.

        Raises:
            Transient: the store is away or busy; nothing was written, or all of it.
        """
        async with connection_of(self._pool) as connection:
            return await self._sweep(connection)

    async def _sweep(self, connection: Connection) -> Sequence[Change]:
        now = self._clock.now()
        due = await self._due(connection)
        if not due:
            return []
        async with connection.transaction():
            states = await read_runs(connection, await self._locked(connection, due))
            changes = [
                run_clock(owner_id, self._by_key[key], held, now, run)
                for (owner_id, key, run), held in states.items()
            ]
            changes = [change for change in changes if change.added]
            await write_changes(connection, changes, self._shard, now)
        return changes

    async def _locked(self, connection: Connection, due: Sequence[Run]) -> list[Run]:
        """Those whose customer or account could be locked."""
        free = set()
        for query, of_accounts in ((sql.LOCK_FREE_CUSTOMERS, False), (sql.LOCK_FREE_ACCOUNTS, True)):
            ids = {one for one, journey, _ in due if is_of_accounts(journey) == of_accounts}
            if ids:
                free |= {row["id"] for row in await connection.fetch(query, list(ids))}
        return [run for run in due if run[0] in free]

    async def _due(self, connection: Connection) -> list[Run]:
        now = self._clock.now()
        keys = [journey.definition.key for journey in self._journeys]
        versions = [journey.definition.version for journey in self._journeys]
        rows = await connection.fetch(sql.DUE_RUNS, now, now - SETTLE, keys, versions, RUNS_MAX)
        return [(row["customer_id"], self._by_key[row["journey_key"]], row["run"]) for row in rows]
