"""Group commit by partition: what waits for a partition goes into one batch, whichever calls it came with.

A partition has one batch on its way at a time, as aiokafka and the order of its records want it. There is
no task behind this: the calls that wait for a partition wake when its batch has been answered, and the first
of them sends the next one for all.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from shared.eventlog.port import NewRecord, Outcome, is_too_large, partition_of


class Call:
    """One call of `append`: its records, and what became of each."""

    __slots__ = ("left", "outcomes", "over", "records")

    def __init__(self, records: Sequence[NewRecord]) -> None:
        self.records = records
        self.outcomes = [Outcome.REFUSED if is_too_large(record) else Outcome.UNKNOWN for record in records]
        self.left = self.outcomes.count(Outcome.UNKNOWN)
        """Of how many records nothing is known yet."""
        self.over = False
        """Nobody waits any more: what hasn't been sent needn't be."""

    def unsettled(self) -> Sequence[int]:
        """The places of the records of which nothing is known."""
        if self.left == len(self.outcomes):
            return range(self.left)
        return [index for index, outcome in enumerate(self.outcomes) if outcome is Outcome.UNKNOWN]


class Piece:
    """Records of one call, by their places in it, that go to one partition."""

    __slots__ = ("call", "indexes")

    def __init__(self, call: Call, indexes: Sequence[int]) -> None:
        self.call = call
        self.indexes = indexes

    def settle(self, outcome: Outcome) -> None:
        """Note what became of all of them; what was sent twice is settled by its first answer."""
        call = self.call
        outcomes = call.outcomes
        for index in self.indexes:
            if outcomes[index] is Outcome.UNKNOWN:
                outcomes[index] = outcome
                call.left -= 1

    def bytes(self) -> int:
        """The size of their keys and values."""
        records = self.call.records
        return sum(len(records[index].key) + len(records[index].value) for index in self.indexes)


class Lane:
    """What waits for one partition, in order; and, while a batch is on its way, the end of that."""

    __slots__ = ("on_its_way", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Piece] = deque()
        self.on_its_way: asyncio.Future[None] | None = None

    def depart(self, batch: Any, timestamp_ms: int) -> list[Piece]:
        """Move as much as fits into an empty batch of aiokafka's, and note that it is on its way."""
        self.on_its_way = asyncio.get_running_loop().create_future()
        moved: list[Piece] = []
        while self.waiting:
            piece = self.waiting.popleft()
            if piece.call.over:
                continue
            count = _append(batch, piece, timestamp_ms)
            if count < len(piece.indexes):
                self.waiting.appendleft(Piece(piece.call, piece.indexes[count:]))
                if count:
                    moved.append(Piece(piece.call, piece.indexes[:count]))
                break
            moved.append(piece)
        return moved

    def arrive(self) -> None:
        """Note that the batch has been answered, or never left, and wake who waits for that."""
        if self.on_its_way is not None:
            self.on_its_way.set_result(None)
            self.on_its_way = None

    def turn_back(self, pieces: Sequence[Piece]) -> None:
        """Note that the batch must be sent anew: what was in it goes first again."""
        self.waiting.extendleft(reversed(pieces))
        self.arrive()


class Lanes:
    """The lanes of one producer."""

    def __init__(self, partitions: int) -> None:
        self._lanes = [Lane() for _ in range(partitions)]

    def enter(self, call: Call) -> Mapping[int, Lane]:
        """Queue what is unsettled of a call; the lanes that it is in now, by partition."""
        routed: defaultdict[int, list[int]] = defaultdict(list)
        records, count = call.records, len(self._lanes)
        for index in call.unsettled():
            routed[partition_of(records[index].key, count)].append(index)
        for partition, indexes in routed.items():
            self._lanes[partition].waiting.append(Piece(call, indexes))
        return {partition: self._lanes[partition] for partition in routed}

    def all(self) -> Sequence[Lane]:
        """Every lane, by its partition."""
        return self._lanes


def _append(batch: Any, piece: Piece, timestamp_ms: int) -> int:
    append, records = batch.append, piece.call.records
    for count, index in enumerate(piece.indexes):
        record = records[index]
        if append(timestamp=timestamp_ms, key=record.key, value=record.value) is None:
            return count
    return len(piece.indexes)
