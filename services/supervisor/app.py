"""The sequence of `rejse run`, from claiming the data folder to letting go of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from services.supervisor import keyfile
from services.supervisor.child import Child, Program, Tell
from services.supervisor.folder import claim
from services.supervisor.greeting import greeting
from services.supervisor.logfile import BYTES_MAX, OLDER_MAX, RotatingLog
from services.supervisor.ports import settle_ports
from services.supervisor.readiness import await_ready, why_unready
from services.supervisor.settings import Settings
from services.supervisor.signals import Signals, receiving
from services.supervisor.store import keep_running, open_store
from shared.clock import Clock
from shared.config import env_name
from shared.lifecycle import Deadline
from shared.logs import JsonFormatter

log = logging.getLogger("rejse.supervisor")

PORTS = ("ingest_port", "api_port", "stager_port", "ingest_health_port", "api_health_port")
SERVICES = ("stager", "ingest", "api")
STOP_ORDER = ("api", "ingest", "stager")
"""Who asks, then who takes, then who works off what was taken."""

STOP_MARGIN_S = 5.0
"""Beyond what each service may take to drain."""

UNREADY_EVERY_S = 10.0


async def supervise(settings: Settings, environ: Mapping[str, str], clock: Clock, tell: Tell) -> int:
    """Run everything until a signal says stop.

    The exit code: 0 ended in order, 1 a service could not be kept running, 130 ended by a second signal.

    Raises:
        ConfigError: something on this machine stands in the way; nothing is left running.
    """
    with receiving() as signals:
        async with AsyncExitStack() as parts:
            lock = await parts.enter_async_context(claim(settings.data_dir, clock))
            parts.enter_context(_logging_to(settings.data_dir / "logs", settings.log_level))
            settings = _with_ports(settings)
            tell(f"Starting Rejse in {settings.data_dir} …")
            store = open_store(settings.data_dir, settings.database_url)
            database_url = await parts.enter_async_context(store)
            keys = keyfile.read_or_make(settings.data_dir / "keys.env")
            await keyfile.adopt(database_url, keys, clock.now())
            tether = parts.enter_context(_tether())
            if signals.stop.is_set():
                return 0
            environ = _environ_of_services(settings, environ, database_url)
            children = parts.enter_context(_children(settings, environ, (tether, lock), clock, tell))
            await _keep(children, settings, signals, clock, tell)
        if signals.hurried:
            return 130
        gave_up = any(child.gave_up for child in children.values())
        tell("Rejse has ended." if not gave_up else "Rejse has ended, as a service can't be kept running.")
        return 1 if gave_up else 0


async def _keep(
    children: Mapping[str, Child], settings: Settings, signals: Signals, clock: Clock, tell: Tell
) -> None:
    """Keep the services running until a signal, or until one has given up; then end all of them."""

    def kill_all() -> None:
        for child in children.values():
            child.kill()

    signals.hurry = kill_all
    async with asyncio.TaskGroup() as tasks:
        keeping = {tasks.create_task(child.keep(), name=name) for name, child in children.items()}
        stopping = tasks.create_task(signals.stop.wait(), name="signal")
        welcoming = tasks.create_task(_welcome(settings, clock, tell), name="welcome")
        ending = asyncio.Event()
        if settings.database_url is None:
            tasks.create_task(keep_running(settings.data_dir, ending), name="postgres")
        await asyncio.wait({*keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        welcoming.cancel()
        tell("Ending …")
        waits_s = len(STOP_ORDER) * settings.drain_wait_s
        await _stop([children[name] for name in STOP_ORDER], waits_s + settings.drain_timeout_s, clock)
        ending.set()


async def _stop(children: Sequence[Child], drain_timeout_s: float, clock: Clock) -> None:
    """End them one after the other, each with its share of what is left of one deadline."""
    deadline = Deadline(drain_timeout_s + STOP_MARGIN_S, clock)
    for left, child in zip(range(len(children), 0, -1), children, strict=True):
        await child.stop(deadline.remaining_s() / left)


async def _welcome(settings: Settings, clock: Clock, tell: Tell) -> None:
    """Say where things are as soon as all are ready, and until then what is not."""
    for name in SERVICES:
        while not await _ready_in_time(settings.host, _port(settings, name), clock):
            tell(f"{name} is not ready yet: {await why_unready(settings.host, _port(settings, name))}")
    log.info("ready")
    tell(greeting(settings))


async def _ready_in_time(host: str, port: int, clock: Clock) -> bool:
    try:
        async with asyncio.timeout(UNREADY_EVERY_S):
            await await_ready(_reachable(host), port, clock)
    except TimeoutError:
        return False
    return True


def _reachable(host: str) -> str:
    """Where a service that listens on a host is asked: one that listens everywhere, on this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _port(settings: Settings, name: str) -> int:
    """Where a service answers its probes."""
    own = getattr(settings, f"{name}_health_port", None)
    return int(getattr(settings, f"{name}_port") if own is None else own)


def _with_ports(settings: Settings) -> Settings:
    settled = settle_ports(settings.host, _ports(settings))
    ports: dict[str, Any] = {name: settled[env_name(name)] for name in PORTS if env_name(name) in settled}
    return dataclasses.replace(settings, **ports)


def _ports(settings: Settings) -> Mapping[str, int]:
    """The ports that are set, by their variables."""
    given = {env_name(name): getattr(settings, name) for name in PORTS}
    return {variable: port for variable, port in given.items() if port is not None}


def _environ_of_services(
    settings: Settings, environ: Mapping[str, str], database_url: str
) -> Mapping[str, str]:
    ports = {variable: str(port) for variable, port in _ports(settings).items()}
    return {**environ, **ports, "REJSE_DATABASE_URL": database_url}


@contextlib.contextmanager
def _children(
    settings: Settings, environ: Mapping[str, str], inherited: Sequence[int], clock: Clock, tell: Tell
) -> Iterator[Mapping[str, Child]]:
    with contextlib.ExitStack() as outputs:
        children: dict[str, Child] = {}
        for name in SERVICES:
            output = outputs.enter_context(
                contextlib.closing(RotatingLog(settings.data_dir / "logs" / f"{name}.log"))
            )
            program = Program(name, _command(name, inherited[0]), environ, inherited)
            children[name] = Child(program, output, clock, tell)
        yield children


def _command(name: str, tether: int) -> Sequence[str]:
    return (sys.executable, "-m", "services.supervisor.tether", str(tether), f"services.{name}")


@contextlib.contextmanager
def _tether() -> Iterator[int]:
    """The end of a pipe that the services watch; the other end closes with this process."""
    watched, held = os.pipe()
    try:
        yield watched
    finally:
        os.close(watched)
        os.close(held)


@contextlib.contextmanager
def _logging_to(folder: Path, level: str) -> Iterator[None]:
    """The supervisor's own log is a file too: the terminal is for people."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handler = RotatingFileHandler(folder / "supervisor.log", maxBytes=BYTES_MAX, backupCount=OLDER_MAX)
    handler.setFormatter(JsonFormatter("supervisor"))
    root = logging.getLogger()
    root.setLevel(level)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
