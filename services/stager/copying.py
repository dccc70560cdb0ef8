"""Transitions as rows of PostgreSQL's binary COPY, packed here and not by the driver.

With many journeys in force a batch writes more transitions than anything else, and half of a row says nothing
but by which rule of which journey it led from where to where. That half is made once for each such way; the
rest is packed in one call, where the driver encodes column by column.

The format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from struct import Struct
from typing import Any
from uuid import UUID

from services.stager.assign import Change
from services.stager.sql import parts
from shared.store.engine import Connection, micros_of

_COLUMNS = (
    *("customer_id", "seq", "revision", "at", "recorded_at", "touchpoint_id", "run"),
    *("journey_key", "version", "kind", "from_stage", "from_paused", "to_stage", "to_paused", "rule"),
)
_COUNT = len(_COLUMNS)
_WAYS_MAX = 20_000

_BEGIN, _END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
# The number of columns, and those before the run, each behind its length; that of null is -1.
_by_touchpoint = Struct("!hi16siiiiiqiqi16s").pack
_by_time = Struct("!hi16siiiiiqiqi").pack
_int = Struct("!i").pack
_NO_RUN = _int(0)


async def copy_transitions(connection: Connection, changes: Iterable[Change], now: datetime) -> None:
    """Write the transitions that changes add, which become known now; their customers and accounts must be
    locked."""
    for part in parts(_rows(changes, now)):
        # The driver takes bytes for the name of a file, and any other buffer for what is to be sent.
        source: Any = memoryview(b"".join((_BEGIN, *part, _END)))
        await connection.copy_to_table("stage_transitions", source=source, columns=_COLUMNS, format="binary")


def _rows(changes: Iterable[Change], now: datetime) -> Iterator[bytes]:
    now_us = micros_of(now)
    # One touchpoint mostly moves a customer in several journeys.
    at, at_us = now, now_us
    owner_id = touchpoint_id = UUID(int=0)
    owner = touchpoint = owner_id.bytes
    for change in changes:
        if not change.added:
            continue
        if change.customer_id is not owner_id:
            owner_id = change.customer_id
            owner = owner_id.bytes
        revision, version = change.after.revision, change.journey.version
        known_at = change.known_at(now)
        known_us = now_us if known_at is now else micros_of(known_at)
        run = _text(change.run) if change.run else _NO_RUN
        for new in change.added:
            if new.at is not at:
                at, at_us = new.at, micros_of(new.at)
            seq, cause = new.seq, new.touchpoint_id
            if cause is None:
                row = _by_time(_COUNT, 16, owner, 4, seq, 4, revision, 8, at_us, 8, known_us, -1)
            else:
                if cause is not touchpoint_id:
                    touchpoint_id, touchpoint = cause, cause.bytes
                row = _by_touchpoint(
                    _COUNT, 16, owner, 4, seq, 4, revision, 8, at_us, 8, known_us, 16, touchpoint
                )
            way = _way(
                version, new.kind, new.from_place, new.from_paused, new.to_place, new.to_paused, new.rule
            )
            yield row + run + way


@lru_cache(_WAYS_MAX)
def _way(
    version: tuple[str, int],
    kind: str,
    from_place: str | None,
    from_paused: bool,
    to_place: str,
    to_paused: bool,
    rule: str,
) -> bytes:
    """The columns behind the run."""
    key, number = version
    fields = (_text(key), _int(4) + _int(number), _text(kind), _text(from_place), _bool(from_paused))
    return b"".join((*fields, _text(to_place), _bool(to_paused), _text(rule)))


def _text(value: str | None) -> bytes:
    if value is None:
        return _int(-1)
    encoded = value.encode()
    return _int(len(encoded)) + encoded


def _bool(value: bool) -> bytes:
    return _int(1) + bytes((value,))
