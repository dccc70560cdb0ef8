"""Embedded PostgreSQL after all that can happen to it, each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from shared.errors import ConfigError
from shared.store.embedded import embedded_postgres
from tests.support.child import inherited_env
from tests.support.eventually import eventually

PROGRAM = """
import asyncio, sys
from pathlib import Path
import asyncpg
from shared.store.embedded import embedded_postgres, revive

async def note(url):
    connection = await asyncpg.connect(url)
    await connection.execute("SELECT pg_advisory_lock(1)")
    await connection.execute("CREATE TABLE IF NOT EXISTS starts (at timestamptz)")
    await connection.execute("INSERT INTO starts VALUES (now())")
    count = await connection.fetchval("SELECT count(*) FROM starts")
    await connection.close()
    print(count, flush=True)

data_dir = Path(sys.argv[1])
with embedded_postgres(data_dir) as url:
    asyncio.run(note(url))
    for line in sys.stdin:
        print(revive(data_dir), flush=True)
        asyncio.run(note(url))
"""


class Starts:
    """A process with embedded PostgreSQL; every start counts itself in it."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(data_dir)],
            env=inherited_env(PYTHONPATH=str(Path(__file__).parents[2])),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def again(self) -> list[str]:
        """Have it look after its server; whether that was gone, and the count."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return [self.read(), self.read()]

    def kill(self) -> None:
        """Kill this process alone."""
        self._process.kill()
        if self._process.stdout is not None and not self._process.stdout.closed:
            self._process.communicate()

    def end(self) -> int:
        """Let it end as it should."""
        self._process.communicate()
        return self._process.returncode

    def close(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess, ValueError):
            if self.server.name() == "postgres":
                self.server.kill()
        self.kill()

    @property
    def server(self) -> psutil.Process:
        """The server's first process."""
        return psutil.Process(int((self._data_dir / "postgres/postmaster.pid").read_text().split()[0]))


def lives(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that only waits to be buried has."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


Start = Callable[[Path], Starts]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process on a data folder; it and its server are gone after the test."""
    with contextlib.ExitStack() as started:

        def start_one(data_dir: Path) -> Starts:
            one = Starts(data_dir)
            started.callback(one.close)
            return one

        yield start_one


def test_a_server_that_outlived_its_process_is_taken_over_and_ends_with_the_next(
    tmp_path: Path, start: Start
) -> None:
    """After SIGKILL the server is there, and is used; the next orderly end stops it, too."""
    first = start(tmp_path)
    assert first.read() == "1"
    server = first.server
    first.kill()
    assert lives(server)

    second = start(tmp_path)
    assert (second.read(), second.server.pid) == ("2", server.pid)
    assert second.end() == 0
    assert not lives(server)


def test_a_server_that_was_killed_recovers(tmp_path: Path, start: Start) -> None:
    """Killed with its process, or under it: what was committed is there, at the same URL."""
    first = start(tmp_path)
    assert first.read() == "1"
    killed = first.server
    killed.kill()
    eventually(lambda: not lives(killed))
    assert first.again() == ["True", "2"]
    assert first.again() == ["False", "3"]
    server = first.server
    first.kill()
    server.kill()
    eventually(lambda: not lives(server))

    second = start(tmp_path)
    assert second.read() == "4"
    assert second.end() == 0


@pytest.mark.parametrize(
    "note", ["", "[1, 2", f"[{os.getpid()}, 4194304]"], ids=["empty", "cut", "a dead one"]
)
def test_the_notes_of_a_kill_or_a_reboot_mislead_nobody(tmp_path: Path, note: str, start: Start) -> None:
    """A lock file whose process id is another program's now, and a list of users that are dead."""
    first = start(tmp_path)
    assert first.read() == "1"
    assert first.end() == 0
    (tmp_path / "postgres/.handle_pids.json").write_text(note)
    (tmp_path / "postgres/postmaster.pid").write_text(
        f"{os.getpid()}\n{tmp_path}\n1\n5432\n{tmp_path}\n\n1\nready\n"
    )

    second = start(tmp_path)
    assert second.read() == "2"
    assert second.end() == 0


def test_a_folder_whose_making_was_interrupted_is_made_again(tmp_path: Path, start: Start) -> None:
    """Killed while initdb runs, the next start makes a whole one."""
    first = start(tmp_path)
    eventually(lambda: list(tmp_path.glob("postgres*/PG_VERSION")), 30)
    first.kill()

    second = start(tmp_path)
    assert second.read() == "1"
    assert second.end() == 0


def test_a_long_path_works_and_an_impossible_one_is_told(tmp_path: Path, start: Start) -> None:
    """A socket's name is short on every system; the data folder's may be long. A space can't be."""
    long = tmp_path / ("long-" * 20)
    first = start(long)
    assert first.read() == "1"
    assert first.end() == 0

    with pytest.raises(ConfigError, match="REJSE_DATA_DIR"), embedded_postgres(tmp_path / "a b"):
        pass


def test_the_role_is_no_superuser_and_owns_what_an_older_version_has_made(tmp_path: Path) -> None:
    """A folder that is a superuser's has its tables handed over at the next start; pages have checksums."""
    with embedded_postgres(tmp_path) as url:
        superuser = url.replace("//rejse@", "//postgres@")
        assert asyncio.run(_ask(url, "SHOW is_superuser")) == "off"
        assert asyncio.run(_ask(url, "SHOW data_checksums")) == "on"
        for made in (
            "CREATE TABLE kept (id bigint GENERATED ALWAYS AS IDENTITY) PARTITION BY HASH (id)",
            "CREATE TABLE kept_0 PARTITION OF kept FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
            "ALTER SCHEMA public OWNER TO pg_database_owner",
            "ALTER DATABASE postgres OWNER TO postgres",
            "DROP ROLE rejse",
        ):
            asyncio.run(_ask(superuser, made))

    with embedded_postgres(tmp_path) as url:
        for changed in (
            "INSERT INTO kept DEFAULT VALUES",
            "ALTER TABLE kept ADD at date",
            "CREATE TABLE new ()",
        ):
            asyncio.run(_ask(url, changed))
        assert asyncio.run(_ask(url, "SELECT count(*) FROM kept")) == 1


async def _ask(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def test_two_processes_share_a_server_until_the_last_one_ends(tmp_path: Path, start: Start) -> None:
    """The first to end leaves it running for the other."""
    first, second = start(tmp_path), start(tmp_path)
    assert sorted([first.read(), second.read()]) == ["1", "2"]
    server = first.server
    assert first.end() == 0
    assert lives(server)
    assert json.loads((tmp_path / "postgres/.handle_pids.json").read_text()) != []
    assert second.end() == 0
    assert not lives(server)
