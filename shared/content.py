"""What the JSON of a touchpoint may hold: text that every store takes, numbers that every reader reads alike.

It is the law, for a sender's touchpoint and for a record of the log. `shared.suspicion` tells at memory speed
which bytes need this look; it is only left out for bytes on which both agree, which a property test holds
them to.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, Literal

from shared.refusals import Refused, pointer

DEPTH_MAX = 16
NAME_CHARACTERS_MAX = 200
NUMBER_CHARACTERS_MAX = 400
LARGE_EXPONENT = re.compile(rb"[eE][+-]?0*(?:2[89]|[3-9][0-9]|[1-9][0-9]{2})[0-9]")
"""Of 280 and more. With a smaller one, and fewer than 19 digits on each side of its point, a number is within
a double's range."""

_BAD_CHARACTER = re.compile("[\x00\ud800-\udfff]")
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)")
_EXPONENT_MAX = 308
_SMALL = 1e-300
_INFINITY = math.inf
_INT_MAX = 2**63 - 1

Place = tuple[Any, ...]
"""The names on the way from a touchpoint to a value in it."""


class Malformed(Exception):
    """The bytes are not JSON. `byte` is where that shows, from 0."""

    def __init__(self, reason: str, byte: int) -> None:
        super().__init__(f"{reason} (byte {byte})")
        self.reason = reason
        self.byte = byte


class _Unfit:
    """Stands in a parsed value for a number that can't be kept."""

    def __init__(self, code: Literal["number_out_of_range", "not_finite"]) -> None:
        self.code = code


class _Repetitive(dict[str, Any]):
    """An object that remembers members hidden by a later one of the same name: their bytes are kept too."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


_OUT_OF_RANGE = _Unfit("number_out_of_range")
_NOT_FINITE = _Unfit("not_finite")


def read_content(raw: bytes) -> dict[str, Any]:
    """The JSON object of the bytes, looked through.

    Raises:
        Malformed: they are not JSON.
        Refused: they are no object, or something in them can't be kept.
    """
    value = parse(raw)
    if not isinstance(value, dict):
        raise Refused("not_an_object")
    _Walk(_is_utf8(raw)).check(value, ())
    return value


def parse(raw: bytes) -> Any:
    """The JSON value of the bytes, with a stand-in for each number that can't be kept.

    Raises:
        Malformed: they are not JSON (NaN and Infinity are let through, to be refused where they stand).
        Refused: they nest deeper than the parser goes.
    """
    text = raw.decode(errors="surrogateescape")
    try:
        return (_CAREFUL if _may_hold_unfit_number(raw) else _PLAIN).decode(text)
    except json.JSONDecodeError as error:
        byte = len(text[: error.pos].encode(errors="surrogateescape"))
        raise Malformed(error.msg, byte) from None
    except RecursionError:
        raise Refused("too_deep") from None


def _int(text: str) -> int | _Unfit:
    if len(text) > 20:
        return _OUT_OF_RANGE
    number = int(text)
    return number if -_INT_MAX - 1 <= number <= _INT_MAX else _OUT_OF_RANGE


def _float(text: str) -> float | _Unfit:
    """A number of few bytes may stand for very many: out of a double's range it is refused."""
    number = float(text)
    magnitude = abs(number)
    if len(text) > NUMBER_CHARACTERS_MAX or magnitude == _INFINITY:
        return _OUT_OF_RANGE
    if magnitude < _SMALL:
        exponent = _EXPONENT.search(text)
        if exponent and abs(int(exponent[1])) > _EXPONENT_MAX:
            return _OUT_OF_RANGE
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _Repetitive(pairs)


def _may_hold_unfit_number(raw: bytes) -> bool:
    """Without 19 digits in a row an integer is one of 64 bits."""
    return _LONG_DIGITS in raw.translate(_DIGITS) or LARGE_EXPONENT.search(raw) is not None


_LONG_DIGITS = b"0" * 19
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_CAREFUL = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_int, parse_float=_float, parse_constant=lambda _: _NOT_FINITE
)
_PLAIN = json.JSONDecoder(object_pairs_hook=_object, parse_constant=lambda _: _NOT_FINITE)
"""Several times as fast, as it calls nothing for a number."""


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


_HARMLESS = frozenset((int, float, bool, type(None)))


class _Walk:
    """Looks at every name and value of a parsed touchpoint."""

    def __init__(self, is_utf8: bool) -> None:
        self._is_utf8 = is_utf8

    def check(self, value: dict[str, Any] | list[Any], place: Place) -> None:
        """Refuse the first thing that can't be kept.

        Raises:
            Refused: with its place.
        """
        if len(place) >= DEPTH_MAX:
            raise Refused("too_deep", pointer(*place))
        if isinstance(value, list):
            if _HARMLESS.issuperset(map(type, value)):
                return
            members: Iterable[tuple[Any, Any]] = enumerate(value)
        else:
            self._check_names(value, place)
            members = value.pairs if isinstance(value, _Repetitive) else value.items()
        for name, member in members:
            kind = type(member)
            if kind in _HARMLESS:
                continue
            if kind is str:
                if not member.isascii() or "\0" in member:
                    self._check_text(member, (*place, name))
            elif kind is _Unfit:
                raise Refused(member.code, pointer(*place, name))
            else:
                self.check(member, (*place, name))

    def _check_names(self, names: Iterable[str], place: Place) -> None:
        for name in names:
            if len(name) > NAME_CHARACTERS_MAX:
                raise Refused("name_too_long", pointer(*place))
            if not name.isascii() or "\0" in name:
                self._check_text(name, place)

    def _check_text(self, text: str, place: Place) -> None:
        bad = _BAD_CHARACTER.search(text)
        if bad is None:
            return
        if bad[0] == "\0":
            raise Refused("nul_character", pointer(*place))
        is_byte = not self._is_utf8 and "\udc80" <= bad[0] <= "\udcff"
        raise Refused("invalid_utf8" if is_byte else "lone_surrogate", pointer(*place))
