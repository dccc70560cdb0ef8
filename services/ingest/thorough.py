"""Reads one touchpoint of a request the thorough way: sees everything and says where it stands.

It is the law of what a touchpoint may hold. The quick way (`msgspec`, straight into an `Event`) is only
taken for bytes on which both agree, which a property test holds them to.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from typing import Any, Literal

import msgspec

from services.ingest import event
from services.ingest.event import Event
from services.ingest.refusals import Refused, pointer
from shared.touchpoint import CHANNELS, Owner

_BAD_CHARACTER = re.compile("[\x00\ud800-\udfff]")
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)")
_EXPONENT_MAX = 308
_SMALL = 1e-300
_INT_MAX = 2**63 - 1
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])

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


class _Object(dict[str, Any]):
    """An object that remembers members that a later one of the same name hides: their bytes are kept too."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


_OUT_OF_RANGE = _Unfit("number_out_of_range")
_NOT_FINITE = _Unfit("not_finite")


def read_event(raw: bytes) -> Event:
    """The touchpoint that the bytes are.

    Raises:
        Malformed: they are not JSON.
        Refused: they are, and something in them can't be accepted.
    """
    if len(raw) > event.EVENT_BYTES_MAX:
        raise Refused("event_too_large")
    value = parse(raw)
    if not isinstance(value, _Object):
        raise Refused("not_an_object")
    _Walk(_is_utf8(raw)).check(value, ())
    _check_members(value)
    return _event(value, _MEMBERS.decode(raw))


def parse(raw: bytes) -> Any:
    """The JSON value of the bytes, with a stand-in for each number that can't be kept.

    Raises:
        Malformed: they are not JSON (NaN and Infinity are let through, to be refused where they stand).
        Refused: they nest deeper than the parser goes.
    """
    text = raw.decode(errors="surrogateescape")
    try:
        return _DECODER.decode(text)
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
    if len(text) > event.NUMBER_CHARACTERS_MAX or not math.isfinite(number):
        return _OUT_OF_RANGE
    if abs(number) < _SMALL:
        exponent = _EXPONENT.search(text)
        if exponent and abs(int(exponent[1])) > _EXPONENT_MAX:
            return _OUT_OF_RANGE
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=_int, parse_float=_float, parse_constant=lambda _: _NOT_FINITE
)


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

    def check(self, value: _Object | list[Any], place: Place) -> None:
        """Refuse the first thing that can't be kept.

        Raises:
            Refused: with its place.
        """
        if len(place) >= event.DEPTH_MAX:
            raise Refused("too_deep", pointer(*place))
        if isinstance(value, _Object):
            self._check_names(value, place)
        for name, member in value.pairs if isinstance(value, _Object) else enumerate(value):
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

    def _check_names(self, value: _Object, place: Place) -> None:
        for name, _ in value.pairs:
            if len(name) > event.NAME_CHARACTERS_MAX:
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


def _check_members(value: dict[str, Any]) -> None:
    """Refuse what has another form than a touchpoint's."""
    for name in value:
        if name not in event.MEMBERS:
            raise Refused("unknown_member", pointer(name))
    for name in event.REQUIRED_MEMBERS:
        if name not in value:
            raise Refused("missing_member", pointer(name), f"{name} is missing")
    for name in event.OBJECT_MEMBERS:
        _expect(value, name, dict, "an object")
    for name in ("id", "owner", "occurred_at"):
        _expect(value, name, str, "a text")
    _expect(value, "sentiment", (int, float), "a number")
    for name in ("type", "channel"):
        if not isinstance(value[name], str):
            raise Refused("wrong_type", pointer(name), f"{name} must be a text")
    _check_identities(value["identities"])


def _expect(value: dict[str, Any], name: str, kind: type | tuple[type, ...], words: str) -> None:
    """Refuse a member of another type; null counts as left out."""
    member = value.get(name)
    if member is None or (isinstance(member, kind) and not isinstance(member, bool)):
        return
    raise Refused("wrong_type", pointer(name), f"{name} must be {words}")


def _check_identities(value: Any) -> None:
    if not isinstance(value, dict):
        raise Refused("wrong_type", "/identities", "identities must be an object")
    for kind, given in value.items():
        texts = given if isinstance(given, list) else [given]
        if given is not None and not all(isinstance(text, str) for text in texts):
            raise Refused("wrong_type", pointer("identities", kind), "an identity is a text or several")


def _event(value: dict[str, Any], raws: dict[str, msgspec.Raw]) -> Event:
    if value["channel"] not in CHANNELS:
        raise Refused("unknown_value", "/channel", f"channel must be one of {', '.join(CHANNELS)}")
    objects = {name: raws[name] for name in event.OBJECT_MEMBERS if value.get(name) is not None}
    return Event(
        type=value["type"],
        channel=value["channel"],
        identities=value["identities"],
        id=value.get("id"),
        occurred_at=_time(value.get("occurred_at")),
        owner=_owner(value.get("owner")),
        sentiment=None if value.get("sentiment") is None else float(value["sentiment"]),
        **objects,
    )


def _owner(text: str | None) -> Owner | None:
    """The very object that the touchpoint has as its default: what is the default is not written."""
    for owner in event.OWNERS:
        if owner == text:
            return owner
    if text is not None:
        raise Refused("unknown_value", "/owner", f"owner must be one of {', '.join(event.OWNERS)}")
    return None


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise Refused("invalid_time", "/occurred_at") from None
    if moment.tzinfo is None:
        raise Refused("invalid_time", "/occurred_at")
    return moment
