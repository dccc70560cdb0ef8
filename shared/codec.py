"""How a touchpoint stands on the event log: one JSON object, encoded once by ingest and kept as it is."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

import msgspec

from shared.errors import Permanent
from shared.touchpoint import Touchpoint, said_occurred_at

_QUOTED = re.compile(r"'[^']*'")
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Touchpoint)


def encode(touchpoint: Touchpoint) -> bytes:
    """The record's value."""
    return _encoder.encode(touchpoint)


def decode(value: bytes) -> Touchpoint:
    """The touchpoint of a record's value.

    Raises:
        Permanent: the value is no touchpoint; the text says where, and never repeats what stands there.
    """
    try:
        touchpoint = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Permanent(_without_values(error)) from None
    for moment in (touchpoint.occurred_at, touchpoint.received_at, touchpoint.sent_at):
        if moment is not None and not _is_utc(moment):
            raise Permanent("a time of the record is not in UTC")
    return touchpoint


def body_hash(touchpoint: Touchpoint) -> int:
    """A signed 64-bit digest of what the sender said, to tell a retry from another body under one id.

    A time that ingest filled in or corrected by is no part of it: it differs from try to try.
    """
    said = (
        touchpoint.type,
        touchpoint.channel,
        said_occurred_at(touchpoint),
        touchpoint.identities,
        touchpoint.owner,
        touchpoint.sentiment,
        touchpoint.properties,
        touchpoint.traits,
        touchpoint.context,
        touchpoint.consent,
    )
    digest = blake2b(_encoder.encode(said), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _is_utc(moment: datetime) -> bool:
    # The decoder gives "Z" this very object.
    return moment.tzinfo is UTC or moment.utcoffset() == timedelta()


def _without_values(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return "the record is no touchpoint: " + _QUOTED.sub("'…'", str(error))
    return "the record is not JSON in UTF-8"
