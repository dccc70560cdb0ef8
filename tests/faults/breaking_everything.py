"""The power goes; and the log is another one when it is back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from tests.faults.breaking_ingest import await_drained
from tests.faults.rig import STAGERS, TOPIC, Rig
from tests.faults.scene import Fault, Scene
from tests.faults.torn import is_torn, tear_segment, tear_wal
from tests.support.eventually import eventually

_BACK_TO_THE_BEGINNING = """
UPDATE stager_offsets SET next_offset = 0, tail_crc = NULL, epoch = epoch + 1 WHERE topic = 'touchpoints'
"""
_STANDS = "SELECT partition, next_offset FROM stager_offsets ORDER BY 1"


def _power_cut(scene: Scene) -> None:
    scene.lasts(scene.chance.uniform(0.2, 1.5))
    _cut(scene)


def _power_cut_with_torn_tails(scene: Scene) -> None:
    """It goes while the broker is away, so that the spool is in use, and leaves half-written ends."""
    rig = scene.rig
    await_drained(scene)
    rig.broker.kill()
    scene.wait_for(lambda: scene.metric("ingest", "rejse_ingest_spooled_total") > 0)
    scene.lasts(scene.chance.uniform(0.2, 1.0))
    rig.diary.saw("the spool used")
    torn = _cut(scene, tear=True)
    for path in torn:
        assert not path.exists() or not is_torn(path), f"{path} is still torn"
        rig.diary.saw("a torn tail repaired")


def _cut(scene: Scene, tear: bool = False) -> list[Path]:
    rig = scene.rig
    rig.freeze_frame()
    rig.kill_all()
    rig.come_back()
    torn = _tear(rig) if tear else []
    began_s = time.monotonic()
    rig.power_up()
    rig.await_ready()
    rig.diary.took("from power on to ready", time.monotonic() - began_s)
    return torn


def _tear(rig: Rig) -> list[Path]:
    for wal in rig.disks["spool"].mount_point.rglob("*.sqlite3-wal"):
        tear_wal(wal)
    found = map(tear_segment, sorted(rig.disks["kafka"].mount_point.glob(f"data/{TOPIC}-*")))
    return [path for path in found if path is not None]


POWER_CUTS = (
    Fault("a power cut", 9, (), _power_cut),
    Fault("a power cut that tears files", 2, (), _power_cut_with_torn_tails),
)


def make_log_anew(rig: Rig) -> None:
    """Delete the topic under stopped services, as a careless operator does."""
    for part in ("ingest", *STAGERS):
        rig.service(part).terminate()
    asyncio.run(_delete(rig.broker.direct))
    rig.start("ingest")


def expect_halt(rig: Rig) -> None:
    """The stagers must not skip what they don't know: every partition stands still, and says so."""
    before = rig.postgres.execute(_STANDS)
    for part in STAGERS:
        rig.launch(part)
    halted = '"event": "partition_halted"'
    eventually(lambda: sum(rig.log_of(part).read_text().count(halted) for part in STAGERS) > 0, 60)
    eventually(lambda: not any(rig.service(part).is_ready() for part in STAGERS), 60)
    assert rig.postgres.execute(_STANDS) == before, "offsets moved on a log that is another one"


def resume_as_operator(rig: Rig) -> None:
    """What the operator's handbook says of a halted partition."""
    rig.postgres.execute(_BACK_TO_THE_BEGINNING)
    for part in STAGERS:
        rig.service(part).terminate()
    for part in STAGERS:
        rig.launch(part)
    rig.await_ready()


async def _delete(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([TOPIC])
    finally:
        await admin.close()
