"""A batch: records decoded, and how far each of their partitions moves with them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from shared.codec import body_hash, decode
from shared.content import Malformed
from shared.errors import Permanent
from shared.eventlog.port import RECORD_BYTES_MAX, Record
from shared.fitness import check_record
from shared.refusals import Refused
from shared.store.ids import touchpoint_uid
from shared.suspicion import suspicious
from shared.touchpoint import Touchpoint

# One suspicious record costs so many others a closer look.
_SCREENED_AT_ONCE = 250


class Incoming(msgspec.Struct, frozen=True, gc=False):
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
    """Decode records; one that is no touchpoint, or none that ingest takes, becomes a dead letter."""
    incoming: list[Incoming] = []
    dead: list[DeadLetter] = []
    last: dict[int, Record] = {}
    for begin in range(0, len(records), _SCREENED_AT_ONCE):
        some = records[begin : begin + _SCREENED_AT_ONCE]
        clean = not suspicious(b"\n".join([record.value for record in some if _is_small(record.value)]))
        for record in some:
            last[record.partition] = record
            try:
                incoming.append(_read(record.value, clean))
            except Permanent as error:
                dead.append(DeadLetter(record, str(error)))
    return Batch(records, incoming, dead, _advances(last))


def dead_batch(record: Record, reason: str) -> Batch:
    """The batch that sets one record aside."""
    return Batch([record], [], [DeadLetter(record, reason)], _advances({record.partition: record}))


def _is_small(value: bytes) -> bool:
    return len(value) <= RECORD_BYTES_MAX


def _read(value: bytes, clean: bool) -> Incoming:
    if not _is_small(value):
        raise Permanent(f"the record is larger than {RECORD_BYTES_MAX} bytes")
    touchpoint = decode(value)
    try:
        check_record(touchpoint, value, clean=clean)
    except Malformed:
        raise Permanent("the record is not JSON in UTF-8") from None
    except Refused as refused:
        # Without its place: the names on the way there are the sender's, and this goes into the log file.
        raise Permanent(f"the record is not fit to be kept: {refused.code}") from None
    uid = touchpoint_uid(touchpoint.source, touchpoint.id)
    return Incoming(uid, body_hash(touchpoint), touchpoint, value)


def _advances(last: dict[int, Record]) -> list[Advance]:
    return [
        Advance(partition, record.offset + 1, zlib.crc32(record.value))
        for partition, record in sorted(last.items())
    ]
