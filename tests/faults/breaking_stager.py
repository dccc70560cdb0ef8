"""Stagers die at every point of a batch and of settling a link, freeze and wake up, come and go, and are fed
poison."""

from __future__ import annotations

import asyncio
import signal
import time
from functools import partial

import psutil
from aiokafka import AIOKafkaProducer

from shared import codec
from shared.clock import SystemClock
from shared.touchpoint import Touchpoint
from tests.faults.breaking_ingest import _lacks_memory
from tests.faults.memory import starved
from tests.faults.rig import PARTITIONS, READY_S, STAGERS, TOPIC
from tests.faults.scene import ANY_STAGER, Fault, Scene
from tests.support.ports import free_port

POINTS = (
    *("claimed", "read", "begin", "fenced", "sorted", "filed", "folded", "before_commit", "after_commit"),
    *("settling", "settled"),
)
_SESSION_S = 10.0
_DRAIN_S = 12.0
_STANDS = "SELECT count(*) FROM stager_offsets WHERE owner LIKE '%:{pid}'"


def _leave(scene: Scene) -> None:
    """End the stager in order, so that the others needn't wait for its session."""
    process = scene.rig.service(scene.stager)
    if process.running:
        process.terminate(_DRAIN_S)


def _killed_at(point: str, scene: Scene) -> None:
    _leave(scene)
    nth = 1 if point == "claimed" else scene.chance.randint(1, 4)
    dying = scene.rig.launch(scene.stager, REJSE_FAILPOINTS=f"stager.{point}:kill:{nth}")
    scene.wait_for(lambda: dying.exit_code == -signal.SIGKILL)
    scene.rig.start(scene.stager)


def _killed_at_any_moment(scene: Scene) -> None:
    scene.rig.end(scene.stager)
    scene.rig.start(scene.stager)


def _drained(scene: Scene) -> None:
    began_s = time.monotonic()
    code = scene.rig.service(scene.stager).terminate(_DRAIN_S)
    scene.rig.diary.took("a stager from SIGTERM to its end", time.monotonic() - began_s)
    assert code == 0, f"a stager ended with {code} upon SIGTERM"
    scene.rig.start(scene.stager)


def _zombie(point: str, scene: Scene) -> None:
    """It freezes with a batch in its hands for longer than its session, and goes on with it later."""
    rig = scene.rig
    _leave(scene)
    zombie = rig.launch(scene.stager, REJSE_FAILPOINTS=f"stager.{point}:stop:{scene.chance.randint(1, 4)}")
    scene.wait_for(lambda: _stands_still(zombie.pid))
    began_s = time.monotonic()
    scene.wait_for(lambda: not _owned(scene, zombie.pid))
    rig.diary.took(f"takeover from a stager frozen at stager.{point}", time.monotonic() - began_s)
    scene.lasts(began_s + _SESSION_S + 2 - time.monotonic())
    zombie.resume()
    rig.service(scene.stager).await_ready(READY_S)


def _owned(scene: Scene, pid: int) -> int:
    return int(scene.rig.postgres.execute(_STANDS.format(pid=pid)))


def _stands_still(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def _storm(scene: Scene) -> None:
    """One more joins and leaves, again and again."""
    rig = scene.rig
    for _ in range(3):
        guest = rig.guest_stager(free_port())
        scene.lasts(2)
        guest.terminate(_DRAIN_S + 3)


def _poisoned(scene: Scene) -> None:
    asyncio.run(_write_poison(scene.rig.broker.direct, scene.chance.getrandbits(32)))


async def _write_poison(bootstrap: str, mark: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        for number, value in enumerate(_poison(mark)):
            await producer.send_and_wait(TOPIC, value, partition=(mark + number) % PARTITIONS)
    finally:
        await producer.stop()


def _poison(mark: int) -> list[bytes]:
    """Bytes that are no JSON, a record of a newer schema, and one that PostgreSQL refuses."""
    now = SystemClock().now()
    refused = Touchpoint(f"{mark}", "x\0y", "web", now, now, "poison", (f"user_id:poison-{mark}",))
    return [
        b"\xff\xfe" + str(mark).encode(),
        b'{"schema":2,"id":"%d","what":{}}' % mark,
        codec.encode(refused),
    ]


def _out_of_memory(scene: Scene) -> None:
    process = scene.rig.service(scene.stager)
    with starved(process.pid):
        scene.wait_for(lambda: process.exit_code == -signal.SIGKILL)
    scene.rig.start(scene.stager)


FAULTS = (
    *(
        Fault(f"a stager killed at stager.{point}", 20, (ANY_STAGER,), partial(_killed_at, point))
        for point in POINTS
    ),
    Fault("a stager killed at any moment", 20, (ANY_STAGER,), _killed_at_any_moment),
    Fault("a stager drains at SIGTERM", 19, (ANY_STAGER,), _drained),
    Fault("a stager frozen with a batch read", 21, (ANY_STAGER,), partial(_zombie, "read")),
    Fault(
        "a stager frozen inside a transaction",
        22,
        ("broker", "guest", "postgres", *STAGERS),
        partial(_zombie, "filed"),
    ),
    Fault("a stager comes and goes", 23, ("guest",), _storm),
    Fault("poison on the log", 24, ("broker",), _poisoned),
    Fault("a stager out of memory", 30, (ANY_STAGER,), _out_of_memory, _lacks_memory),
)
