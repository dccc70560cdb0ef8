"""Takes a request's body apart into its touchpoints, each as the bytes that were sent."""

from __future__ import annotations

import re
from itertools import islice
from typing import Literal

import msgspec

from services.ingest.event import BRACKETS_MAX, EVENT_BYTES_MAX, EVENTS_MAX
from shared.content import Malformed, parse
from shared.refusals import Refused

Framing = Literal["json", "ndjson"]

_SPACE = b" \t\r\n"
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_ONE = msgspec.json.Decoder(msgspec.Raw)
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
_TOKENS_MAX = 200_000
"""Of an array that is taken apart one by one; a full request of usual touchpoints has a quarter of them."""
_OPENING, _CLOSING, _COMMA = b"[{", b"]}", b","


class TooMuch(Exception):
    """A request has more in it than it may have."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def framing(media_type: str, body: bytes) -> Framing:
    """How a body of an accepted media type is framed; that of `text/plain` has to be found out."""
    if media_type == "application/json":
        return "json"
    if media_type == "application/x-ndjson":
        return "ndjson"
    return _sniffed(body.strip(_SPACE))


def frames(body: bytes, framing: Framing) -> list[bytes]:
    """The touchpoints of a body: an array's items, the lines that are not blank, or the body itself.

    Raises:
        Malformed: the body is no JSON array. A single object and lines are not looked at.
        TooMuch: there are too many (blank lines are free up to as many again), or too many brackets.
    """
    if len(body) > BRACKETS_MAX and body.count(b"{") + body.count(b"[") > BRACKETS_MAX:
        raise TooMuch("too_intricate", f"a request has at most {BRACKETS_MAX} opening brackets")
    if framing == "ndjson":
        return _lines(body)
    body = body.strip(_SPACE)
    return _items(body) if body.startswith(b"[") else [body]


def _lines(body: bytes) -> list[bytes]:
    if body.count(b"\n") > 2 * EVENTS_MAX:
        raise _too_many_events()
    lines = [line for line in (line.strip(_SPACE) for line in body.split(b"\n")) if line]
    if len(lines) > EVENTS_MAX:
        raise _too_many_events()
    return lines


def _too_many_events() -> TooMuch:
    return TooMuch("too_many_events", f"a request has at most {EVENTS_MAX} touchpoints")


def _sniffed(body: bytes) -> Framing:
    """NDJSON is what is no JSON value as a whole, but whose first line is one."""
    first, newline, _ = body.partition(b"\n")
    if not newline or body.startswith(b"[") or _is_json(body):
        return "json"
    return "ndjson" if _is_json(first) else "json"


def _is_json(data: bytes) -> bool:
    try:
        _ONE.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _items(body: bytes) -> list[bytes]:
    try:
        items = _ARRAY.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return _items_one_by_one(body)
    if len(items) > EVENTS_MAX:
        raise _too_many_events()
    return [bytes(item) for item in items]


def _items_one_by_one(body: bytes) -> list[bytes]:
    """The items of an array that msgspec stops at. Where NaN, half a surrogate pair or deep nesting is the
    reason, one touchpoint is to blame and not all; else this finds the byte."""
    items: list[bytes] = []
    depth, start = 0, 1
    for token in islice(_TOKEN.finditer(body), _TOKENS_MAX):
        kind = token[0]
        if kind in _OPENING:
            depth += 1
        elif kind in _CLOSING:
            depth -= 1
        if (kind == _COMMA and depth == 1) or depth == 0:
            if len(items) == EVENTS_MAX:
                raise _too_many_events()
            items.append(_item(body, start, token.start()))
            start = token.end()
        if depth == 0:
            break
    if depth:
        _item(body, start, len(body))
        raise Malformed("The array has no end, or is too intricate to look for it", start)
    if start != len(body):
        raise Malformed("Extra data", start)
    return items


def _item(body: bytes, start: int, end: int) -> bytes:
    raw = body[start:end].strip(_SPACE)
    if len(raw) > EVENT_BYTES_MAX:
        return raw  # refused for that, whatever it holds
    try:
        parse(raw)
    except Malformed as error:
        raise Malformed(error.reason, body.index(raw, start) + error.byte) from None
    except Refused:
        pass
    return raw
