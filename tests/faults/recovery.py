"""How soon Rejse works again after one of its parts was killed; and row 19, ending ingest under load."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.bench.rig import kafka
from tests.faults.report import Line, Report
from tests.faults.scale import Scale
from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.support.installation import Installation
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.process import RejseProcess
from tests.support.workload import Workload, broken_promises

_DRAIN_S = 15.0
_WAIT_S = 60.0
_STAGED_S = 60.0


@dataclass
class _World:
    """A whole Rejse with two stagers, and the parts under it."""

    rejse: Installation
    broker: Broker
    postgres: Postgres
    ingest: RejseProcess
    stagers: list[RejseProcess]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def touchpoint(self) -> dict[str, Any]:
        """A fresh one, of a customer of its own."""
        number = next(self.numbers)
        return {
            "id": f"fresh-{number}",
            "type": "order_completed",
            "channel": "web",
            "identities": {"user_id": f"fresh-{number}"},
        }


def run(scale: Scale, home: Path) -> Report:
    """Kill each part in turn and take the time; then end ingest under load, again and again."""
    rounds, ends = (10, 20) if scale.full else (1, 5)
    with _world(home) as world:
        lines = [
            _line("broker, killed: port open → acked in its log", 1.0, rounds, lambda: _broker(world)),
            _line("PostgreSQL, killed: port open → visible", 2.0, rounds, lambda: _postgres(world)),
            _line("ingest, killed: started → acked", 2.0, rounds, lambda: _ingest(world)),
            _line("stager, killed: → visible by the other one", 12.0, rounds, lambda: _stager(world)),
            *_ends(world, ends, scale.seed),
        ]
    return Report(
        "Recovery",
        lines,
        [
            f"{rounds} times each; the slowest counts. PostgreSQL and the broker count from the first "
            "connection that their port takes, ingest from its start, the stager from its death.",
            f"Seed {scale.seed}.",
        ],
    )


@contextmanager
def _world(home: Path) -> Iterator[_World]:
    with ExitStack() as parts:
        broker = parts.enter_context(kafka(home, core=None))
        postgres = Postgres()
        parts.callback(postgres.close)
        postgres.start()
        env = {
            "REJSE_KAFKA_BOOTSTRAP": broker.bootstrap,
            "REJSE_DATABASE_URL": postgres.create_database(),
            "REJSE_KAFKA_PARTITIONS": "4",
            "REJSE_DRAIN_TIMEOUT_S": f"{_DRAIN_S:g}",
        }
        rejse = parts.enter_context(Installation(home, env))
        rejse.make_keys()
        ingest, stager = rejse.start("ingest"), rejse.start("stager")
        second = rejse.start("stager", REJSE_STAGER_PORT=str(free_port()))
        rejse.start("api")
        yield _World(rejse, broker, postgres, ingest, [stager, second])


def _line(what: str, within_s: float, rounds: int, once: Callable[[], float]) -> Line:
    taken_s = [once() for _ in range(rounds)]
    return Line(what, f"≤ {within_s:g} s", f"{max(taken_s):.2f} s", max(taken_s) <= within_s, timed=True)


def _broker(world: _World) -> float:
    """Acked by the broker, not only in the spool: so it has to be visible in the log's counter."""
    world.broker.kill()
    _post_until_kept(world)
    before = _drained(world)
    open_s = _port_opens(world.broker.port, world.broker.start)
    eventually(lambda: _drained(world) > before, _WAIT_S)
    return max(0.0, time.monotonic() - open_s)


def _drained(world: _World) -> float:
    return world.rejse.metric("ingest", "rejse_ingest_drained_total")


def _postgres(world: _World) -> float:
    world.postgres.kill()
    touchpoint = world.touchpoint()
    assert world.rejse.post([touchpoint]).status_code == 202
    open_s = _port_opens(_port(world.rejse.database_url), world.postgres.start)
    return _seen_s(world, touchpoint) - open_s


def _ingest(world: _World) -> float:
    world.ingest.kill()
    began_s = time.monotonic()
    world.ingest.launch()
    _post_until_kept(world)
    return time.monotonic() - began_s


def _stager(world: _World) -> float:
    """One dies; what it had is taken over by the other. Then the first is started again."""
    touchpoints = [world.touchpoint() for _ in range(40)]
    world.stagers[0].kill()
    began_s = time.monotonic()
    assert world.rejse.post(touchpoints).status_code == 202
    for touchpoint in touchpoints:
        _seen_s(world, touchpoint)
    taken_s = time.monotonic() - began_s
    world.stagers[0].start(60)
    world.stagers.reverse()
    return taken_s


def _post_until_kept(world: _World) -> None:
    touchpoint = world.touchpoint()
    eventually(
        lambda: world.rejse.post([touchpoint]).status_code == 202, _WAIT_S, tolerate=(httpx.TransportError,)
    )


def _seen_s(world: _World, touchpoint: dict[str, Any]) -> float:
    """When the API showed it."""
    ref = f"user_id:{touchpoint['identities']['user_id']}"
    eventually(
        lambda: touchpoint["id"] in world.rejse.timeline_ids(ref),
        _WAIT_S,
        tolerate=(AssertionError, httpx.TransportError),
    )
    return time.monotonic()


def _port_opens(port: int, start: Callable[[], None]) -> float:
    """Start a part meanwhile, and say when its port took a connection first."""

    async def both() -> float:
        async with asyncio.TaskGroup() as tasks:
            opening = tasks.create_task(asyncio.to_thread(_await_port, port))
            tasks.create_task(asyncio.to_thread(start))
        return opening.result()

    return asyncio.run(both())


def _await_port(port: int) -> float:
    def opens() -> bool:
        with socket.socket() as client:
            client.settimeout(1)
            return client.connect_ex(("127.0.0.1", port)) == 0

    eventually(opens, _WAIT_S)
    return time.monotonic()


def _port(url: str) -> int:
    return httpx.URL(url).port or 5432


def _ends(world: _World, times: int, seed: int) -> Sequence[Line]:
    """End ingest by SIGTERM while requests come, and start it again."""
    codes: list[int] = []
    slowest_s = 0.0
    with Workload(world.rejse, seed=seed) as load:
        for _ in range(times):
            before = load.total_acked()
            eventually(lambda before=before: load.total_acked() > before + 200, 30)  # type: ignore[misc]
            began_s = time.monotonic()
            codes.append(world.ingest.terminate(_DRAIN_S + 5))
            slowest_s = max(slowest_s, time.monotonic() - began_s)
            world.ingest.start(60)
    cut = {name: count for name, count in load.answers.items() if name not in ("202", "ConnectError")}
    eventually(lambda: not broken_promises(world.rejse, load), _STAGED_S)
    broken = broken_promises(world.rejse, load)
    return [
        Line("19: exit codes after SIGTERM under load", f"{times} × 0", str(codes), codes == [0] * times),
        Line(
            "19: the slowest end",
            f"≤ {_DRAIN_S:g} s",
            f"{slowest_s:.2f} s",
            slowest_s <= _DRAIN_S,
            timed=True,
        ),
        Line("19: requests that had begun and were not answered", "0", str(cut or 0), not cut),
        Line(
            "19: acked touchpoints lost, doubled or invented",
            "0",
            f"{len(broken)} customers, of {load.total_acked():,} acked",
            not broken,
        ),
    ]
