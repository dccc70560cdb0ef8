"""The shapes that plain data may have, each of which reads data and says itself as JSON Schema.

One description serves both, so that what an editor accepts and what Rejse accepts can't drift apart. Reading
never stops at a problem: it is noted with its place, and a fallback of the right type stands in, so that one
run finds everything there is to mend.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, Generic, Protocol, TypeVar

Read = TypeVar("Read")
ReadTo = TypeVar("ReadTo", covariant=True)
Schema = dict[str, Any]

ITEMS_MAX = 60
_DURATION = r"[1-9][0-9]{0,5}[smh]|[1-9][0-9]{0,4}d|[1-9][0-9]{0,3}w"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Reading:
    """The problems of a file, each with its line. `lines` says where each place of the data stands."""

    def __init__(self, lines: Mapping[str, int]) -> None:
        self._lines = lines
        self._problems: list[tuple[int, str]] = []

    def refuse(self, at: str, reason: str) -> None:
        """Note what is wrong at a place such as `stages[0].enter`."""
        self._problems.append((self._line(at), f"{at or 'the file'}: {reason}"))

    @property
    def problems(self) -> list[str]:
        """All problems in the order of their lines."""
        return [f"line {line}: {text}" for line, text in sorted(self._problems)]

    def _line(self, at: str) -> int:
        while at and at not in self._lines:
            at = at[: max(at.rfind("."), at.rfind("["), 0)]
        return self._lines.get(at, 1)


class Shape(Protocol[ReadTo]):
    """Reads data of one shape."""

    @property
    def fallback(self) -> ReadTo:
        """Stands in for data that isn't there or can't be read."""

    def read(self, data: Any, at: str, reading: Reading) -> ReadTo:
        """What the data says; what is wrong with it is noted."""

    def schema(self) -> Schema:
        """The same as JSON Schema (2020-12)."""


@dataclass(frozen=True)
class Word:
    """Text of a pattern."""

    pattern: str
    what: str
    characters_max: int = 200
    fallback: str = ""

    def read(self, data: Any, at: str, reading: Reading) -> str:
        fits = isinstance(data, str) and len(data) <= self.characters_max
        if not fits or not re.fullmatch(self.pattern, data):
            reading.refuse(at, f"is no {self.what}")
            return self.fallback
        return str(data)

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^(?:{self.pattern})$", "maxLength": self.characters_max}


@dataclass(frozen=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    @property
    def fallback(self) -> str:
        return self.words[0]

    def read(self, data: Any, at: str, reading: Reading) -> str:
        if not isinstance(data, str) or data not in self.words:
            reading.refuse(at, f"is none of {', '.join(self.words)}")
            return self.fallback
        return data

    def schema(self) -> Schema:
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class Whole:
    """A whole number within bounds."""

    low: int
    high: int

    @property
    def fallback(self) -> int:
        return self.low

    def read(self, data: Any, at: str, reading: Reading) -> int:
        if not isinstance(data, int) or isinstance(data, bool) or not self.low <= data <= self.high:
            reading.refuse(at, f"is no whole number from {self.low} to {self.high}")
            return self.low
        return data

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Number:
    """A number within bounds."""

    low: float
    high: float
    fallback: float = 0.0

    def read(self, data: Any, at: str, reading: Reading) -> float:
        number = isinstance(data, int | float) and not isinstance(data, bool)
        if not number or not self.low <= data <= self.high:
            reading.refuse(at, f"is no number from {self.low:g} to {self.high:g}")
            return self.fallback
        return float(data)

    def schema(self) -> Schema:
        return {"type": "number", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Flag:
    """True or false."""

    fallback: bool = False

    def read(self, data: Any, at: str, reading: Reading) -> bool:
        if not isinstance(data, bool):
            reading.refuse(at, "is neither true nor false")
            return self.fallback
        return data

    def schema(self) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Duration:
    """A length of time: 90s, 30m, 12h, 180d, 4w. At most some centuries, so that no time overflows."""

    fallback: timedelta = timedelta(days=1)

    def read(self, data: Any, at: str, reading: Reading) -> timedelta:
        if not isinstance(data, str) or not re.fullmatch(_DURATION, data):
            reading.refuse(at, "is no duration such as 90s, 30m, 12h, 180d or 4w")
            return self.fallback
        return timedelta(**{_UNITS[data[-1]]: int(data[:-1])})

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^(?:{_DURATION})$"}


@dataclass(frozen=True)
class Either(Generic[Read]):
    """One of two shapes: the first if `fits` says so of the data."""

    fits: Callable[[Any], bool]
    first: Shape[Read]
    second: Shape[Read]

    @property
    def fallback(self) -> Read:
        return self.second.fallback

    def read(self, data: Any, at: str, reading: Reading) -> Read:
        return (self.first if self.fits(data) else self.second).read(data, at, reading)

    def schema(self) -> Schema:
        return {"anyOf": [self.first.schema(), self.second.schema()]}


@dataclass(frozen=True)
class ListOf(Generic[Read]):
    """A list of at least one; with `or_one` a single one may stand without its list.

    A state has a bit for each stage, and a number has 64: no list is longer than that.
    """

    item: Shape[Read]
    or_one: bool = False
    items_max: int = ITEMS_MAX
    fallback: tuple[Read, ...] = ()

    def read(self, data: Any, at: str, reading: Reading) -> tuple[Read, ...]:
        if self.or_one and not isinstance(data, list):
            return (self.item.read(data, at, reading),)
        if not isinstance(data, list) or not data:
            reading.refuse(at, "is empty" if data == [] else "is no list")
            return ()
        if len(data) > self.items_max:
            reading.refuse(at, f"has more than {self.items_max} items")
        return tuple(self.item.read(item, f"{at}[{index}]", reading) for index, item in enumerate(data))

    def schema(self) -> Schema:
        items: Schema = {"type": "array", "items": self.item.schema(), "minItems": 1}
        items["maxItems"] = self.items_max
        return {"anyOf": [self.item.schema(), items]} if self.or_one else items


@dataclass(frozen=True)
class MapOf(Generic[Read]):
    """A mapping of at least one name to values of one shape."""

    name: Word
    value: Shape[Read]
    fallback: Mapping[str, Read] = field(default_factory=dict)

    def read(self, data: Any, at: str, reading: Reading) -> Mapping[str, Read]:
        if not isinstance(data, dict) or not data:
            reading.refuse(at, "is no mapping" if not isinstance(data, dict) else "is empty")
            return {}
        return {
            self.name.read(name, f"{at}.{name}", reading): self.value.read(value, f"{at}.{name}", reading)
            for name, value in data.items()
        }

    def schema(self) -> Schema:
        return {
            "type": "object",
            "propertyNames": self.name.schema(),
            "additionalProperties": self.value.schema(),
            "minProperties": 1,
        }


@dataclass(frozen=True)
class Member:
    """A named part of a record, and what it means, as an editor shows it."""

    shape: Shape[Any]
    meaning: str
    required: bool = False


@dataclass(frozen=True)
class Record(Generic[Read]):
    """A mapping with known names. `make` gets what is there, and fallbacks for what has to be."""

    make: Callable[[Mapping[str, Any]], Read]
    members: Mapping[str, Member]
    empty: bool = True

    @property
    def fallback(self) -> Read:
        return self.make({name: one.shape.fallback for name, one in self.members.items() if one.required})

    def read(self, data: Any, at: str, reading: Reading) -> Read:
        if not isinstance(data, dict):
            reading.refuse(at, "is no mapping")
            return self.fallback
        if not data and not self.empty:
            reading.refuse(at, "is empty")
        prefix = f"{at}." if at else ""
        found: dict[str, Any] = {}
        for name, member in self.members.items():
            if name in data:
                found[name] = member.shape.read(data[name], f"{prefix}{name}", reading)
            elif member.required:
                reading.refuse(f"{prefix}{name}", "is missing")
                found[name] = member.shape.fallback
        for name in data:
            if name not in self.members:
                reading.refuse(f"{prefix}{name}", f"is not known here{_meant(name, self.members)}")
        return self.make(found)

    def schema(self) -> Schema:
        return {
            "type": "object",
            "properties": {
                name: {"description": one.meaning, **one.shape.schema()} for name, one in self.members.items()
            },
            "required": sorted(name for name, one in self.members.items() if one.required),
            "additionalProperties": False,
            "minProperties": 0 if self.empty else 1,
        }


def _meant(name: object, known: Iterable[str]) -> str:
    """What somebody may have meant who wrote a name that is not known."""
    close = get_close_matches(str(name), known, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(known))}"


@dataclass(frozen=True)
class Named(Generic[Read]):
    """A shape that stands in the schema once, under a name, so that it may hold itself."""

    name: str
    shape: Callable[[], Shape[Read]]

    @property
    def fallback(self) -> Read:
        return self.shape().fallback

    def read(self, data: Any, at: str, reading: Reading) -> Read:
        return self.shape().read(data, at, reading)

    def schema(self) -> Schema:
        return {"$ref": f"#/$defs/{self.name}"}
