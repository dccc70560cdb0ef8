"""What a fold needs to know of a touchpoint, and no more.

A definition that asks for types and channels alone costs nothing else: a touchpoint's properties, traits and
context are read only for the types of which some definition asks for them, and only the values asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TypeAlias
from uuid import UUID

import msgspec

from shared.journey.rules import Scalar
from shared.touchpoint import EMPTY_OBJECT, Touchpoint

Value: TypeAlias = Scalar | tuple[Scalar, ...] | None
"""What a touchpoint carries under a name: a list's plain members, and nothing of an object."""

Ask: TypeAlias = tuple[str, str]
"""A value that a definition asks for: `property`, `trait` or `context`, and its name there. `owner` and
`sentiment` have no name."""

_Name: TypeAlias = tuple[str, int, Sequence[str]]
"""The name under which a value is kept, the number of the member that it is in, and the way from there."""

_OBJECTS: Mapping[str, Callable[[Touchpoint], msgspec.Raw]] = {
    "property": attrgetter("properties"),
    "trait": attrgetter("traits"),
    "context": attrgetter("context"),
}
Position: TypeAlias = tuple[datetime, UUID]
"""A place in the order of a timeline: event time and id of a touchpoint."""

FIRST_POSITION: Position = (datetime.min.replace(tzinfo=UTC), UUID(int=0))
LAST_POSITION: Position = (datetime.max.replace(tzinfo=UTC), UUID(int=(1 << 128) - 1))

_NOTHING: Mapping[str, Value] = MappingProxyType({})
_OBJECTS_MAX = 1_000
_UNWRITABLE = frozenset('"\\') | {chr(number) for number in range(32)}


class Touch(msgspec.Struct, frozen=True, gc=False):
    """Event time, the store's id, type and channel; and as far as it was asked for, the rest.

    `content` holds values under names such as `property.order_id`; what a touchpoint doesn't carry is not in.
    """

    at: datetime
    id: UUID
    type: str
    channel: str
    owner: str = "own"
    sentiment: float | None = None
    content: Mapping[str, Value] = _NOTHING


BARE = Touch(datetime.min.replace(tzinfo=UTC), UUID(int=0), "", "")
"""Carries nothing that any rule could ask for beside type and channel. So do most, as far as it was asked."""


class Lens:
    """Makes touches of touchpoints, with what some definitions ask for. `asks` is by type; under None stands
    what is asked of every type."""

    def __init__(self, asks: Iterable[Mapping[str | None, frozenset[Ask]]]) -> None:
        merged: dict[str | None, frozenset[Ask]] = {None: frozenset()}
        for by_type in asks:
            for type_, asked in by_type.items():
                merged[type_] = merged.get(type_, frozenset()) | asked
        everywhere = merged.pop(None)
        self._others = _Asked(everywhere)
        self._by_type = {type_: _Asked(asked | everywhere) for type_, asked in merged.items() if type_}

    @property
    def types_with_content(self) -> Sequence[str] | None:
        """The types of which more than type and channel is asked for; None: all types."""
        if self._others.anything:
            return None
        return sorted(type_ for type_, asked in self._by_type.items() if asked.anything)

    def touch(self, id_: UUID, touchpoint: Touchpoint) -> Touch:
        """The touch of a touchpoint that the store knows by an id."""
        asked = self._by_type.get(touchpoint.type, self._others)
        if not asked.anything:
            return Touch(touchpoint.occurred_at, id_, touchpoint.type, touchpoint.channel)
        return Touch(
            touchpoint.occurred_at,
            id_,
            touchpoint.type,
            touchpoint.channel,
            touchpoint.owner,
            touchpoint.sentiment,
            asked.content(touchpoint),
        )


class _Asked:
    """What is asked of the touchpoints of a type."""

    def __init__(self, asked: Iterable[Ask]) -> None:
        by_source: dict[str, list[str]] = {}
        for source, name in sorted(asked):
            by_source.setdefault(source, []).append(name)
        self.anything = bool(by_source)
        self._objects = [
            (_OBJECTS[source], *_reader(source, names))
            for source, names in by_source.items()
            if source in _OBJECTS
        ]

    def content(self, touchpoint: Touchpoint) -> Mapping[str, Value]:
        found: dict[str, Value] = {}
        for object_of, members_of, none, names in self._objects:
            raw = object_of(touchpoint)
            if raw is not EMPTY_OBJECT and (members := members_of(raw)) != none:
                for key, number, steps in names:
                    if members[number] is not msgspec.UNSET:
                        _pick(members[number], key, steps, found)
        return found or _NOTHING


def _reader(
    source: str, names: Sequence[str]
) -> tuple[Callable[[msgspec.Raw], Sequence[Any]], Sequence[Any], Sequence[_Name]]:
    """What reads the members of an object in which the values of some names are, what it gives of an object
    without any of them, and where the values are then."""
    ways = [name.split(".") for name in names]
    firsts = tuple(sorted({way[0] for way in ways}))
    found = [
        (f"{source}.{name}", firsts.index(way[0]), way[1:]) for name, way in zip(names, ways, strict=True)
    ]
    return _members(firsts), (msgspec.UNSET,) * len(firsts), found


@lru_cache(_OBJECTS_MAX)
def _members(names: tuple[str, ...]) -> Callable[[msgspec.Raw], Sequence[Any]]:
    """Reads some members of objects. All others are passed over, which takes a third of the time. What reads
    is kept: it takes 50 µs to make, and a lens is made for every page of a long timeline."""
    if any(_UNWRITABLE & {*name} for name in names):
        # No member of a struct has such a name.
        read = msgspec.json.Decoder(dict[str, Any]).decode

        def picked(raw: msgspec.Raw) -> Sequence[Any]:
            found = read(raw)
            return tuple(found.get(name, msgspec.UNSET) for name in names)

        return picked
    fields = {f"member_{number}": name for number, name in enumerate(names)}
    members = [(field, Any, msgspec.UNSET) for field in fields]
    struct = msgspec.defstruct("Members", members, rename=fields, gc=False)
    decode, values = msgspec.json.Decoder(struct).decode, msgspec.structs.astuple
    return lambda raw: values(decode(raw))


def _pick(value: Any, key: str, steps: Sequence[str], found: dict[str, Value]) -> None:
    for step in steps:
        if not isinstance(value, dict) or step not in value:
            return
        value = value[step]
    if isinstance(value, list):
        value = tuple(one for one in value if isinstance(one, str | int | float))
    elif isinstance(value, dict):
        value = ()
    found[key] = value
