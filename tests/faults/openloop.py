"""A sender that does not wait for the server: requests are due on a schedule, whatever becomes of them.

A latency counts from when the request was due, so that a stall shows in every request that it delayed. A
request that is not answered in time is given up, its connection with it, and may be sent again at once, as
impatient clients do; so may one that was refused.
"""

from __future__ import annotations

import asyncio
import gc
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.bench.http import Connection

TICK_S = 0.001
_TRIES_DELAY_S = 0.05
_RETRY_AFTER = re.compile(rb"\r\nretry-after: \d+", re.IGNORECASE)
_REFUSED = frozenset((429, 503))


@dataclass(frozen=True, slots=True)
class Offer:
    """What is offered to a port: which requests, in turns, how many a second, for how long.

    `connections` bounds how many are open at once; what is due beyond waits. A request that is not answered
    `timeout_s` after it was sent is given up. `tries` is how often a request is sent at most; more than 1
    makes a storm of retries.
    """

    port: int
    requests: Sequence[bytes]
    rate_s: float
    seconds: float
    connections: int = 64
    timeout_s: float = 10.0
    tries: int = 1


@dataclass(slots=True)
class Outcome:
    """What came of an offer. `answers` counts by status, or by what came instead of an answer; `accepted`
    are the places in `Offer.requests` of those that a 2xx took, `repeated` of those that were sent more than
    once; latencies, from when a request was due, and waits, from when it was sent last, are of 2xx.
    `behind_s` is how late we were at worst ourselves."""

    answers: Counter[str] = field(default_factory=Counter)
    accepted: list[int] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    repeated: set[int] = field(default_factory=set)
    refused_without_retry_after: int = 0
    sent: int = 0
    seconds: float = 0.0
    behind_s: float = 0.0


async def offered(offer: Offer) -> Outcome:
    """Make an offer, and wait until nothing is under way any more."""
    return await _OpenLoop(offer).run()


class _Call:
    """One request, in all its tries."""

    __slots__ = ("due_s", "number", "sent_s", "tries")

    def __init__(self, number: int, due_s: float) -> None:
        self.number = number
        self.due_s = due_s
        self.sent_s = 0.0
        self.tries = 0


class _OpenLoop:
    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._loop = asyncio.get_running_loop()
        self._outcome = Outcome()
        self._idle: deque[Connection] = deque()
        self._waiting: deque[_Call] = deque()
        self._calls: dict[Connection, tuple[_Call, asyncio.TimerHandle]] = {}
        self._open = 0
        self._due = 0
        self._began_s = 0.0
        self._over = asyncio.Event()

    async def run(self) -> Outcome:
        gc.disable()  # a pause of ours would count as the server's
        self._began_s = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            self._start: Callable[[_Call], object] = lambda call: tasks.create_task(self._dial(call))
            self._tick()
            await self._over.wait()
        for connection in self._idle:
            connection.close()
        return self._outcome

    def _tick(self) -> None:
        """Send what is due."""
        offer, now_s = self._offer, time.monotonic()
        ended = now_s - self._began_s >= offer.seconds
        while not ended and (due_s := self._began_s + self._due / offer.rate_s) <= now_s:
            self._due += 1
            self._outcome.behind_s = max(self._outcome.behind_s, now_s - due_s)
            self._send(_Call((self._due - 1) % len(offer.requests), due_s))
        if ended and not self._outcome.seconds:
            self._outcome.seconds = now_s - self._began_s
            self._outcome.answers["never sent"] += len(self._waiting)
            self._waiting.clear()
        if ended and not self._calls and not self._open - len(self._idle):
            self._over.set()
        else:
            self._loop.call_later(TICK_S, self._tick)

    def _send(self, call: _Call) -> None:
        if self._outcome.seconds:
            return
        if self._idle:
            self._send_on(self._idle.popleft(), call)
        elif self._open < self._offer.connections:
            self._open += 1
            self._start(call)
        else:
            self._waiting.append(call)

    async def _dial(self, call: _Call) -> None:
        connection = Connection(self._answered, lambda error: self._lost(connection))
        try:
            async with asyncio.timeout(self._offer.timeout_s):
                await self._loop.create_connection(lambda: connection, "127.0.0.1", self._offer.port)
        except OSError as error:
            self._open -= 1
            self._failed(call, f"not connected: {type(error).__name__}")
            return
        self._send_on(connection, call)

    def _send_on(self, connection: Connection, call: _Call) -> None:
        call.tries += 1
        call.sent_s = time.monotonic()
        if call.tries > 1:
            self._outcome.repeated.add(call.number)
        self._outcome.sent += 1
        timer = self._loop.call_later(self._offer.timeout_s, self._give_up, connection)
        self._calls[connection] = (call, timer)
        connection.send(self._offer.requests[call.number])

    def _answered(self, connection: Connection, status: int, _: bytes) -> None:
        call, timer = self._calls.pop(connection)
        timer.cancel()
        self._outcome.answers[str(status)] += 1
        if b"connection: close" in connection.head.lower():
            self._open -= 1
            connection.close()
        else:
            self._idle.append(connection)
        if 200 <= status < 300:
            now_s = time.monotonic()
            self._outcome.latencies_s.append(now_s - call.due_s)
            self._outcome.waits_s.append(now_s - call.sent_s)
            self._outcome.accepted.append(call.number)
        elif status in _REFUSED:
            self._outcome.refused_without_retry_after += not _RETRY_AFTER.search(connection.head)
            self._try_again(call)
        if self._waiting:
            self._send(self._waiting.popleft())

    def _give_up(self, connection: Connection) -> None:
        call, _ = self._calls.pop(connection)
        connection.close()
        self._open -= 1
        self._failed(call, "gave up")

    def _lost(self, connection: Connection) -> None:
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        elif connection in self._calls:
            call, timer = self._calls.pop(connection)
            timer.cancel()
            connection.close()
            self._failed(call, "hung up on")

    def _failed(self, call: _Call, what: str) -> None:
        self._outcome.answers[what] += 1
        self._try_again(call)
        if self._waiting:
            self._send(self._waiting.popleft())

    def _try_again(self, call: _Call) -> None:
        """At once, or nearly: a client that heeds `Retry-After` would be no storm."""
        if call.tries < self._offer.tries and not self._outcome.seconds:
            self._loop.call_later(_TRIES_DELAY_S, self._send, call)
