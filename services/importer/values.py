"""Reading one value of a touchpoint out of a row: pure functions, made once from the map.

A value is empty (None) when its column is: an empty text or, in NDJSON, null or no member at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from string import Formatter
from typing import Any

Row = Mapping[str, Any]
"""A row by column; in NDJSON the object itself. `@row` is its number in the file, from 1."""

Read = Callable[[Row], Any]
Convert = Callable[[Any], Any]

ROW_NUMBER = "@row"
_INT = re.compile(r"[+-]?[0-9]{1,19}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Unreadable(Exception):
    """A row's value is not what the map says; the text never repeats it."""

    def __init__(self, code: str, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.pointer = pointer


def constant(value: Any) -> Read:
    """The same for every row."""
    return lambda row: value


def column(name: str) -> Read:
    """A column's value; a name that begins with `/` is a JSON pointer (RFC 6901) into the row."""
    if name.startswith("/"):
        return _at([part.replace("~1", "/").replace("~0", "~") for part in name[1:].split("/")])

    def read(row: Row) -> Any:
        value = row.get(name)
        return None if isinstance(value, str) and not value.strip() else value

    return read


def template(text: str) -> tuple[Read, frozenset[str]]:
    """Columns put together as `{name}` in a text, and which those are; empty if one of them is.

    Raises:
        ValueError: the text is no template.
    """
    parts: list[Read] = []
    names: set[str] = set()
    for literal, name, spec, conversion in Formatter().parse(text):
        if spec or conversion or name == "":
            raise ValueError("a template has columns as {name}, and nothing else in braces")
        parts.append(constant(literal))
        if name is not None:
            parts.append(then(column(name), to_text))
            names.add(name)

    def read(row: Row) -> Any:
        texts = [part(row) for part in parts]
        return None if None in texts else "".join(texts)

    return read, frozenset(names)


def then(read: Read, convert: Convert) -> Read:
    """What was read, converted unless it is empty."""

    def converted(row: Row) -> Any:
        value = read(row)
        return None if value is None else convert(value)

    return converted


def to_text(value: Any) -> str:
    """A text; numbers and booleans as JSON writes them."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    raise Unreadable("wrong_type", "is no text")


def to_int(value: Any) -> int:
    """A whole number of 64 bits."""
    if isinstance(value, str) and _INT.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 63) <= value < 1 << 63:
        raise Unreadable("wrong_type", "is no whole number of 64 bits")
    return value


def to_float(value: Any, decimal: str = ".") -> float:
    """A finite number, with the decimal mark given."""
    if isinstance(value, str):
        text = value.strip()
        text = text.replace(".", "x").replace(decimal, ".") if decimal != "." else text
        value = float(text) if _FLOAT.fullmatch(text) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Unreadable("wrong_type", "is no number")
    return float(value)


def to_bool(value: Any) -> bool:
    """A truth value: true, yes or 1; false, no or 0; whatever the case."""
    known = _BOOLS.get(to_text(value).strip().lower())
    if known is None:
        raise Unreadable("wrong_type", "is none of true, false, yes, no, 1, 0")
    return known


def lookup(values: Mapping[str, Any]) -> Convert:
    """What the map says for a column's text.

    Raises (when called):
        Unreadable: the map says nothing for it.
    """

    def convert(value: Any) -> Any:
        key = to_text(value).strip()
        if key not in values:
            raise Unreadable("unknown_value", "is a value that the map does not list")
        return values[key]

    return convert


def to_time(format_: str | None, zone: tzinfo | None) -> Convert:
    """RFC 3339 in UTC out of a text of a `strptime` format, of `unix_s` or `unix_ms`, or of RFC 3339.

    `zone` is that of times without one. A time that a clock shows twice is taken as the first of the two.
    """
    read = _reader_of(format_)

    # History repeats its dates: looking one up costs a twentieth of reading it.
    @lru_cache(maxsize=8192)
    def convert(text: str) -> str:
        try:
            moment = read(text.strip())
            if moment.tzinfo is None:
                if zone is None:
                    raise Unreadable("invalid_time", "is a time without an offset")
                moment = moment.replace(tzinfo=zone)
            return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
        except (ValueError, OverflowError, OSError):
            raise Unreadable("invalid_time", "is no time of the map's format") from None

    return lambda value: convert(to_text(value))


def _reader_of(format_: str | None) -> Callable[[str], datetime]:
    if format_ is None:
        return datetime.fromisoformat
    if format_ in ("unix_s", "unix_ms"):
        unit = 1.0 if format_ == "unix_s" else 1000.0
        return lambda text: datetime.fromtimestamp(float(text) / unit, UTC)
    return lambda text: datetime.strptime(text, format_)  # noqa: DTZ007 (the zone is put on by the caller)


def _at(path: list[str]) -> Read:
    def read(row: Row) -> Any:
        value: Any = row
        for part in path:
            if isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            elif isinstance(value, Mapping):
                value = value.get(part)
            else:
                return None
        return None if isinstance(value, str) and not value.strip() else value

    return read
