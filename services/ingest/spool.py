"""Records on local disk while the event log is away, in order and bounded in bytes.

It is the local event log in a folder of its own, with one partition. A record's key goes along before its
value, as the log that it is sent on to chooses the partition by it.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from shared.clock import Clock
from shared.eventlog.local.reader import LocalReader
from shared.eventlog.local.writer import LocalWriter
from shared.eventlog.port import NewRecord, Outcome

ROOM_BYTES_MIN = 1 << 20
"""Less room than this counts as full: a larger group of records may find none."""
SET_ASIDE_FILE = "set_aside.ndjson"
_PARTITION = 0
_KEY_LENGTH_BYTES = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """The spool's oldest records; `until` is the offset after them."""

    records: Sequence[NewRecord]
    until: int


class Spool:
    """Made by `open`. Appending and reading may go on at once; reading and dropping are one task's."""

    def __init__(self, folder: Path, writer: LocalWriter, reader: LocalReader, bytes_max: int) -> None:
        self._folder = folder
        self._writer = writer
        self._reader = reader
        self._bytes_max = bytes_max
        self._bytes = 0
        self._records = 0

    @classmethod
    async def open(cls, folder: Path, bytes_max: int, clock: Clock, free_bytes_min: int = 0) -> Spool:
        """The spool in a folder, with what an earlier process has left there. It is full at `bytes_max`, and
        while its disk has less than `free_bytes_min` free.

        Raises:
            Transient: the disk is full or fails.
            ConfigError: the file there is none of ours, or damaged.
        """
        writer = await LocalWriter.open(folder, clock, bytes_max=bytes_max, free_bytes_min=free_bytes_min)
        spool = cls(folder, writer, await LocalReader.open(folder, clock), bytes_max)
        await spool._measure()
        return spool

    def is_empty(self) -> bool:
        """Whether every record that was kept here has been dropped."""
        return self._records == 0

    def has_room(self) -> bool:
        """Whether another group of records fits."""
        return self._bytes + ROOM_BYTES_MIN <= self._bytes_max

    def bytes_used(self) -> int:
        """How large it is, about: exact whenever records were dropped."""
        return self._bytes

    async def append(self, records: Sequence[NewRecord], timeout_s: float) -> Sequence[Outcome]:
        """Keep records, as `EventWriter.append` does; `FULL` when the bound is reached."""
        outcomes = await self._writer.append([_wrapped(record) for record in records], timeout_s)
        for record, outcome in zip(records, outcomes, strict=True):
            if outcome is Outcome.KEPT:
                self._records += 1
                self._bytes += len(record.key) + len(record.value)
        return outcomes

    async def oldest(self, records_max: int) -> Batch:
        """The oldest records.

        Raises:
            Transient: the disk fails.
        """
        begin = (await self._reader.bounds([_PARTITION]))[_PARTITION].begin
        self._reader.start(_PARTITION, begin)
        found = await self._reader.poll(records_max, 0.0)
        return Batch([_unwrapped(record.value) for record in found], begin + len(found))

    async def drop(self, batch: Batch) -> None:
        """Forget records that the log has kept.

        Raises:
            Transient: the disk fails.
        """
        await self._writer.log.truncate_before(_PARTITION, batch.until)
        await self._measure()

    async def set_aside(self, records: Sequence[NewRecord]) -> None:
        """Write records that the log will never take into a file beside, for a person to look at.

        Raises:
            OSError: the disk is full or fails.
        """
        await asyncio.to_thread(_append_lines, self._folder / SET_ASIDE_FILE, records)

    async def close(self, timeout_s: float) -> None:
        """Let go of the files. Idempotent."""
        await self._reader.close(timeout_s)
        await self._writer.close(timeout_s)

    async def _measure(self) -> None:
        bounds = (await self._reader.bounds([_PARTITION]))[_PARTITION]
        self._records = bounds.end - bounds.begin
        self._bytes = await self._writer.log.bytes_used()


def _wrapped(record: NewRecord) -> NewRecord:
    return NewRecord(b"", len(record.key).to_bytes(_KEY_LENGTH_BYTES, "big") + record.key + record.value)


def _unwrapped(value: bytes) -> NewRecord:
    start = _KEY_LENGTH_BYTES
    end = start + int.from_bytes(value[:start], "big")
    return NewRecord(value[start:end], value[end:])


def _append_lines(path: Path, records: Sequence[NewRecord]) -> None:
    lines = [msgspec.json.encode({"value": base64.b64encode(record.value).decode()}) for record in records]
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
        file.write(b"".join(line + b"\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())
