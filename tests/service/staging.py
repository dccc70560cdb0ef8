"""A stager's hands in a test: batches, sweeps and backfills on a real PostgreSQL, at the times it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from services.stager.backfill import Backfill
from services.stager.batch import read_batch
from services.stager.definitions import register
from services.stager.erasing import Erasing
from services.stager.filing import Filed
from services.stager.in_force import InForce
from services.stager.store import BatchStore, Claimed, Done
from services.stager.sweeper import Sweeper
from shared.codec import encode
from shared.eventlog.port import Record
from shared.failpoints import Failpoints
from shared.ids import uuid7
from shared.journey.fold import Journey
from shared.store.engine import Pool, connection_of, open_pool
from shared.touchpoint import Touchpoint
from tests.support.audit import differences
from tests.support.clock import ManualClock
from tests.support.eventually import eventually_async

_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


@dataclass
class Staging:
    """The stager of partition 0, on a store that has the journeys registered."""

    pool: Pool
    journeys: Sequence[Journey]
    in_force: InForce
    store: BatchStore
    stands: Claimed
    tells: bool

    async def commit(self, now: datetime, *touchpoints: Touchpoint) -> Done:
        """Stage touchpoints in one batch."""
        begin = self.stands.next_offset
        records = [Record(0, begin + number, encode(one)) for number, one in enumerate(touchpoints)]
        batch = read_batch(records)
        done = await self.store.commit(batch, {0: self.stands}, now)
        self.stands = Claimed(self.stands.epoch, batch.advances[0].next_offset, None)
        return done

    async def restart(self) -> None:
        """Go on as another process that remembers nothing."""
        self.store = batch_store(self.pool, self.in_force, tells=self.tells)
        self.stands = await self.store.claim(0, 0)

    async def settle(self, now: datetime) -> Sequence[Filed]:
        """Carry out all links that were withdrawn or taken back."""
        done = []
        while (filed := await self.store.settle(now)) is not None:
            done.append(filed)
        return done

    async def erase(self, now: datetime, rows: int = 3) -> int:
        """Carry out all erasures, so many rows at once; how many transactions that took."""
        erasing = self.erasing(now, rows)
        pages = 0
        while await erasing.page():
            pages += 1
        return pages

    async def erase_some(self, now: datetime, pages: int) -> None:
        """Carry out a part of the erasures that wait, a row a transaction."""
        erasing = self.erasing(now, 1)
        for _ in range(pages):
            await erasing.page()

    def erasing(self, now: datetime, rows: int) -> Erasing:
        """A process that carries out erasures, so many rows at once."""
        clock = ManualClock(now)
        return Erasing(self.pool, self.in_force, 4, clock, Failpoints(), tells=self.tells, rows=rows)

    async def sweep(self, now: datetime) -> None:
        """Let time run to `now`."""
        sweeper = Sweeper(self.pool, self.in_force, 1, ManualClock(now), tells=self.tells)
        while await sweeper.sweep():
            pass

    async def backfill(self, now: datetime) -> None:
        """Stage by every journey who was there before it."""
        await self.in_force.follow()
        backfill = Backfill(self.pool, self.in_force, 2, ManualClock(now), Failpoints())
        while await backfill.page():
            pass

    async def differences(self) -> list[str]:
        """What in the store isn't the fold of its timelines."""
        async with connection_of(self.pool) as connection:
            return await differences(connection, self.journeys)


@asynccontextmanager
async def staging(
    database_url: str,
    journeys: Sequence[Journey],
    registered_at: datetime,
    *,
    tells: bool = False,
) -> AsyncIterator[Staging]:
    """A stager on a store. With `tells` it fills the outbox."""
    pool = await open_pool(database_url, connections_max=4, service="test")
    try:
        async with connection_of(pool) as connection:
            await register(connection, [journey.definition for journey in journeys], registered_at)
        in_force = InForce(pool)
        store = batch_store(pool, in_force, tells=tells)
        yield Staging(pool, journeys, in_force, store, await store.claim(0, 0), tells)
    finally:
        await pool.close()


def batch_store(pool: Pool, in_force: InForce, *, tells: bool) -> BatchStore:
    """The hands of one more stager."""
    return BatchStore(
        pool,
        in_force,
        log_id="log",
        owner="test",
        shard=0,
        new_id=uuid7,
        failpoints=Failpoints(),
        tells=tells,
    )


async def await_waiting(pool: Pool, number: int = 1) -> None:
    """Wait until so many sessions of a database wait for a lock. Asked outside of any transaction: within one
    PostgreSQL always tells what it told first."""

    async def waiting() -> int:
        async with connection_of(pool) as connection:
            return int(await connection.fetchval(_WAITING))

    await eventually_async(waiting, until=lambda found: found == number)
