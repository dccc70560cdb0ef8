"""A what-if and a backfill over a large store: how fast they are, and how fresh live staging stays meanwhile.

`BENCH_TOUCHPOINTS` says over how many touchpoints (1,000,000 unless set), and `BENCH_RATE_S` how many come
live a second (1,000).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import asyncpg

from shared.clock import SystemClock
from tests.bench import freshness, history
from tests.bench.freshness import Pipeline, sampled
from tests.bench.measure import Measure, middle
from tests.bench.processes import PARTITIONS, ROOT, apart
from tests.bench.rig import kafka, postgres
from tests.bench.table import Section, Target
from tests.support.child import inherited_env
from tests.support.journeys import EVERYTHING

TOUCHPOINTS = int(os.environ.get("BENCH_TOUCHPOINTS", "1000000"))
RATE_S = float(os.environ.get("BENCH_RATE_S", freshness.RATE_S))
ALONE, WITH_BACKFILL, WITH_WHAT_IF = "live staging", "live staging, a backfill", "live staging, a what-if"
BACKFILL, WHAT_IF = "backfill", "what-if, of two versions"
_ACTIVE = "SELECT count(*) FROM journey_definitions WHERE key = $1 AND activated_at IS NOT NULL"
_TIMEOUT_S = 1_800.0


def measure(home: Path) -> Sequence[Section]:
    """Live load on a filled store: by itself, while a journey is activated, and while its next version is
    tried."""
    numbers = itertools.count(1)
    first, second = (home / f"everything-{version}.yaml" for version in (1, 2))
    first.write_text(EVERYTHING)
    second.write_text(EVERYTHING.replace("version: 1", "version: 2").replace("at_least: 3", "at_least: 2"))
    with ExitStack() as parts:
        store = parts.enter_context(postgres(core=None))
        broker = parts.enter_context(kafka(home, core=None))
        database_url = parts.enter_context(store.database())
        asyncio.run(history.fill(database_url, TOUCHPOINTS, SystemClock().now()))
        settings = {"kafka_bootstrap": broker.bootstrap, "kafka_partitions": str(PARTITIONS)}
        pipeline = parts.enter_context(freshness.pipeline(home / "rejse", database_url, settings))
        rows = {ALONE: middle([_sample(pipeline, numbers) for _ in range(3)])}
        _rejse(database_url, "activate", str(first), "--detach")
        rows |= _beside(BACKFILL, WITH_BACKFILL, pipeline, numbers, lambda: _is_active(database_url))
        trying = _launched(database_url, "what-if", str(second), "--json")
        rows |= _beside(WHAT_IF, WITH_WHAT_IF, pipeline, numbers, lambda: trying.poll() is not None)
        _check(trying)
    return [_section(rows)]


def _beside(
    job: str, live: str, pipeline: Pipeline, numbers: Iterator[int], is_done: Callable[[], bool]
) -> Mapping[str, Measure]:
    """Sample live staging until a job has ended, and once at least."""
    began_s, samples, seconds = time.monotonic(), [], 0.0
    while not seconds:
        samples.append(_sample(pipeline, numbers))
        if is_done():
            seconds = time.monotonic() - began_s
        elif time.monotonic() - began_s > _TIMEOUT_S:
            raise TimeoutError(f"{job} did not end")
    return {live: middle(samples), job: Measure(rate_s=TOUCHPOINTS / seconds, seconds=seconds)}


def _sample(pipeline: Pipeline, numbers: Iterator[int]) -> Measure:
    found: Measure = apart(sampled, pipeline, next(numbers), RATE_S, core=None)
    return found


def _is_active(database_url: str) -> bool:
    return asyncio.run(_count(database_url)) > 0


async def _count(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval(_ACTIVE, "everything"))
    finally:
        await connection.close()


def _launched(database_url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "services.cli", "journeys", *arguments],
        env=inherited_env(REJSE_DATABASE_URL=database_url),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def _rejse(database_url: str, *arguments: str) -> None:
    if _launched(database_url, *arguments).wait(60):
        raise ValueError(f"rejse journeys {' '.join(arguments)} failed")


def _check(trying: subprocess.Popen[str]) -> None:
    """The what-if has met everybody, and has somebody move."""
    told = json.loads(trying.communicate(timeout=60)[0])
    if not told["complete"] or told["touchpoints"] < TOUCHPOINTS or not told["active_version"]:
        raise ValueError(f"the what-if is not of the whole store: {told['touchpoints']} touchpoints")


def _section(rows: Mapping[str, Measure]) -> Section:
    return Section(
        "Living with definitions",
        rows,
        notes=(
            f"{TOUCHPOINTS:,} touchpoints of {TOUCHPOINTS // history.TOUCHES_EACH:,} customers in the store; "
            f"live: {RATE_S:,.0f} events a second through ingest, Kafka, stager and api, from 2xx "
            f"to visible, sampled in turns of {freshness.SECONDS:.0f} s until the job is done.",
            "Backfill: from asking for the journey to its being active, by one stager, which stages the live "
            "events too. What-if: the whole command, folding by two versions. Both end at the end of a turn. "
            "Nothing is pinned.",
        ),
        targets=(
            Target("freshness while a backfill runs, p50 ms", rows[WITH_BACKFILL].p50_ms, 30, "at most"),
            Target("freshness while a backfill runs, p99 ms", rows[WITH_BACKFILL].p99_ms, 150, "at most"),
            Target("freshness while a what-if runs, p50 ms", rows[WITH_WHAT_IF].p50_ms, 30, "at most"),
            Target("freshness while a what-if runs, p99 ms", rows[WITH_WHAT_IF].p99_ms, 150, "at most"),
        ),
    )
