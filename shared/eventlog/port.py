"""The event log as the services see it: append with one outcome a record, read by partition and offset.

Offsets live with the reader's own state, not in the log: a reader is told where to start each partition
it is given, and what it commits here is a hint.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Protocol

import msgspec

TOPIC = "touchpoints"
STAGE_CHANGES = "stage-changes"
"""The topic that consumers read."""
RECORD_BYTES_MAX = 256 * 1024
"""No record may be larger; both logs refuse it by itself, never with its neighbours."""


class NewRecord(msgspec.Struct, frozen=True, gc=False):
    """What is to be appended. The key chooses the partition, for locality only."""

    key: bytes
    value: bytes


class Record(msgspec.Struct, frozen=True, gc=False):
    """What was read: its place, and its bytes as they were appended."""

    partition: int
    offset: int
    value: bytes


class Outcome(Enum):
    """What became of one appended record."""

    KEPT = "kept"
    """Durable: it will be read, in its partition's order."""
    REFUSED = "refused"
    """Never kept, and the same bytes never will be (too large)."""
    UNKNOWN = "unknown"
    """Not confirmed before the deadline. It may be in the log; append it again under the same id."""
    FULL = "full"
    """Not kept: the log has reached its bound in bytes. Append it again once there is room."""


class EventWriter(Protocol):
    """Appends records. One writer may be called concurrently."""

    async def append(self, records: Sequence[NewRecord], timeout_s: float) -> Sequence[Outcome]:
        """Append the records and say, in the same order, what became of each.

        Answers within `timeout_s` seconds (plus the time of one scheduling turn) whatever the log does,
        and never raises for a record or for a log that is away: those are outcomes.
        """
        ...

    async def partitions(self, timeout_s: float) -> int | None:
        """How many partitions the log has; None: it didn't say within `timeout_s` seconds."""
        ...

    def last_kept_age_s(self) -> float | None:
        """Seconds since a record was last confirmed as kept; None before the first."""
        ...

    def wrong(self) -> str | None:
        """What a person has to set right before anything is kept; None as long as nothing is known."""
        ...

    async def close(self, timeout_s: float) -> None:
        """Let go of the log within `timeout_s` seconds. Idempotent; `append` must not be called after."""
        ...


@dataclass(frozen=True, slots=True)
class Assignment:
    """The partitions that are this reader's now. `generation` rises at every change, also back and forth."""

    generation: int
    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The offsets of a partition: `begin` is the oldest record's, `end` is the next one's."""

    begin: int
    end: int


class EventReader(Protocol):
    """Reads the partitions that it is assigned. To be used by one task."""

    @property
    def log_id(self) -> str:
        """Which log this is, as far as it tells: a log made anew should have another one."""
        ...

    def assignment(self) -> Assignment:
        """The current assignment; never blocks. A partition is silent until `start` names its offset."""
        ...

    async def bounds(self, partitions: Collection[int]) -> Mapping[int, Bounds]:
        """The bounds of assigned partitions.

        Raises:
            Transient: the log is away.
        """
        ...

    async def ends(self) -> Mapping[int, int]:
        """The ends of the started partitions as far as this reader has heard; cheap, for showing lag."""
        ...

    async def read_each(self, offsets: Mapping[int, int]) -> Mapping[int, Record]:
        """The record at an offset of each of some assigned partitions that have not been started; a
        partition whose log has no record there is left out.

        Raises:
            Transient: the log is away.
        """
        ...

    def start(self, partition: int, offset: int) -> None:
        """Begin (or begin again) to read an assigned partition at an offset. Does nothing if the
        partition has been taken away meanwhile."""
        ...

    def stop(self, partition: int) -> None:
        """Read no more of a partition until it is started again. Idempotent."""
        ...

    async def poll(
        self, records_max: int, timeout_s: float, besides: Collection[int] = ()
    ) -> Sequence[Record]:
        """Up to `records_max` records of the started partitions but those of `besides`, each partition's in
        the order of its offsets. Returns as soon as there is one; an empty answer after `timeout_s` seconds.

        Raises:
            Transient: the log is away.
            LogReplaced: a started offset lies outside the log. The error names the partition, which is
                stopped: the others are read on at the next call.
        """
        ...

    async def hint(self, next_offsets: Mapping[int, int]) -> None:
        """Tell the log how far this group has come, durably: for lag tools, and for a log that keeps a window
        behind its readers. Never raises for a log that is away or a partition that is lost."""
        ...

    async def close(self, timeout_s: float) -> None:
        """Leave the group and let go of the log within `timeout_s` seconds. Idempotent."""
        ...


def is_too_large(record: NewRecord) -> bool:
    """Whether a record, key and value together, is larger than any log keeps."""
    return len(record.value) + len(record.key) > RECORD_BYTES_MAX


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: the same for every writer, and cheap."""
    return zlib.crc32(key) % partitions


def keys_of_all(name: bytes, partitions: int) -> Sequence[bytes]:
    """A key of each partition, for what everybody has to hear: always the same ones for a name."""
    found: dict[int, bytes] = {}
    numbers = count()
    while len(found) < partitions:
        key = b"%b#%d" % (name, next(numbers))
        found.setdefault(partition_of(key, partitions), key)
    return [found[partition] for partition in range(partitions)]
