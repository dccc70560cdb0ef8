"""One service as a child process that is started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from services.supervisor.logfile import RotatingLog
from shared.clock import Clock
from shared.logs import fields

log = logging.getLogger("rejse.supervisor")

Tell = Callable[[str], None]
"""Says something to the person at the terminal."""

CONFIG_ERROR = 2
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Patience:
    """Who lived for `steady_s` seconds and dies is started at once. Who didn't has to wait, twice as long
    each time; and is given up after `deaths_max` such deaths in a row."""

    steady_s: float = 10.0
    deaths_max: int = 5
    delay_first_s: float = 0.25
    delay_max_s: float = 8.0

    def delay_s(self, deaths: int) -> float:
        """How long to wait after so many early deaths in a row."""
        return min(self.delay_max_s, self.delay_first_s * 2.0 ** (deaths - 1)) if deaths else 0.0


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: a name for people, the command, its environment and the descriptors that it inherits."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    inherited: Sequence[int] = ()


_PATIENCE = Patience()


class Child:
    """Keeps one program running until it is stopped, or has died too often to go on."""

    def __init__(
        self,
        program: Program,
        output: RotatingLog,
        clock: Clock,
        tell: Tell,
        patience: Patience = _PATIENCE,
    ) -> None:
        self.name = program.name
        self.gave_up: str | None = None
        """Why there is no use in starting it again; None as long as there is."""
        self._program = program
        self._output = output
        self._clock = clock
        self._tell = tell
        self._patience = patience
        self._stopping = asyncio.Event()
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while there is one."""
        return self._process.pid if self._process is not None else None

    async def keep(self) -> None:
        """Run it, and again when it dies. Returns when it was stopped, or with `gave_up` set."""
        deaths = 0
        while not self._stopping.is_set():
            started_s = self._clock.monotonic_s()
            code = await self._run()
            if self._stopping.is_set():
                return
            steady = self._clock.monotonic_s() - started_s >= self._patience.steady_s
            deaths = 0 if steady else deaths + 1
            if code == CONFIG_ERROR or deaths == self._patience.deaths_max:
                self._give_up(code, deaths)
                return
            delay_s = self._patience.delay_s(deaths)
            log.warning("service_died", extra=fields(child=self.name, exit_code=code, delay_s=delay_s))
            self._tell(f"{self.name} ended ({_ending(code)}) and is started again; see {self._output.path}")
            await self._pause(delay_s)

    async def stop(self, timeout_s: float) -> None:
        """Ask it to end, kill it after `timeout_s` seconds, and return when it is gone."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(timeout_s):
                await process.wait()
        except TimeoutError:
            log.warning("service_killed", extra=fields(child=self.name, timeout_s=timeout_s))
            self._tell(f"{self.name} did not end within {timeout_s:.0f} s and is killed")
            self.kill()
            await process.wait()

    def kill(self) -> None:
        """End it at once, for good."""
        self._stopping.set()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _run(self) -> int:
        """One life, from start to end; the exit code, negative for a signal."""
        process = self._process = await asyncio.create_subprocess_exec(
            *self._program.command,
            env=self._program.environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            pass_fds=tuple(self._program.inherited),
            # A Ctrl-C at the terminal is for the supervisor alone, which ends the services in order.
            start_new_session=True,
        )
        log.info("service_started", extra=fields(child=self.name, pid=process.pid))
        if self._stopping.is_set():
            process.terminate()
        try:
            assert process.stdout is not None
            while chunk := await process.stdout.read(_CHUNK_BYTES):
                self._output.write(chunk)
            return await process.wait()
        finally:
            self._process = None

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _give_up(self, code: int, deaths: int) -> None:
        log.warning("service_given_up", extra=fields(child=self.name, exit_code=code, deaths=deaths))
        if code == CONFIG_ERROR:
            self.gave_up = f"{self.name} is set up wrongly"
        else:
            self.gave_up = f"{self.name} died {deaths} times in a row ({_ending(code)})"
        said = "".join(f"\n  {line}" for line in self._output.last_lines)
        self._tell(f"{self.gave_up}; its last words, from {self._output.path}:{said}")


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name
