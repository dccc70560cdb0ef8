"""The parts of `rejse run`, with small real programs as services."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from services.supervisor import keyfile
from services.supervisor.child import Child, Patience, Program
from services.supervisor.folder import claim
from services.supervisor.keyfile import read_or_make
from services.supervisor.logfile import RotatingLog
from services.supervisor.ports import settle_ports
from shared.clock import SystemClock
from shared.errors import ConfigError
from shared.keys import Keyring
from shared.store.keys import revoke_key
from tests.support.child import inherited_env
from tests.support.eventually import eventually, eventually_async
from tests.support.keys import stored_keys

CLOCK = SystemClock()
QUICK = Patience(steady_s=60.0, deaths_max=3, delay_first_s=0.05, delay_max_s=0.1)
SLEEP = "import time; time.sleep(600)"


class Kept:
    """A child that is kept, its log and what was told."""

    def __init__(self, folder: Path, code: str, patience: Patience) -> None:
        self.told: list[str] = []
        self.log = RotatingLog(folder / "toy.log")
        program = Program("toy", (sys.executable, "-c", code), inherited_env(HOME=str(folder)))
        self.child = Child(program, self.log, CLOCK, self.told.append, patience)


@asynccontextmanager
async def kept(folder: Path, code: str, patience: Patience = QUICK) -> AsyncIterator[Kept]:
    """Keep a small Python program; it is gone at the end."""
    toy = Kept(folder, code, patience)
    with closing(toy.log):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(toy.child.keep())
            try:
                yield toy
            finally:
                toy.child.kill()


async def test_a_service_that_dies_is_started_again(tmp_path: Path) -> None:
    """Killed twice it runs a third time, and the person and the log are told."""
    async with kept(tmp_path, SLEEP, Patience(steady_s=0.0)) as toy:
        seen: set[int] = set()
        for _ in range(3):
            pid = await eventually_async(lambda: toy.child.pid, until=lambda pid: pid not in {None, *seen})
            assert pid is not None
            seen.add(pid)
            os.kill(pid, signal.SIGKILL)

    assert len(seen) == 3
    assert any("SIGKILL" in line for line in toy.told)


async def test_a_service_that_dies_again_and_again_is_given_up_loudly(tmp_path: Path) -> None:
    """After so many early deaths it is not started again; its last words are told."""
    code = "import sys; print('line one'); print('the disk is gone', file=sys.stderr); sys.exit(7)"
    async with kept(tmp_path, code) as toy:
        await eventually_async(lambda: toy.child.gave_up)

    assert toy.child.gave_up == "toy died 3 times in a row (exit code 7)"
    assert "the disk is gone" in toy.told[-1]
    assert (tmp_path / "toy.log").read_text().count("the disk is gone") == 3


async def test_a_service_that_is_set_up_wrongly_is_not_started_again(tmp_path: Path) -> None:
    """Exit code 2 says that trying again has no use."""
    async with kept(tmp_path, "import sys; sys.exit('REJSE_X is wrong' and 2)") as toy:
        await eventually_async(lambda: toy.child.gave_up)

    assert toy.child.gave_up == "toy is set up wrongly"


async def test_a_service_is_asked_to_end_and_killed_only_if_it_does_not(tmp_path: Path) -> None:
    """SIGTERM lets it finish; one that ignores it is killed when its time is over."""
    polite = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('finished')))\n"
        "print('up', flush=True)\n" + SLEEP
    )
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\n" + SLEEP
    async with kept(tmp_path, polite) as toy:
        await eventually_async(lambda: toy.log.last_lines == ["up"])
        await toy.child.stop(30)
    assert "finished" in (tmp_path / "toy.log").read_text()
    assert toy.told == []

    async with kept(tmp_path, deaf) as toy:
        await eventually_async(lambda: toy.log.last_lines[-1:] == ["up"])
        await toy.child.stop(0.3)
    assert any("is killed" in line for line in toy.told)


def test_a_tethered_program_ends_however_its_parent_does(tmp_path: Path) -> None:
    """The parent killed with SIGKILL, a child that works and one that ignores SIGTERM are both gone soon."""
    (tmp_path / "toy.py").write_text(
        "import signal, sys, time\n"
        "if sys.argv[1:]: signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "time.sleep(600)\n"
    )
    (tmp_path / "deaf.py").write_text("import sys; sys.argv.append('x'); import toy\n")
    parent = (
        "import os, subprocess, sys, time\n"
        "watched, held = os.pipe()\n"
        "for name in ('toy', 'deaf'):\n"
        "    command = [sys.executable, '-m', 'services.supervisor.tether', str(watched), name]\n"
        "    child = subprocess.Popen(command, pass_fds=[watched])\n"
        "    print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent],
        stdout=subprocess.PIPE,
        text=True,
        env=inherited_env(PYTHONPATH=f"{tmp_path}:{Path(__file__).parents[2]}"),
    ) as process:
        assert process.stdout is not None
        pids = [int(process.stdout.readline()) for _ in range(2)]
        eventually(lambda: all(psutil.Process(pid).num_threads() > 1 for pid in pids))
        process.kill()
        process.wait()
        eventually(lambda: not any(_lives(pid) for pid in pids), timeout_s=20)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_data_folder_has_one_supervisor_and_waits_for_the_last_ones_services(tmp_path: Path) -> None:
    """A second claim is refused at once. A claim after a supervisor's death waits for the services that it
    left behind, and is refused when they don't end."""
    async with claim(tmp_path, CLOCK) as inherited:
        with pytest.raises(ConfigError, match="another `rejse run`"):
            async with claim(tmp_path, CLOCK):
                pass
        left_behind = await asyncio.create_subprocess_exec(sys.executable, "-c", SLEEP, pass_fds=[inherited])

    with pytest.raises(ConfigError, match="do not end"):
        async with claim(tmp_path, CLOCK, timeout_s=0.2):
            pass
    left_behind.kill()
    await left_behind.wait()
    async with claim(tmp_path, CLOCK):
        pass


async def test_a_data_folder_that_can_not_be_one_is_refused(tmp_path: Path) -> None:
    """A file where the folder should be is told in words."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="REJSE_DATA_DIR"):
        async with claim(tmp_path / "file", CLOCK):
            pass


def test_ports_are_settled_before_anything_starts() -> None:
    """0 becomes a free port; a taken one, one given twice and a foreign address are each told by name."""
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        taken = other.getsockname()[1]

        settled = settle_ports("127.0.0.1", {"A": 0, "B": 0})
        with pytest.raises(ConfigError) as caught:
            settle_ports("127.0.0.1", {"A": taken, "B": settled["A"], "C": settled["A"], "D": taken})
        with pytest.raises(ConfigError, match="REJSE_HOST"):
            settle_ports("192.0.2.1", {"A": 0})

    assert len({*settled.values(), 0}) == 3
    assert [line[0] for line in str(caught.value).splitlines()] == ["A", "C", "D"]


def test_the_log_file_is_bounded(tmp_path: Path) -> None:
    """However much is written, there are so many files of about so many bytes, cut between lines, and the
    newest lines are among them."""
    log = RotatingLog(tmp_path / "a.log", bytes_max=1_000, older_max=2)
    for number in range(1_000):
        log.write(f"line {number}\n".encode())
    log.close()

    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["a.log", "a.log.1", "a.log.2"]
    assert sum(file.stat().st_size for file in files) < 3 * 1_100
    assert all(file.read_bytes().startswith(b"line") for file in files if file.stat().st_size)
    assert log.last_lines[-1] == "line 999"


async def test_the_keys_file_is_private_and_its_keys_are_adopted_unless_revoked(
    tmp_path: Path, database_url: str
) -> None:
    """Made once with 0600; a store that lacks its keys gets them at the next start, so that a crash between
    the two is mended; a revoked key stays revoked."""
    path = tmp_path / "keys.env"
    (tmp_path / "keys.new").write_text("half of a li")
    keys = read_or_make(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_make(path) == keys
    for _ in range(2):
        await keyfile.adopt(database_url, keys, datetime(2026, 1, 1, tzinfo=UTC))
    records = await stored_keys(database_url)
    ring = Keyring({record.digest: record for record in records})
    assert len(ring) == 3
    assert all(ring.find(key, scope) for scope, key in keys.items())

    await _revoke(database_url, next(record.id for record in records if record.scope == "read"))
    await keyfile.adopt(database_url, keys, datetime(2026, 1, 2, tzinfo=UTC))
    assert {record.scope for record in await stored_keys(database_url)} == {"write", "admin"}


async def _revoke(database_url: str, id_: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(database_url)
    await revoke_key(connection, id_, datetime(2026, 1, 1, tzinfo=UTC))
    await connection.close()


def test_a_keys_file_that_was_edited_is_read_or_told(tmp_path: Path) -> None:
    """Comments, a key of one's own and left-out lines are fine; a line that is no key is told by its number
    and not repeated."""
    path = tmp_path / "keys.env"
    path.write_text(f"# mine\n\nREJSE_WRITE_KEY={'w' * 30}\n")
    assert read_or_make(path) == {"write": "w" * 30}

    path.write_text("REJSE_WRITE_KEY=secret word\n")
    with pytest.raises(ConfigError, match="line 1") as caught:
        read_or_make(path)
    assert "secret" not in str(caught.value)
