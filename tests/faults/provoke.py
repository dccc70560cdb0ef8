"""Sends hostile requests, each twice, and notes how they were answered. To be run apart."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field, replace

from tests.bench.http import BadAnswer, Connection, post
from tests.faults.corpus import PATH, Hostile, requests

_KEPT_ALIVE, _CROOKED = 8, 32
_WITHIN_S = 1.0
_NO_MORE_COMES_S = 1.2
"""A request that is cut short is left alone for so long before we hang up on our side."""
_TIMEOUT_S = 20.0
_FIT_EVERY = 20
_TOLD_MAX = 5
_RESET = "reset"
_NOT_IN_TIME = (b'"code":"not_durable"', b'"code":"overloaded"')
"""What ingest answers for want of time, whatever was sent: 503 and when to come again."""
_SAMPLES = ("Zoë", "e\u0301\u200b\u202e", '\\"\u0001', "\U0001f600", "a" * 300)


@dataclass(slots=True)
class Provoked:
    """What was seen. `found` are the broken promises, some of them in words; `kept` are the properties of
    touchpoints that a 202 took, by their ids."""

    requests: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)
    fit: int = 0
    slowest_s: float = 0.0
    slowest: str = ""


async def provoked(port: int, key: str, seed: int, count: int) -> Provoked:
    """Send `count` requests."""
    return await _Provoker(port, key, seed, count).run()


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The status, or how the connection ended without one; and the answer's body."""

    status: str
    body: bytes = b""
    idle_s: float = field(default=0.0, compare=False)
    """How long the server waited for more, rightly."""

    def agrees(self, other: _Verdict) -> bool:
        """A server that hangs up with bytes unread resets, and the reset may overtake its answer; and what it
        had no time for it may take later."""
        return self == other or any(one.status == _RESET or one.was_not_in_time for one in (self, other))

    @property
    def was_not_in_time(self) -> bool:
        """Whether it is about how busy the server was, or its disk."""
        return self.status == "503" and any(code in self.body for code in _NOT_IN_TIME)


class _Provoker:
    def __init__(self, port: int, key: str, seed: int, count: int) -> None:
        self._port = port
        self._key = key
        self._chance = random.Random(seed)
        self._found = Provoked()
        self._kept_alive: asyncio.Queue[Hostile | None] = asyncio.Queue(100)
        self._crooked: asyncio.Queue[Hostile | None] = asyncio.Queue(100)
        self._requests = itertools.islice(requests(seed, key), count // 2)

    async def run(self) -> Provoked:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._feed())
            for _ in range(_KEPT_ALIVE):
                tasks.create_task(self._work(self._kept_alive, _KeptAlive(self._port)))
            for _ in range(_CROOKED):
                tasks.create_task(self._work(self._crooked, _Raw(self._port)))
        return self._found

    async def _feed(self) -> None:
        for number, hostile in enumerate(self._requests):
            await (self._kept_alive if hostile.keeps else self._crooked).put(hostile)
            if number % _FIT_EVERY == 0:
                await self._kept_alive.put(self._fit(number))
        for queue, workers in ((self._kept_alive, _KEPT_ALIVE), (self._crooked, _CROOKED)):
            for _ in range(workers):
                await queue.put(None)

    def _fit(self, number: int) -> Hostile:
        """A touchpoint that is fit, whatever surrounds it."""
        text = self._chance.choice(_SAMPLES)
        properties = json.dumps({"a": text}, ensure_ascii=self._chance.random() < 0.5).encode()
        body = (
            b'{"id":"fit-%d","type":"order_completed","channel":"web","occurred_at":"2026-03-01T12:00:00Z",'
            b'"identities":{"user_id":"fit-%d"},"properties":%s}' % (number, number % 100, properties)
        )
        self._found.fit += 1
        return Hostile("fit", post(PATH, body, self._key), id=f"fit-{number}", properties=properties)

    async def _work(self, queue: asyncio.Queue[Hostile | None], wire: _KeptAlive | _Raw) -> None:
        while (hostile := await queue.get()) is not None:
            first, second = await self._ask(wire, hostile), await self._ask(wire, hostile)
            if not first.agrees(second):
                self._break("unstable", hostile, first, second)
            if hostile.kind == "fit" and first.status != "202" and not first.was_not_in_time:
                self._break("fit and refused", hostile, first, second)
            if hostile.id is not None and first.status == "202" and b'"accepted":1,' in first.body:
                self._found.kept[hostile.id] = hostile.properties
        wire.close()

    async def _ask(self, wire: _KeptAlive | _Raw, hostile: Hostile) -> _Verdict:
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                verdict = await wire.ask(hostile)
        except TimeoutError:
            wire.close()
            verdict = _Verdict("no answer")
        took_s = time.monotonic() - began_s - verdict.idle_s
        self._found.requests += 1
        self._found.answers[verdict.status] += 1
        if took_s > self._found.slowest_s:
            self._found.slowest_s, self._found.slowest = took_s, hostile.kind
        if took_s > _WITHIN_S:
            self._break("slow", hostile, verdict)
        if verdict.was_not_in_time:
            self._break("503 for want of time", hostile, verdict)
        elif verdict.status[0] == "5" or verdict.status == "no answer":
            self._break("5xx or no answer", hostile, verdict)
        elif verdict.status[0] == "4" and b'"code":' not in verdict.body and hostile.keeps:
            self._break("4xx without a code", hostile, verdict)
        return verdict

    def _break(self, what: str, hostile: Hostile, *verdicts: _Verdict) -> None:
        self._found.broken[what] += 1
        if self._found.broken[what] <= _TOLD_MAX:
            seen = " / ".join(f"{one.status} {one.body[:120]!r}" for one in verdicts)
            self._found.told.append(f"{what}: {hostile.kind}: {hostile.request[-160:]!r} → {seen}")


class _KeptAlive:
    """A connection for one request after the other, made anew when the server hangs up."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: Connection | None = None
        self._verdict: asyncio.Future[_Verdict] | None = None

    async def ask(self, hostile: Hostile) -> _Verdict:
        """Send a request and wait for its answer."""
        loop = asyncio.get_running_loop()
        if self._connection is None:
            made = Connection(self._answered, self._lost)
            await loop.create_connection(lambda: made, "127.0.0.1", self._port)
            self._connection = made
        self._verdict = loop.create_future()
        self._connection.send(hostile.request)
        return await self._verdict

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _answered(self, _: Connection, status: int, body: bytes) -> None:
        self._say(_Verdict(str(status), body))

    def _lost(self, _: BadAnswer) -> None:
        self._connection = None
        self._say(_Verdict(_RESET))

    def _say(self, verdict: _Verdict) -> None:
        if self._verdict is not None and not self._verdict.done():
            self._verdict.set_result(verdict)


class _Raw:
    """A connection for each request."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def ask(self, hostile: Hostile) -> _Verdict:
        """Send a request and read its first answer, or what comes instead."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(hostile.request)
            reading = asyncio.get_running_loop().create_task(_first_answer(reader))
            await asyncio.wait([reading], timeout=None if hostile.whole else _NO_MORE_COMES_S)
            if reading.done():
                return await reading
            writer.write_eof()
            return replace(await reading, idle_s=_NO_MORE_COMES_S)
        except (ConnectionError, OSError):
            return _Verdict(_RESET)
        finally:
            writer.transport.abort()

    def close(self) -> None:
        """Nothing is kept open."""


async def _first_answer(reader: asyncio.StreamReader) -> _Verdict:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            status = head[9:12].decode()
            if status != "100":
                break
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return _Verdict(status, await reader.read(int(length or 0)))
    except asyncio.IncompleteReadError as error:
        return _Verdict("closed" if not error.partial else "half an answer", error.partial)
    except ConnectionError:
        return _Verdict(_RESET)
