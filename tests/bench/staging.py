"""Prepared records through the batch transaction, as fast as they go: the stager without a log to read."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import psutil

from services.stager.app import SESSION
from services.stager.batch import read_batch
from services.stager.definitions import register
from services.stager.in_force import InForce
from services.stager.loop import LANES
from services.stager.store import BatchStore, Claimed
from shared.clock import Clock, SystemClock
from shared.codec import encode
from shared.errors import Contended
from shared.eventlog.port import Record, partition_of
from shared.failpoints import Failpoints
from shared.journey.catalog import load_definitions
from shared.lifecycle import COLLECT_AFTER_BATCHES, spare_the_collector
from shared.store.engine import Pool, connection_of, open_pool
from shared.store.ids import new_row_id
from shared.touchpoint import Touchpoint
from tests.bench import events
from tests.bench.measure import Measure
from tests.bench.processes import PARTITIONS, apart, cpu_s, peak_rss_mib
from tests.bench.rig import Store

BATCH_RECORDS = 4_000
MERGING = (0.0, 0.05, 0.3)
"""The shares of touchpoints that merge two customers."""
DATA_SETS: Mapping[str, Callable[[int, int, datetime], Iterable[Touchpoint]]] = {
    "purchases": events.purchases,
    "mixed": events.touchpoints,
    **{f"{share:.0%} merging": partial(events.merging, share) for share in MERGING},
}


def run(
    store: Store, data_set: str, touchpoints: int, customers: int, keys: Collection[str]
) -> Callable[[], Measure]:
    """What stages a data set in a process and a database of its own."""

    def run_once() -> Measure:
        with store.database() as url:
            arguments = (url, store.postgres.pid, data_set, touchpoints, customers, keys)
            measured: Measure = apart(staged, *arguments, core=None)
            return measured

    return run_once


async def staged(
    database_url: str,
    postgres_pid: int,
    data_set: str,
    touchpoints: int,
    customers: int,
    keys: Collection[str],
) -> Measure:
    """Stage a data set in the journeys of the keys, two batches at once as a stager does that is behind."""
    clock = SystemClock()
    found = DATA_SETS[data_set](touchpoints, customers, clock.now() - timedelta(days=730))
    lanes = list(_lanes(found))
    definitions = load_definitions(None, keys)
    pool = await open_pool(database_url, connections_max=LANES, service="bench", server_settings=SESSION)
    async with pool:
        async with connection_of(pool) as connection:
            await register(connection, definitions, clock.now())
        in_force = InForce(pool)
        store = store_on(pool, in_force)
        # To compile what is in force is a part of starting.
        await in_force.latest()
        spare_the_collector(COLLECT_AFTER_BATCHES)
        before = time.monotonic(), time.process_time(), _cpu_s(postgres_pid)
        async with asyncio.TaskGroup() as tasks:
            again = [
                tasks.create_task(_stage(store, batches, lane, clock)) for lane, batches in enumerate(lanes)
            ]
        wall_s, own_s, store_s = time.monotonic(), time.process_time(), _cpu_s(postgres_pid)
        taken_s = wall_s - before[0]
    return Measure(
        rate_s=touchpoints / taken_s,
        per_cpu_s=touchpoints / (own_s - before[1]),
        cpu_us=1e6 * (own_s - before[1]) / touchpoints,
        store_cpu_us=1e6 * (store_s - before[2]) / touchpoints,
        rss_mib=peak_rss_mib([psutil.Process().pid]),
        again=sum(one.result() for one in again) / sum(map(len, lanes)),
    )


def store_on(pool: Pool, in_force: InForce | None = None, *, tells: bool = False) -> BatchStore:
    """A stager's store without a log; with `tells` it fills the outbox."""
    return BatchStore(
        pool,
        in_force or InForce(pool),
        log_id="bench",
        owner="bench",
        shard=0,
        new_id=new_row_id,
        failpoints=Failpoints(),
        tells=tells,
    )


def _lanes(touchpoints: Iterable[Touchpoint]) -> Iterator[Sequence[Sequence[Record]]]:
    """The batches of each lane, which has partitions of its own."""
    offsets: dict[int, int] = defaultdict(int)
    lanes: list[list[Record]] = [[] for _ in range(LANES)]
    for one in touchpoints:
        partition = partition_of(one.identities[0].encode(), PARTITIONS)
        lanes[partition % LANES].append(Record(partition, offsets[partition], encode(one)))
        offsets[partition] += 1
    for records in lanes:
        yield [records[at : at + BATCH_RECORDS] for at in range(0, len(records), BATCH_RECORDS)]


async def _stage(store: BatchStore, batches: Sequence[Sequence[Record]], lane: int, clock: Clock) -> int:
    """Stage the batches of a lane. Returns how many had to be run again, with repetitions."""
    partitions = range(lane, PARTITIONS, LANES)
    held = {partition: await store.claim(partition, 0) for partition in partitions}
    again = 0
    for records in batches:
        batch = read_batch(records)
        while True:
            try:
                await store.commit(batch, held, clock.now(), lane)
            except Contended:
                again += 1
                await clock.sleep(random.uniform(0, 0.02))
                continue
            break
        for step in batch.advances:
            held[step.partition] = Claimed(held[step.partition].epoch, step.next_offset, None)
    return again


def _cpu_s(postgres_pid: int) -> float:
    """What all processes of a PostgreSQL have taken, those that have ended too."""
    server = psutil.Process(postgres_pid)
    return cpu_s([postgres_pid, *(child.pid for child in server.children())])
