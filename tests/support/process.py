"""The product's own processes, run as a user runs them."""

import http.client
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.child import Child, RigError, inherited_env

_ROOT = Path(__file__).parents[2]


class RejseProcess:
    """A `rejse ...` command, or a service by its module, as a real child process.

    Usable as a context manager: started on entry; on exit it and all that it started are killed.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        log_file: Path,
        ready_port: int | None = None,
        module: str = "services.cli",
        cwd: Path | None = None,
    ) -> None:
        """Describe a process; nothing is started.

        Args:
            arguments: what follows `rejse` on the command line.
            env: REJSE_* variables and what else it shall see, over our environment without its own ones.
            log_file: where its standard output and error are appended.
            ready_port: the port on 127.0.0.1 whose `/readyz` tells that it can work; None for a command that
                just runs to its end.
            module: the module run; a service's (`services.ingest`) goes without the command line tool.
            cwd: its working folder; the checkout by default.
        """
        self.log_file = log_file
        self.ready_port = ready_port
        self._command = [sys.executable, "-m", module, *arguments]
        self._env = inherited_env(PYTHONPATH=str(_ROOT), PYTHONUNBUFFERED="1") | dict(env)
        self._cwd = cwd or _ROOT
        self._child: Child | None = None
        self._log_begins = 0

    @property
    def pid(self) -> int:
        """Its process id.

        Raises:
            RigError: it was not started.
        """
        return self._started().pid

    @property
    def environment(self) -> Mapping[str, str]:
        """The whole environment that it sees."""
        return self._env

    @property
    def running(self) -> bool:
        """Whether it lives; true when paused too."""
        return self._child is not None and self._child.running

    @property
    def exit_code(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs.

        Raises:
            RigError: it was not started.
        """
        return self._started().exit_code

    @property
    def log(self) -> str:
        """What was written to its file since it was launched."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_begins)
            return log.read().decode(errors="replace")

    def start(self, timeout_s: float = 30.0) -> None:
        """Start it and, if it has a `ready_port`, wait until `/readyz` answers 200.

        Raises:
            RigError: it runs already, it ended, or it wasn't ready in time; with its last output.
        """
        self.launch()
        if self.ready_port is not None:
            self.await_ready(timeout_s)

    def launch(self) -> None:
        """Start it and wait for nothing.

        Raises:
            RigError: it runs already.
        """
        if self.running:
            raise RigError("it runs already")
        self._log_begins = self.log_file.stat().st_size if self.log_file.exists() else 0
        self._child = Child(self._command, env=self._env, log_file=self.log_file, cwd=self._cwd)

    def await_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until `/readyz` answers 200.

        Raises:
            RigError: it has no `ready_port`, it ended, or it wasn't ready in time.
        """
        self._started().await_ready(self.is_ready, timeout_s)

    def is_ready(self) -> bool:
        """Whether `/readyz` answers 200 now.

        Raises:
            RigError: it has no `ready_port`.
        """
        if self.ready_port is None:
            raise RigError("it was given no port to be ready on")
        return _status("127.0.0.1", self.ready_port, "/readyz") == 200

    def wait(self, timeout_s: float = 30.0) -> int:
        """Wait for its end and return its exit status.

        Raises:
            RigError: it still runs after `timeout_s`.
        """
        return self._started().wait(timeout_s)

    def terminate(self, timeout_s: float = 30.0) -> int:
        """Ask it to end (SIGTERM), wait for that and return its exit status.

        Raises:
            RigError: it still runs after `timeout_s`.
        """
        self._started().send(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """Kill this process (SIGKILL), not what it started, and wait for its end."""
        self._started().send(signal.SIGKILL)
        self.wait(timeout_s=10)

    def pause(self) -> None:
        """Freeze it and all that it started (SIGSTOP)."""
        self._started().freeze()

    def resume(self) -> None:
        """Let it and all that it started run on after `pause`."""
        self._started().thaw()

    def survivors(self) -> list[int]:
        """Return the ids of the processes that it started, itself included, that live."""
        return [process.pid for process in self._started().family()]

    def close(self) -> None:
        """Kill it and all that it started, whatever state they are in."""
        if self._child is not None:
            self._child.end()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _started(self) -> Child:
        if self._child is None:
            raise RigError("it was not started")
        return self._child


def _status(host: str, port: int, path: str) -> int | None:
    """The HTTP status of a GET, None if there is no answer."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
