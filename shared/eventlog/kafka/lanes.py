"""Group commit by partition: what waits for a partition goes into one batch, whichever calls it came with.

A partition has one batch on its way at a time. So its records keep their order, and its next sequence number
(the one by which the broker drops what it has already) is known from the last answer alone: a batch that was
refused has used up none.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from shared.eventlog.port import NewRecord, Outcome, is_too_large, partition_of

_MAGIC = 2
"""The version of Kafka's record batches, since 0.11."""
_SEQUENCE_MASK = 0x7FFF_FFFF


class Call:
    """One call of `append`: its records, and what became of each."""

    __slots__ = ("left", "outcomes", "over", "records", "settled")

    def __init__(self, records: Sequence[NewRecord]) -> None:
        self.records = records
        self.outcomes = [Outcome.REFUSED if is_too_large(record) else Outcome.UNKNOWN for record in records]
        self.left = self.outcomes.count(Outcome.UNKNOWN)
        """Of how many records nothing is known yet."""
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when of no record nothing is known."""
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
        if not call.left and not call.settled.done():
            call.settled.set_result(None)


@dataclass(frozen=True, slots=True)
class ProducerId:
    """What a broker gave a producer to number its batches under."""

    id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Departure:
    """A batch on its way: the pieces in it, and its bytes as Kafka takes them."""

    partition: int
    pieces: Sequence[Piece]
    records: int
    data: bytes

    def settle(self, outcome: Outcome) -> None:
        """Note what became of all its records."""
        for piece in self.pieces:
            piece.settle(outcome)


class _Lane:
    """What waits for one partition, in order."""

    __slots__ = ("busy", "partition", "sequence", "waiting")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.waiting: deque[Piece] = deque()
        self.busy = False
        """A batch is on its way."""
        self.sequence = 0

    def depart(self, producer: ProducerId, bytes_max: int, timestamp_ms: int) -> Departure | None:
        """Move as much as fits into a batch; None: nobody waits for any of it any more."""
        builder = DefaultRecordBatchBuilder(
            _MAGIC,
            compression_type=0,
            is_transactional=0,
            producer_id=producer.id,
            producer_epoch=producer.epoch,
            base_sequence=self.sequence,
            batch_size=bytes_max,
        )
        moved: list[Piece] = []
        records = 0
        while self.waiting:
            piece = self.waiting.popleft()
            if piece.call.over:
                continue
            count = _append(builder, records, piece, timestamp_ms)
            records += count
            if count < len(piece.indexes):
                self.waiting.appendleft(Piece(piece.call, piece.indexes[count:]))
                if count:
                    moved.append(Piece(piece.call, piece.indexes[:count]))
                break
            moved.append(piece)
        if not moved:
            return None
        self.busy = True
        return Departure(self.partition, moved, records, bytes(builder.build()))


class Lanes:
    """The lanes of one producer, one a partition."""

    def __init__(self, partitions: int, producer: ProducerId) -> None:
        self._lanes = [_Lane(partition) for partition in range(partitions)]
        self._producer = producer

    def __len__(self) -> int:
        return len(self._lanes)

    def enter(self, call: Call) -> None:
        """Queue what is unsettled of a call."""
        routed: defaultdict[int, list[int]] = defaultdict(list)
        records, count = call.records, len(self._lanes)
        for index in call.unsettled():
            routed[partition_of(records[index].key, count)].append(index)
        for partition, indexes in routed.items():
            self._lanes[partition].waiting.append(Piece(call, indexes))

    def depart(self, bytes_max: int, timestamp_ms: int) -> Iterator[Departure]:
        """A batch of each partition that something waits for and that has none on its way."""
        for lane in self._lanes:
            if lane.waiting and not lane.busy:
                departure = lane.depart(self._producer, bytes_max, timestamp_ms)
                if departure is not None:
                    yield departure

    def kept(self, departure: Departure) -> None:
        """Note that a batch was kept."""
        lane = self._lanes[departure.partition]
        lane.busy = False
        lane.sequence = (lane.sequence + departure.records) & _SEQUENCE_MASK

    def refused(self, departure: Departure, again: bool) -> None:
        """Note that a batch was refused. `again`: what was in it goes first once more."""
        lane = self._lanes[departure.partition]
        lane.busy = False
        if again:
            lane.waiting.extendleft(reversed(departure.pieces))


def _append(builder: DefaultRecordBatchBuilder, begin: int, piece: Piece, timestamp_ms: int) -> int:
    append, records = builder.append, piece.call.records
    for count, index in enumerate(piece.indexes):
        record = records[index]
        if append(begin + count, timestamp_ms, record.key, record.value, []) is None:
            return count
    return len(piece.indexes)
