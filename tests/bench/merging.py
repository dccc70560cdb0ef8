"""Customers that merge: what it costs the stager, and what a large merge does to the freshness of others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from services.stager.app import SESSION
from services.stager.batch import read_batch
from services.stager.definitions import register
from services.stager.loop import LANES
from services.stager.store import BatchStore, Claimed
from shared.clock import SystemClock
from shared.codec import encode
from shared.eventlog.port import Record
from shared.journey.catalog import BUILT_IN_AND_ACTIVE, all_definitions, load_definitions
from shared.lifecycle import COLLECT_AFTER_BATCHES, spare_the_collector
from shared.store.engine import connection_of, open_pool
from shared.touchpoint import Touchpoint
from tests.bench import events, staging
from tests.bench.load import percentile_ms
from tests.bench.measure import Measure, interleaved, middle
from tests.bench.processes import apart
from tests.bench.rig import Store, postgres
from tests.bench.table import Section, Target

TOUCHPOINTS, CUSTOMERS = 40_000, 6_700
LARGE = 50_000
ALONE = 300
REPEATS = 3
KEYS = sorted(BUILT_IN_AND_ACTIVE)
MERGE, OTHERS, BESIDE = "the merge", "a batch of another's, alone", "a batch of another's, beside the merge"
_NAMES = (events.identity_of(0), "anonymous_id:large")


def measure(home: Path) -> Sequence[Section]:
    """The batch transaction on a PostgreSQL, in turns; then two customers with long timelines that become
    one, while the other lane goes on."""
    with postgres(core=None) as store:
        runs = {
            name: staging.run(store, name, TOUCHPOINTS, CUSTOMERS, KEYS)
            for name in map(_named, staging.MERGING)
        }
        rows = interleaved(runs, REPEATS)
        large = [
            _large_section(f"in {what}", [_in_store(store, keys) for _ in range(REPEATS)])
            for what, keys in (("one journey", KEYS), ("all built-in journeys", _all_keys()))
        ]
    return [_shares_section(rows), *large]


def _in_store(store: Store, keys: Collection[str]) -> Mapping[str, Measure]:
    with store.database() as url:
        found: Mapping[str, Measure] = apart(large_merge, url, keys, core=None)
        return found


def _all_keys() -> Sequence[str]:
    return [definition.key for definition, _ in all_definitions(None)]


def _named(share: float) -> str:
    return f"{share:.0%} merging"


async def large_merge(database_url: str, keys: Collection[str]) -> Mapping[str, Measure]:
    """Fill two timelines, and merge them in one lane while the other one commits a batch of somebody else's
    touchpoint after another."""
    clock = SystemClock()
    found = events.touchpoints(2 * LARGE + 2, 1, clock.now() - timedelta(days=300))
    timelines = [
        replace(one, identities=(_NAMES[number % 2],)) for number, one in enumerate(islice(found, 2 * LARGE))
    ]
    meeting = replace(next(found), identities=_NAMES)
    others = events.touchpoints(100_000, 5_000, clock.now() - timedelta(days=1))
    pool = await open_pool(database_url, connections_max=LANES, service="bench", server_settings=SESSION)
    async with pool:
        async with connection_of(pool) as connection:
            await register(connection, load_definitions(None, keys), clock.now())
        store = staging.store_on(pool)
        lanes = [_Lane(store, lane, await store.claim(lane, 0)) for lane in range(LANES)]
        for begin in range(0, len(timelines), staging.BATCH_RECORDS):
            await lanes[0].commit(timelines[begin : begin + staging.BATCH_RECORDS])
        someone = (replace(one, id=f"o{one.id}") for one in others if one.identities[0] != _NAMES[0])
        alone_s = [await lanes[1].commit([next(someone)]) for _ in range(ALONE)]
        beside_s = []
        spare_the_collector(COLLECT_AFTER_BATCHES)
        async with asyncio.TaskGroup() as tasks:
            merge = tasks.create_task(lanes[0].commit([meeting]))
            while not merge.done():
                beside_s.append(await lanes[1].commit([next(someone)]))
        async with connection_of(pool) as connection:
            longest = "SELECT count(*) FROM touchpoints GROUP BY customer_id ORDER BY 1 DESC LIMIT 1"
            if await connection.fetchval(longest) != len(timelines) + 1:
                raise ValueError("the two timelines are not one")
    return {
        MERGE: Measure(seconds=merge.result()),
        OTHERS: _latencies(alone_s),
        BESIDE: _latencies(beside_s),
    }


@dataclass
class _Lane:
    """One of a stager's lanes, with a partition of its own."""

    store: BatchStore
    partition: int
    stands: Claimed

    async def commit(self, touchpoints: Sequence[Touchpoint]) -> float:
        """Stage touchpoints in one batch; the seconds that it takes."""
        begin = self.stands.next_offset
        batch = read_batch(
            [Record(self.partition, begin + number, encode(one)) for number, one in enumerate(touchpoints)]
        )
        began_s = time.monotonic()
        await self.store.commit(batch, {self.partition: self.stands}, SystemClock().now(), self.partition)
        self.stands = Claimed(self.stands.epoch, batch.advances[0].next_offset, None)
        return time.monotonic() - began_s


def _latencies(seconds: Sequence[float]) -> Measure:
    ordered = sorted(seconds)
    return Measure(
        p50_ms=percentile_ms(ordered, 0.50), p99_ms=percentile_ms(ordered, 0.99), seconds=ordered[-1]
    )


def _shares_section(rows: Mapping[str, Measure]) -> Section:
    return Section(
        "Stager, customers that merge",
        rows,
        _named(0.0),
        unit="touchpoints",
        notes=(
            f"{TOUCHPOINTS:,} touchpoints of {CUSTOMERS:,} customers in batches of "
            f"{staging.BATCH_RECORDS:,}, two at once, without a log, in `purchase-lifecycle`. As many "
            "touchpoints as merge two customers begin one that is new. *run again*: because another batch "
            "altered who is who. Nothing is pinned.",
        ),
    )


def _large_section(what: str, rounds: Sequence[Mapping[str, Measure]]) -> Section:
    rows = {name: middle([one[name] for one in rounds]) for name in rounds[0]}
    return Section(
        f"Two customers of {LARGE:,} touchpoints each become one, {what}",
        rows,
        notes=(
            f"{ALONE} batches of one touchpoint of somebody else's, one after the other in the other lane, "
            "before the merge and for as long as it takes; their *seconds* are the longest. What shares a "
            "batch or its partitions with the merge waits for all of it.",
        ),
        targets=(
            Target(f"a merge of two long timelines {what}, seconds", rows[MERGE].seconds, 5, "at most"),
            Target(f"a batch of another's beside it {what}, p99 ms", rows[BESIDE].p99_ms, 150, "at most"),
        ),
    )
