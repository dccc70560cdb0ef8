"""Who asks for customers to be erased while everything breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import datetime

import httpx
import msgspec

from tests.faults.ledger import Ledger
from tests.faults.places import Places
from tests.faults.traffic import RETURN_SOURCE, Traffic, micros_of, mortal_before, names_of, return_event
from tests.support import plain_http

_PAUSE_S = 1.0
_TIMEOUT_S = 5.0
_BACK_MAX = 60
"""Who is erased came in so many of the latest requests, so that more of theirs is on its way."""
_RETURN_AFTER_MICROS = 500_000
_TRIES_MAX = 3
_GIVEN_UP = 5
"""Every fifth erasure is asked for only once, answered or not."""


class _Identity(msgspec.Struct):
    kind: str
    value: str


class _Customer(msgspec.Struct):
    id: str
    identities: list[_Identity]


class _Erasure(msgspec.Struct):
    customer: str
    erased_at: datetime


class Eraser:
    """Erases one customer after the other, each booked before it is asked for and once it is taken. At times
    somebody new comes under the same name then."""

    def __init__(self, places: Places, traffic: Traffic, ledger: Ledger) -> None:
        self._places = places
        self._traffic = traffic
        self._ledger = ledger
        self._chance = random.Random(places.seed)
        self._unsure: set[int] = set()
        """Of whom an erasure may be on its way that nobody has answered: it could meet who came back."""

    async def go_on(self, stop: asyncio.Event, latest: Callable[[], int]) -> None:
        """Erase until `stop` is set. `latest` is the number of the latest request."""
        headers = {"authorization": f"Bearer {self._places.keys['admin']}"}
        async with plain_http.async_client(timeout=_TIMEOUT_S, headers=headers) as client:
            while not stop.is_set():
                await asyncio.sleep(_PAUSE_S)
                number, some_names = self._somebody(latest())
                gives_up = self._chance.randrange(_GIVEN_UP) == 0
                comes_back = self._chance.random() < 0.5
                found = await self._found(client, some_names)
                if found is None:
                    continue
                name, customer = found
                names = ",".join(f"{one.kind}:{one.value}" for one in customer.identities)
                self._ledger.enter("erase", number, names)
                erasure = await self._asked(client, name)
                if erasure is None:
                    self._unsure.add(number)
                while erasure is None and not gives_up and not stop.is_set():
                    await asyncio.sleep(_PAUSE_S)
                    # By the id the answer stays the same.
                    erasure = await self._asked(client, customer.id)
                if erasure is None:
                    continue
                at = erasure.erased_at
                self._ledger.enter("erased", number, erasure.customer, at.isoformat())
                if comes_back and number not in self._unsure:
                    await self._come_back(client, name, micros_of(at) + _RETURN_AFTER_MICROS)

    def _somebody(self, latest: int) -> tuple[int, Sequence[str]]:
        """A mortal who came lately, and their names in any order."""
        number = self._chance.randrange(max(latest - _BACK_MAX, 0), latest + 1)
        customer = self._traffic.customer(number, self._chance.randrange(self._traffic.size(number)))
        mortal = mortal_before(customer)
        names = [f"{kind}:{value}" for kind, value in names_of(mortal).items()]
        return mortal, self._chance.sample(names, len(names))

    async def _found(self, client: httpx.AsyncClient, names: Sequence[str]) -> tuple[str, _Customer] | None:
        """The first of the names that is somebody's by now, and whose."""
        for name in names:
            try:
                answer = await client.get(f"{self._places.api_url}/v1/customers/{name}")
            except httpx.TransportError:
                return None
            if answer.is_success:
                return name, msgspec.json.decode(answer.content, type=_Customer)
        return None

    async def _asked(self, client: httpx.AsyncClient, ref: str) -> _Erasure | None:
        """What the answer is, asked by a name or by an id; None: it is unknown whether anything is done."""
        try:
            answer = await client.delete(f"{self._places.api_url}/v1/customers/{ref}")
        except httpx.TransportError:
            return None
        if answer.is_success:
            return msgspec.json.decode(answer.content, type=_Erasure)
        # Of a name: what was asked for before, without an answer, has come to pass since.
        is_nobody = answer.status_code == 404 and ":" in ref
        if answer.status_code != 503 and not is_nobody:
            self._ledger.enter("broken", f"a {answer.status_code} to an erasure")
        return None

    async def _come_back(self, client: httpx.AsyncClient, name: str, micros: int) -> None:
        """Send something that happened after the erasure, a few times if nobody takes it."""
        content = msgspec.json.encode([return_event(name, micros).json])
        self._ledger.enter("return", name, micros, "sent")
        for _ in range(_TRIES_MAX):
            status = await self._sent(client, content)
            if status is not None:
                self._ledger.enter("return", name, micros, status)
                return
            await asyncio.sleep(_PAUSE_S)

    async def _sent(self, client: httpx.AsyncClient, content: bytes) -> int | None:
        """How an event was answered; None: it was not taken."""
        try:
            url = f"{self._places.ingest_url}/v1/touchpoints"
            answer = await client.post(url, content=content, headers=self._places.key(RETURN_SOURCE))
        except httpx.TransportError:
            return None
        is_taken = answer.is_success and not msgspec.json.decode(answer.content)["refused"]
        return answer.status_code if is_taken else None
