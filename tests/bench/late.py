"""A touchpoint that comes late, for a customer with a long timeline, with all built-in journeys active."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Raw

from services.stager.app import SESSION
from services.stager.batch import read_batch
from services.stager.definitions import register
from services.stager.store import BatchStore, Claimed, Done
from shared.clock import SystemClock
from shared.codec import encode
from shared.eventlog.port import Record
from shared.journey.catalog import all_definitions
from shared.lifecycle import COLLECT_AFTER_BATCHES, spare_the_collector
from shared.store.engine import connection_of, open_pool
from shared.touchpoint import Touchpoint
from tests.bench import events
from tests.bench.measure import Measure
from tests.bench.processes import apart
from tests.bench.rig import postgres
from tests.bench.staging import BATCH_RECORDS, store_on
from tests.bench.table import Section, Target

TOUCHPOINTS = 100_000
STEP = timedelta(minutes=10)
"""From one touchpoint to the next: the timeline is of two years."""
PLACES = {"near the end": 0.999, "in the middle": 0.5, "at the beginning": 0.0}
KINDS = {"a page": "page_viewed", "an order": "order_completed", "a car's service": "service_booked"}
REPEATS = 3
TARGET_MS = 1_000
_BEAT_S = 0.005


@dataclass(frozen=True, slots=True)
class Late:
    """What late touchpoints of a kind at a place took, each, and what they changed."""

    wall_ms: float
    cpu_ms: float
    stall_ms: float
    superseded: float


def measure(home: Path) -> Sequence[Section]:
    """Each kind at each place, some times over, one batch each."""
    del home
    with postgres(core=None) as store, store.database() as url:
        found: Mapping[str, Late] = apart(staged_late, url, core=None)
    rows = {
        f"{name}, {late.superseded:,.0f} transitions superseded": Measure(
            p50_ms=late.wall_ms, cpu_us=late.cpu_ms * 1_000
        )
        for name, late in found.items()
    }
    return [
        Section(
            "A late touchpoint",
            rows,
            notes=(
                f"A customer with {TOUCHPOINTS:,} touchpoints in two years, all built-in journeys; one late "
                f"touchpoint a batch, the median of {REPEATS}, from the begin of the batch to its commit.",
                "The CPU is the stager's; what else it had to do waited "
                f"{max(late.stall_ms for late in found.values()):.0f} ms at most. Nothing is pinned.",
            ),
            targets=[
                Target(f"a late touchpoint, ms: {name}", late.wall_ms, TARGET_MS, "at most")
                for name, late in found.items()
            ],
        )
    ]


async def staged_late(database_url: str) -> Mapping[str, Late]:
    """Stage the long timeline, then what comes late."""
    clock = SystemClock()
    begin = clock.now() - TOUCHPOINTS * STEP
    pool = await open_pool(database_url, connections_max=2, service="bench", server_settings=SESSION)
    async with pool:
        async with connection_of(pool) as connection:
            await register(connection, [one for one, _ in all_definitions(None)], clock.now())
        store = store_on(pool, tells=True)
        stager = _Stager(store, await store.claim(0, 0))
        timeline = list(_timeline(begin))
        for first in range(0, TOUCHPOINTS, BATCH_RECORDS):
            await stager.commit(timeline[first : first + BATCH_RECORDS])
        spare_the_collector(COLLECT_AFTER_BATCHES)
        numbers = count(1)
        found: dict[str, list[Late]] = {}
        for _ in range(REPEATS):
            for kind, type_ in KINDS.items():
                for place, part in PLACES.items():
                    at = begin + part * TOUCHPOINTS * STEP - next(numbers) * timedelta(seconds=1)
                    late = await _late(stager, _touchpoint(f"late-{next(numbers)}", type_, at))
                    found.setdefault(f"{kind} {place}", []).append(late)
    return {name: _middle(measured) for name, measured in found.items()}


class _Stager:
    def __init__(self, store: BatchStore, stands: Claimed) -> None:
        self._store = store
        self._stands = stands

    async def commit(self, touchpoints: Sequence[Touchpoint]) -> Done:
        begin = self._stands.next_offset
        batch = read_batch([Record(0, begin + number, encode(one)) for number, one in enumerate(touchpoints)])
        done = await self._store.commit(batch, {0: self._stands}, SystemClock().now())
        self._stands = Claimed(self._stands.epoch, batch.advances[0].next_offset, None)
        return done


async def _late(stager: _Stager, touchpoint: Touchpoint) -> Late:
    async with asyncio.TaskGroup() as tasks:
        stalls: list[float] = []
        heart = tasks.create_task(_beat(stalls))
        await asyncio.sleep(0)
        wall_s, cpu_s = time.monotonic(), time.process_time()
        done = await stager.commit([touchpoint])
        wall_s, cpu_s = time.monotonic() - wall_s, time.process_time() - cpu_s
        heart.cancel()
    assert done.stored == 1
    superseded = sum(len(change.superseded) for change in done.changes)
    return Late(wall_s * 1_000, cpu_s * 1_000, max(stalls, default=0) * 1_000, superseded)


async def _beat(stalls: list[float]) -> None:
    """Note by how much a task that wakes up every few milliseconds is late."""
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(_BEAT_S)
            stalls.append(time.monotonic() - began_s - _BEAT_S)


def _middle(found: Sequence[Late]) -> Late:
    return Late(
        median(one.wall_ms for one in found),
        median(one.cpu_ms for one in found),
        max(one.stall_ms for one in found),
        median(one.superseded for one in found),
    )


def _timeline(begin: datetime) -> Iterator[Touchpoint]:
    draw = random.Random(4)
    for number in range(TOUCHPOINTS):
        type_ = draw.choice(events.TYPES) if number % 1_000 else "service_booked"
        yield _touchpoint(f"{draw.getrandbits(96):024x}", type_, begin + number * STEP)


def _touchpoint(id_: str, type_: str, at: datetime) -> Touchpoint:
    (one,) = events.touchpoints(1, 1, at)
    properties = Raw(b'{"vehicle_id":"AB 12 345"}') if type_ == "service_booked" else one.properties
    return msgspec.structs.replace(one, id=id_, type=type_, properties=properties)
