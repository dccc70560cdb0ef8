"""What a fold needs to know of a touchpoint, and no more.

A definition that asks for types and channels alone costs nothing else: a touchpoint's properties, traits and
context are read only for the types of which some definition asks for them, and only the values asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
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

_NOTHING: Mapping[str, Value] = MappingProxyType({})
_read = msgspec.json.Decoder().decode


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


class Lens:
    """Makes touches of touchpoints, with what some definitions ask for. `asks` is by type; under None stands
    what is asked of every type."""

    def __init__(self, asks: Iterable[Mapping[str | None, frozenset[Ask]]]) -> None:
        merged: dict[str | None, frozenset[Ask]] = {None: frozenset()}
        for by_type in asks:
            for type_, asked in by_type.items():
                merged[type_] = merged.get(type_, frozenset()) | asked
        everywhere = merged.pop(None)
        self._others = sorted(everywhere)
        self._by_type = {type_: sorted(asked | everywhere) for type_, asked in merged.items() if type_}

    @property
    def types_with_content(self) -> Sequence[str] | None:
        """The types of which more than type and channel is asked for; None: all types."""
        return None if self._others else sorted(type_ for type_, asked in self._by_type.items() if asked)

    def touch(self, id_: UUID, touchpoint: Touchpoint) -> Touch:
        """The touch of a touchpoint that the store knows by an id."""
        asked = self._by_type.get(touchpoint.type, self._others)
        if not asked:
            return Touch(touchpoint.occurred_at, id_, touchpoint.type, touchpoint.channel)
        return Touch(
            touchpoint.occurred_at,
            id_,
            touchpoint.type,
            touchpoint.channel,
            touchpoint.owner,
            touchpoint.sentiment,
            _content(touchpoint, asked),
        )


def _content(touchpoint: Touchpoint, asked: Sequence[Ask]) -> Mapping[str, Value]:
    raw = {
        "property": touchpoint.properties,
        "trait": touchpoint.traits,
        "context": touchpoint.context,
    }
    objects: dict[str, Any] = {}
    found: dict[str, Value] = {}
    for source, name in asked:
        if source not in raw or raw[source] == EMPTY_OBJECT:
            continue
        if source not in objects:
            objects[source] = _read(raw[source])
        _pick(objects[source], source, name, found)
    return found or _NOTHING


def _pick(value: Any, source: str, name: str, found: dict[str, Value]) -> None:
    for step in name.split("."):
        if not isinstance(value, dict) or step not in value:
            return
        value = value[step]
    if isinstance(value, list):
        value = tuple(one for one in value if isinstance(one, str | int | float))
    elif isinstance(value, dict):
        value = ()
    found[f"{source}.{name}"] = value
