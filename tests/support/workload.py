"""A running load whose every acknowledgement is an obligation.

Threads post touchpoints of a few people, batch after batch, and note the ids of those that a 2xx took.
Anything but a 2xx, or no answer at all, obliges to nothing: the batch is sent again under the same ids until
it is answered, or the load ends.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support import plain_http
from tests.support.crowd import Names, drawn
from tests.support.eventually import eventually
from tests.support.installation import Installation

_Said = tuple[int, dict[str, Any]]
"""A person, by number, and a touchpoint of theirs."""

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Workload:
    """Posts until it is left; `acked` and `sent` hold senders' ids by person. These are customers of one
    login each, unless `people` says what they are known by."""

    def __init__(
        self,
        rejse: Installation,
        *,
        threads: int = 4,
        customers: int = 40,
        people: Sequence[Names] | None = None,
        batch: int = 10,
        seed: int = 0,
    ) -> None:
        self.acked: dict[int, set[str]] = defaultdict(set)
        self.sent: dict[int, set[str]] = defaultdict(set)
        self.answers: Counter[str] = Counter()
        self._rejse = rejse
        self.people = people or [{"user_id": f"u{number}"} for number in range(customers)]
        self._batch = batch
        self._seed = seed
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._post, args=(number,), name=f"load-{number}", daemon=True)
            for number in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Post no more and wait for the answers that are on their way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def total_acked(self) -> int:
        """How many touchpoints have been taken so far."""
        with self._lock:
            return sum(map(len, self.acked.values()))

    def introduce(self) -> None:
        """Post one touchpoint of everybody under all of their names, until it is taken."""
        chance = random.Random(self._seed)
        everybody = [(who, _touchpoint(chance, f"i-{who}", names)) for who, names in enumerate(self.people)]
        with self._client() as client:
            self._note_sent(everybody)
            eventually(lambda: self._answered(client, everybody), 60)

    def _client(self) -> httpx.Client:
        return plain_http.client(timeout=20, headers={"Authorization": f"Bearer {self._rejse.write_key}"})

    def _post(self, number: int) -> None:
        chance = random.Random(f"{self._seed}-{number}")
        with self._client() as client:
            for turn in itertools.count():
                batch = [self._draw(chance, f"{number}-{turn}-{index}") for index in range(self._batch)]
                self._note_sent(batch)
                while not self._answered(client, batch):
                    if self._stop.wait(0.05):
                        return
                if self._stop.is_set():
                    return

    def _draw(self, chance: random.Random, id_: str) -> _Said:
        who = chance.randrange(len(self.people))
        return who, _touchpoint(chance, id_, drawn(self.people[who], chance))

    def _note_sent(self, batch: Sequence[_Said]) -> None:
        with self._lock:
            for who, one in batch:
                self.sent[who].add(one["id"])

    def _answered(self, client: httpx.Client, batch: Sequence[_Said]) -> bool:
        touchpoints = [one for _, one in batch]
        try:
            answer = client.post(f"{self._rejse.url('ingest')}/v1/touchpoints", json=touchpoints)
        except httpx.TransportError as error:
            with self._lock:
                self.answers[type(error).__name__] += 1
            return False
        with self._lock:
            self.answers[str(answer.status_code)] += 1
            if answer.is_success:
                assert answer.json()["accepted"] == len(batch), answer.text
                for who, one in batch:
                    self.acked[who].add(one["id"])
        return answer.is_success


def _touchpoint(chance: random.Random, id_: str, names: Names) -> dict[str, Any]:
    occurred_at = _BEGIN + timedelta(minutes=chance.randrange(60 * 24 * 150))
    return {
        "id": id_,
        "type": chance.choice(["order_completed", "product_viewed", "call_ended", "gym_visited"]),
        "channel": chance.choice(["web", "store", "phone"]),
        "occurred_at": occurred_at.isoformat(),
        "identities": names,
        "properties": {"total": chance.randrange(1000)},
    }


def broken_promises(rejse: Installation, load: Workload) -> list[str]:
    """What a public look at every timeline finds wrong, by everything that its person is known by: a lost, a
    doubled or an invented touchpoint."""
    found: list[str] = []
    for who, sent in load.sent.items():
        acked = load.acked[who]
        if not acked:
            continue
        for kind, value in load.people[who].items():
            timeline = Counter(rejse.timeline_ids(f"{kind}:{value}"))
            lost = acked - timeline.keys()
            doubled = [id_ for id_, times in timeline.items() if times > 1]
            invented = timeline.keys() - sent
            if lost or doubled or invented:
                found.append(
                    f"{kind} {value}: lost {sorted(lost)}, doubled {doubled}, invented {sorted(invented)}"
                )
    return found
