"""What `msgspec.Raw` does not look at, found by a few searches over the bytes of one touchpoint or many.

Raw members pass through unread, which is what makes accepting cheap; the price is that their text,
numbers, names and nesting are unchecked. Everything that could be wrong with them leaves a trace that a
search at memory speed finds: a `\\u` escape, a byte beyond ASCII, a number with 19 digits in a row, an
exponent of 280 or more, 201 bytes without a quotation mark, more than 16 opening brackets. Bytes with such a
trace are not bad; they only have to be read the thorough way. Bytes without one can't be bad.
"""

from __future__ import annotations

import re

from shared.content import DEPTH_MAX, LARGE_EXPONENT, NAME_CHARACTERS_MAX

_BAD_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_LONG_NAME = re.compile(rb'"[^"]{%d,}"\s*:' % (NAME_CHARACTERS_MAX + 1))
_LONG = NAME_CHARACTERS_MAX + 1
_LONG_DIGITS = b"," + b"0" * 19
"""The fewest digits of an integer beyond signed 64 bits, as classes. Digits of an id, or of a hash in hex,
are as many, but follow on a letter or a quotation mark."""
_EXPONENT = b"0e000"
_SIGNS = b"+-"
"""Left out before searching: an exponent is found whatever its sign."""
_NUMBER_BYTES = 64
"""More than the digits after a comma can take without being so many."""
_LOOK_ALIKES_MAX = 1_000


def _classes() -> bytes:
    """A table for `bytes.translate`: digits become `0`, `E` becomes `e`, the point and what can stand before
    a number become a comma, the rest `x`."""
    table = bytearray(b"x" * 256)
    for classed, members in ((b"0", b"0123456789"), (b",", b".:,[ \t\r\n"), (b"e", b"eE")):
        for byte in members:
            table[byte] = classed[0]
    return bytes(table)


_CLASSES = _classes()


def suspicious(data: bytes) -> bool:
    """Whether the bytes have to be read the thorough way, their nesting apart."""
    return not _is_utf8(data) or _has_bad_escape(data) or _has_bad_number(data) or _has_long_name(data)


def may_nest_deep(data: bytes) -> bool:
    """Whether the bytes may nest deeper than the limit: never more than they have opening brackets."""
    return data.count(b"{") + data.count(b"[") > DEPTH_MAX


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_bad_escape(data: bytes) -> bool:
    """Whether U+0000 or a surrogate is escaped, or a quotation mark: that would hide a long name."""
    return b"\\" in data and (b'\\"' in data or _BAD_ESCAPE.search(data) is not None)


def _has_bad_number(data: bytes) -> bool:
    classes = data.translate(_CLASSES, _SIGNS)
    return _LONG_DIGITS in classes or (_has_exponent(classes) and LARGE_EXPONENT.search(data) is not None)


def _has_exponent(classes: bytes) -> bool:
    """Whether such an exponent ends a number. In a UUID (`…-0e123…`) something else stands before the
    digits; more than so many of those are not worth telling apart."""
    at = classes.find(_EXPONENT)
    for _ in range(_LOOK_ALIKES_MAX):
        if at < 0:
            return False
        start = max(0, at - _NUMBER_BYTES)
        if classes.rfind(b",", start, at) >= classes.rfind(b"x", start, at):
            return True
        at = classes.find(_EXPONENT, at + 1)
    return True


def _has_long_name(data: bytes) -> bool:
    """Whether a member's name may be too long: leaps from quotation mark to quotation mark, and looks
    closer only where one is missing for long."""
    at = 0
    while at + _LONG <= len(data):
        last = data.rfind(b'"', at, at + _LONG)
        if last < 0:
            return _LONG_NAME.search(data) is not None
        at = last + 1
    return False
