"""Where the time of an event goes, part by part: `make bench PART=profile`."""

from __future__ import annotations

import asyncio
import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
import psutil

from shared.clock import SystemClock
from shared.eventlog.port import TOPIC
from tests.bench import api, ingest, load, parts, pure, topics
from tests.bench.events import batches, wire_events
from tests.bench.http import get, post
from tests.bench.processes import SERVER_CORE, Server, apart, baseline, service
from tests.bench.progress import in_store, watched
from tests.bench.rig import kafka, new_key, postgres
from tests.bench.sampler import EVERY_S, STATEMENTS, Found
from tests.bench.stager import CUSTOMERS, RECORDS, stager_settings
from tests.bench.table import Breakdown
from tests.support.eventually import eventually

SECONDS = 6.0
_BATCH_RECORDS = {1: 5, ingest.BATCH_EVENTS: 500}
"""Of a Kafka batch, by the events of a request: so many come together in one partition."""
_SAMPLED = (
    f"One run. CPU time, sampled every {1000 * EVERY_S:.0f} ms; a part is the modules that do it, with what "
    "they call in C and in the standard library. *alone*: the stage by itself, in a loop."
)


def measure(home: Path) -> Sequence[Breakdown]:
    """Each path under load, and its pure stages alone."""
    found: list[Breakdown] = []
    for path in (_of_ingest, _of_stager_and_api):
        folder = home / path.__name__
        folder.mkdir()
        found += path(folder)
    return found


class _Sampled:
    """A service under the sampler."""

    def __init__(self, server: Server, to: Path) -> None:
        self.server = server
        self._to = to

    def begin(self) -> None:
        """Forget what was found, and sample."""
        self._to.unlink(missing_ok=True)
        self._send(signal.SIGUSR1)

    def end(self) -> Found:
        """What was found since the beginning."""
        self._send(signal.SIGUSR2)
        eventually(self._to.exists)
        return msgspec.json.decode(self._to.read_bytes(), type=Found)

    def loaded(self, requests: Sequence[bytes]) -> tuple[float, Found]:
        """Microseconds of CPU a request at full load, and where they go."""
        self.begin()
        whole_us = _cpu_us(self.server, requests)
        return whole_us, self.end()

    def _send(self, number: signal.Signals) -> None:
        psutil.Process(self.server.pids[0]).send_signal(number)


@contextmanager
def _sampled(
    name: str, settings: Mapping[str, str], home: Path, *what: str, core: int | None
) -> Iterator[_Sampled]:
    to = home / f"{name}.json"
    with service(name, settings, home, core, under=("tests.bench.sampler", str(to), *what)) as server:
        yield _Sampled(server, to)


def _cpu_us(server: Server, requests: Sequence[bytes]) -> float:
    loaded: load.Loaded = apart(load.closed, load.Job(server.port, requests, SECONDS, server.pids))
    return 1e6 * loaded.cpu_s / (loaded.rate_s * loaded.seconds)


def _of_ingest(home: Path) -> Iterator[Breakdown]:
    begin = SystemClock().now() - timedelta(days=2)
    wire = list(wire_events(ingest.EVENTS, ingest.CUSTOMERS, begin))
    with kafka(home) as broker, postgres() as store, store.database() as database_url:
        settings = stager_settings(database_url, broker.bootstrap)
        key = new_key(database_url, "write")
        with (
            _sampled("ingest", settings, home, core=SERVER_CORE) as ours,
            baseline("nothing", home=home) as nothing,
        ):
            for size in _BATCH_RECORDS:
                bodies = batches(wire, size) if size > 1 else wire
                requests = [post("/v1/touchpoints", body, key) for body in bodies]
                whole_us, found = ours.loaded(requests)
                idle_us = _cpu_us(nothing, requests)
                yield _ingest_breakdown(size, whole_us / size, found, idle_us / size)


def _ingest_breakdown(size: int, whole_us: float, found: Found, nothing_us: float) -> Breakdown:
    alone = apart(pure.of_ingest, size, _BATCH_RECORDS[size], core=SERVER_CORE)
    return Breakdown(
        "Ingest, single events: CPU" if size == 1 else f"Ingest, batches of {size}: CPU",
        whole_us,
        _micros(parts.shares(found.samples, parts.INGEST), whole_us),
        {**_alone(alone), "beside: uvicorn doing nothing": nothing_us},
        notes=(_SAMPLED, f"Batch building is of {_BATCH_RECORDS[size]} records a batch."),
    )


def _of_stager_and_api(home: Path) -> Iterator[Breakdown]:
    begin = SystemClock().now() - timedelta(days=2)
    with postgres(core=None) as store, store.database() as database_url:
        with kafka(home, core=None) as broker:
            apart(topics.fill, broker.bootstrap, TOPIC, RECORDS, CUSTOMERS, begin, core=None)
            settings = stager_settings(database_url, broker.bootstrap)
            with _sampled("stager", settings, home, STATEMENTS, core=None) as ours:
                yield from _staged(ours, database_url)
        key = new_key(database_url, "read")
        with _sampled("api", {"database_url": database_url}, home, core=SERVER_CORE) as ours:
            customers = asyncio.run(api.staged(database_url))
            yield _asked(ours, [get(f"/v1/customers/{identity}", key) for identity, _ in customers])


def _staged(ours: _Sampled, database_url: str) -> Iterator[Breakdown]:
    measure = asyncio.run(watched(in_store(database_url), ours.server, RECORDS, ours.begin))
    found = ours.end()
    cpu_us, wall_us = 1e6 / (measure.per_cpu_s or 1), 1e6 / (measure.rate_s or 1)
    yield Breakdown(
        "Stager: CPU",
        cpu_us,
        _micros(parts.shares(found.samples, parts.STAGER), cpu_us),
        _alone(apart(pure.of_stager, core=SERVER_CORE)),
        notes=(_SAMPLED,),
    )
    statements_s: defaultdict[str, float] = defaultdict(float)
    for sql, seconds in found.statements_s.items():
        statements_s[parts.statement(sql)] += seconds
    longest_first = sorted(statements_s, key=statements_s.__getitem__, reverse=True)
    shares = {name: statements_s[name] / found.wall_s for name in longest_first}
    shares["outside of SQL: Python, waiting for records"] = 1 - sum(shares.values())
    yield Breakdown(
        "Stager: wall time, by statement",
        wall_us,
        _micros(shares, wall_us),
        notes=("One run. From the driver's call to its answer, the driver's own CPU in it.",),
    )


def _asked(ours: _Sampled, requests: Sequence[bytes]) -> Breakdown:
    whole_us, found = ours.loaded(requests)
    return Breakdown(
        "API, one customer by identity: CPU",
        whole_us,
        _micros(parts.shares(found.samples, parts.API), whole_us),
        unit="request",
        notes=(_SAMPLED,),
    )


def _micros(shares: Mapping[str, float], whole_us: float) -> Mapping[str, float]:
    return {part: share * whole_us for part, share in shares.items()}


def _alone(stages: pure.Micros) -> Mapping[str, float]:
    return {f"alone: {stage}": us for stage, us in stages.items()}
