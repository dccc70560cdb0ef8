"""How a touchpoint, or what is known of a customer, missed what a rule is about: by which value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import msgspec

from shared.journey import words
from shared.journey.compiled import value_passes
from shared.journey.reasons import OtherValue, TouchRef
from shared.journey.rules import Matcher, ValueTest
from shared.journey.touch import Touch, Value

TEXT_CHARACTERS_MAX = 200
MEMBERS_MAX = 20
"""How much of a value that a touchpoint carries is told: of a text, and of a list."""
TRIED_MAX = 20
"""How many of the newest touchpoints of a matcher's types are looked at."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest touchpoints of a customer, the newest first, and whether those are all."""

    newest: Sequence[Touch] = ()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Nearest:
    """The touchpoint that came nearest to matching: the share of the matcher that it passed, and what it
    missed; nothing where it matched."""

    touch: Touch
    share: float
    missed: Sequence[OtherValue]


def nearest(matcher: Matcher, touches: Sequence[Touch]) -> Nearest | None:
    """The nearest of the first touchpoints of the matcher's types, the first of equals. Traits are another
    matter."""
    parts = bool(matcher.types) + bool(matcher.channels) + bool(matcher.owners) + len(matcher.tests)
    found: Nearest | None = None
    of_types = (one for one in touches if not matcher.types or one.type in matcher.types)
    for touch in islice(of_types, TRIED_MAX):
        missed = list(_missed(matcher, touch))
        if not missed:
            return Nearest(touch, 1.0, ())
        share = (parts - len(missed)) / parts
        if share > (found.share if found else 0.0):
            found = Nearest(touch, share, missed)
    return found


def other_trait(test: ValueTest, seen: Seen) -> OtherValue:
    """How what is known of the customer misses the test of a trait."""
    name = f"trait.{test.name}"
    told = next((one for one in seen.newest if name in one.content), None)
    was_read = told is not None or seen.whole
    found = told.content[name] if told is not None else None
    now = f"is {words.value(found)}" if was_read else "is another value"
    return OtherValue(
        says=f"trait {test.name} {now}, not {words.wanted(test)}",
        source="trait",
        name=test.name,
        operator=test.operator,
        operands=test.operands,
        value=_short(found) if was_read else msgspec.UNSET,
    )


def _missed(matcher: Matcher, touch: Touch) -> Iterator[OtherValue]:
    """What kept a touchpoint from matching."""
    ref = ref_of(touch)
    sets: tuple[tuple[Literal["channel", "owner"], str, frozenset[str]], ...] = (
        ("channel", touch.channel, matcher.channels),
        ("owner", touch.owner, matcher.owners),
    )
    for source, found, among in sets:
        if among and found not in among:
            says = f"{source} of {touch.type} is {found}, not {words.listed(sorted(among))}"
            operands = tuple(sorted(among))
            yield OtherValue(
                says=says,
                source=source,
                name="",
                operator="is",
                operands=operands,
                value=found,
                touchpoint=ref,
            )
    for test in matcher.tests:
        if not value_passes(test, touch):
            carried = _carried(test, touch)
            says = (
                f"{words.subject(test)} of {touch.type} is {words.value(carried)}, not {words.wanted(test)}"
            )
            yield OtherValue(
                says=says,
                source=test.source,
                name=test.name,
                operator=test.operator,
                operands=test.operands,
                value=_short(carried),
                touchpoint=ref,
            )


def _carried(test: ValueTest, touch: Touch) -> Value:
    """What a touchpoint carries of what is tested."""
    if test.source == "sentiment":
        return touch.sentiment
    return touch.content.get(f"{test.source}.{test.name}")


def _short(value: Value) -> Value:
    """As much of a value as an answer has room for."""
    if isinstance(value, str):
        return value[:TEXT_CHARACTERS_MAX]
    return value[:MEMBERS_MAX] if isinstance(value, tuple) else value


def ref_of(touch: Touch) -> TouchRef:
    """What names a touchpoint."""
    return TouchRef(touch.id, touch.at, touch.type, touch.channel)
