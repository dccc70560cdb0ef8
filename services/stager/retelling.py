"""Telling anew what touchpoints of before are about: those of members of accounts, in a store from when a
touchpoint was about the accounts that it named and no others.

A migration has marked these customers, since it can't fold. Whoever of them is met by a batch is told anew in
it; all others are here, a page a transaction. So each customer's touchpoints are about whom the old rule says
until then, and by the new one from then on; and when all are done, nothing is left to do for ever.
"""

from __future__ import annotations

from uuid import UUID

from services.stager import accounts_sql
from services.stager.accounts import tell_anew
from services.stager.announce import messages
from services.stager.changes import tell, write_changes
from services.stager.in_force import InForce
from services.stager.remaking import remake
from shared.clock import Clock
from shared.errors import Transient
from shared.store.engine import Pool, connection_of
from shared.store.pages import PageSize


class Retelling:
    """Brings members of before up to the rule; with `tells`, what consumers are told of it goes into the
    outbox."""

    def __init__(
        self, pool: Pool, in_force: InForce, shard: int, clock: Clock, *, tells: bool = False
    ) -> None:
        self._pool = pool
        self._in_force = in_force
        self._shard = shard
        self._clock = clock
        self._tells = tells
        self._size = PageSize()

    async def page(self) -> float | None:
        """Tell the next customers anew. Returns how many seconds that took; None: there are none left.

        Raises:
            Transient: the store is away or busy, or the page too large; it can be run again.
            Contended: other journeys are in force; it can be run again at once.
            ConfigError: this version of Rejse can't fold what is active.
        """
        try:
            return await self._page()
        except Transient:
            self._size.failed()
            raise

    async def _page(self) -> float | None:
        began_s = self._clock.monotonic_s()
        now = self._clock.now()
        folding = await self._in_force.latest()
        async with connection_of(self._pool) as connection, connection.transaction():
            await self._in_force.hold(connection, folding)
            rows = await connection.fetch(accounts_sql.LOCK_OUTDATED, self._size.customers)
            customers: dict[UUID, UUID] = {row["id"]: row["touchpoint_id"] for row in rows}
            if not customers:
                return None
            accounts = await tell_anew(connection, customers, now)
            changes = await remake(connection, {}, {}, accounts, folding, now)
            await write_changes(connection, changes, self._shard, now)
            if self._tells:
                await tell(connection, messages(folding.of_active(changes), now))
        seconds = self._clock.monotonic_s() - began_s
        self._size.took(len(customers), seconds)
        return seconds
