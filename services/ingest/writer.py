"""Group commit: whatever came while the last append was in flight goes out in the next one.

A request hands its records over and waits for one future; one task appends for all of them. So a slow log
makes the groups larger instead of the queue longer, and a request that is cancelled while it waits takes
nothing from the others: its records are in the group already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from shared.eventlog.port import NewRecord, Outcome
from shared.failpoints import Failpoints

Append = Callable[[Sequence[NewRecord]], Awaitable[Sequence[Outcome]]]
"""Makes records durable and says, in the same order, what became of each. Bounded in time."""


class _Waiting:
    """One request's records, and where it waits for their outcomes."""

    __slots__ = ("outcomes", "records")

    def __init__(self, records: Sequence[NewRecord]) -> None:
        self.records = records
        self.outcomes: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()


class GroupWriter:
    """Turns the writes of many requests into few appends."""

    def __init__(self, append: Append, failpoints: Failpoints) -> None:
        self._append = append
        self._failpoints = failpoints
        self._waiting: list[_Waiting] = []
        self._work = asyncio.Event()
        self._closing = False

    async def write(self, records: Sequence[NewRecord]) -> Sequence[Outcome]:
        """Append records with those of other requests and say what became of each."""
        waiting = _Waiting(records)
        self._waiting.append(waiting)
        self._work.set()
        return await waiting.outcomes

    async def run(self) -> None:
        """Append until `finish` was called and nothing waits any more."""
        while not self._closing or self._waiting:
            await self._work.wait()
            self._work.clear()
            if self._waiting:
                group, self._waiting = self._waiting, []
                await self._commit(group)

    def finish(self) -> None:
        """Let `run` return as soon as nothing waits."""
        self._closing = True
        self._work.set()

    async def _commit(self, group: list[_Waiting]) -> None:
        """Append a group. A request that isn't answered because of an error is answered with that error."""
        try:
            self._failpoints.reach("ingest.before_append")
            outcomes = await self._append([record for waiting in group for record in waiting.records])
            self._failpoints.reach("ingest.after_append")
        except BaseException as error:
            for waiting in group:
                if not waiting.outcomes.done():
                    waiting.outcomes.set_exception(
                        error if isinstance(error, Exception) else ConnectionAbortedError("ingest is ending")
                    )
            raise
        _hand_out(group, outcomes)


def _hand_out(group: list[_Waiting], outcomes: Sequence[Outcome]) -> None:
    start = 0
    for waiting in group:
        end = start + len(waiting.records)
        if not waiting.outcomes.done():
            waiting.outcomes.set_result(outcomes[start:end])
        start = end
