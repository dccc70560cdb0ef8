"""Takes an array apart that msgspec stops at. Where NaN, half a surrogate pair or deep nesting is the reason,
one touchpoint is to blame and not all; else this finds the byte."""

from __future__ import annotations

import re

import msgspec

from services.ingest.event import EVENT_BYTES_MAX, EVENTS_MAX, too_many_events
from services.ingest.steps import Steps
from shared.content import Malformed, parse
from shared.refusals import Refused

SPACE = b" \t\r\n"

_TOKENS_MAX = 200_000
"""A full request of usual touchpoints has a quarter of them."""
_PIECE_BYTES = 16 * 1024
"""Of brackets alone, this takes a millisecond or two."""
_BETWEEN = rb'[^"\[\]{},]*+'
_TEXT = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_TOKEN = re.compile(rb'%s(?:"%s"|[\[\]{},])' % (_BETWEEN, _TEXT), re.DOTALL)
"""A bracket, a comma or a text, with what stands before it."""
_TOKENS = re.compile(rb"(?:%s)*+" % _TOKEN.pattern, re.DOTALL)
_TO_TEXT = re.compile(rb'%s"?' % _BETWEEN)
_IN_TEXT = re.compile(_TEXT, re.DOTALL)
_QUOTE, _COMMA = b'",'
_OPENING = b"[{"
_ONE = msgspec.json.Decoder(msgspec.Raw)


def take_apart(body: bytes, piece_bytes: int = _PIECE_BYTES) -> Steps[list[bytes]]:
    """The items of an array, as the bytes that were sent. The body begins as one, and is looked
    at in pieces of so many bytes, two at least.

    Raises:
        Malformed: it is no array, or one of the items is not JSON.
        TooMuch: there are too many.
    """
    items: list[bytes] = []
    body = body.strip(SPACE)
    depth, start, at, left = 0, 1, 0, _TOKENS_MAX
    while left and at < len(body):
        end = _tokens_end(body, at, at + piece_bytes)
        if end == at:
            at = yield from _past_long(body, at, piece_bytes)
            left -= body[at - 1] == _QUOTE
            continue
        tokens = _TOKEN.findall(body, at, end)[:left]
        left -= len(tokens)
        for token in tokens:
            at += len(token)
            kind = token[-1]
            if kind == _QUOTE or (kind == _COMMA and depth != 1):
                continue
            if kind in _OPENING:
                depth += 1
                continue
            if kind != _COMMA:
                depth -= 1
                if depth:
                    continue
            if len(items) == EVENTS_MAX:
                raise too_many_events()
            items.append(_item(body, start, at - 1))
            yield
            start = at
            if depth == 0:
                if at != len(body):
                    raise Malformed("Extra data", at)
                return items
        yield
    _item(body, start, len(body))
    raise Malformed("The array has no end, or is too intricate to look for it", start)


def _tokens_end(body: bytes, at: int, end: int) -> int:
    """Where the last token ends that is whole within a piece."""
    match = _TOKENS.match(body, at, end)
    return match.end() if match else at


def _past_long(body: bytes, at: int, piece_bytes: int) -> Steps[int]:
    """The end of a text that is longer than a piece, or of a piece of what stands between tokens."""
    match = _TO_TEXT.match(body, at, at + piece_bytes)
    at = match.end() if match else at
    if body[at - 1] != _QUOTE:
        yield
        return at
    while match := _IN_TEXT.match(body, at, at + piece_bytes):
        at = match.end()
        if body[at : at + 1] == b'"':
            return at + 1
        if at + 1 >= len(body):
            break
        yield
    return len(body)


def _item(body: bytes, start: int, end: int) -> bytes:
    raw = body[start:end].strip(SPACE)
    if len(raw) > EVENT_BYTES_MAX or is_json(raw):
        return raw  # one that is too large is refused for that, whatever it holds
    try:
        parse(raw)
    except Malformed as error:
        raise Malformed(error.reason, body.index(raw, start) + error.byte) from None
    except Refused:
        pass
    return raw


def is_json(raw: bytes) -> bool:
    """Whether the bytes are JSON, as msgspec takes it; NaN, for one, is not."""
    try:
        _ONE.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
