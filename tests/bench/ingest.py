"""Ingest: events over HTTP, answered when they are durable, beside what others do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from shared.clock import SystemClock
from shared.eventlog.port import TOPIC
from tests.bench import load, topics
from tests.bench.events import batches, wire_events
from tests.bench.http import post
from tests.bench.measure import Measure, Run, interleaved
from tests.bench.processes import (
    LOAD_CORE,
    PARTITIONS,
    SERVER_CORE,
    Server,
    apart,
    baseline,
    peak_rss_mib,
    service,
)
from tests.bench.rig import durable_topic, kafka, new_key, postgres
from tests.bench.table import Section, Target, ratio
from tests.support.broker import Broker

NOTHING = "uvicorn doing nothing"
OBVIOUS = "the obvious way"
OURS, OURS_LOCAL = "Rejse on Kafka", "Rejse on the local log"
HALF = ", at half"
EVENTS, CUSTOMERS, BATCH_EVENTS = 20_000, 50_000, 100
SECONDS = 3.0
PRODUCED_RECORDS, RECORD_BYTES = 120_000, 300
_OBVIOUS_TOPIC = "obvious"
_SIDE_TOPIC = "producers"


@dataclass(frozen=True, slots=True)
class _Door:
    """Where a server takes events, and with which key; `topic` is where they must arrive."""

    server: Server
    single: str
    batch: str
    key: str = ""
    topic: str | None = None


def measure(home: Path) -> Sequence[Section]:
    """Single events, the same at half of the capacity just found, batches, and producers without HTTP."""
    begin = SystemClock().now() - timedelta(days=2)
    events = list(wire_events(EVENTS, CUSTOMERS, begin))
    with ExitStack() as parts:
        broker = parts.enter_context(kafka(home))
        doors = _doors(home, broker, parts)
        single = interleaved({name: _full(door, door.single, events, 1) for name, door in doors.items()})
        half = interleaved(
            {name: _half(doors[name], events, single[name]) for name in (OBVIOUS, OURS, OURS_LOCAL)}
        )
        arrays = batches(events, BATCH_EVENTS)
        batch = interleaved(
            {name: _full(door, door.batch, arrays, BATCH_EVENTS) for name, door in doors.items()}
        )
        _check_arrivals(broker, doors)
        alone = _producers(broker, begin)
    return [_single_section(single, half), _batch_section(batch), alone]


def _doors(home: Path, broker: Broker, parts: ExitStack) -> dict[str, _Door]:
    store = parts.enter_context(postgres())
    database_url = parts.enter_context(store.database())
    asyncio.run(durable_topic(broker, _OBVIOUS_TOPIC))
    nothing = parts.enter_context(baseline("nothing", home=home))
    obvious = parts.enter_context(baseline("obvious_ingest", broker.bootstrap, _OBVIOUS_TOPIC, home=home))
    key = new_key(database_url, "write")
    settings = {"database_url": database_url, "kafka_partitions": str(PARTITIONS)}
    on_kafka = {**settings, "kafka_bootstrap": broker.bootstrap}
    ours = parts.enter_context(service("ingest", on_kafka, _folder(home, "kafka")))
    local = parts.enter_context(service("ingest", settings, _folder(home, "local")))
    path = "/v1/touchpoints"
    return {
        NOTHING: _Door(nothing, "/", "/"),
        OBVIOUS: _Door(obvious, "/events", "/events/batch", topic=_OBVIOUS_TOPIC),
        OURS: _Door(ours, path, path, key, TOPIC),
        OURS_LOCAL: _Door(local, path, path, key),
    }


def _folder(home: Path, name: str) -> Path:
    folder = home / name
    folder.mkdir()
    return folder


def _full(door: _Door, path: str, bodies: Sequence[bytes], events: int) -> Run:
    job = _job(door, path, bodies)
    return lambda: _measured(door, apart(load.closed, job, core=LOAD_CORE), events)


def _half(door: _Door, bodies: Sequence[bytes], full: Measure) -> Run:
    job = _job(door, door.single, bodies)
    return lambda: _measured(door, apart(load.paced, job, (full.rate_s or 0) / 2, core=LOAD_CORE), 1)


def _job(door: _Door, path: str, bodies: Sequence[bytes]) -> load.Job:
    requests = [post(path, body, door.key) for body in bodies]
    return load.Job(door.server.port, requests, SECONDS, door.server.pids)


def _measured(door: _Door, loaded: load.Loaded, events: int) -> Measure:
    return Measure(
        rate_s=loaded.rate_s * events,
        per_cpu_s=loaded.rate_s * events * loaded.seconds / loaded.cpu_s,
        p50_ms=loaded.p50_ms,
        p99_ms=loaded.p99_ms,
        rss_mib=peak_rss_mib(door.server.pids),
    )


def _check_arrivals(broker: Broker, doors: Mapping[str, _Door]) -> None:
    """An answer is worth nothing if the event isn't in the topic."""
    for name, door in doors.items():
        if door.topic is not None and not asyncio.run(topics.count(broker.direct, door.topic)):
            raise ValueError(f"{name} answered 2xx, and its topic is empty")


def _producers(broker: Broker, begin: datetime) -> Section:
    asyncio.run(durable_topic(broker, _SIDE_TOPIC))
    at = partial(apart, core=SERVER_CORE)
    to = (broker.bootstrap, _SIDE_TOPIC, PRODUCED_RECORDS)
    runs: dict[str, Callable[[], Measure]] = {
        "Kafka's own producer test": lambda: at(topics.kafka_alone, *to, RECORD_BYTES),
        "aiokafka, send_batch of ready batches": lambda: at(topics.send_batch_alone, *to, begin),
    }
    notes = (f"{PRODUCED_RECORDS:,} records of about {RECORD_BYTES} bytes, acks=all, without HTTP.",)
    return Section("Producers alone", interleaved(runs), unit="records", notes=notes)


def _single_section(full: Mapping[str, Measure], half: Mapping[str, Measure]) -> Section:
    ours = full[OURS].per_cpu_s
    rows = {**full, **{name + HALF: measure for name, measure in half.items()}}
    return Section(
        "Ingest, single events",
        rows,
        NOTHING,
        notes=(
            f"{load.CONNECTIONS} connections, closed loop, which finds the capacity and tells no latency; "
            "*at half*: at half of that rate, on schedule, p50 and p99 from when a request was due.",
            "Kafka: 12 partitions, acks=all, flush.messages=1 for all; the local log: fsync.",
        ),
        targets=(
            Target(
                "ingest, single events, per CPU-second, of uvicorn doing nothing",
                ratio(ours, full[NOTHING].per_cpu_s),
                0.5,
                "at least",
            ),
            Target(
                "ingest, single events, per CPU-second, of the obvious way",
                ratio(ours, full[OBVIOUS].per_cpu_s),
                3.5,
                "at least",
            ),
            Target("ingest p99 at half on Kafka, ms", half[OURS].p99_ms, 15, "at most"),
            Target("ingest p99 at half on the local log, ms", half[OURS_LOCAL].p99_ms, 25, "at most"),
        ),
    )


def _batch_section(batch: Mapping[str, Measure]) -> Section:
    rss_mib = max(batch[OURS].rss_mib or 0, batch[OURS_LOCAL].rss_mib or 0)
    return Section(
        f"Ingest, batches of {BATCH_EVENTS}",
        batch,
        OBVIOUS,
        notes=(f"{load.CONNECTIONS} connections, closed loop.",),
        targets=(
            Target(
                "ingest, batches of 100, per CPU-second, of the obvious way",
                ratio(batch[OURS].per_cpu_s, batch[OBVIOUS].per_cpu_s),
                4.0,
                "at least",
            ),
            Target("ingest, memory under load, MiB", rss_mib, 150, "at most"),
        ),
    )
