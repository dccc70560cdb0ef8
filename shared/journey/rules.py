"""Rules as data: which touchpoints a rule is about, how many of them it takes, and how rules combine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, TypeAlias

Source = Literal["property", "trait", "context", "sentiment"]
Operator = Literal["is", "above", "at_least", "below", "at_most", "contains", "exists"]
Scalar: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class ValueTest:
    """A test of one value that a touchpoint carries, or of a trait of the customer's.

    `name` is the way to the value through nested objects, with dots; a list passes if one of its members
    does. `is` takes any of the operands, every other operator has one. `are_truths` says which operands are
    true or false, and no number: to Python true and 1 are equal.
    """

    source: Source
    name: str
    operator: Operator
    operands: tuple[Scalar, ...]
    are_truths: tuple[bool, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "are_truths", tuple(isinstance(one, bool) for one in self.operands))


@dataclass(frozen=True, slots=True)
class Matcher:
    """Which touchpoints a rule is about; an empty set matches every type, channel or owner.

    `tests` are of what the touchpoint carries, `traits` of what is known of the customer by then.
    """

    types: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()
    tests: tuple[ValueTest, ...] = ()
    traits: tuple[ValueTest, ...] = ()

    @property
    def asks_only_what_is_known(self) -> bool:
        """Whether it is about the customer alone, whatever the touchpoint."""
        return bool(self.traits) and not (self.types or self.channels or self.owners or self.tests)


ANY_TOUCHPOINT = Matcher()


@dataclass(frozen=True, slots=True)
class Count:
    """Holds at a touchpoint that matches and is the `at_least`-th one that counts, or a later one.

    With `distinct_days` only one matching touchpoint of each UTC day counts; with `within` only those that
    lie no longer back; with `in_stage` only those behind the one by which the customer came to where they
    are. `ago` holds at *any* touchpoint, once the first match lies at least so long back.
    """

    matcher: Matcher = ANY_TOUCHPOINT
    at_least: int = 1
    distinct_days: bool = False
    within: timedelta | None = None
    ago: timedelta | None = None
    in_stage: bool = False

    @property
    def is_condition(self) -> bool:
        """Whether it asks what is known of the customer, and counts nothing."""
        return self == Count(self.matcher) and self.matcher.asks_only_what_is_known


@dataclass(frozen=True, slots=True)
class AllOf:
    """Holds when every one has been met and one of them holds at this touchpoint."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Holds when one of them holds."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """Is met while none of them has been met. It never holds by itself: something else has to happen."""

    rules: tuple[Rule, ...]


Rule: TypeAlias = Count | AllOf | AnyOf | NoneOf


def counts_in(rule: Rule) -> Iterator[Count]:
    """The leaves of a rule."""
    if isinstance(rule, Count):
        yield rule
    else:
        for part in rule.rules:
            yield from counts_in(part)


def can_hold(rule: Rule) -> bool:
    """Whether there are touchpoints at which the rule holds: `none` and `ago` only restrict others."""
    if isinstance(rule, Count):
        return rule.ago is None
    return not isinstance(rule, NoneOf) and any(can_hold(part) for part in rule.rules)
