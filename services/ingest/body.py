"""The bounds of a request's body, and inflating it within them."""

from __future__ import annotations

import zlib

from services.ingest.event import INFLATED_BYTES_MAX, WIRE_BYTES_MAX
from shared.problem import Problem

_GZIP = 16 + zlib.MAX_WBITS
_MEMBERS_MAX = 128
"""Each member costs a copy of what follows it."""


def too_large() -> Problem:
    """The body is larger than a request's may be."""
    return Problem(413, "body_too_large", f"the body is larger than {WIRE_BYTES_MAX} bytes")


def inflate(data: bytes) -> bytes:
    """What a gzip body (RFC 1952), of one member or several, holds.

    Raises:
        Problem: 400, it is no whole gzip; 413, it inflates beyond the bound, where inflating has stopped.
    """
    parts: list[bytes] = []
    left = INFLATED_BYTES_MAX
    for _ in range(_MEMBERS_MAX):
        part, data = _member(data, left)
        parts.append(part)
        left -= len(part)
        if not data:
            return b"".join(parts)
    raise _no_gzip("has too many members")


def _member(data: bytes, bytes_max: int) -> tuple[bytes, bytes]:
    """What the first member holds, and what follows it."""
    inflater = zlib.decompressobj(_GZIP)
    try:
        part = inflater.decompress(data, bytes_max + 1)
    except zlib.error:
        raise _no_gzip("is damaged") from None
    if len(part) > bytes_max:
        raise Problem(413, "inflated_too_large", f"the body inflates beyond {INFLATED_BYTES_MAX} bytes")
    if not inflater.eof:
        raise _no_gzip("is cut short")
    return part, inflater.unused_data


def _no_gzip(what: str) -> Problem:
    return Problem(400, "malformed_gzip", f"the gzip body {what}")
