"""The load: requests one after the other, each booked before it goes out and when it is answered, and beside
them words on links, and erasures."""

from __future__ import annotations

import asyncio
import itertools
import time

import httpx
import msgspec

from tests.faults.eraser import Eraser
from tests.faults.ledger import Ledger, read
from tests.faults.places import Places
from tests.faults.traffic import Request, Traffic
from tests.faults.words import Words
from tests.support import plain_http

_SENDERS = 6
_TIMEOUT_S = 15.0
_PAUSE_S = 0.1
_TRIES_MAX = 3
"""Every seventh request is given up after so many; the others are sent until they are taken."""


class Load:
    """Sends until `stop` is set, and then ends what it has begun."""

    def __init__(self, places: Places) -> None:
        self.stop = asyncio.Event()
        self._places = places
        self._traffic = Traffic(places.seed)
        self._ledger = Ledger(places.ledger_path)
        self._words = Words(places, self._traffic, self._ledger)
        self._eraser = Eraser(places, self._traffic, self._ledger)
        self._latest = 0
        self._numbers = itertools.count(1 + max(read(places.ledger_path).intended, default=-1))
        self._next_s = time.monotonic()

    async def run(self) -> None:
        """Send."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_SENDERS):
                tasks.create_task(self._send())
            tasks.create_task(self._words.go_on(self.stop, lambda: self._latest))
            tasks.create_task(self._eraser.go_on(self.stop, lambda: self._latest))

    async def _send(self) -> None:
        async with plain_http.async_client(timeout=_TIMEOUT_S) as client:
            while not self.stop.is_set():
                self._latest = next(self._numbers)
                request = self._traffic.request(self._latest)
                await self._in_turn(len(request.events))
                self._ledger.enter("intent", request.number)
                await self._deliver(client, request)

    async def _in_turn(self, events: int) -> None:
        """Wait, so that all senders together send so many events a second."""
        now_s = time.monotonic()
        self._next_s = max(self._next_s, now_s - 1) + events / self._places.events_s
        await asyncio.sleep(max(0.0, self._next_s - now_s))

    async def _deliver(self, client: httpx.AsyncClient, request: Request) -> None:
        body = request.body()
        # A retry that crosses the first try.
        twice = request.number % 29 == 0
        for tries in itertools.count(1):
            posts = [self._post(client, request, body) for _ in range(1 + twice)]
            if any(await asyncio.gather(*posts)):
                return
            if self.stop.is_set() or (request.number % 7 == 0 and tries == _TRIES_MAX):
                return
            await asyncio.sleep(_PAUSE_S)

    async def _post(self, client: httpx.AsyncClient, request: Request, body: bytes) -> bool:
        """Whether the request was taken."""
        headers = self._places.key(request.source)
        try:
            url = f"{self._places.ingest_url}/v1/touchpoints"
            answer = await client.post(url, content=body, headers=headers)
        except httpx.TransportError as error:
            self._ledger.enter("answer", request.number, type(error).__name__, "-")
            return False
        refused = "-"
        if answer.is_success:
            verdict = msgspec.json.decode(answer.content)
            refused = ",".join(str(one["index"]) for one in verdict["refused"]) or "-"
        elif answer.status_code in (429, 503) and "retry-after" not in answer.headers:
            self._ledger.enter("broken", f"a {answer.status_code} without Retry-After")
        self._ledger.enter("answer", request.number, answer.status_code, refused)
        # A 422 is an answer too: every event of the request was refused.
        return answer.is_success or answer.status_code == 422
