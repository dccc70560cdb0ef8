"""The load generator. It is to be run apart, on a core that the measured server doesn't use.

*Closed* loop: each connection sends its next request when it has the last answer, which finds the capacity.
It tells no latency: a server that stalls is asked less meanwhile, so the stall would hardly show.
*Paced*: requests are due on a fixed schedule whatever the server does, and a latency counts from when the
request was due, so that a stall shows in every request that it delayed. Every request that was due within
the window counts, however late its answer. The timer ticks once a millisecond, which is part of what is
measured.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.bench.http import BadAnswer, Connection, connect
from tests.bench.processes import cpu_s

CONNECTIONS = 64
WARM_S = 1.0
_DRAIN_S = 10.0
_BACKLOG_MAX_S = 5.0
_TICK_S = 0.001


@dataclass(frozen=True, slots=True)
class Job:
    """Where to send which requests, in turns, for how long; and whose CPU time to take meanwhile."""

    port: int
    requests: Sequence[bytes]
    seconds: float
    pids: Sequence[int]
    connections: int = CONNECTIONS


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of it within the measured window: the answers a second, and latencies if it was paced."""

    rate_s: float
    cpu_s: float
    seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None


async def closed(job: Job) -> Loaded:
    """As many requests as the connections get answered.

    Raises:
        BadAnswer: an answer was no 2xx.
    """
    return await _Closed(job).run()


async def paced(job: Job, rate_s: float) -> Loaded:
    """So many requests a second.

    Raises:
        BadAnswer: an answer was no 2xx, or the server fell hopelessly behind.
    """
    return await Paced(job, rate_s).run()


def percentile_ms(latencies_s: Sequence[float], part: float) -> float:
    """A percentile of latencies that are sorted, in milliseconds."""
    return 1000 * latencies_s[min(len(latencies_s) - 1, int(part * len(latencies_s)))]


class Run:
    """Connections, a warm-up, a window in which answers count, and the end of what is under way."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._requests = itertools.cycle(job.requests)
        self._answers = 0
        self.counting = False
        self._under_way = 0
        self._over = False
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._drained = asyncio.Event()

    async def run(self) -> Loaded:
        """Send and count.

        Raises:
            BadAnswer: an answer was no 2xx, or none came.
        """
        gc.disable()  # a pause of the generator would be counted as the server's
        connections = [
            await connect(self._job.port, self._on_answer, self._fail) for _ in range(self._job.connections)
        ]
        try:
            self._begin(connections)
            await self._pass(WARM_S)
            began_s, began_cpu_s, self.counting = time.monotonic(), cpu_s(self._job.pids), True
            await self._pass(self._job.seconds)
            self.counting = False
            seconds, taken_s = time.monotonic() - began_s, cpu_s(self._job.pids) - began_cpu_s
            self._end()
            async with asyncio.timeout(_DRAIN_S):
                await self._drained.wait()
        finally:
            for connection in connections:
                connection.close()
        return Loaded(rate_s=self._answers / seconds, cpu_s=taken_s, seconds=seconds)

    def next_request(self, connection: Connection) -> bytes:
        """What a connection is to send now."""
        return next(self._requests)

    def answered(self, connection: Connection) -> None:
        """A request was answered with a 2xx."""

    @abstractmethod
    def _begin(self, connections: Sequence[Connection]) -> None:
        """Send the first requests."""

    @abstractmethod
    def _go_on(self, connection: Connection) -> None:
        """A connection is free."""

    def _end(self) -> None:
        self._over = True

    async def _pass(self, seconds: float) -> None:
        await asyncio.wait([self._failed], timeout=seconds)
        if self._failed.done():
            self._failed.result()

    def _send(self, connection: Connection) -> None:
        self._under_way += 1
        connection.send(self.next_request(connection))

    def _on_answer(self, connection: Connection, status: int, body: bytes) -> None:
        self._under_way -= 1
        if not 200 <= status < 300:
            self._fail(BadAnswer(f"{status}: {body[:300]!r}"))
            return
        self._answers += self.counting
        self.answered(connection)
        self._go_on(connection)
        if self._over and not self._under_way:
            self._drained.set()

    def _fail(self, error: BadAnswer) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)


class _Closed(Run):
    def _begin(self, connections: Sequence[Connection]) -> None:
        for connection in connections:
            self._go_on(connection)

    def _go_on(self, connection: Connection) -> None:
        if not self._over:
            self._send(connection)


class Paced(Run):
    """Requests on a fixed schedule."""

    def __init__(self, job: Job, rate_s: float) -> None:
        super().__init__(job)
        self._rate_s = rate_s
        self._began_s = 0.0
        self._sent = 0
        self._idle: deque[Connection] = deque()  # in turns: one that is left alone would be closed
        self._late: deque[float] = deque()
        self._window_s = (0.0, 0.0)
        self._latencies_s: list[float] = []

    async def run(self) -> Loaded:
        loaded = await super().run()
        latencies_s = sorted(self._latencies_s)
        p50_ms, p99_ms = (percentile_ms(latencies_s, part) for part in (0.50, 0.99))
        return replace(loaded, p50_ms=p50_ms, p99_ms=p99_ms)

    def _begin(self, connections: Sequence[Connection]) -> None:
        self._idle.extend(connections)
        self._began_s = time.monotonic()
        begin_s = self._began_s + WARM_S
        self._window_s = (begin_s, begin_s + self._job.seconds)
        self._tick()

    def _go_on(self, connection: Connection) -> None:
        begin_s, end_s = self._window_s
        if begin_s <= connection.due_s < end_s:
            self._latencies_s.append(time.monotonic() - connection.due_s)
        if self._late:
            self._send_due(connection, self._late.popleft())
        else:
            self._idle.append(connection)

    def _send_due(self, connection: Connection, due_s: float) -> None:
        connection.due_s = due_s
        self._send(connection)

    def _end(self) -> None:
        self._catch_up(time.monotonic())
        super()._end()

    def _tick(self) -> None:
        if self._over or self._failed.done():
            if not self._under_way:
                self._drained.set()
            return
        now_s = time.monotonic()
        due_s = self._catch_up(now_s)
        if len(self._late) > _BACKLOG_MAX_S * self._rate_s:
            self._fail(BadAnswer(f"{len(self._late)} requests behind at {self._rate_s:,.0f} a second"))
        asyncio.get_running_loop().call_later(max(_TICK_S, due_s - now_s), self._tick)

    def _catch_up(self, now_s: float) -> float:
        """Send what is due by now, or note that it is late; when the next one is due."""
        while (due_s := self._began_s + self._sent / self._rate_s) <= now_s:
            self._sent += 1
            if self._idle:
                self._send_due(self._idle.popleft(), due_s)
            else:
                self._late.append(due_s)
        return due_s
