"""The probes on a listener of their own, which answers while the service's own is too busy for them.

Theory of operation. A loop that has more to do than it can refuses connections, and lets those that it took
wait for turns of seconds: who asks it for its health hears nothing, and an orchestrator would end a process
that does all it can. So a thread with a loop of its own answers here, beside whatever the service does. All
that it knows of the service's loop is its pulse, and whether that still beats is what liveness is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import AsyncIterator

import uvloop
from starlette.applications import Starlette

from shared.clock import Clock
from shared.lifecycle import serve_http
from shared.metrics import Metrics
from shared.probes import Readiness, probe_routes

LOOP_STILL_S = 2.0
_BEAT_EVERY_S = 0.25
_DRAIN_S = 1.0
_JOIN_S = 2.0

_log = logging.getLogger("rejse.health")


class Pulse:
    """Tells any thread whether the loop in which it was made turns."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._beat()

    def still(self) -> str | None:
        """Why the loop counts as dead; None while it turns."""
        still_s = self._clock.monotonic_s() - self._last_s
        return f"the loop has not turned for {still_s:.1f} s" if still_s > LOOP_STILL_S else None

    def stop(self) -> None:
        """Beat no more."""
        self._next.cancel()

    def _beat(self) -> None:
        self._last_s = self._clock.monotonic_s()
        self._next = self._loop.call_later(_BEAT_EVERY_S, self._beat)


@contextlib.asynccontextmanager
async def health_listener(
    listener: socket.socket, readiness: Readiness, metrics: Metrics, clock: Clock
) -> AsyncIterator[None]:
    """Answer the probes on a bound socket, from a thread. To be entered in the loop whose life they tell."""
    pulse = Pulse(clock)
    app = Starlette(routes=list(probe_routes(readiness, metrics, pulse.still)))
    runner, stop = asyncio.Runner(loop_factory=uvloop.new_event_loop), asyncio.Event()
    loop = runner.get_loop()

    def answer() -> None:
        with runner:
            runner.run(serve_http(app, listener, stop, _DRAIN_S))

    thread = threading.Thread(target=answer, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        pulse.stop()
        with contextlib.suppress(RuntimeError):  # it has died, and its loop with it
            loop.call_soon_threadsafe(stop.set)
        await asyncio.to_thread(thread.join, _JOIN_S)
        if thread.is_alive():
            _log.warning("health_not_ended")
