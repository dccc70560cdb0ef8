"""How far a stager has come, and what the way there cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient

from tests.bench.measure import Measure
from tests.bench.processes import Server, cpu_s, peak_rss_mib

_TIMEOUT_S = 120.0
_LOOK_EVERY_S = 0.05
_STORED = "SELECT coalesce(sum(next_offset), 0)::bigint FROM stager_offsets"

Progress = Callable[[], Awaitable[int]]
"""How many records are committed now."""


@asynccontextmanager
async def in_store(database_url: str) -> AsyncIterator[Progress]:
    """The progress of a stager that keeps its offsets with its states, in `stager_offsets`."""
    connection = await asyncpg.connect(database_url)

    async def committed() -> int:
        try:
            found: int = await connection.fetchval(_STORED)
        except asyncpg.UndefinedTableError:
            return 0
        return found

    try:
        yield committed
    finally:
        await connection.close()


@asynccontextmanager
async def in_group(bootstrap: str, group: str) -> AsyncIterator[Progress]:
    """The progress of a consumer group, of one topic, that commits its offsets to Kafka."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)

    async def committed() -> int:
        offsets = await admin.list_consumer_group_offsets(group)
        return sum(max(0, one.offset) for one in offsets.values())

    await admin.start()
    try:
        yield committed
    finally:
        await admin.close()


async def watched(
    progress: AbstractAsyncContextManager[Progress],
    server: Server,
    records: int,
    begun: Callable[[], None] = lambda: None,
) -> Measure:
    """Wait until so many records are staged. Measured is from the first commit on, so that neither starting
    nor joining the group counts; `begun` is called then.

    Raises:
        TimeoutError: they were not, within two minutes.
    """
    async with progress as committed, asyncio.timeout(_TIMEOUT_S):
        first = await _reached(committed, 1)
        begun()
        began_s, began_cpu_s = time.monotonic(), cpu_s(server.pids)
        done = await _reached(committed, records)
        taken_s, taken_cpu_s = time.monotonic() - began_s, cpu_s(server.pids) - began_cpu_s
    return Measure(
        rate_s=(done - first) / taken_s,
        per_cpu_s=(done - first) / taken_cpu_s,
        rss_mib=peak_rss_mib(server.pids),
    )


async def _reached(committed: Progress, enough: int) -> int:
    """The records committed, as soon as there are enough."""
    while True:
        found = await committed()
        if found >= enough:
            return found
        await asyncio.sleep(_LOOK_EVERY_S)
