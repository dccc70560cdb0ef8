"""Opaque cursors: a struct as text that is safe in a URL, and back."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import TypeVar

import msgspec

_Place = TypeVar("_Place", bound=msgspec.Struct)
_encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_INT_MAX = 2**31


def to_text(place: msgspec.Struct) -> str:
    """The opaque text of a place."""
    return base64.urlsafe_b64encode(_encode(place)).rstrip(b"=").decode()


def from_text(cursor: str, decoder: msgspec.msgpack.Decoder[_Place]) -> _Place:
    """The place of a cursor.

    Raises:
        ValueError: no answer of ours gave this cursor.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        return decoder.decode(raw)
    except (binascii.Error, UnicodeError, ValueError, msgspec.DecodeError):
        raise ValueError("is no cursor of ours") from None


def are_storable(numbers: tuple[int, ...], times: tuple[datetime, ...]) -> bool:
    """Whether PostgreSQL's types can hold them: a cursor comes from outside."""
    return all(-_INT_MAX <= number < _INT_MAX for number in numbers) and all(
        time.tzinfo is not None and not time.utcoffset() for time in times
    )
