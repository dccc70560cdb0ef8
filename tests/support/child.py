"""A real child process that a test can end, freeze and kill."""

import contextlib
import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from tests.support.eventually import eventually
from tests.support.lifeline import MARK, marked, session_mark

_numbers = itertools.count(1)


class RigError(Exception):
    """The test rig can't do what was asked: a part is missing, or a server didn't start or stop."""


class Child:
    """A process started now, in a session of its own, with all its output in a file.

    It ends at the latest when the test process does, however that ends, and so does what it started.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        log_file: Path,
        cwd: Path | None = None,
        user: str | None = None,
    ) -> None:
        """Start `command`.

        Args:
            command: the program and its arguments.
            env: its whole environment.
            log_file: where its standard output and error are appended.
            cwd: its working folder; ours by default.
            user: the system user that it runs as; ours by default.
        """
        self.log_file = log_file
        self._name = Path(command[0]).name
        self._mark = f"{session_mark()}/{next(_numbers)}"
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                env={**env, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        """Whether it has not ended; true when frozen too."""
        return self.exit_code is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._process.send_signal(number)

    def freeze(self) -> None:
        """Stop this process and then all that it started (SIGSTOP), and wait until they stand still."""
        family = self.family()
        _send(family, signal.SIGSTOP)
        eventually(lambda: all(map(_stands, family)))

    def thaw(self) -> None:
        """Let this process and all that it started run on after `freeze` (SIGCONT)."""
        _send(self.family(), signal.SIGCONT)

    def family(self) -> list[psutil.Process]:
        """Return what lives of this process, first, and of all that it started, even if it is gone itself.

        The mark finds those that have left for another parent, the tree those that have written over their
        environment, as PostgreSQL's do.
        """
        found: set[psutil.Process] = set()
        for process in marked(self._mark):
            with contextlib.suppress(psutil.NoSuchProcess):
                found |= {process, *process.children(recursive=True)}
        return sorted(filter(lives, found), key=lambda process: (process.pid != self.pid, process.pid))

    def wait(self, timeout_s: float) -> int:
        """Wait for its end and return its exit status.

        Raises:
            RigError: it still runs after `timeout_s`.
        """
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise RigError(f"{self._name} still runs after {timeout_s:g} s\n{self.tail()}") from None

    def await_ready(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `is_ready` answers yes.

        Raises:
            RigError: the process ended, or wasn't ready after `timeout_s`; its last output is in the message.
        """
        try:
            eventually(lambda: self._still(is_ready), timeout_s)
        except AssertionError:
            raise RigError(f"{self._name} not ready after {timeout_s:g} s\n{self.tail()}") from None

    def end(self) -> None:
        """Kill what is left of its family and wait until all are gone."""
        family = self.family()
        _send(family, signal.SIGKILL)
        self._process.wait()
        eventually(lambda: not any(map(lives, family)))

    def tail(self, lines: int = 30) -> str:
        """Return the last lines of its output."""
        text = self.log_file.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _still(self, is_ready: Callable[[], bool]) -> bool:
        if not self.running:
            raise RigError(f"{self._name} ended with {self.exit_code} before it was ready\n{self.tail()}")
        return is_ready()


def _send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended; one that only waits to be reaped, by us or by init, has."""
    return _status(process) not in (None, psutil.STATUS_ZOMBIE)


def _stands(process: psutil.Process) -> bool:
    return _status(process) in (None, psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)


def _status(process: psutil.Process) -> str | None:
    """The state of a process, None when it is gone."""
    try:
        return process.status()
    except psutil.NoSuchProcess:
        return None


def inherited_env(**extra: str) -> dict[str, str]:
    """Return our environment without what configures Rejse or PostgreSQL clients, plus `extra`."""
    return {name: value for name, value in os.environ.items() if not is_ours(name)} | extra


def is_ours(name: str) -> bool:
    """Whether an environment variable would change what Rejse or a PostgreSQL client does."""
    return name.startswith(("REJSE_", "PG"))
