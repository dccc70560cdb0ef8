"""When the stager says that it can do its work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.stager.app import STUCK_AFTER_S, checks
from services.stager.in_force import InForce
from services.stager.loop import REPORT_EVERY_S, Loop
from services.stager.metrics import CATALOGUE
from services.stager.partitions import Partitions
from services.stager.store import BatchStore
from shared.clock import SystemClock
from shared.eventlog.local.reader import LocalReader
from shared.eventlog.local.writer import LocalWriter
from shared.eventlog.port import TOPIC, NewRecord
from shared.failpoints import Failpoints
from shared.ids import uuid7
from shared.metrics import Metrics
from shared.store.engine import open_pool
from shared.store.halts import Halts
from tests.support.clock import ManualClock
from tests.support.eventually import eventually_async
from tests.support.journeys import EPOCH


@dataclass
class Stager:
    """A loop on a real log and a real store, on a clock of its own."""

    clock: ManualClock
    writer: LocalWriter
    reader: LocalReader
    partitions: Partitions
    loop: Loop

    def state(self, stop: asyncio.Event) -> str:
        """The check of the loop."""
        return checks(self.loop, self.partitions, stop, self.clock)["loop"]

    async def turns(self) -> None:
        """Let the loop turn until it has reported."""
        stop = asyncio.Event()
        self.clock.advance(REPORT_EVERY_S)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.loop.run(stop))
            await eventually_async(lambda: self.loop.last_turn_s == self.clock.monotonic_s())
            stop.set()


@pytest.fixture
async def stager(tmp_path: Path, database_url: str) -> AsyncIterator[Stager]:
    """A stager that isn't running."""
    clock = ManualClock(EPOCH)
    pool = await open_pool(database_url, connections_max=2, service="stager")
    writer = await LocalWriter.open(tmp_path, SystemClock())
    # On the real clock: a poll of nothing has to end.
    reader = await LocalReader.open(tmp_path, SystemClock())
    store = BatchStore(
        pool,
        InForce(pool),
        log_id=reader.log_id,
        owner="me",
        shard=0,
        new_id=uuid7,
        failpoints=Failpoints(""),
    )
    partitions = Partitions(reader, store, Halts(pool, reader.log_id, TOPIC), clock)
    loop = Loop(reader, store, partitions, Metrics(CATALOGUE), clock, 10)
    yield Stager(clock, writer, reader, partitions, loop)
    await reader.close(1)
    await writer.close(1)
    pool.terminate()


async def test_an_idle_stager_is_ready_as_long_as_its_loop_turns(stager: Stager) -> None:
    """With nothing to stage it is ready, however long nothing is committed; a loop that stands is not."""
    stop = asyncio.Event()
    await stager.turns()
    assert stager.state(stop) == "ok"
    stager.clock.advance(STUCK_AFTER_S + 1)
    assert stager.state(stop) == "stuck"
    await stager.turns()
    assert stager.state(stop) == "ok"
    stop.set()
    assert stager.state(stop) == "draining"


async def test_a_stager_that_turns_and_stages_nothing_of_what_waits_is_not_ready(stager: Stager) -> None:
    """Records wait, the loop turns, and nothing is committed: that is told, and is over with the next
    commit."""
    stop = asyncio.Event()
    await stager.turns()
    await stager.writer.append([NewRecord(b"key", b"not a touchpoint")], 5)
    stager.reader.start(0, 1)
    stager.clock.advance(STUCK_AFTER_S)
    await stager.turns()
    assert stager.state(stop).startswith("behind: ")
    stager.reader.start(0, 0)
    await eventually_async(lambda: came(stager))
    assert stager.state(stop) == "ok"


async def came(stager: Stager) -> bool:
    """Whether the record has been dealt with, after some turns more."""
    await stager.turns()
    return stager.partitions.held[0].next_offset == 1
