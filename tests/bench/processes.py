"""Processes of a benchmark: on which core they run, what they cost, and the ones that Rejse consists of."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
import uvloop

from tests.support.child import Child, inherited_env
from tests.support.ports import free_port
from tests.support.process import RejseProcess

ROOT = Path(__file__).parents[2]
SERVER_CORE, LOAD_CORE = 0, 1
PARTITIONS = 12

_T = TypeVar("_T")


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What is started inside runs on that core alone, where the system and its cores allow it.

    Threads inherit it, so it is set before the start: set from outside it would move the main thread only.
    """
    allowed = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    if core is None or len(allowed) < 2:
        yield
        return
    os.sched_setaffinity(0, {allowed[core % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def cpu_s(pids: Iterable[int]) -> float:
    """User and system CPU seconds that the processes, and children of theirs that have ended, have taken."""
    return sum(sum(psutil.Process(pid).cpu_times()[:4]) for pid in pids)


def peak_rss_mib(pids: Iterable[int]) -> float:
    """The most memory that each process ever had resident, summed, in MiB."""
    return sum(map(_peak_rss_mib, pids))


def _peak_rss_mib(pid: int) -> float:
    if sys.platform != "linux":
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    status = Path(f"/proc/{pid}/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kib) / 1024


def apart(
    function: Callable[..., Any], *arguments: Any, core: int | None = LOAD_CORE, timeout_s: float = 300.0
) -> Any:
    """Run a module's function, plain or async, in a Python of its own, and return what it returns.

    Raises:
        CalledProcessError: it failed; its traceback is on standard error.
        TimeoutExpired: it was not done in time, and was killed.
    """
    with pinned(core):
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.processes"],
            input=pickle.dumps((function, arguments)),
            stdout=subprocess.PIPE,
            check=True,
            cwd=ROOT,
            timeout=timeout_s,
        )
    return pickle.loads(done.stdout)


@contextlib.contextmanager
def baseline(module: str, *arguments: str, home: Path, core: int | None = SERVER_CORE) -> Iterator[Server]:
    """A server of `tests.bench.baselines`, called with a port and the arguments, once it listens."""
    port = free_port()
    command = [sys.executable, "-m", f"tests.bench.baselines.{module}", str(port), *arguments]
    with pinned(core):
        child = Child(command, env=inherited_env(), log_file=home / f"{module}.log", cwd=ROOT)
    try:
        child.await_ready(lambda: _listens(port), 30.0)
        yield Server([child.pid], port)
    finally:
        child.end()


@contextlib.contextmanager
def service(
    name: str,
    settings: Mapping[str, str],
    home: Path,
    core: int | None = SERVER_CORE,
    under: Sequence[str] = (),
) -> Iterator[Server]:
    """One of Rejse's services with settings (without `REJSE_`) and a data folder below `home`, ready.

    `under` is a module that runs the service, which is its first argument, and the other ones.
    """
    with launched(name, [settings], home, core, under) as server:
        yield server


@contextlib.contextmanager
def launched(
    name: str,
    each: Sequence[Mapping[str, str]],
    home: Path,
    core: int | None = SERVER_CORE,
    under: Sequence[str] = (),
) -> Iterator[Server]:
    """Several processes of one service, started together, once all are ready; the port is the first one's."""
    processes = [_process(name, settings, home, number, under) for number, settings in enumerate(each)]
    try:
        with pinned(core):
            for process in processes:
                process.launch()
        for process in processes:
            process.await_ready(60.0)
        yield Server([process.pid for process in processes], processes[0].ready_port or 0)
        for process in processes:
            process.terminate()
    finally:
        for process in processes:
            process.close()


def _process(
    name: str, settings: Mapping[str, str], home: Path, number: int, under: Sequence[str]
) -> RejseProcess:
    port = free_port()
    given = {
        "data_dir": str(home / f"data-{name}-{number}"),
        "log_level": "WARNING",
        # The load generator is one address, whatever it stands for.
        "connections_per_address_max": "0",
        **settings,
    }
    env = {f"REJSE_{key.upper()}": value for key, value in {**given, f"{name}_port": str(port)}.items()}
    log_file = home / f"{name}-{number}.log"
    module, *arguments = (under[0], f"services.{name}", *under[1:]) if under else (f"services.{name}",)
    return RejseProcess(arguments, env=env, log_file=log_file, ready_port=port, module=module)


class Server:
    """A running server: its processes and its port."""

    def __init__(self, pids: Sequence[int], port: int) -> None:
        self.pids = pids
        self.port = port


def _listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _run_apart() -> None:
    function, arguments = pickle.load(sys.stdin.buffer)
    # What is printed is nothing of the answer.
    with contextlib.redirect_stdout(sys.stderr):
        answer = function(*arguments)
        if inspect.iscoroutine(answer):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                answer = runner.run(answer)
    sys.stdout.buffer.write(pickle.dumps(answer))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _run_apart()
