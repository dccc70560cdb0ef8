"""Staging everybody of before by a version that is to take over, and letting it take over.

Live staging folds by the version from the moment on at which it was wanted. This meets all customers,
or accounts, of before, in the order of their ids, a page a transaction; how far it is stands in the store.
So a process that ends on the way leaves nothing behind that the next one couldn't go on from. Of several
stagers one is at a version at a time: its row is locked. Behind the last page the version takes over, in a
transaction too.

A page holds the locks of its customers, and the process has one processor for both: so pages are as large as
takes a fixed short time, and between two of them live staging has as much time for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from services.stager import sql
from services.stager.assign import unheard
from services.stager.changes import refold, write_changes
from services.stager.in_force import InForce
from services.stager.runs import is_of_accounts
from services.stager.states import read_states
from shared.clock import Clock
from shared.errors import Contended, Transient
from shared.failpoints import Failpoints
from shared.journey.fold import Journey
from shared.store.definitions import Version, count_customers, next_wanted, reach, take_over
from shared.store.engine import Connection, Pool, connection_of
from shared.store.pages import CUSTOMERS_AT_FIRST, PageSize, owners_of


@dataclass(frozen=True, slots=True)
class Page:
    """What a page did: so many customers, or accounts, of a version in so many seconds; and whether all are
    done: the version has taken over, or is cleared."""

    version: Version
    customers: int
    seconds: float
    ended: bool = False


class Backfill:
    """Brings versions that are wanted up to the store's timelines."""

    def __init__(
        self,
        pool: Pool,
        in_force: InForce,
        shard: int,
        clock: Clock,
        failpoints: Failpoints,
        customers: int = CUSTOMERS_AT_FIRST,
    ) -> None:
        self._pool = pool
        self._in_force = in_force
        self._shard = shard
        self._clock = clock
        self._failpoints = failpoints
        self._size = PageSize(customers)

    async def page(self) -> Page | None:
        """Stage the next customers by a wanted version, or let it take over if there are none; None: nothing
        is wanted that no other stager is at.

        Raises:
            Transient: the store is away or busy, or the page too large; it can be run again.
            Contended: the version is new; the page can be run again at once.
            ConfigError: this version of Rejse can't fold the version.
        """
        try:
            return await self._page()
        except Transient:
            # It may have taken longer than a statement may: the next one is smaller.
            self._size.failed()
            raise

    async def _page(self) -> Page | None:
        began_s = self._clock.monotonic_s()
        folding = await self._in_force.latest()
        async with connection_of(self._pool) as connection, connection.transaction():
            wanted = await next_wanted(connection)
            if wanted is None:
                return None
            journey = folding.journey(wanted)
            if journey is None:
                self._in_force.outdate()
                raise Contended("other journeys are in force")
            owners = owners_of(journey.definition)
            if wanted.total is None:
                await count_customers(connection, wanted, owners)
            rows = await connection.fetch(owners.after, wanted.reached, self._size.customers)
            customer_ids: list[UUID] = [row["id"] for row in rows]
            if customer_ids:
                await self._stage(connection, wanted, journey, customer_ids)
                await reach(connection, wanted, customer_ids[-1], len(customer_ids))
            else:
                await take_over(connection, wanted.key, wanted.version, self._clock.now())
            self._failpoints.reach("stager.page")
        seconds = self._clock.monotonic_s() - began_s
        self._size.took(len(customer_ids), seconds)
        return Page(wanted, len(customer_ids), seconds, not customer_ids)

    async def _stage(
        self, connection: Connection, wanted: Version, journey: Journey, customer_ids: Sequence[UUID]
    ) -> None:
        now = self._clock.now()
        lock = sql.LOCK_ACCOUNTS if is_of_accounts(journey) else sql.LOCK_ALL_CUSTOMERS
        if await connection.fetchval(lock, customer_ids) != len(customer_ids):
            raise Contended("a customer was merged or erased by another transaction")
        states = await read_states(connection, [(one, "") for one in customer_ids], now, whole=True)
        # Whom live staging has met has all runs up to date, unless they may be of an earlier time in force.
        fresh = not wanted.has_old_states
        unknown = {
            one: states.runs(one, journey) for one in customer_ids if not (fresh and states.has(one, journey))
        }
        # A state without a transition is written too: it may be half-way to one.
        refolded = await refold(connection, journey, unknown, whole=True)
        changes = [unheard(change, now) for change in refolded]
        await states.save(connection, changes, now)
        await write_changes(connection, changes, self._shard, now)
