"""The bounds of a request's body, and inflating it within them."""

from __future__ import annotations

import zlib

from services.ingest.event import INFLATED_BYTES_MAX, WIRE_BYTES_MAX
from services.ingest.steps import Steps
from shared.problem import Problem

_GZIP = 16 + zlib.MAX_WBITS
_MEMBERS_MAX = 128
"""Each member costs a copy of what follows it."""
_STEP_BYTES = 1024 * 1024


def too_large() -> Problem:
    """The body is larger than a request's may be."""
    return Problem(413, "body_too_large", f"the body is larger than {WIRE_BYTES_MAX} bytes")


def inflate(data: bytes) -> Steps[bytes]:
    """What a gzip body (RFC 1952), of one member or several, holds.

    Raises:
        Problem: 400, it is no whole gzip; 413, it inflates beyond the bound, where inflating has stopped.
    """
    parts: list[bytes] = []
    left = INFLATED_BYTES_MAX
    for _ in range(_MEMBERS_MAX):
        part, data = yield from _member(data, left)
        parts.append(part)
        left -= len(part)
        if not data:
            return b"".join(parts)
        yield
    raise _no_gzip("has too many members")


def _member(data: bytes, bytes_max: int) -> Steps[tuple[bytes, bytes]]:
    """What the first member holds, and what follows it."""
    inflater = zlib.decompressobj(_GZIP)
    parts: list[bytes] = []
    left = bytes_max + 1
    while not inflater.eof:
        part = _part(inflater, data, min(left, _STEP_BYTES))
        if not (part or inflater.eof):
            raise _no_gzip("is cut short")
        parts.append(part)
        left -= len(part)
        if not left:
            raise Problem(413, "inflated_too_large", f"the body inflates beyond {INFLATED_BYTES_MAX} bytes")
        data = inflater.unconsumed_tail
        if data:
            yield
    return b"".join(parts), inflater.unused_data


def _part(inflater: zlib._Decompress, data: bytes, bytes_max: int) -> bytes:
    try:
        return inflater.decompress(data, bytes_max)
    except zlib.error:
        raise _no_gzip("is damaged") from None


def _no_gzip(what: str) -> Problem:
    return Problem(400, "malformed_gzip", f"the gzip body {what}")
