"""The query API: one customer's stage, beside a bare read of the row and the obvious way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import asyncpg

from shared.clock import SystemClock
from shared.eventlog.port import TOPIC
from shared.journey.state import State, decode_states
from tests.bench import load, topics
from tests.bench.http import get
from tests.bench.measure import Measure, Run, interleaved
from tests.bench.processes import Server, apart, baseline, peak_rss_mib, service
from tests.bench.progress import in_store, watched
from tests.bench.rig import kafka, new_key, postgres
from tests.bench.stager import stager_settings
from tests.bench.table import Section, Target, ratio

BARE, OBVIOUS = "a bare asyncpg read", "the obvious way"
OURS, OURS_BY_ID = "Rejse, by identity", "Rejse, by the customer's id"
HALF = ", at half"
RECORDS, CUSTOMERS = 60_000, 10_000
SECONDS = 3.0

_STAGED = "SELECT i.identity, s.customer_id FROM journey_states AS s JOIN identities AS i USING (customer_id)"

_SPREAD_OUT = """
CREATE TABLE customer_stages (customer_id uuid, journey_key text, version integer, stage text, paused boolean,
    entered_at timestamptz, furthest_stage text, PRIMARY KEY (customer_id, journey_key, version))
"""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A server and the requests that it is sent."""

    server: Server
    requests: Sequence[bytes]


def measure(home: Path) -> Sequence[Section]:
    """Reads of customers that Rejse's own stager has staged."""
    with postgres() as store, store.database() as database_url:
        _stage(home, database_url)
        asyncio.run(_spread_out(database_url))
        customers = asyncio.run(staged(database_url))
        identities = [identity for identity, _ in customers]
        ids = [str(id_) for _, id_ in customers]
        key = new_key(database_url, "read")
        with (
            baseline("bare_read", database_url, home=home) as bare,
            baseline("obvious_api", database_url, home=home) as obvious,
            service("api", {"database_url": database_url}, home) as ours,
        ):
            asked = {
                BARE: _Asked(bare, [get(f"/{id_}") for id_ in ids]),
                OBVIOUS: _Asked(obvious, [get(f"/customers/{id_}") for id_ in ids]),
                OURS: _Asked(ours, [get(f"/v1/customers/{identity}", key) for identity in identities]),
                OURS_BY_ID: _Asked(ours, [get(f"/v1/customers/{id_}", key) for id_ in ids]),
            }
            full = interleaved({name: _full(one) for name, one in asked.items()})
            half = interleaved({name: _half(asked[name], full[name]) for name in (BARE, OURS)})
    return [_section(full, half)]


def _stage(home: Path, database_url: str) -> None:
    begin = SystemClock().now() - timedelta(days=2)
    with kafka(home, core=None) as broker:
        apart(topics.fill, broker.bootstrap, TOPIC, RECORDS, CUSTOMERS, begin, core=None)
        settings = stager_settings(database_url, broker.bootstrap)
        with service("stager", settings, home, core=None) as stager:
            asyncio.run(watched(in_store(database_url), stager, RECORDS))


async def _spread_out(database_url: str) -> None:
    """Make what the baselines read: a row for each stage, with columns."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_SPREAD_OUT)
        rows = [
            (id_, one.journey_key, one.version, *_stage_of(one.state))
            for id_, states in await connection.fetch("SELECT customer_id, states FROM journey_states")
            for one in decode_states(states)
        ]
        await connection.copy_records_to_table("customer_stages", records=rows)
    finally:
        await connection.close()


def _stage_of(state: State) -> tuple[object, ...]:
    return state.place, state.paused, state.entered_at, state.furthest


async def staged(database_url: str) -> list[tuple[str, UUID]]:
    """The identity and the id of each customer that has a stage."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("ANALYZE")
        return [(row[0], row[1]) for row in await connection.fetch(_STAGED)]
    finally:
        await connection.close()


def _full(asked: _Asked) -> Run:
    return lambda: _measured(asked.server, apart(load.closed, _job(asked)))


def _half(asked: _Asked, full: Measure) -> Run:
    return lambda: _measured(asked.server, apart(load.paced, _job(asked), (full.rate_s or 0) / 2))


def _job(asked: _Asked) -> load.Job:
    return load.Job(asked.server.port, asked.requests, SECONDS, asked.server.pids)


def _measured(server: Server, loaded: load.Loaded) -> Measure:
    return Measure(
        rate_s=loaded.rate_s,
        per_cpu_s=loaded.rate_s * loaded.seconds / loaded.cpu_s,
        p50_ms=loaded.p50_ms,
        p99_ms=loaded.p99_ms,
        rss_mib=peak_rss_mib(server.pids),
    )


def _section(full: Mapping[str, Measure], half: Mapping[str, Measure]) -> Section:
    ours = full[OURS].per_cpu_s
    return Section(
        "API, one customer",
        {**full, **{name + HALF: measure for name, measure in half.items()}},
        BARE,
        unit="requests",
        notes=(
            f"`GET /v1/customers/{{ref}}`, {load.CONNECTIONS} connections, CPU of the server.",
            "Closed loop, which finds the capacity and tells no latency; *at half*: at half of that rate, on "
            "schedule, p50 and p99 from when a request was due.",
        ),
        targets=(
            Target("api, per CPU-second, of a bare read", ratio(ours, full[BARE].per_cpu_s), 0.5, "at least"),
            Target(
                "api, per CPU-second, of the obvious way",
                ratio(ours, full[OBVIOUS].per_cpu_s),
                4.5,
                "at least",
            ),
            Target("api, memory under load, MiB", full[OURS].rss_mib, 150, "at most"),
        ),
    )
