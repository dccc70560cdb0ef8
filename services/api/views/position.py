"""Where an item stands in a timeline, and the opaque cursor that says so.

Items are ordered by (time, touchpoint, rank, journey, version, seq, run). At one instant a change that time
made comes first, then each touchpoint followed by the changes that it caused: the order in which the fold met
them. No two items of a customer stand at the same position.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

import msgspec

from services.api.views import cursor
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

_decoder = msgspec.msgpack.Decoder(Position)
_JOURNEY_CHARACTERS_MAX = 64


def to_cursor(position: Position) -> str:
    """The opaque text of a position, safe in a URL."""
    return cursor.to_text(position)


def from_cursor(text: str) -> Position:
    """The position of a cursor.

    Raises:
        ValueError: no answer of ours gave this cursor.
    """
    position = cursor.from_text(text, _decoder)
    if not _is_storable(position):
        raise ValueError("is no cursor of ours")
    return position


def _is_storable(position: Position) -> bool:
    return (
        cursor.are_storable((position.version, position.seq), (position.at,))
        and "\0" not in position.journey
        and len(position.journey) <= _JOURNEY_CHARACTERS_MAX
        and "\0" not in position.run
        and len(position.run.encode()) <= RUN_NAME_BYTES_MAX
    )
