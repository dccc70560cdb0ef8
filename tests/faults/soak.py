"""A steady load for a long time: what a service takes at first it takes in the end.

`SOAK_MINUTES` sets another length than that of a full run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import psutil

from shared.clock import SystemClock
from shared.store.ids import touchpoint_uid
from tests.bench.events import wire_event
from tests.bench.http import post
from tests.bench.processes import apart
from tests.bench.rig import kafka, postgres
from tests.faults.openloop import Offer, Outcome, offered
from tests.faults.report import Line, Report
from tests.faults.scale import Scale
from tests.support import plain_http
from tests.support.eventually import eventually
from tests.support.installation import Installation
from tests.support.process import RejseProcess

SERVICES = ("ingest", "stager", "api")
_MINUTES = 30.0
_RATE_S, _CUSTOMERS, _SOURCE = 200.0, 500, "shop"
_SAMPLE_S, _READ_S = 2.0, 0.2
_WARM_PART = 0.4
"""Caches, pools and the allocator's own arenas fill in that part of the time."""
_SLOPE_MIB_H_MAX = 1.0
_STAGED_S = 60.0


@dataclass(frozen=True, slots=True)
class _Trend:
    """A straight line through what a process had resident after the warm-up, and how sure it is."""

    first_mib: float
    last_mib: float
    slope_mib_h: float
    doubt_mib_h: float

    @property
    def flat(self) -> bool:
        """Whether it does not rise faster than it may, for all that can be told."""
        return self.slope_mib_h - self.doubt_mib_h < _SLOPE_MIB_H_MAX


def run(_: Scale, home: Path) -> Report:
    """Load all three services for the time, and look at their memory and at every acked event."""
    minutes = float(os.environ.get("SOAK_MINUTES", _MINUTES))
    with _installation(home) as (rejse, processes):
        requests = _requests(rejse.write_key, round(60 * minutes * _RATE_S) + 1)
        offer = Offer(rejse.ports["ingest"], requests, _RATE_S, 60 * minutes, 8)
        with _sampled(processes) as samples, _reading(rejse):
            outcome: Outcome = apart(offered, offer, core=None, timeout_s=60 * minutes + 300)
        lost = _await_lost(rejse, [_id(number) for number in outcome.accepted])
        audit = rejse.audit()
    trends = {name: _trend(samples[name]) for name in SERVICES}
    return Report(
        "Soak",
        [
            *(_line(name, trend) for name, trend in trends.items()),
            Line(
                "I1: acked events that no timeline has",
                "0",
                f"{lost} of {len(outcome.accepted):,}",
                not lost and len(outcome.accepted) == len(requests) - 1,
            ),
            Line("I4: stages that aren't the fold's", "none", audit[:200] or "none", not audit),
        ],
        [
            f"{minutes:g} minutes of {_RATE_S:g} events and {1 / _READ_S:g} timelines read a second; the "
            f"first {_WARM_PART:.0%} is the warm-up. Slopes with twice their standard error.",
            f"Answers: {dict(outcome.answers)}.",
        ],
    )


@contextlib.contextmanager
def _installation(home: Path) -> Iterator[tuple[Installation, Mapping[str, RejseProcess]]]:
    with kafka(home, core=None) as broker, postgres(core=None) as store, store.database() as database_url:
        env = {
            "REJSE_KAFKA_BOOTSTRAP": broker.bootstrap,
            "REJSE_DATABASE_URL": database_url,
            "REJSE_LOG_LEVEL": "WARNING",
        }
        with Installation(home, env) as rejse:
            rejse.make_keys()
            yield rejse, {name: rejse.start(name) for name in SERVICES}


def _id(number: int) -> str:
    return f"soak-{number}"


def _requests(key: str, count: int) -> list[bytes]:
    begin = SystemClock().now() - timedelta(days=2)
    return [post("/v1/touchpoints", _event(number, begin), key) for number in range(count)]


def _event(number: int, begin: datetime) -> bytes:
    type_ = "page_viewed" if number % 10 else "order_completed"
    return wire_event(_id(number), number % _CUSTOMERS, begin + timedelta(milliseconds=100 * number), type_)


@contextlib.contextmanager
def _sampled(processes: Mapping[str, RejseProcess]) -> Iterator[Mapping[str, list[tuple[float, float]]]]:
    """Meanwhile note, every few seconds, when (s) and how much (MiB) each process has resident."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}
    watched = {name: psutil.Process(process.pid) for name, process in processes.items()}

    def look() -> None:
        for name, process in watched.items():
            samples[name].append((time.monotonic(), process.memory_info().rss / 2**20))

    with _every(_SAMPLE_S, look):
        yield samples


@contextlib.contextmanager
def _reading(rejse: Installation) -> Iterator[None]:
    """Meanwhile ask for one customer's timeline after the other."""
    headers = {"Authorization": f"Bearer {rejse.read_key}"}
    asked = 0
    with plain_http.client(base_url=rejse.url("api"), headers=headers, timeout=30) as client:

        def read() -> None:
            nonlocal asked
            asked += 1
            client.get(f"/v1/customers/user_id:customer-{asked % _CUSTOMERS:08d}/timeline")

        with _every(_READ_S, read):
            yield


@contextlib.contextmanager
def _every(seconds: float, do: Callable[[], None]) -> Iterator[None]:
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(seconds):
            do()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _await_lost(rejse: Installation, ids: Sequence[str]) -> int:
    """How many of the ids the store doesn't have, once it has had the time to take them in."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: _lost(rejse, ids) == 0, _STAGED_S)
    return _lost(rejse, ids)


def _lost(rejse: Installation, ids: Sequence[str]) -> int:
    async def found() -> int:
        connection = await asyncpg.connect(rejse.database_url)
        try:
            uids = [touchpoint_uid(_SOURCE, id_) for id_ in ids]
            query = "SELECT count(*) FROM touchpoints WHERE id = ANY($1::uuid[])"
            return int(await connection.fetchval(query, uids))
        finally:
            await connection.close()

    return len(ids) - asyncio.run(found())


def _trend(samples: Sequence[tuple[float, float]]) -> _Trend:
    warm = samples[int(len(samples) * _WARM_PART) :]
    hours = [at / 3600 for at, _ in warm]
    mib = [size for _, size in warm]
    slope, intercept = statistics.linear_regression(hours, mib)
    rest = [size - (slope * at + intercept) for at, size in zip(hours, mib, strict=True)]
    spread = sum((at - statistics.fmean(hours)) ** 2 for at in hours)
    variance = sum(one * one for one in rest) / max(1, len(rest) - 2)
    return _Trend(mib[0], mib[-1], slope, 2 * (variance / spread) ** 0.5)


def _line(name: str, trend: _Trend) -> Line:
    return Line(
        f"memory of {name}",
        f"rises < {_SLOPE_MIB_H_MAX:g} MiB/h",
        f"{trend.slope_mib_h:+.1f} ± {trend.doubt_mib_h:.1f} MiB/h "
        f"({trend.first_mib:.1f} → {trend.last_mib:.1f} MiB)",
        trend.flat,
    )
