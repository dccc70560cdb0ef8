"""Rows gathered into requests that ingest takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from services.importer.mapping import Map
from services.importer.rows import FileRow, Place
from services.importer.values import Unreadable

EVENTS_MAX = 500
BYTES_MAX = 1_000_000
"""A little less than the megabyte that a request may have."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that was not taken, and why, in ingest's words or ours."""

    row: int
    line: int
    code: str
    message: str
    pointer: str
    raw: Any


@dataclass(slots=True)
class Batch:
    """The rows of one request in the file's order, and those among them that can't be sent at all."""

    number: int
    rows: list[FileRow] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    end: Place = field(default_factory=Place)
    bytes: int = 2

    @property
    def count(self) -> int:
        return len(self.events) + len(self.refused)

    def refuse(self, index: int, code: str, message: str, pointer: str) -> None:
        """Note that ingest has refused the event at an index."""
        self.refused.append(_refused(self.rows[index], code, message, pointer))


def batches(rows: Iterable[FileRow], map_: Map, events_max: int = EVENTS_MAX) -> Iterator[Batch]:
    """The rows as batches of up to `events_max` rows and `BYTES_MAX` bytes, numbered from 0."""
    batch = Batch(0)
    for row in rows:
        event = _event(row, map_)
        if isinstance(event, bytes):
            if batch.count == events_max or batch.bytes + len(event) + 1 > BYTES_MAX:
                yield batch
                batch = Batch(batch.number + 1)
            batch.rows.append(row)
            batch.events.append(event)
            batch.bytes += len(event) + 1
        else:
            if batch.count == events_max:
                yield batch
                batch = Batch(batch.number + 1)
            batch.refused.append(_refused(row, event.code, event.message, event.pointer))
        batch.end = row.end
    if batch.count:
        yield batch


def _event(row: FileRow, map_: Map) -> bytes | Unreadable:
    if row.unreadable is not None:
        return row.unreadable
    try:
        event = msgspec.json.encode(map_.touchpoint(row.columns))
    except Unreadable as error:
        return error
    except UnicodeEncodeError:
        return Unreadable("invalid_text", "holds half of a surrogate pair")
    if len(event) > BYTES_MAX - 2:
        return Unreadable("event_too_large", "the touchpoint is larger than a request may be")
    return event


def _refused(row: FileRow, code: str, message: str, pointer: str) -> Refused:
    return Refused(row.number, row.line, code, message, pointer, row.raw)
