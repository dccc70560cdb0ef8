"""Ingest dies, drains, loses its disk or its memory, and its clock jumps."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx

from tests.faults.memory import memory_control, starved
from tests.faults.rig import BURST_SOURCE, READY_S, STAGERS, Rig
from tests.faults.scene import Fault, Scene
from tests.support import plain_http

_DAY_S = 86_400
_WITH_CLOCKS = ("ingest", STAGERS[0])
_DRAIN_S = 12.0
_OVER_RATE_REQUESTS = 60
_LARGE_AT_ONCE = 12


def _killed_at(point: str, scene: Scene) -> None:
    rig = scene.rig
    rig.end("ingest")
    dying = rig.launch("ingest", REJSE_FAILPOINTS=f"{point}:kill:{scene.chance.randint(1, 20)}")
    scene.wait_for(lambda: dying.exit_code == -signal.SIGKILL)
    rig.start("ingest")


def _killed_at_spool(point: str, scene: Scene) -> None:
    """The broker goes, and ingest dies on the way into its spool or out of it."""
    rig = scene.rig
    await_drained(scene)
    rig.end("ingest")
    rig.broker.kill()
    dying = rig.launch("ingest", REJSE_FAILPOINTS=f"{point}:kill:{scene.chance.randint(1, 3)}")
    if point.endswith("_drop"):
        scene.wait_for(lambda: scene.metric("ingest", "rejse_ingest_spooled_total") > 0)
        rig.broker.start()
    scene.wait_for(lambda: dying.exit_code == -signal.SIGKILL)
    rig.launch("ingest")
    rig.heal_servers()
    await_drained(scene)
    rig.diary.saw("the spool used")


def _killed_at_any_moment(scene: Scene) -> None:
    scene.lasts(scene.chance.random())
    scene.rig.end("ingest")
    scene.rig.start("ingest")


def _drained(scene: Scene) -> None:
    began_s = time.monotonic()
    code = scene.rig.service("ingest").terminate(_DRAIN_S)
    scene.rig.diary.took("ingest from SIGTERM to its end", time.monotonic() - began_s)
    assert code == 0, f"ingest ended with {code} upon SIGTERM"
    scene.rig.start("ingest")


def _spool_full(scene: Scene) -> None:
    rig = scene.rig
    rig.broker.kill()
    scene.wait_for(lambda: "full" in scene.checks("ingest")["durable"])
    scene.lasts(1)
    rig.diary.saw("the spool used")
    rig.broker.start()
    await_drained(scene)


def _spool_disk_full(scene: Scene) -> None:
    """What the spool has taken of the disk before it goes on using; then it is full, too."""
    rig = scene.rig
    rig.disks["spool"].fill()
    rig.broker.kill()
    scene.wait_for(lambda: _refuses(scene.checks("ingest")["durable"]))
    scene.lasts(1)
    rig.disks["spool"].empty()
    rig.broker.start()
    await_drained(scene)


def _refuses(state: str) -> bool:
    return "fails" in state or "full" in state


def _sync_fails(scene: Scene) -> None:
    """What a failed sync should have kept is gone, so nothing may be answered by it."""
    rig = scene.rig
    await_drained(scene)
    rig.broker.kill()
    scene.wait_for(lambda: scene.metric("ingest", "rejse_ingest_breaker_open") > 0)
    before = rig.preloads.failed_syncs()
    rig.preloads.fail_syncs(True)
    scene.wait_for(lambda: rig.preloads.failed_syncs() >= before + 3)
    rig.preloads.fail_syncs(False)
    scene.lasts(1)
    rig.broker.start()
    await_drained(scene)


def _out_of_memory(scene: Scene) -> None:
    """It has hardly any room for more, and a sender sends large bodies at once."""
    process = scene.rig.service("ingest")
    with starved(process.pid), ThreadPoolExecutor(_LARGE_AT_ONCE) as senders:
        while process.running and not scene.rig.diary.broken:
            list(senders.map(lambda _: _send_large(scene), range(_LARGE_AT_ONCE)))
    assert process.exit_code == -signal.SIGKILL, f"ingest ended with {process.exit_code}"
    scene.rig.start("ingest")


def _send_large(scene: Scene) -> None:
    body = b'[{"type":"' + b"x" * 1_000_000 + b'"}]'
    with contextlib.suppress(httpx.HTTPError):
        plain_http.post(
            f"{scene.rig.url('ingest')}/v1/touchpoints", content=body, headers=_burst(scene), timeout=5
        )


def _burst(scene: Scene) -> dict[str, str]:
    return {"authorization": f"Bearer {scene.rig.keys[BURST_SOURCE]}", "content-type": "application/json"}


def _clock_jumps(offset_s: int, scene: Scene) -> None:
    """Of ingest and of one stager, while they are at work, there and back."""
    rig = scene.rig
    jumping = rig.preloads.env_of_jumping_clock()
    for part in _WITH_CLOCKS:
        rig.service(part).terminate(_DRAIN_S)
        rig.launch(part, **jumping)
    for part in _WITH_CLOCKS:
        rig.service(part).await_ready(READY_S)
    for offset in (offset_s, 0):
        rig.preloads.set_clock(offset)
        scene.lasts(3)
    for part in _WITH_CLOCKS:
        rig.service(part).terminate(_DRAIN_S)
        rig.launch(part)
    for part in _WITH_CLOCKS:
        rig.service(part).await_ready(READY_S)


def _over_its_rate(scene: Scene) -> None:
    """A sender of its own sends what costs much of its rate and obliges to nothing."""
    body = b"[" + b",".join([b"{}"] * 500) + b"]"
    with plain_http.client(base_url=scene.rig.url("ingest"), headers=_burst(scene), timeout=10) as client:
        for _ in range(_OVER_RATE_REQUESTS):
            answer = client.post("/v1/touchpoints", content=body)
            if answer.status_code == 429:
                assert "retry-after" in answer.headers
                scene.rig.diary.saw("a 429")
                return
    raise AssertionError("a sender over its rate was never told so")


def await_drained(scene: Scene) -> None:
    """Wait until ingest's spool is empty and the log is used again."""
    scene.wait_for(lambda: scene.metric("ingest", "rejse_ingest_breaker_open") == 0)


def _lacks_clock(rig: Rig) -> str | None:
    return None if rig.preloads.faketime else "libfaketime"


def _lacks_memory(_: Rig) -> str | None:
    return None if memory_control() else "a memory control group"


def _at(kill: Callable[[str, Scene], None], point: str) -> Callable[[Scene], None]:
    return partial(kill, point)


FAULTS = (
    Fault("ingest killed before an append", 1, ("ingest",), _at(_killed_at, "ingest.before_append")),
    Fault("ingest killed before its answer", 1, ("ingest",), _at(_killed_at, "ingest.after_append")),
    Fault("ingest killed at any moment", 1, ("ingest",), _killed_at_any_moment),
    Fault(
        "ingest killed before the spool's sync",
        1,
        ("broker", "ingest"),
        _at(_killed_at_spool, "ingest.before_spool_commit"),
    ),
    Fault(
        "ingest killed after the spool's sync",
        1,
        ("broker", "ingest"),
        _at(_killed_at_spool, "ingest.after_spool_commit"),
    ),
    Fault(
        "ingest killed before it drops what was sent on",
        2,
        ("broker", "ingest"),
        _at(_killed_at_spool, "ingest.before_spool_drop"),
    ),
    Fault(
        "ingest killed after it dropped what was sent on",
        2,
        ("broker", "ingest"),
        _at(_killed_at_spool, "ingest.after_spool_drop"),
    ),
    Fault("the spool reaches its bound", 3, ("broker", "ingest"), _spool_full),
    Fault("the spool's disk is full", 8, ("broker", "ingest"), _spool_disk_full),
    Fault("the spool's disk fails to sync", 8, ("broker", "ingest"), _sync_fails),
    Fault("a day forward", 12, _WITH_CLOCKS, partial(_clock_jumps, _DAY_S), _lacks_clock),
    Fault("a day back", 12, _WITH_CLOCKS, partial(_clock_jumps, -_DAY_S), _lacks_clock),
    Fault("a sender over its rate", 10, ("ingest",), _over_its_rate),
    Fault("ingest drains at SIGTERM", 19, ("ingest",), _drained),
    Fault("ingest out of memory", 30, ("ingest",), _out_of_memory, _lacks_memory),
)
