"""Group commit: whatever came while the last append was in flight goes out in the next one.

A request hands its records over and is called back; one task appends for all of them. So a slow log makes
the groups larger instead of the queue longer, and a client that hangs up takes nothing from the others: its
records are in the group already.

After an append that took long, the next one waits for a small part of that time: those who were just
answered are about to send their next request, and would else miss the group and make two of one. Each append
has a cost by itself, here and even more at a broker that syncs every partition. A request that comes alone
never waits for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from shared.clock import Clock
from shared.eventlog.port import NewRecord, Outcome
from shared.failpoints import Failpoints

Append = Callable[[Sequence[NewRecord]], Awaitable[Sequence[Outcome]]]
"""Makes records durable and says, in the same order, what became of each. Bounded in time."""

Settled = Callable[[Sequence[Outcome]], None]
"""Called once with what became of a request's records. It must not raise."""

_GATHER_PART = 1 / 8
_GATHER_S_MIN, _GATHER_S_MAX = 0.0005, 0.002
"""Below the least, timers are too coarse; the most bounds what a slow log adds to a latency."""

GROUP_RECORDS_MAX = 10_000
"""With more an append would hardly be cheaper for each, and those behind it would wait for it the longer."""

AGE_S_MAX = 10.0
"""A request that has waited for longer is not appended any more: its sender has given up, or is about to."""

_Waiting = tuple[Sequence[NewRecord], Settled, float]
"""With the time since when they wait."""


class GroupWriter:
    """Turns the writes of many requests into few appends."""

    def __init__(self, append: Append, clock: Clock, failpoints: Failpoints) -> None:
        self._append = append
        self._clock = clock
        self._failpoints = failpoints
        self._waiting: list[_Waiting] = []
        self._work = asyncio.Event()
        self._closing = False
        self._records = 0
        """How many wait."""
        self._waited_s = 0.0
        """How long the oldest request of the group under way had to wait for the groups before it."""

    def write(self, records: Sequence[NewRecord], settled: Settled) -> None:
        """Append records with those of other requests, and call back."""
        self._waiting.append((records, settled, self._clock.monotonic_s()))
        self._records += len(records)
        self._work.set()

    def behind_s(self) -> float:
        """How long (seconds) what comes now will have to wait, as far as what waits already tells. A single
        append that takes its time says nothing of the next one: more than a group must wait behind it."""
        return self._waited_s if self._records >= GROUP_RECORDS_MAX else 0.0

    async def run(self) -> None:
        """Append until `finish` was called and nothing waits any more."""
        while not self._closing or self._waiting:
            await self._work.wait()
            self._work.clear()
            if self._waiting:
                group = self._next_group()
                began_s = self._clock.monotonic_s()
                self._waited_s = began_s - group[0][2]
                await self._commit(self._young(group))
                if len(group) > 1:
                    await self._gather(self._clock.monotonic_s() - began_s)

    def finish(self) -> None:
        """Let `run` return as soon as nothing waits."""
        self._closing = True
        self._work.set()

    def _next_group(self) -> list[_Waiting]:
        """The requests that have waited longest, not many more than fill a group."""
        records = 0
        for at, (more, _, _) in enumerate(self._waiting):
            records += len(more)
            if records >= GROUP_RECORDS_MAX:
                group, self._waiting = self._waiting[: at + 1], self._waiting[at + 1 :]
                self._work.set()
                break
        else:
            group, self._waiting = self._waiting, []
        self._records -= records
        return group

    async def _gather(self, append_s: float) -> None:
        """Let the next requests of those who were just answered come."""
        pause_s = min(append_s * _GATHER_PART, _GATHER_S_MAX)
        if pause_s >= _GATHER_S_MIN:
            await self._clock.sleep(pause_s)

    def _young(self, group: list[_Waiting]) -> list[_Waiting]:
        """Those that have not waited for too long; of the records of the others nothing will be known."""
        oldest_s = self._clock.monotonic_s() - AGE_S_MAX
        if group[0][2] >= oldest_s:
            return group
        for records, settled, since_s in group:
            if since_s < oldest_s:
                settled([Outcome.UNKNOWN] * len(records))
        return [waiting for waiting in group if waiting[2] >= oldest_s]

    async def _commit(self, group: list[_Waiting]) -> None:
        """Append a group. Of records whose append has failed or was cancelled nothing is known."""
        if not group:
            return
        records = [record for waiting, _, _ in group for record in waiting]
        outcomes: Sequence[Outcome] = [Outcome.UNKNOWN] * len(records)
        try:
            self._failpoints.reach("ingest.before_append")
            outcomes = await self._append(records)
            self._failpoints.reach("ingest.after_append")
        finally:
            _hand_out(group, outcomes)


def _hand_out(group: list[_Waiting], outcomes: Sequence[Outcome]) -> None:
    start = 0
    for records, settled, _ in group:
        end = start + len(records)
        settled(outcomes[start:end])
        start = end
