"""Row 13: hundreds of slow connections at once, of every kind, beside clients that want to work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.ingest.protocol import BoundedProtocol
from shared.clock import SystemClock
from tests.bench.events import wire_events
from tests.bench.http import post
from tests.bench.load import percentile_ms
from tests.bench.processes import LOAD_CORE, apart, service
from tests.bench.rig import new_key, postgres
from tests.faults.openloop import Offer, Outcome, offered
from tests.faults.process_watch import watched
from tests.faults.report import Line, Report
from tests.faults.scale import Scale
from tests.faults.slow import KINDS, Held, Siege, besiege

PATH = "/v1/touchpoints"
_RATE_S, _EVENTS = 200.0, 2_000
_SLACK_S = 3.0
_P99_MS_MAX, _RSS_MIB_MAX = 200.0, 150.0
_FDS_BESIDES = 64 + 64
"""What a server has open besides the slow connections: the honest clients', and its own files."""
_DEADLINES_S = {
    "silent": BoundedProtocol.idle_s,
    "drips headers": BoundedProtocol.headers_s,
    "drips a body": BoundedProtocol.body_s,
    "drips chunks": BoundedProtocol.body_s,
    # The buffers are full after a few seconds; then the answers have so long to be taken.
    "reads slowly": 4.0 + BoundedProtocol.write_s,
    "never reads": 4.0 + BoundedProtocol.write_s,
    "floods": BoundedProtocol.write_s,
}


@dataclass(frozen=True, slots=True)
class _Size:
    clients: int
    asking: int
    comes_again_s: float


def run(scale: Scale, home: Path) -> Report:
    """Besiege ingest, and look after the clients that want to work."""
    size = _Size(2_000, 80, 60.0) if scale.full else _Size(500, 16, 8.0)
    patience_s = max(_DEADLINES_S.values()) + _SLACK_S
    with postgres() as store, store.database() as database_url:
        key = new_key(database_url, "write")
        with service("ingest", {"database_url": database_url}, home) as server:
            siege = Siege(
                server.port,
                size.clients,
                size.asking,
                size.comes_again_s,
                patience_s,
                _head(key),
                _refused(),
                scale.seed,
            )
            offer = Offer(server.port, _requests(key), _RATE_S, size.comes_again_s + patience_s - 1)
            with watched(server.pids[0]) as seen:
                held, outcome = apart(_siege_and_work, siege, offer, core=LOAD_CORE)
                left_fds = seen.settled_fds()
    return Report(
        "Slow sockets",
        [
            *_work_lines(size, outcome),
            *(_closed_line(kind, held) for kind in KINDS),
            Line(
                "13: memory of ingest",
                f"≤ {_RSS_MIB_MAX:.0f} MiB",
                f"{seen.peak_rss_mib:.0f} MiB",
                seen.peak_rss_mib <= _RSS_MIB_MAX,
            ),
            Line(
                "13: open files of ingest, at most and afterwards",
                f"≤ {size.clients + _FDS_BESIDES}, then as before",
                f"{seen.peak_fds}, then {left_fds} (before: {seen.first_fds})",
                seen.peak_fds <= size.clients + _FDS_BESIDES and left_fds <= seen.first_fds + 5,
            ),
        ],
        [
            f"{size.clients} slow connections at once for {size.comes_again_s:g} s, {size.asking} of which "
            "ask for long answers and leave them lie; one that is closed is opened again. All have a valid "
            "key. Ingest on the local log.",
            f"Answers: {dict(outcome.answers)}; on schedule within {1000 * outcome.behind_s:.0f} ms.",
        ],
    )


async def _siege_and_work(siege: Siege, offer: Offer) -> tuple[Held, Outcome]:
    async with asyncio.TaskGroup() as tasks:
        besieging = tasks.create_task(besiege(siege))
        working = tasks.create_task(offered(offer))
    return besieging.result(), working.result()


def _work_lines(size: _Size, outcome: Outcome) -> Sequence[Line]:
    latencies_s = sorted(outcome.latencies_s)
    p99_ms = percentile_ms(latencies_s, 0.99) if latencies_s else float("inf")
    others = sum(outcome.answers.values()) - outcome.answers["202"]
    return [
        Line(
            f"13: p99 of {_RATE_S:.0f} real events a second beside {size.clients} slow sockets",
            f"< {_P99_MS_MAX:.0f} ms",
            f"{p99_ms:.0f} ms ({len(latencies_s)} events)",
            p99_ms < _P99_MS_MAX,
            timed=True,
        ),
        Line(
            "13: real events not answered 202",
            "0",
            str(others),
            others == 0,
            # Ingest sheds what it has no time for.
            timed=others == outcome.answers["503"],
        ),
    ]


def _closed_line(kind: str, held: Held) -> Line:
    deadline_s = _DEADLINES_S[kind] + _SLACK_S
    longest_s, left = held.longest_s.get(kind, 0.0), held.left[kind]
    made = held.connections[kind]
    return Line(
        f"13: a client that is or does: {kind}",
        f"closed within {deadline_s:.0f} s",
        f"{made} connections, longest {longest_s:.1f} s, {left} left",
        made > 0 and not left and longest_s <= deadline_s,
        timed=made > 0 and not left,
    )


def _requests(key: str) -> list[bytes]:
    begin = SystemClock().now() - timedelta(days=1)
    return [post(PATH, event, key) for event in wire_events(_EVENTS, 500, begin)]


def _head(key: str) -> bytes:
    head = post(PATH, b"", key)
    return head[: head.index(b"Content-Length")]


def _refused() -> bytes:
    """What is answered at length: the place of every refusal is a long one."""
    return json.dumps([{"~" * 200: 1}] * 500).encode()
