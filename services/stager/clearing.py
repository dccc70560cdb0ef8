"""Removing what nobody reads of versions that were retired: their states, checkpoints and counts.

Transitions and flows stay, so a history keeps its two times, and a version that is asked for again goes on
behind it: it is backfilled like a new one. Until then there is a while in which its states are still there, a
state or none for each customer, whatever page this is at; the counts are those of the states at any moment.

A page locks the version, so nobody can ask for it meanwhile, and then the customers and accounts whose rows
it rewrites, as each writer does. How far it is stands in the store, as of a backfill.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from services.stager import sql
from services.stager.backfill import Page
from services.stager.states import read_states
from shared.clock import Clock
from shared.errors import Transient
from shared.journey.state import mark_of
from shared.store.definitions import Version, cleared, next_retired, reach
from shared.store.engine import Connection, Pool, connection_of
from shared.store.pages import CUSTOMERS_AT_FIRST, PageSize

# By the rows: the definition, which says whether accounts have its runs, may be one that no fold reads today.
_NEXT = """
SELECT customer_id, bool_or(position($3::bytea IN states) > 0) AS is_marked FROM journey_states
WHERE customer_id IN (
    SELECT customer_id FROM journey_states WHERE customer_id > $1 ORDER BY customer_id LIMIT $2
)
GROUP BY customer_id ORDER BY customer_id
"""
_DROP_CHECKPOINTS = """
DELETE FROM checkpoints WHERE customer_id = ANY($1::uuid[]) AND journey_key = $2 AND version = $3
"""
_DROP_COUNTS = "DELETE FROM stage_counts WHERE journey_key = $1 AND version = $2"


class Clearing:
    """Clears versions that have been retired for as long as their states are to be kept."""

    def __init__(
        self,
        pool: Pool,
        keep: timedelta,
        shard: int,
        clock: Clock,
        customers: int = CUSTOMERS_AT_FIRST,
    ) -> None:
        self._pool = pool
        self._keep = keep
        self._shard = shard
        self._clock = clock
        self._size = PageSize(customers)

    async def page(self) -> Page | None:
        """Clear the next customers and accounts of a version; None: nothing is left of those retired long
        enough ago, or another stager is at it.

        Raises:
            Transient: the store is away or busy, or the page too large; it can be run again.
        """
        try:
            return await self._page()
        except Transient:
            self._size.failed()
            raise

    async def _page(self) -> Page | None:
        began_s, now = self._clock.monotonic_s(), self._clock.now()
        async with connection_of(self._pool) as connection, connection.transaction():
            retired = await next_retired(connection, now - self._keep)
            if retired is None:
                return None
            mark = mark_of(retired.key, retired.version)
            rows = await connection.fetch(_NEXT, retired.reached, self._size.customers, mark)
            owner_ids = [row["customer_id"] for row in rows if row["is_marked"]]
            if rows:
                await self._clear(connection, retired, owner_ids)
                await reach(connection, retired, rows[-1]["customer_id"], 0)
            else:
                # Of all shards together they are nothing by now.
                await connection.execute(_DROP_COUNTS, retired.key, retired.version)
                await cleared(connection, retired, now)
        seconds = self._clock.monotonic_s() - began_s
        self._size.took(len(rows), seconds)
        return Page(retired, len(owner_ids), seconds, not rows)

    async def _clear(self, connection: Connection, retired: Version, owner_ids: Sequence[UUID]) -> None:
        if not owner_ids:
            return
        version = retired.key, retired.version
        for lock in (sql.LOCK_ALL_CUSTOMERS, sql.LOCK_ACCOUNTS):
            await connection.execute(lock, owner_ids)
        subjects = [(one, "") for one in owner_ids]
        states = await read_states(connection, subjects, self._clock.now(), whole=True)
        places = await states.drop(connection, version)
        counts = [(*version, place, paused, -number) for (place, paused), number in places.items() if place]
        if counts:
            await connection.execute(sql.ADD_COUNTS, *sql.columns(sorted(counts)), self._shard)
        await connection.execute(_DROP_CHECKPOINTS, owner_ids, *version)
