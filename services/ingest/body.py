"""Reads a request's body within its bounds, and inflates it within others."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from services.ingest.event import INFLATED_BYTES_MAX, WIRE_BYTES_MAX
from services.ingest.limits import Held
from shared.problem import Problem

_GZIP = 16 + zlib.MAX_WBITS
_MEMBERS_MAX = 128
"""Each member costs a copy of what follows it."""

Receive = Callable[[], Awaitable[Any]]


class ClientGone(Exception):
    """The client has hung up before the body's end: there is nobody to answer."""


async def read_body(receive: Receive, held: Held) -> bytes:
    """The body as it comes over the wire; what was not announced is held as it comes.

    Raises:
        ClientGone: the client has hung up.
        Problem: 413, it is too large; 503, no room is left for it.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > WIRE_BYTES_MAX:
            raise too_large()
        held.at_least(len(body))
    if message["type"] == "http.disconnect":
        raise ClientGone
    if len(body) > WIRE_BYTES_MAX:
        raise too_large()
    held.at_least(len(body))
    return body


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
