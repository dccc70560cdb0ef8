"""Row 18: three times what ingest can do, once, and from clients that send again at once what was refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from shared.clock import SystemClock
from shared.codec import decode
from shared.eventlog.choose import LOCAL_FOLDER
from shared.eventlog.local.reader import LocalReader
from tests.bench import load
from tests.bench.events import wire_event
from tests.bench.http import post
from tests.bench.load import percentile_ms
from tests.bench.processes import LOAD_CORE, Server, apart, service
from tests.bench.rig import new_key, postgres
from tests.faults.openloop import Offer, Outcome, offered
from tests.faults.process_watch import Watch, watched
from tests.faults.report import Line, Report
from tests.faults.scale import Scale

PATH = "/v1/touchpoints"
_EVENTS = 200
_CAPACITY_S, _CAPACITY_REQUESTS, _CAPACITY_CONNECTIONS = 3.0, 100_000, 64
_TIMES = 3
_CONNECTIONS, _TIMEOUT_S = 3_000, 5.0
_P99_MS_MAX, _RSS_MIB_MAX = 5_000.0, 300.0
_REFUSALS = ("429", "503")
_PLACE = "########"
"""Where a request's number comes to stand: so wide that all are of one length."""


@dataclass(frozen=True, slots=True)
class _Crowd:
    """Clients that send what is refused up to so many times, each time at once."""

    name: str
    mark: str
    tries: int
    goodput_min: float


_CROWDS = (
    _Crowd("three times the capacity", "over", 1, 0.9),
    # Taking a refusal's request off the wire costs what it costs: seven times the capacity leave less of it.
    _Crowd("the same, and all that is refused twice more", "storm", 3, 0.6),
)


@dataclass(frozen=True, slots=True)
class _Tried:
    crowd: _Crowd
    offer: Offer
    outcome: Outcome
    seen: Watch
    capacity_s: float


def run(scale: Scale, home: Path) -> Report:
    """Find the capacity, offer three times that, and look into the log."""
    seconds = 120.0 if scale.full else 8.0
    with postgres() as store, store.database() as database_url:
        key = new_key(database_url, "write")
        with service("ingest", {"database_url": database_url}, home) as server:
            tried = list(_all_tried(server, key, seconds))
    kept = asyncio.run(_kept(home / "data-ingest-0"))
    lines = [line for one in tried for line in (*_lines(one), *_log_lines(one, kept))]
    return Report(
        "Overload",
        lines,
        [
            f"{_EVENTS} touchpoints a request, for {seconds:g} s over {_CONNECTIONS:,} connections, given up "
            f"after {_TIMEOUT_S:g} s. Ingest on the local log, as it comes, on a core of its own. Its "
            "capacity is the mean of what it took in a closed loop before and after.",
            *(
                f"{one.crowd.name}: {dict(one.outcome.answers)}; on schedule within "
                f"{1000 * one.outcome.behind_s:.0f} ms."
                for one in tried
            ),
        ],
    )


def _capacity_s(server: Server, key: str) -> float:
    """Requests a second in a closed loop, of so many connections that more would make no difference."""
    requests = Requests(key, "capa", _CAPACITY_REQUESTS)
    job = load.Job(server.port, requests, _CAPACITY_S, server.pids, _CAPACITY_CONNECTIONS)
    loaded: load.Loaded = apart(load.closed, job, core=LOAD_CORE)
    return loaded.rate_s


def _all_tried(server: Server, key: str, seconds: float) -> Iterator[_Tried]:
    before_s = _capacity_s(server, key)
    for crowd in _CROWDS:
        offer, outcome, seen = _offered(crowd, server, key, _TIMES * before_s, seconds)
        after_s = _capacity_s(server, key)
        yield _Tried(crowd, offer, outcome, seen, (before_s + after_s) / 2)
        before_s = after_s


def _offered(
    crowd: _Crowd, server: Server, key: str, rate_s: float, seconds: float
) -> tuple[Offer, Outcome, Watch]:
    requests = Requests(key, crowd.mark, round(rate_s * seconds) + 1)
    offer = Offer(server.port, requests, rate_s, seconds, _CONNECTIONS, _TIMEOUT_S, crowd.tries)
    with watched(server.pids[0]) as seen:
        outcome: Outcome = apart(offered, offer, core=LOAD_CORE, timeout_s=600.0)
    return offer, outcome, seen


class Requests(Sequence[bytes]):
    """Different touchpoints, so many a request, whose ids tell the request. Made when they are asked for:
    all of them would be gigabytes."""

    def __init__(self, key: str, name: str, count: int) -> None:
        at = SystemClock().now() - timedelta(days=1)
        events = [
            wire_event(event_id(name, _PLACE, number), number, at, "page_viewed") for number in range(_EVENTS)
        ]
        self._template = post(PATH, b"[" + b",".join(events) + b"]", key)
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, request: Any) -> Any:
        return self._template.replace(_PLACE.encode(), _written(request).encode())


def event_id(name: str, request: str, number: int) -> str:
    """The id of a touchpoint of a request."""
    return f"{name}-{request}-{number}"


def _written(request: int) -> str:
    return f"{request:0{len(_PLACE)}d}"


async def _kept(data_dir: Path) -> Counter[str]:
    """How often each id stands in the log."""
    reader = await LocalReader.open(data_dir / LOCAL_FOLDER, SystemClock())
    kept: Counter[str] = Counter()
    try:
        reader.start(0, 0)
        while records := await reader.poll(50_000, 0.0):
            kept.update(decode(record.value).id for record in records)
    finally:
        await reader.close(1.0)
    return kept


def _lines(tried: _Tried) -> Sequence[Line]:
    outcome, seen, name = tried.outcome, tried.seen, f"18: {tried.crowd.name}"
    waits_s = sorted(outcome.waits_s)
    p99_ms = percentile_ms(waits_s, 0.99) if waits_s else float("inf")
    goodput_s = len(outcome.accepted) / outcome.seconds
    share = goodput_s / tried.capacity_s
    sent_s = outcome.sent / outcome.seconds
    refused = sum(outcome.answers[status] for status in _REFUSALS)
    others = {
        status: count
        for status, count in outcome.answers.items()
        if count and status not in (*_REFUSALS, "202", "never sent", "gave up")
    }
    return [
        # What waits for a free connection on our side has overloaded nobody.
        Line(
            f"{name}: requests that really went out, a second",
            f"{tried.offer.rate_s:,.0f}",
            f"{sent_s:,.0f}; {outcome.answers['never sent']:,} found no connection",
            sent_s >= 0.98 * tried.offer.rate_s,
            timed=True,
        ),
        Line(
            f"{name}: goodput, of the capacity",
            f"≥ {tried.crowd.goodput_min:.0%}",
            f"{share:.0%} ({goodput_s:,.0f} of {tried.capacity_s:,.0f} requests/s)",
            share >= tried.crowd.goodput_min,
            timed=True,
        ),
        Line(
            f"{name}: refusals without `Retry-After`",
            "0",
            f"{outcome.refused_without_retry_after} of {refused:,}",
            refused > 0 and not outcome.refused_without_retry_after,
        ),
        Line(
            f"{name}: p99 of what was accepted",
            f"≤ {_P99_MS_MAX:,.0f} ms",
            f"{p99_ms:,.0f} ms",
            p99_ms <= _P99_MS_MAX,
            timed=True,
        ),
        Line(f"{name}: answers but 202, 429 and 503", "none", str(others or "none"), not others),
        Line(
            f"{name}: memory of ingest",
            f"≤ {_RSS_MIB_MAX:.0f} MiB",
            f"{seen.peak_rss_mib:.0f} MiB",
            seen.peak_rss_mib <= _RSS_MIB_MAX,
        ),
    ]


def _log_lines(tried: _Tried, kept: Counter[str]) -> Sequence[Line]:
    outcome, name = tried.outcome, f"18: {tried.crowd.name}"
    acked = [
        (request, event_id(tried.crowd.mark, _written(request), number))
        for request in outcome.accepted
        for number in range(_EVENTS)
    ]
    lost = sum(not kept[id_] for _, id_ in acked)
    doubled = sum(kept[id_] > 1 for request, id_ in acked if request not in outcome.repeated)
    return [
        Line(f"{name}: acked events that the log doesn't have", "0", f"{lost} of {len(acked):,}", not lost),
        Line(f"{name}: acked events, sent once, that it has twice", "0", str(doubled), not doubled),
    ]
