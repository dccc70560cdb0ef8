"""The stager: a filled topic worked off into PostgreSQL, beside the plain reference."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from pathlib import Path

import asyncpg

from shared.clock import SystemClock
from shared.eventlog.port import TOPIC
from tests.bench import topics
from tests.bench.measure import Measure, interleaved
from tests.bench.processes import PARTITIONS, ROOT, Server, apart, cpu_s, launched, peak_rss_mib
from tests.bench.rig import kafka, postgres
from tests.bench.table import Section, Target, ratio
from tests.support.child import Child, inherited_env

RECORDS, CUSTOMERS = 300_000, 50_000
REFERENCE, ONE, TWO = "the plain reference", "Rejse, one process", "Rejse, two processes"
_TIMEOUT_S = 120.0
_LOOK_EVERY_S = 0.05
_PROGRESS = "SELECT coalesce(sum(next_offset), 0)::bigint FROM stager_offsets"

Start = Callable[[str], AbstractContextManager[Server]]
"""Starts a stager on the database of a URL."""


def measure(home: Path) -> Sequence[Section]:
    """Each stages the same topic into an empty database. Nothing is pinned: who waits for PostgreSQL leaves
    it the core, and two processes need both."""
    begin = SystemClock().now() - timedelta(days=2)
    with kafka(home, core=None) as broker, postgres(core=None) as store:
        apart(topics.fill, broker.bootstrap, TOPIC, RECORDS, CUSTOMERS, begin, core=None)
        ours = partial(_ours, home, broker.bootstrap)
        rows = interleaved(
            {
                REFERENCE: lambda: _staged(
                    store.empty_database(), partial(_reference, home, broker.bootstrap)
                ),
                ONE: lambda: _staged(store.database(), partial(ours, 1)),
                TWO: lambda: _staged(store.database(), partial(ours, 2)),
            }
        )
    return [_section(rows)]


def _staged(database: AbstractContextManager[str], start: Start) -> Measure:
    with database as url, start(url) as server:
        return asyncio.run(watched(url, server, RECORDS))


async def watched(database_url: str, server: Server, records: int) -> Measure:
    """Wait until so many records are staged. Measured is from the first commit on, so that neither starting
    nor joining the group counts.

    Raises:
        TimeoutError: they were not, within two minutes.
    """
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            first = await _progress(connection, 1)
            began_s, began_cpu_s = time.monotonic(), cpu_s(server.pids)
            done = await _progress(connection, records)
            taken_s, taken_cpu_s = time.monotonic() - began_s, cpu_s(server.pids) - began_cpu_s
    finally:
        await connection.close()
    return Measure(
        rate_s=(done - first) / taken_s,
        per_cpu_s=(done - first) / taken_cpu_s,
        rss_mib=peak_rss_mib(server.pids),
    )


async def _progress(connection: asyncpg.Connection[asyncpg.Record], enough: int) -> int:
    """The records staged, as soon as there are enough."""
    while True:
        try:
            staged: int = await connection.fetchval(_PROGRESS)
        except asyncpg.UndefinedTableError:
            staged = 0
        if staged >= enough:
            return staged
        await asyncio.sleep(_LOOK_EVERY_S)


@contextlib.contextmanager
def _reference(home: Path, bootstrap: str, database_url: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "tests.bench.reference_stager", database_url, bootstrap, TOPIC]
    child = Child([*command, str(PARTITIONS)], env=inherited_env(), log_file=home / "reference.log", cwd=ROOT)
    try:
        yield Server([child.pid], 0)
    finally:
        child.end()


def _ours(home: Path, bootstrap: str, processes: int, database_url: str) -> AbstractContextManager[Server]:
    settings = {
        "database_url": database_url,
        "kafka_bootstrap": bootstrap,
        "kafka_partitions": str(PARTITIONS),
    }
    return launched("stager", [settings] * processes, home, core=None)


def _section(rows: dict[str, Measure]) -> Section:
    one, two, reference = rows[ONE], rows[TWO], rows[REFERENCE]
    return Section(
        "Stager, timeline kept",
        rows,
        REFERENCE,
        notes=(
            f"{RECORDS:,} touchpoints of {CUSTOMERS:,} customers, {PARTITIONS} partitions; RSS and CPU are "
            "of the stager's processes, summed.",
            "PostgreSQL 18 with fsync, shared_buffers=512MB. Nothing is pinned.",
        ),
        targets=(
            Target(
                "stager, one process, events/s, of the plain reference",
                ratio(one.rate_s, reference.rate_s),
                0.75,
                "at least",
            ),
            Target("stager, two processes, events/s, of one", ratio(two.rate_s, one.rate_s), 1.5, "at least"),
            Target("stager, memory of one process, MiB", one.rss_mib, 150, "at most"),
        ),
    )
