"""What people say of links while everything breaks: those of an identity are withdrawn, or taken back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import httpx
import msgspec

from tests.faults.ledger import Ledger
from tests.faults.places import Places
from tests.faults.traffic import Traffic, is_mortal, names_of
from tests.support import plain_http

_PAUSE_S = 0.5
_TIMEOUT_S = 5.0
_TAKEN_BACK = 0.4
_KINDS = 3
_BACK_MAX = 60
"""Words are about whom so many of the latest requests told of."""


class Words:
    """One word after the other, each booked before it is said and once it is taken. Of one customer it is
    always the same identity that they are about: no two words are about one link."""

    def __init__(self, places: Places, traffic: Traffic, ledger: Ledger) -> None:
        self._places = places
        self._traffic = traffic
        self._ledger = ledger
        self._chance = random.Random(places.seed)
        self._withdrawn: list[str] = []

    async def go_on(self, stop: asyncio.Event, latest: Callable[[], int]) -> None:
        """Talk until `stop` is set. `latest` is the number of the latest request."""
        headers = {"authorization": f"Bearer {self._places.keys['admin']}"}
        async with plain_http.async_client(timeout=_TIMEOUT_S, headers=headers) as client:
            while not stop.is_set():
                await asyncio.sleep(_PAUSE_S)
                if self._withdrawn and self._chance.random() < _TAKEN_BACK:
                    word = "relink"
                    identity = self._withdrawn.pop(self._chance.randrange(len(self._withdrawn)))
                else:
                    word = "unlink"
                    identity = self._somebody(latest())
                    self._withdrawn.append(identity)
                self._ledger.enter("word", word, identity)
                while not await self._is_said(client, word, identity):
                    if stop.is_set():
                        return
                    await asyncio.sleep(_PAUSE_S)

    def _somebody(self, latest: int) -> str:
        """An identity of somebody who came lately and can't be erased."""
        number = self._chance.randrange(max(latest - _BACK_MAX, 0), latest + 1)
        customer = self._traffic.customer(number, self._chance.randrange(self._traffic.size(number)))
        customer += is_mortal(customer)
        kind, value = [*names_of(customer).items()][customer % _KINDS]
        return f"{kind}:{value}"

    async def _is_said(self, client: httpx.AsyncClient, word: str, identity: str) -> bool:
        try:
            url = f"{self._places.api_url}/v1/identity/{word}"
            answer = await client.post(url, params={"identity": identity})
        except httpx.TransportError:
            return False
        if answer.status_code == 503:
            return False
        links = msgspec.json.decode(answer.content)["links"] if answer.is_success else []
        if not links and answer.status_code != 404:
            self._ledger.enter("broken", f"a {answer.status_code} to a word on a link")
        # 404: no touchpoint has linked it yet.
        pairs = [f"{one['identity']}|{one['other']}" for one in links]
        self._ledger.enter("said", word, identity, ",".join(pairs) or "-")
        return True
