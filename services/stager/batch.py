"""A batch: records decoded, and how far each of their partitions moves with them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.codec import body_hash, decode
from shared.errors import Permanent
from shared.eventlog.port import Record
from shared.store.ids import touchpoint_uid
from shared.touchpoint import Touchpoint, identifies_person


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record that is a touchpoint. `uid` is the store's id, `body_hash` tells retry from conflict."""

    uid: UUID
    body_hash: int
    touchpoint: Touchpoint
    value: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that can't be processed, its bytes and the reason."""

    record: Record
    reason: str


@dataclass(frozen=True, slots=True)
class Advance:
    """How a partition moves: `next_offset` afterwards, and the CRC of the record before it."""

    partition: int
    next_offset: int
    tail_crc: int


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of one transaction, each partition's in the order of its offsets."""

    records: Sequence[Record]
    incoming: Sequence[Incoming]
    dead: Sequence[DeadLetter]
    advances: Sequence[Advance]


def read_batch(records: Sequence[Record]) -> Batch:
    """Decode records; one that is no touchpoint becomes a dead letter."""
    incoming: list[Incoming] = []
    dead: list[DeadLetter] = []
    last: dict[int, Record] = {}
    for record in records:
        last[record.partition] = record
        try:
            incoming.append(_read(record.value))
        except Permanent as error:
            dead.append(DeadLetter(record, str(error)))
    return Batch(records, incoming, dead, _advances(last))


def dead_batch(record: Record, reason: str) -> Batch:
    """The batch that sets one record aside."""
    return Batch([record], [], [DeadLetter(record, reason)], _advances({record.partition: record}))


def _read(value: bytes) -> Incoming:
    touchpoint = decode(value)
    if not any(identifies_person(identity) for identity in touchpoint.identities):
        raise Permanent("the record has no identity that says who")
    return Incoming(
        touchpoint_uid(touchpoint.source, touchpoint.id), body_hash(touchpoint), touchpoint, value
    )


def _advances(last: dict[int, Record]) -> list[Advance]:
    return [
        Advance(partition, record.offset + 1, zlib.crc32(record.value))
        for partition, record in sorted(last.items())
    ]
