"""Takes a request's body apart into its touchpoints, each as the bytes that were sent."""

from __future__ import annotations

from typing import Literal

import msgspec

from services.ingest.apart import SPACE, is_json
from services.ingest.event import BRACKETS_MAX, EVENTS_MAX, TooMuch, too_many_events
from services.ingest.steps import PIECE_BYTES

Framing = Literal["json", "ndjson"]

_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_FIRST_ITEMS = msgspec.json.Decoder(
    msgspec.defstruct(
        "_FirstItems",
        [(f"at_{place}", msgspec.Raw, msgspec.Raw()) for place in range(EVENTS_MAX + 1)],
        array_like=True,
        gc=False,
    )
)
"""An array's items, one more than there may be and no others: a large body may have millions."""


def framing(media_type: str, body: bytes) -> Framing:
    """How a body of an accepted media type is framed; that of `text/plain` has to be found out."""
    if media_type == "application/json":
        return "json"
    if media_type == "application/x-ndjson":
        return "ndjson"
    return _sniffed(body.strip(SPACE))


def check_brackets(body: bytes) -> None:
    """Refuse a body of too many opening brackets.

    Raises:
        TooMuch: that it is.
    """
    if len(body) > BRACKETS_MAX and body.count(b"{") + body.count(b"[") > BRACKETS_MAX:
        raise TooMuch("too_intricate", f"a request has at most {BRACKETS_MAX} opening brackets")


def frames(body: bytes, framing: Framing) -> list[bytes] | None:
    """The touchpoints of a body: an array's items, the lines that are not blank, or the body itself. None: it
    begins as an array, and msgspec stops at it.

    Raises:
        TooMuch: there are too many (blank lines are free up to as many again).
    """
    if framing == "ndjson":
        return _lines(body)
    body = body.strip(SPACE)
    return _items(body) if body.startswith(b"[") else [body]


def _lines(body: bytes) -> list[bytes]:
    if body.count(b"\n") > 2 * EVENTS_MAX:
        raise too_many_events()
    lines = [line for line in (line.strip(SPACE) for line in body.split(b"\n")) if line]
    if len(lines) > EVENTS_MAX:
        raise too_many_events()
    return lines


def _sniffed(body: bytes) -> Framing:
    """NDJSON is what is no JSON value as a whole, but whose first line is one."""
    first, newline, _ = body.partition(b"\n")
    if not newline or body.startswith(b"[") or is_json(body):
        return "json"
    return "ndjson" if is_json(first) else "json"


def _items(body: bytes) -> list[bytes] | None:
    try:
        found = _FIRST_ITEMS.decode(body) if len(body) > PIECE_BYTES else _ARRAY.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    items = found if isinstance(found, list) else [item for item in msgspec.structs.astuple(found) if item]
    if len(items) > EVENTS_MAX:
        raise too_many_events()
    return [bytes(item) for item in items]
