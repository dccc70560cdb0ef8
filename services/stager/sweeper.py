"""The sweeper: applies what is due by time alone, exactly as the fold would have.

Several stagers sweep at once: each takes runs of customers and accounts that no other transaction holds. A
state that was written a moment ago is left alone, because while history is being imported the next touchpoint
is on its way and would undo what time did.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.stager import sql
from services.stager.announce import messages
from services.stager.assign import Change, run_clock
from services.stager.changes import tell, write_changes
from services.stager.in_force import Folding, InForce
from services.stager.runs import Subject
from services.stager.states import read_states
from shared.clock import Clock
from shared.errors import Contended
from shared.store.engine import Connection, Pool, connection_of

SUBJECTS_MAX = 500
SETTLE = timedelta(seconds=2)


class Sweeper:
    """Applies due times of the journeys in force; with `tells`, what consumers are told of it goes into the
    outbox."""

    def __init__(
        self, pool: Pool, in_force: InForce, shard: int, clock: Clock, *, tells: bool = False
    ) -> None:
        self._pool = pool
        self._in_force = in_force
        self._shard = shard
        self._clock = clock
        self._tells = tells

    async def sweep(self) -> Sequence[Change]:
        """Apply what is due to some runs and say what changed; nothing changed: all is done for now.

        Raises:
            Transient: the store is away or busy; nothing was written, or all of it.
            ConfigError: this version of Rejse can't fold what is active.
        """
        while True:
            try:
                return await self._sweep_by(await self._in_force.latest())
            except Contended:
                continue

    async def _sweep_by(self, folding: Folding) -> Sequence[Change]:
        async with connection_of(self._pool) as connection:
            while due := await self._due(connection):
                async with connection.transaction():
                    # What others fold by now would be put off as a state of a journey that nobody knows.
                    await self._in_force.hold(connection, folding)
                    free = await self._locked(connection, due)
                    changes = await self._sweep(connection, free, folding)
                if changes or not free:
                    return changes
        return []

    async def _sweep(
        self, connection: Connection, subjects: Sequence[Subject], folding: Folding
    ) -> Sequence[Change]:
        now = self._clock.now()
        states = await read_states(connection, subjects, now, whole=False)
        changes = [
            run_clock(owner_id, journey, held, now, run)
            for (owner_id, run), journey, held in states.due(folding.journeys, now)
        ]
        changes = [change for change in changes if change.added]
        await states.save_swept(connection, changes, folding.journeys, now)
        await write_changes(connection, changes, self._shard, now)
        if self._tells:
            await tell(connection, messages(folding.of_active(changes), now))
        return changes

    async def _locked(self, connection: Connection, due: Sequence[Subject]) -> list[Subject]:
        """Those whose customer or account could be locked."""
        ids = list({owner_id for owner_id, _ in due})
        free = set()
        for query in (sql.LOCK_FREE_CUSTOMERS, sql.LOCK_FREE_ACCOUNTS):
            free |= {row["id"] for row in await connection.fetch(query, ids)}
        return [subject for subject in due if subject[0] in free]

    async def _due(self, connection: Connection) -> list[Subject]:
        now = self._clock.now()
        rows = await connection.fetch(sql.DUE, now, now - SETTLE, SUBJECTS_MAX)
        return [(row["customer_id"], row["run"]) for row in rows]
