"""PostgreSQL restarts, crashes, freezes, fills its disk; and a COMMIT's reply is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from functools import partial

import asyncpg

from tests.faults.rig import STAGERS
from tests.faults.scene import Fault, Scene
from tests.support.child import RigError
from tests.support.eventually import eventually
from tests.support.proxy import Mood

_A_SESSION = """
SELECT pid FROM pg_stat_activity WHERE application_name = 'rejse-stager' AND state <> 'idle' LIMIT 1
"""


_SILENT = """
SELECT pid FROM pg_stat_activity WHERE application_name = 'rejse-stager' AND query LIKE 'COPY %'
AND state = 'active' AND wait_event = 'ClientRead' AND query_start < now() - interval '1 second' LIMIT 1
"""
RIVAL = "of a rival"
# Whoever was written by a clock of the future was not written now, and is at nobody's hand.
_AT_HAND = """
SELECT DISTINCT customer_id AS id FROM journey_states
WHERE updated_at BETWEEN now() - interval '10 seconds' AND now() ORDER BY 1 DESC LIMIT 400
"""
_LOCK = f"SELECT id FROM customers WHERE id = $1 FOR UPDATE /* {RIVAL} */"
_DEADLOCK = '"reason": "DeadlockDetectedError"'


def _fast_restart(scene: Scene) -> None:
    scene.rig.postgres.restart()


def _immediate_restart(scene: Scene) -> None:
    os.kill(scene.rig.postgres.pid, signal.SIGQUIT)
    eventually(lambda: not scene.rig.postgres.running, 30)
    scene.rig.postgres.start()


def _killed(scene: Scene) -> None:
    scene.rig.postgres.kill()
    scene.rig.postgres.start()


def _backend_killed(scene: Scene) -> None:
    """PostgreSQL then ends all sessions and recovers by itself."""
    postgres = scene.rig.postgres
    pid = scene.wait_for(lambda: postgres.execute(_A_SESSION))
    if not scene.rig.diary.broken:
        os.kill(int(pid), signal.SIGKILL)
    eventually(lambda: postgres.execute("SELECT 1"), 60, tolerate=(RigError,))


def _commit_reply_cut(scene: Scene) -> None:
    proxy = scene.rig.postgres_proxy
    for _ in range(3):
        proxy.set(Mood(cut_after=b"COMMIT"))
        scene.wait_for(proxy.struck.is_set)
    proxy.set()


def _silent_in_copy(scene: Scene) -> None:
    """PostgreSQL hears nothing more of a stager that is about to copy, and heeds no timeout of its own."""
    rig, proxy = scene.rig, scene.rig.postgres_proxy
    # The driver sends the first rows with the statement.
    proxy.set(Mood(silent_after=b"FROM STDIN (FORMAT binary) \0"))
    scene.wait_for(proxy.struck.is_set)
    began_s = time.monotonic()
    pid = scene.wait_for(lambda: rig.postgres.execute(_SILENT))
    scene.wait_for(lambda: rig.postgres.execute(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}") == "")
    rig.diary.took("the end of a session that is silent in a copy", time.monotonic() - began_s)
    proxy.set()


def _slow(scene: Scene) -> None:
    scene.rig.postgres_proxy.set(Mood(delay_s=0.15))
    scene.lasts(5)
    scene.rig.postgres_proxy.set()


def _reset(scene: Scene) -> None:
    for _ in range(5):
        scene.rig.postgres_proxy.cut()
        scene.lasts(scene.chance.uniform(0.1, 0.6))


def _frozen(scene: Scene) -> None:
    scene.rig.postgres.pause()
    scene.lasts(5, 20)
    scene.rig.postgres.resume()


def _disk_full(seconds: float, scene: Scene) -> None:
    rig = scene.rig
    rig.disks["pg"].fill()
    scene.lasts(seconds)
    rig.disks["pg"].empty()
    if not rig.postgres.running:
        rig.postgres.start()


def _rival(scene: Scene) -> None:
    """A session that isn't ours locks customers in the reverse order, and is never the one to give way."""
    rig = scene.rig
    before = _told(scene)
    deadline = scene.chance.uniform(0.1, 0.4)
    scene.wait_for(
        lambda: _told(scene) > before or asyncio.run(_lock_backwards(rig.database_url(), deadline))
    )


def _told(scene: Scene) -> int:
    return sum(scene.rig.log_of(part).read_text().count(_DEADLOCK) for part in STAGERS)


async def _lock_backwards(database_url: str, pause_s: float) -> bool:
    """Lock the customers at hand; never says that it has done its work, which the victim tells."""
    with contextlib.suppress(asyncpg.PostgresError, OSError, TimeoutError):
        connection = await asyncpg.connect(database_url, timeout=5)
        try:
            await connection.execute("SET deadlock_timeout = '30s'; SET lock_timeout = '8s'")
            async with connection.transaction():
                for row in await connection.fetch(_AT_HAND):
                    await connection.execute(_LOCK, row["id"])
                    await asyncio.sleep(pause_s / 100)
        finally:
            connection.terminate()
    return False


FAULTS = (
    Fault("PostgreSQL restarted (fast)", 25, ("postgres",), _fast_restart),
    Fault("PostgreSQL restarted (immediate)", 25, ("postgres",), _immediate_restart),
    Fault("PostgreSQL killed and started", 25, ("postgres",), _killed),
    Fault("a session's process killed", 25, ("postgres",), _backend_killed),
    Fault("the reply to a COMMIT cut off", 25, ("postgres",), _commit_reply_cut),
    Fault("a stager's session silent in a copy", 22, ("postgres",), _silent_in_copy),
    Fault("PostgreSQL's connections reset", 25, ("postgres",), _reset),
    Fault("PostgreSQL frozen", 25, ("postgres",), _frozen),
    Fault("a rival locks customers in reverse order", 26, ("postgres",), _rival),
    Fault("PostgreSQL slow", 27, ("postgres",), _slow),
    Fault("PostgreSQL's disk full", 27, ("postgres",), partial(_disk_full, 5.0)),
)
