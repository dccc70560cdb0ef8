"""The broker dies, freezes, fills its disk, refuses records; and what lies between it and us breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.faults.rig import STAGERS, TOPIC
from tests.faults.scene import Fault, Scene
from tests.support.eventually import eventually
from tests.support.proxy import Mood

_DURABLE = {"flush.messages": "1"}
# Every batch is synced, so that what the broker keeps in a second falls with it: at 2,000 that is hardly what
# the load brings, and a spool that goes on filling is no fault of anybody's.
_SMALL = {**_DURABLE, "max.message.bytes": "8000"}


def _down(seconds: float, scene: Scene) -> None:
    scene.rig.broker.kill()
    scene.lasts(seconds, 60)
    scene.rig.broker.start()


def _restarted(scene: Scene) -> None:
    scene.rig.broker.restart()


def _killed_and_started(scene: Scene) -> None:
    scene.rig.broker.kill()
    scene.rig.broker.start()


def _frozen(scene: Scene) -> None:
    scene.rig.broker.pause()
    scene.lasts(6, 30)
    scene.rig.broker.resume()


def _disk_full(scene: Scene) -> None:
    """A broker that can't write ends; it must come back with all that it has acked."""
    rig = scene.rig
    rig.disks["kafka"].fill()
    try:
        eventually(lambda: not rig.broker.running, 20)
    except AssertionError:
        rig.broker.kill()
    rig.disks["kafka"].empty()
    rig.broker.start()


def _in_the_way(mood: Mood, seconds: float, scene: Scene) -> None:
    proxy = scene.rig.broker_proxy
    proxy.set(mood)
    if mood.refuse:
        proxy.cut()
    if mood.half_frame:
        scene.wait_for(proxy.struck.is_set)
    else:
        scene.lasts(seconds)
    proxy.set()


def _cut(scene: Scene) -> None:
    for _ in range(5):
        scene.rig.broker_proxy.cut()
        scene.lasts(scene.chance.uniform(0.1, 0.6))


def _refuses_records(scene: Scene) -> None:
    """The large ones alone are refused, each by name, by a topic that was fit when ingest began with it;
    nothing may lie in the spool meanwhile, for there they have been answered already."""
    scene.wait_for(
        lambda: scene.metric("ingest", "rejse_ingest_breaker_open") == 0 and _kept_by_the_log(scene) > 0
    )
    before = scene.metric("ingest", "rejse_ingest_touchpoints_set_aside_total")
    asyncio.run(_alter(scene.rig.broker.direct, _SMALL))
    try:
        scene.wait_for(
            lambda: scene.metric("ingest", "rejse_ingest_touchpoints_set_aside_total") > before, 30
        )
    finally:
        asyncio.run(_alter(scene.rig.broker.direct, _DURABLE))


def _kept_by_the_log(scene: Scene) -> float:
    """How many records this ingest process has brought into the log."""
    accepted, spooled, drained = (
        scene.metric("ingest", f"rejse_ingest_{name}_total")
        for name in ("touchpoints_accepted", "spooled", "drained")
    )
    return accepted - spooled + drained


async def _alter(bootstrap: str, config: dict[str, str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC, configs=config)])
    finally:
        await admin.close()


def _network(name: str, mood: Mood, seconds: float = 4) -> Fault:
    run: Callable[[Scene], None] = partial(_in_the_way, mood, seconds)
    return Fault(name, 4, ("broker",), run)


FAULTS = (
    Fault("the broker away for a while", 3, ("broker",), partial(_down, 5.0)),
    Fault("the broker frozen", 4, ("broker",), _frozen),
    _network("the broker slow", Mood(delay_s=0.25)),
    _network("the broker's connections refused", Mood(refuse=True)),
    _network("the broker's bytes swallowed", Mood(hole=True)),
    _network("the broker's bytes in slices", Mood(sliced=True), 2),
    _network("half a reply of the broker", Mood(half_frame=True)),
    Fault("the broker's connections reset", 4, ("broker",), _cut),
    Fault("the broker restarted", 5, ("broker",), _restarted),
    Fault("the broker killed and started", 5, ("broker",), _killed_and_started),
    Fault("the broker's disk full", 6, ("broker",), _disk_full),
    # A service that starts meanwhile refuses the topic, as it must.
    Fault("the broker refuses large records", 7, ("broker", "guest", "ingest", *STAGERS), _refuses_records),
)
