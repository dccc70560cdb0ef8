"""How a touchpoint stands on the event log: one JSON object, encoded once by ingest and kept as it is."""

from __future__ import annotations

import re
from datetime import datetime
from hashlib import blake2b

import msgspec

from shared.errors import Permanent
from shared.touchpoint import Touchpoint

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
    for moment in (touchpoint.occurred_at, touchpoint.received_at):
        if not _is_utc(moment):
            raise Permanent("a time of the record is not in UTC")
    return touchpoint


def body_hash(touchpoint: Touchpoint) -> int:
    """A signed 64-bit digest of what the sender said, to tell a retry from another body under one id.

    A time that ingest filled in is no part of it: it differs from try to try.
    """
    digest = blake2b(digest_size=8)
    for part in (
        touchpoint.type,
        touchpoint.channel,
        "" if touchpoint.occurred_at == touchpoint.received_at else touchpoint.occurred_at.isoformat(),
        "\0".join(touchpoint.identities),
        touchpoint.owner,
        repr(touchpoint.sentiment),
    ):
        digest.update(part.encode())
        digest.update(b"\0")
    for raw in (touchpoint.properties, touchpoint.traits, touchpoint.context, touchpoint.consent):
        digest.update(bytes(raw))
        digest.update(b"\0")
    return int.from_bytes(digest.digest(), "big", signed=True)


def _is_utc(moment: datetime) -> bool:
    offset = moment.utcoffset()
    return offset is not None and not offset


def _without_values(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return "the record is no touchpoint: " + _QUOTED.sub("'…'", str(error))
    return "the record is not JSON in UTF-8"
