"""Row 18: three times what ingest can do, from impatient clients that send again at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from shared.clock import SystemClock
from shared.codec import decode
from shared.eventlog.choose import LOCAL_FOLDER
from shared.eventlog.local.reader import LocalReader
from tests.bench import load
from tests.bench.events import wire_event
from tests.bench.http import post
from tests.bench.load import percentile_ms
from tests.bench.processes import LOAD_CORE, apart, service
from tests.bench.rig import new_key, postgres
from tests.faults.openloop import Offer, Outcome, offered
from tests.faults.process_watch import Watch, watched
from tests.faults.report import Line, Report
from tests.faults.scale import Scale

PATH = "/v1/touchpoints"
_EVENTS, _CUSTOMERS = 20, 5_000
_CAPACITY_S, _CAPACITY_REQUESTS, _CAPACITY_CONNECTIONS = 4.0, 2_000, 512
_TIMES = 3
_CONNECTIONS, _TIMEOUT_S, _TRIES = 2_000, 2.0, 3
_IN_FLIGHT_BYTES = 2 << 20
"""Less than what so many connections send at once, so that some of it has to be refused."""
_GOODPUT_MIN, _P99_MS_MAX, _RSS_MIB_MAX = 0.9, 5_000.0, 200.0
_REFUSALS = ("429", "503")


@dataclass(frozen=True, slots=True)
class _Tried:
    capacity_s: float
    outcome: Outcome
    seen: Watch

    @property
    def goodput_s(self) -> float:
        """Requests a second that a 202 took, while it lasted."""
        return len(self.outcome.accepted) / self.outcome.seconds


def run(scale: Scale, home: Path) -> Report:
    """Find the capacity, offer three times that, and look into the log."""
    seconds = 120.0 if scale.full else 8.0
    with postgres() as store, store.database() as database_url:
        key = new_key(database_url, "write")
        settings = {"database_url": database_url, "in_flight_bytes_max": str(_IN_FLIGHT_BYTES)}
        with service("ingest", settings, home) as server:
            capacity_s = _capacity_s(server.port, server.pids, key)
            requests = _requests(key, "over", round(_TIMES * capacity_s * seconds) + 1)
            offer = Offer(
                server.port, requests, _TIMES * capacity_s, seconds, _CONNECTIONS, _TIMEOUT_S, _TRIES
            )
            with watched(server.pids[0]) as seen:
                outcome: Outcome = apart(offered, offer, core=LOAD_CORE, timeout_s=600.0)
    tried = _Tried(capacity_s, outcome, seen)
    kept = asyncio.run(_kept(home / "data-ingest-0"))
    return Report(
        "Overload",
        [*_lines(tried), *_log_lines(outcome, kept)],
        [
            f"{_EVENTS} events a request; {offer.rate_s:,.0f} requests a second for {seconds:g} s over "
            f"{_CONNECTIONS:,} connections, given up after {_TIMEOUT_S:g} s and sent up to {_TRIES} times. "
            f"Ingest on the local log, on a core of its own, with {_IN_FLIGHT_BYTES >> 20} MiB in flight.",
            f"Answers: {dict(outcome.answers)}; on schedule within {1000 * outcome.behind_s:.0f} ms.",
        ],
    )


def _capacity_s(port: int, pids: Sequence[int], key: str) -> float:
    """Requests a second in a closed loop, of so many connections that more would make no difference."""
    requests = _requests(key, "cap", _CAPACITY_REQUESTS)
    job = load.Job(port, requests, _CAPACITY_S, pids, _CAPACITY_CONNECTIONS)
    loaded: load.Loaded = apart(load.closed, job, core=LOAD_CORE)
    return loaded.rate_s


def _requests(key: str, name: str, count: int) -> list[bytes]:
    """Different touchpoints, so many a request, whose ids tell the request."""
    at = SystemClock().now() - timedelta(days=1)
    return [
        post(
            PATH, b"[" + b",".join(_event(name, request, number, at) for number in range(_EVENTS)) + b"]", key
        )
        for request in range(count)
    ]


def _event(name: str, request: int, number: int, at: object) -> bytes:
    customer = (request * _EVENTS + number) % _CUSTOMERS
    return wire_event(f"{name}-{request}-{number}", customer, at, "page_viewed")  # type: ignore[arg-type]


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
    outcome, seen = tried.outcome, tried.seen
    waits_s = sorted(outcome.waits_s)
    p99_ms = percentile_ms(waits_s, 0.99) if waits_s else float("inf")
    share = tried.goodput_s / tried.capacity_s
    sent_share = outcome.sent / outcome.seconds / tried.capacity_s
    refused = sum(outcome.answers[status] for status in _REFUSALS)
    others = {
        status: count
        for status, count in outcome.answers.items()
        if count and status not in (*_REFUSALS, "202", "never sent", "gave up")
    }
    return [
        # What waits for a free connection on our side has overloaded nobody.
        Line(
            "18: requests that really went out, retries among them",
            f"≥ {_TIMES:.0%} of the capacity",
            f"{sent_share:.0%}; {outcome.answers['never sent']:,} found no connection",
            sent_share >= _TIMES,
        ),
        Line(
            "18: goodput while three times the capacity is due",
            f"≥ {_GOODPUT_MIN:.0%} of it",
            f"{share:.0%} ({tried.goodput_s:,.0f} of {tried.capacity_s:,.0f} requests/s)",
            share >= _GOODPUT_MIN,
        ),
        Line(
            "18: refusals without `Retry-After`",
            "0",
            f"{outcome.refused_without_retry_after} of {refused:,}",
            refused > 0 and not outcome.refused_without_retry_after,
        ),
        Line(
            "18: p99 of what was accepted, from when it was sent",
            f"≤ {_P99_MS_MAX:,.0f} ms",
            f"{p99_ms:,.0f} ms",
            p99_ms <= _P99_MS_MAX,
        ),
        Line("18: answers but 202, 429 and 503", "none", str(others or "none"), not others),
        Line(
            "18: memory of ingest",
            f"≤ {_RSS_MIB_MAX:.0f} MiB",
            f"{seen.peak_rss_mib:.0f} MiB",
            seen.peak_rss_mib <= _RSS_MIB_MAX,
        ),
    ]


def _log_lines(outcome: Outcome, kept: Counter[str]) -> Sequence[Line]:
    acked = [
        (request, f"over-{request}-{number}") for request in outcome.accepted for number in range(_EVENTS)
    ]
    lost = sum(not kept[id_] for _, id_ in acked)
    doubled = sum(kept[id_] > 1 for request, id_ in acked if request not in outcome.repeated)
    return [
        Line("18: acked events that the log doesn't have", "0", f"{lost} of {len(acked):,}", not lost),
        Line("18: acked events, sent once, that it has twice", "0", str(doubled), not doubled),
    ]
