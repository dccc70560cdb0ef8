"""How a service ends: one written sequence under one deadline.

SIGTERM or SIGINT sets the stop event. The service goes unready, stops taking, finishes what is in flight,
commits, closes its parts in reverse order of opening (an `AsyncExitStack`) and exits 0. A second signal
ends it at once. Every wait on the way has what is left of one `Deadline`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvicorn

from shared.accepting import Acceptor
from shared.clock import Clock
from shared.receiving import DeadlineProtocol

COLLECT_AFTER = 20_000
COLLECT_AFTER_BATCHES = 500_000
"""Objects made and not freed yet: of a service that answers requests, and of one that holds batches of
records while it works on them. None of these is garbage, and a collection in between looks at all of them."""


class Deadline:
    """A point in time that several waits share."""

    def __init__(self, timeout_s: float, clock: Clock) -> None:
        self._clock = clock
        self._end_s = clock.monotonic_s() + timeout_s

    def remaining_s(self) -> float:
        """Seconds left, never less than 0."""
        return max(0.0, self._end_s - self._clock.monotonic_s())


@contextlib.contextmanager
def stop_on_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set; the second signal ends the process at once with code 130."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def spare_the_collector(collect_after: int = COLLECT_AFTER) -> None:
    """Keep what is loaded by now out of garbage collection, and collect less often: reference counts free
    nearly all that a request or a batch leaves behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(collect_after, 20, 20)


async def wait_for_stop(stop: asyncio.Event, timeout_s: float) -> None:
    """Pause for so many seconds, or until the service is told to stop."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await stop.wait()


class HttpServer(uvicorn.Server):
    """uvicorn without signal handlers of its own, for whoever serves decides when it stops, and with an
    acceptor of ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept from bound sockets."""
        await self.lifespan.startup()
        protocol: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        connect = partial(
            protocol, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        self.servers = [Acceptor(listener, connect) for listener in sockets or ()]  # type: ignore[misc]
        self.started = True


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. With port 0 the system chooses one; `getsockname` tells which.

    Raises:
        OSError: the address is taken or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def listen_if(host: str, port: int | None) -> socket.socket | None:
    """A bound socket on a port that may be set."""
    return None if port is None else listen(host, port)


async def serve_http(
    app: Any,
    listener: socket.socket,
    stop: asyncio.Event,
    drain_timeout_s: float,
    *,
    drain_wait_s: float = 0.0,
    **uvicorn_options: Any,
) -> None:
    """Serve an ASGI app on a bound socket until `stop` is set, and for `drain_wait_s` seconds more; then
    answer what is in flight and return.

    Connections still open after `drain_timeout_s` seconds are cut. `uvicorn_options` go to `uvicorn.Config`;
    `http` may be another protocol class there.
    """
    server = HttpServer(
        uvicorn.Config(
            app,
            http=uvicorn_options.pop("http", DeadlineProtocol),
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=max(1, round(drain_timeout_s)),
            **uvicorn_options,
        )
    )
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(sockets=[listener]), name="http")
        stopping = tasks.create_task(stop.wait(), name="http-stop")
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({serving}, timeout=drain_wait_s)
        server.should_exit = True
        stopping.cancel()
