"""Where an item stands in a timeline, and the opaque cursor that says so.

Items are ordered by (time, touchpoint, rank, journey, version, seq, run). At one instant a change that time
made comes first, then each touchpoint followed by the changes that it caused: the order in which the fold met
them. No two items of a customer stand at the same position.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

import msgspec

from shared.journey.fold import RUN_NAME_BYTES_MAX

NO_TOUCHPOINT = UUID(int=0)
BY_TIME: Final = 0
TOUCHPOINT: Final = 1
CAUSED: Final = 2
"""The ranks: a change that time made, a touchpoint, a change that the touchpoint caused."""


class Position(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The sort key of an item, as the query compares it."""

    at: datetime
    touchpoint_id: UUID
    rank: Literal[0, 1, 2]
    journey: str = ""
    version: int = 0
    seq: int = 0
    run: str = ""


END = Position(datetime.max.replace(tzinfo=UTC), NO_TOUCHPOINT, BY_TIME)
"""Later than every item: where the first page begins."""

_encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_decode = msgspec.msgpack.Decoder(Position).decode
_JOURNEY_CHARACTERS_MAX = 64
_INT_MAX = 2**31


def to_cursor(position: Position) -> str:
    """The opaque text of a position, safe in a URL."""
    return base64.urlsafe_b64encode(_encode(position)).rstrip(b"=").decode()


def from_cursor(cursor: str) -> Position:
    """The position of a cursor.

    Raises:
        ValueError: no answer of ours gave this cursor.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        position = _decode(raw)
    except (binascii.Error, UnicodeError, ValueError, msgspec.DecodeError):
        raise ValueError("is no cursor of ours") from None
    if not _is_storable(position):
        raise ValueError("is no cursor of ours")
    return position


def _is_storable(position: Position) -> bool:
    """Whether PostgreSQL's types can hold it: a cursor comes from outside."""
    return (
        position.at.tzinfo is not None
        and not position.at.utcoffset()
        and "\0" not in position.journey
        and len(position.journey) <= _JOURNEY_CHARACTERS_MAX
        and "\0" not in position.run
        and len(position.run.encode()) <= RUN_NAME_BYTES_MAX
        and all(-_INT_MAX <= number < _INT_MAX for number in (position.version, position.seq))
    )
