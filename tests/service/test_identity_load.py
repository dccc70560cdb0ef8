"""Two stagers at once, on a load in which customers merge across partitions, and links between them are
withdrawn and taken back meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from services.stager.announce import with_id
from services.stager.batch import Batch, read_batch
from services.stager.definitions import register
from services.stager.filing import Filed
from services.stager.in_force import InForce
from services.stager.loop import LANES
from services.stager.store import COUNTER_SHARDS, BatchStore, Claimed
from services.stager.sweeper import Sweeper
from shared.codec import encode
from shared.errors import Contended
from shared.eventlog.port import Record, partition_of
from shared.failpoints import Failpoints
from shared.ids import uuid7
from shared.journey.fold import Journey
from shared.journey.language import parse
from shared.store.engine import Pool, connection_of, open_pool
from shared.store.withdrawals import take_back, withdraw
from shared.touchpoint import Touchpoint
from tests.service.test_stager_store import NOW, touchpoint
from tests.support.audit import differences
from tests.support.clock import ManualClock
from tests.support.crowd import DEADLOCKS, Names, crowd, drawn, who_is_who_wrongly
from tests.support.journeys import EVERYTHING, all_journeys
from tests.support.told import TRANSITIONS, Consumer, listen

PARTITIONS, STAGERS = 12, 2
PEOPLE, TOUCHPOINTS, BATCH = 150, 2_000, 60
TALKED_ABOUT, TOUCHPOINTS_MEANWHILE = 12, 600
_POLL_S = 0.02
_LINKS = "SELECT identity, other, withdrawn_at IS NOT NULL FROM identity_links ORDER BY 1, 2"
_OF_ACCOUNTS = EVERYTHING.replace("key: everything", "key: accounts") + "subject: account\n"
_OF_THINGS = EVERYTHING.replace("key: everything", "key: things") + "subject: {property: order_id}\n"
_JOURNEYS = [*all_journeys()[:2], *(Journey(parse(text, "j.yaml")) for text in (_OF_THINGS, _OF_ACCOUNTS))]
_TYPES = ("order_completed", "product_viewed", "offer_declined", "call_ended")


def load(people: Sequence[Names], touchpoints: int) -> Sequence[Touchpoint]:
    """Touchpoints of some people, many at other times than in their order; at the end everybody comes under
    all names at once."""
    chance = random.Random(1)
    seen: list[Names] = [drawn(names, chance) for names in chance.choices(people, k=touchpoints)]
    return [_touchpoint(str(number), names, chance) for number, names in enumerate([*seen, *people])]


def _touchpoint(id_: str, names: Names, chance: random.Random) -> Touchpoint:
    identities = [f"{kind}:{value}" for kind, value in names.items()]
    if chance.random() < 0.1:
        identities.append(f"account_id:{chance.randrange(4)}")
    body = b'{"order_id":"%d"}' % chance.randrange(3)
    return touchpoint(id_, *identities, day=chance.randrange(60), type_=chance.choice(_TYPES), body=body)


@dataclass
class Stager:
    """One stager: as many batches at once as it has lanes, its sweeper, and who settles links."""

    database_url: str
    number: int
    settled: list[Filed] = field(default_factory=list)

    @property
    def has_parted_and_united(self) -> bool:
        return any(one.parted for one in self.settled) and any(one.merged for one in self.settled)

    async def run(self, records: Mapping[int, Sequence[Record]]) -> None:
        """Stage the records, by partition; the sweeper ends with the last."""
        async with await self._pool(LANES + 1) as pool:
            in_force = InForce(pool)
            store = self._store(pool, in_force)
            clock = ManualClock(NOW + timedelta(seconds=10))
            sweeper = Sweeper(pool, in_force, COUNTER_SHARDS - 1 - self.number, clock, tells=True)
            async with asyncio.TaskGroup() as tasks:
                batches = [
                    tasks.create_task(
                        self._stage(store, {one: records[one] for one in [*records][lane::LANES]}, lane)
                    )
                    for lane in range(LANES)
                ]
                while not all(one.done() for one in batches):
                    await sweeper.sweep()
                    await asyncio.wait(batches, timeout=0.02)

    async def settle(self, over: asyncio.Event) -> None:
        """Settle links, until no more is said of any and none waits."""
        async with await self._pool(1) as pool:
            store = self._store(pool, InForce(pool))
            while True:
                is_over = over.is_set()
                try:
                    filed = await store.settle(NOW)
                except Contended:
                    continue
                if filed is not None:
                    self.settled.append(filed)
                elif is_over:
                    return
                else:
                    await asyncio.sleep(_POLL_S)

    async def _pool(self, connections_max: int) -> Pool:
        return await open_pool(self.database_url, connections_max=connections_max, service="test")

    def _store(self, pool: Pool, in_force: InForce) -> BatchStore:
        return BatchStore(
            pool,
            in_force,
            log_id="log",
            owner=f"stager-{self.number}",
            shard=self.number * LANES,
            new_id=uuid7,
            failpoints=Failpoints(),
            tells=True,
        )

    async def _stage(self, store: BatchStore, records: Mapping[int, Sequence[Record]], lane: int) -> None:
        held = {partition: await store.claim(partition, 0) for partition in records}
        share = BATCH // len(records)
        for begin in range(0, max(map(len, records.values())), share):
            batch = read_batch([one for all_ in records.values() for one in all_[begin : begin + share]])
            await self._commit(store, batch, held, lane)
            for step in batch.advances:
                held[step.partition] = Claimed(held[step.partition].epoch, step.next_offset, None)

    async def _commit(self, store: BatchStore, batch: Batch, held: Mapping[int, Claimed], lane: int) -> None:
        while True:
            try:
                await store.commit(batch, held, NOW, lane)
            except Contended:
                await asyncio.sleep(random.uniform(0, 0.02))
            else:
                return


async def talk(pool: Pool, staging: Collection[asyncio.Task[None]], settlers: Collection[Stager]) -> None:
    """Say of one link after another that it is withdrawn, or is taken back, until all is staged, and each
    stager has parted and united somebody."""
    chance = random.Random(2)
    while not all(one.done() for one in staging) or not all(one.has_parted_and_united for one in settlers):
        async with connection_of(pool) as connection:
            links = await connection.fetch(_LINKS)
            if links:
                identity, other, is_withdrawn = chance.choice(links)
                await (take_back if is_withdrawn else withdraw)(connection, identity, other, NOW)
        await asyncio.sleep(_POLL_S)


def dealt(sent: Sequence[Touchpoint]) -> Mapping[int, Sequence[Record]]:
    """The touchpoints as they lie in the log, by partition."""
    records: dict[int, list[Record]] = {partition: [] for partition in range(PARTITIONS)}
    for one in sent:
        partition = partition_of(one.identities[0].encode(), PARTITIONS)
        records[partition].append(Record(partition, len(records[partition]), encode(one)))
    return records


def of_stager(number: int, records: Mapping[int, Sequence[Record]]) -> Mapping[int, Sequence[Record]]:
    """The partitions that a stager has."""
    return {partition: records[partition] for partition in range(number, PARTITIONS, STAGERS)}


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A store that has the journeys."""
    async with await open_pool(database_url, connections_max=2, service="test") as pool:
        async with connection_of(pool) as connection:
            await register(connection, [journey.definition for journey in _JOURNEYS], NOW)
        yield pool


async def wrong(pool: Pool, sent: Sequence[Touchpoint]) -> tuple[list[str], Consumer]:
    """What is not as it has to be when everything is staged; and a consumer who has been told."""
    async with connection_of(pool) as connection:
        found = [*await who_is_who_wrongly(connection), *await differences(connection, _JOURNEYS)]
        if (stored := await connection.fetchval("SELECT count(*) FROM touchpoints")) != len(sent):
            found.append(f"{stored} touchpoints are stored, {len(sent)} were sent")
        outbox = await connection.fetch("SELECT id, value FROM outbox ORDER BY id")
        told = listen(with_id(row["value"], row["id"]) for row in outbox)
        found += told.differences([dict(row) for row in await connection.fetch(TRANSITIONS)])
        if deadlocks := await connection.fetchval(DEADLOCKS):
            found.append(f"{deadlocks} deadlocks")
    return found, told


async def test_customers_that_merge_across_partitions_and_stagers(database_url: str, pool: Pool) -> None:
    """Whoever comes under several names in several partitions is one customer at the end, with every
    touchpoint once; what is folded, counted and told is right, and no two batches wait for one another in a
    circle."""
    sent = load(crowd(PEOPLE), TOUCHPOINTS)
    records = dealt(sent)
    async with asyncio.TaskGroup() as tasks:
        for number in range(STAGERS):
            tasks.create_task(Stager(database_url, number).run(of_stager(number, records)))

    found, told = await wrong(pool, sent)
    assert found == []
    assert len(told.merged) >= PEOPLE / 3
    async with connection_of(pool) as connection:
        assert await connection.fetchval("SELECT count(*) FROM customers") == PEOPLE


async def test_links_that_are_withdrawn_while_their_customers_merge(database_url: str, pool: Pool) -> None:
    """Both stagers part and unite the very customers that their batches link, file touchpoints of, and
    sweep: at the end customers are what the links that stand hold together, with every touchpoint once; what
    is folded, counted and told is right; and nobody waits for another in a circle."""
    sent = load(crowd(3 * TALKED_ABOUT)[::3], TOUCHPOINTS_MEANWHILE)
    records = dealt(sent)
    stagers = [Stager(database_url, number) for number in range(STAGERS)]
    over = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        staging = [tasks.create_task(one.run(of_stager(one.number, records))) for one in stagers]
        for one in stagers:
            tasks.create_task(one.settle(over))
        await talk(pool, staging, stagers)
        over.set()

    found, _ = await wrong(pool, sent)
    assert found == []
