"""Counts and flows: kept, not counted. The same questions to ten thousand and to ten million touchpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil

from shared.clock import SystemClock
from tests.bench import history, load
from tests.bench.http import get
from tests.bench.measure import Measure, Run, interleaved
from tests.bench.processes import LOAD_CORE, apart, peak_rss_mib, service
from tests.bench.rig import Store, new_key, postgres
from tests.bench.table import Section, Target, ratio

SMALL, LARGE = 10_000, 10_000_000
RATE_S, PACED_S, CLOSED_S = 30.0, 3.0, 1.5
_CONNECTIONS = 8
_AGO = timedelta(hours=36, minutes=30)
_COUNTS = f"/v1/journeys/{history.JOURNEY}/counts"
_FLOWS = f"/v1/journeys/{history.JOURNEY}/flows"


@dataclass(frozen=True, slots=True)
class _Asked:
    """An API over a filled store, and the key to ask it with."""

    port: int
    key: str
    pids: Sequence[int]
    api_pid: int


def measure(home: Path) -> Sequence[Section]:
    """Both stores are in one PostgreSQL, which nothing else uses, each with an API of its own."""
    now = SystemClock().now()
    questions = _questions(now)
    with ExitStack() as parts:
        store = parts.enter_context(postgres())
        apis = {
            touchpoints: parts.enter_context(_filled(home / str(touchpoints), store, touchpoints, now))
            for touchpoints in (SMALL, LARGE)
        }
        for api in apis.values():
            _check(api)
        rows = interleaved(
            {
                _row(name, touchpoints): _run(api, path)
                for name, path in questions.items()
                for touchpoints, api in apis.items()
            }
        )
    return [_section(rows, questions)]


def _questions(now: datetime) -> Mapping[str, str]:
    at = (now - _AGO).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"counts": _COUNTS, "counts, at a past time": f"{_COUNTS}?at={at}", "flows": _FLOWS}


def _row(name: str, touchpoints: int) -> str:
    return f"{name}, {touchpoints:,}"


@contextmanager
def _filled(home: Path, store: Store, touchpoints: int, now: datetime) -> Iterator[_Asked]:
    home.mkdir()
    with ExitStack() as parts:
        database_url = parts.enter_context(store.database())
        asyncio.run(history.fill(database_url, touchpoints, now))
        key = new_key(database_url, "read")
        api = parts.enter_context(service("api", {"database_url": database_url}, home))
        apart(load.closed, load.Job(api.port, [get(_COUNTS, key)], 0.1, api.pids, _CONNECTIONS))
        backends = _backends(store, database_url)
        yield _Asked(api.port, key, [*api.pids, store.postgres.pid, *backends], api.pids[0])


def _backends(store: Store, database_url: str) -> list[int]:
    """The processes of PostgreSQL that serve the sessions of a database. The API keeps its sessions."""
    name = database_url.rpartition("/")[2]
    server = psutil.Process(store.postgres.pid)
    return [one.pid for one in server.children() if f"postgres {name} " in " ".join(one.cmdline())]


def _check(api: _Asked) -> None:
    """The kept counts are the sum of the flows: the store is filled as the stager fills it."""
    kept, summed = (_answer(api, path) for path in (_COUNTS, f"{_COUNTS}?at={_answer(api, _COUNTS)['at']}"))
    if kept["stages"] != summed["stages"] or not any(place["count"] for place in kept["stages"]):
        raise ValueError(f"the store's counts are wrong: {kept['stages']}, by its flows {summed['stages']}")


def _answer(api: _Asked, path: str) -> Any:
    headers = {"Authorization": f"Bearer {api.key}"}
    answer = httpx.get(f"http://127.0.0.1:{api.port}{path}", headers=headers)
    return answer.raise_for_status().json()


def _run(api: _Asked, path: str) -> Run:
    requests = [get(path, api.key)]
    return lambda: _measured(api, requests)


def _measured(api: _Asked, requests: Sequence[bytes]) -> Measure:
    """What it costs at capacity, and how long it takes when there is room."""
    full = load.Job(api.port, requests, CLOSED_S, api.pids, _CONNECTIONS)
    capacity = apart(load.closed, full, core=LOAD_CORE)
    calm = apart(load.paced, replace(full, seconds=PACED_S), RATE_S, core=LOAD_CORE)
    return Measure(
        rate_s=capacity.rate_s,
        per_cpu_s=capacity.rate_s * capacity.seconds / capacity.cpu_s,
        p50_ms=calm.p50_ms,
        p99_ms=calm.p99_ms,
        rss_mib=peak_rss_mib([api.api_pid]),
    )


def _section(rows: Mapping[str, Measure], questions: Mapping[str, str]) -> Section:
    return Section(
        "API, counts and flows",
        rows,
        unit="requests",
        notes=(
            f"{SMALL:,} and {LARGE:,} touchpoints over {history.YEARS} years, {history.TOUCHES_EACH} a "
            "customer; the rows are smaller than real ones (a body of 60 bytes).",
            f"requests/s and CPU (of api and PostgreSQL): {_CONNECTIONS} connections, closed loop. "
            f"p50 and p99: at {RATE_S:.0f} requests a second, on schedule, from when a request was due.",
        ),
        targets=[
            Target(
                f"{name}: p50 at {LARGE:,} touchpoints, of that at {SMALL:,}",
                ratio(rows[_row(name, LARGE)].p50_ms, rows[_row(name, SMALL)].p50_ms),
                1.2,
                "at most",
            )
            for name in questions
        ],
    )
