"""Two stagers at once, on a load in which a third of the customers merge across partitions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from services.stager.announce import with_id
from services.stager.batch import Batch, read_batch
from services.stager.definitions import register
from services.stager.in_force import InForce
from services.stager.loop import CONTENDED_TRIES_MAX, LANES
from services.stager.store import COUNTER_SHARDS, BatchStore, Claimed
from services.stager.sweeper import Sweeper
from shared.codec import encode
from shared.errors import Contended
from shared.eventlog.port import Record, partition_of
from shared.failpoints import Failpoints
from shared.ids import uuid7
from shared.journey.fold import Journey
from shared.journey.language import parse
from shared.store.engine import connection_of, open_pool
from shared.touchpoint import Touchpoint
from tests.service.test_stager_store import NOW, touchpoint
from tests.support.audit import differences
from tests.support.clock import ManualClock
from tests.support.crowd import DEADLOCKS, Names, crowd, drawn, who_is_who_wrongly
from tests.support.journeys import EVERYTHING, all_journeys
from tests.support.told import TRANSITIONS, listen

PARTITIONS, STAGERS = 12, 2
PEOPLE, TOUCHPOINTS, BATCH = 150, 2_000, 60
_OF_ACCOUNTS = EVERYTHING.replace("key: everything", "key: accounts") + "subject: account\n"
_OF_THINGS = EVERYTHING.replace("key: everything", "key: things") + "subject: {property: order_id}\n"
_JOURNEYS = [*all_journeys()[:2], *(Journey(parse(text, "j.yaml")) for text in (_OF_THINGS, _OF_ACCOUNTS))]
_TYPES = ("order_completed", "product_viewed", "offer_declined", "call_ended")


def load() -> Sequence[Touchpoint]:
    """Touchpoints of a crowd, many at other times than in their order; at the end everybody comes under all
    names at once."""
    chance = random.Random(1)
    people = crowd(PEOPLE)
    seen: list[Names] = [drawn(names, chance) for names in chance.choices(people, k=TOUCHPOINTS)]
    return [_touchpoint(str(number), names, chance) for number, names in enumerate([*seen, *people])]


def _touchpoint(id_: str, names: Names, chance: random.Random) -> Touchpoint:
    identities = [f"{kind}:{value}" for kind, value in names.items()]
    if chance.random() < 0.1:
        identities.append(f"account_id:{chance.randrange(4)}")
    body = b'{"order_id":"%d"}' % chance.randrange(3)
    return touchpoint(id_, *identities, day=chance.randrange(60), type_=chance.choice(_TYPES), body=body)


@dataclass
class Stager:
    """One stager: as many batches at once as it has lanes, and its sweeper."""

    database_url: str
    number: int

    async def run(self, records: Mapping[int, Sequence[Record]]) -> None:
        """Stage the records, by partition; the sweeper ends with the last."""
        pool = await open_pool(self.database_url, connections_max=LANES + 1, service="test")
        async with pool:
            in_force = InForce(pool)
            store = BatchStore(
                pool,
                in_force,
                log_id="log",
                owner=f"stager-{self.number}",
                shard=self.number * LANES,
                new_id=uuid7,
                failpoints=Failpoints(),
                tells=True,
            )
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

    async def _stage(self, store: BatchStore, records: Mapping[int, Sequence[Record]], lane: int) -> None:
        held = {partition: await store.claim(partition, 0) for partition in records}
        share = BATCH // len(records)
        for begin in range(0, max(map(len, records.values())), share):
            batch = read_batch([one for all_ in records.values() for one in all_[begin : begin + share]])
            await self._commit(store, batch, held, lane)
            for step in batch.advances:
                held[step.partition] = Claimed(held[step.partition].epoch, step.next_offset, None)

    async def _commit(self, store: BatchStore, batch: Batch, held: Mapping[int, Claimed], lane: int) -> None:
        for _ in range(CONTENDED_TRIES_MAX):
            try:
                await store.commit(batch, held, NOW, lane)
                return
            except Contended:
                await asyncio.sleep(random.uniform(0, 0.02))
        raise AssertionError("a batch met other transactions too often")


async def test_customers_that_merge_across_partitions_and_stagers(database_url: str) -> None:
    """Whoever comes under several names in several partitions is one customer at the end, with every
    touchpoint once; what is folded, counted and told is right, and no two batches wait for one another in a
    circle."""
    sent = load()
    records: dict[int, list[Record]] = {partition: [] for partition in range(PARTITIONS)}
    for one in sent:
        partition = partition_of(one.identities[0].encode(), PARTITIONS)
        records[partition].append(Record(partition, len(records[partition]), encode(one)))
    async with await open_pool(database_url, connections_max=2, service="test") as pool:
        async with connection_of(pool) as connection:
            await register(connection, [journey.definition for journey in _JOURNEYS], NOW)
        async with asyncio.TaskGroup() as tasks:
            for number in range(STAGERS):
                ours = range(number, PARTITIONS, STAGERS)
                stager = Stager(database_url, number)
                tasks.create_task(stager.run({partition: records[partition] for partition in ours}))

        async with connection_of(pool) as connection:
            assert await connection.fetchval("SELECT count(*) FROM touchpoints") == len(sent)
            assert await connection.fetchval("SELECT count(*) FROM customers") == PEOPLE
            assert await who_is_who_wrongly(connection) == []
            assert await differences(connection, _JOURNEYS) == []
            outbox = await connection.fetch("SELECT id, value FROM outbox ORDER BY id")
            told = listen(with_id(row["value"], row["id"]) for row in outbox)
            assert told.differences([dict(row) for row in await connection.fetch(TRANSITIONS)]) == []
            assert await connection.fetchval(DEADLOCKS) == 0
    assert len(told.merged) >= PEOPLE / 3
