"""Rules compiled to closures, and what they have to remember of a customer.

A rule *holds* at a touchpoint, and something happens; it *has been met* when what it asks for has happened by
then. `holds` is compiled for one sort of touchpoints, so that a rule about others costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from operator import ge, gt, le, lt
from typing import Any, NamedTuple, TypeAlias

from shared.journey.rules import AllOf, AnyOf, Count, Matcher, NoneOf, Rule, ValueTest, counts_in
from shared.journey.state import NOWHERE, State
from shared.journey.touch import BARE, Ask, Touch

Holds: TypeAlias = Callable[[State, Touch], bool]
Met: TypeAlias = Callable[[State, datetime], bool]
Remembered: TypeAlias = tuple[int, ...]
After: TypeAlias = Callable[[Remembered, Touch], Remembered]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUMBERS = frozenset((int, float))


def always(_: State, __: Touch) -> bool:
    """Holds at every touchpoint of its type."""
    return True


class Sort(NamedTuple):
    """What is known of touchpoints before they come: their type, None standing for any that no rule names,
    and whether they are bare. Most are, and then a rule about what one carries is decided beforehand."""

    type: str | None
    is_bare: bool = False


@dataclass(frozen=True, slots=True)
class Counter:
    """Remembers how often a leaf has matched: its number among the state's tallies, when it matches, and how
    it then goes on; None: it is a number that goes up by one. It is final once the first that it remembers is
    as large as `most`."""

    number: int
    matches: Holds
    after: After | None
    most: float


class Rules:
    """Compiles the rules of one definition. `triggers` are those by which something happens, `conditions`
    those that are only asked whether they have been met; their order numbers what is remembered."""

    def __init__(
        self, triggers: Sequence[Rule], conditions: Sequence[Rule], matchers: Sequence[Matcher]
    ) -> None:
        self._numbers: dict[Count, int] = {}
        self._facts: dict[ValueTest, int] = {}
        for rule in triggers:
            self._note(rule, alone=True)
        for rule in conditions:
            self._note(rule, alone=False)
        for matcher in matchers:
            self._note_facts(matcher)
        # What passes of somebody of whom nothing is known: a state's bits tell what differs from that.
        self._unknown = sum(1 << bit for test, bit in self._facts.items() if _passes(test)(None))

    @property
    def facts(self) -> Sequence[tuple[str, int, Callable[[Any], bool]]]:
        """The tests of traits: the value's name, the bit, and whether a value differs from none in it."""
        return [
            (f"trait.{test.name}", 1 << bit, _differs(_passes(test))) for test, bit in self._facts.items()
        ]

    @property
    def remembered(self) -> int:
        """How many tallies a state has."""
        return len(self._numbers)

    @property
    def of_stage(self) -> frozenset[int]:
        """The tallies that begin anew with every place."""
        return frozenset(number for count, number in self._numbers.items() if count.in_stage)

    def remembers(self, count: Count, state: State) -> Remembered | None:
        """What a state remembers of a leaf: the times that lie in its window, the time of the first match, or
        a number; empty: nothing yet. None: nothing is ever remembered of it."""
        number = self._numbers.get(count)
        return None if number is None else _tally(state, number)

    def known_to_pass(self, test: ValueTest, state: State) -> bool:
        """Whether what is known of the customer passes the test of a trait."""
        return bool((state.facts ^ self._unknown) >> self._facts[test] & 1)

    def counters(self, sort: Sort) -> Sequence[Counter]:
        """What is to be counted at touchpoints of a sort."""
        found = []
        for count, number in self._numbers.items():
            matches = self.matches(count.matcher, sort)
            if matches is not None:
                found.append(Counter(number, matches, _after(count), _most(count)))
        return found

    def matches(self, matcher: Matcher, sort: Sort) -> Holds | None:
        """Whether a touchpoint of the sort matches; None: it never does."""
        if matcher.types and sort.type not in matcher.types:
            return None
        of_content = [_holds(test) for test in matcher.tests]
        if matcher.owners:
            of_content.append(_is_among("owner", matcher.owners))
        tests: list[Holds] = []
        if matcher.channels:
            tests.append(_is_among("channel", matcher.channels))
        if not sort.is_bare:
            tests += of_content
        elif not all(holds(NOWHERE, BARE) for holds in of_content):
            return None
        if matcher.traits:
            knows = self._knows(matcher)
            tests.append(lambda state, touch: knows(state, touch.at))
        return _every(tests)

    def matches_any(self, matchers: Sequence[Matcher], sort: Sort) -> Holds | None:
        """Whether a touchpoint of the sort matches one of them; None: it never does."""
        found = [matches for one in matchers if (matches := self.matches(one, sort)) is not None]
        return _some(found) if found else None

    def holds(self, rule: Rule, sort: Sort) -> Holds | None:
        """Whether the rule holds at a touchpoint of the sort; None: it never does."""
        if isinstance(rule, Count):
            return self._count_holds(rule, sort)
        if isinstance(rule, NoneOf):
            return None
        parts = [found for part in rule.rules if (found := self.holds(part, sort)) is not None]
        if not parts:
            return None
        some = _some(parts)
        if isinstance(rule, AnyOf):
            return some
        met = self.met(rule)
        if some is always:
            return lambda state, touch: met(state, touch.at)
        return lambda state, touch: some(state, touch) and met(state, touch.at)

    def met(self, rule: Rule) -> Met:
        """Whether the rule has been met by then."""
        if isinstance(rule, Count):
            return self._count_met(rule)
        if isinstance(rule, AllOf):
            return _first_that([self.met(part) for part in _flat(rule)], is_=False, then=False)
        parts = [self.met(part) for part in rule.rules]
        wanted = isinstance(rule, AnyOf)
        return _first_that(parts, is_=True, then=wanted)

    def _note(self, rule: Rule, *, alone: bool) -> None:
        if isinstance(rule, Count):
            self._note_facts(rule.matcher)
            plain = alone and rule.at_least == 1 and rule.ago is None
            if not plain and not rule.is_condition:
                self._numbers.setdefault(rule, len(self._numbers))
            return
        for part in rule.rules:
            self._note(part, alone=alone and isinstance(rule, AnyOf))

    def _note_facts(self, matcher: Matcher) -> None:
        for test in matcher.traits:
            self._facts.setdefault(test, len(self._facts))

    def _knows(self, matcher: Matcher) -> Met:
        mask, unknown = sum(1 << self._facts[test] for test in matcher.traits), self._unknown
        return lambda state, _: (state.facts ^ unknown) & mask == mask

    def _count_holds(self, count: Count, sort: Sort) -> Holds | None:
        if count.ago is not None:
            return None
        matches = self.matches(count.matcher, sort)
        if matches is None or count.at_least == 1:
            return matches
        met = self._count_met(count)
        if matches is always:
            return lambda state, touch: met(state, touch.at)
        return lambda state, touch: matches(state, touch) and met(state, touch.at)

    def _count_met(self, count: Count) -> Met:
        if count.is_condition:
            return self._knows(count.matcher)
        number, least = self._numbers[count], count.at_least
        if count.within is not None:
            span = count.within // _MICROSECOND
            # The latest times are remembered, as many as it takes, in their order.
            return lambda state, at: (
                bool(state.tallies)
                and len(times := state.tallies[number]) >= least
                and times[-least] >= _micros(at) - span
            )
        if count.ago is not None:
            span = count.ago // _MICROSECOND
            return lambda state, at: (
                bool(state.tallies)
                and len(first := state.tallies[number]) > 0
                and first[0] <= _micros(at) - span
            )
        return lambda state, _: bool(state.tallies) and (state.tallies[number] or (0,))[0] >= least


def _tally(state: State, number: int) -> Remembered:
    return state.tallies[number] if state.tallies else ()


def _most(count: Count) -> float:
    return inf if count.within is not None or count.ago is not None else count.at_least


def _after(count: Count) -> After | None:
    """How a tally goes on at a match, if it is no plain number; it grows no further than the rule can tell
    apart."""
    most = count.at_least
    if count.ago is not None:
        return lambda before, touch: before or (_micros(touch.at),)
    if count.within is not None:
        return _next_time_of_day(most) if count.distinct_days else _next_time(most)
    return _next_day(most) if count.distinct_days else None


def _next_day(most: int) -> After:
    def after(before: Remembered, touch: Touch) -> Remembered:
        number, last = before or (0, 0)
        day = touch.at.toordinal()
        return before if number >= most or day == last else (number + 1, day)

    return after


def _next_time(most: int) -> After:
    return lambda before, touch: (*before, _micros(touch.at))[-most:]


def _next_time_of_day(most: int) -> After:
    """The latest time of each day: of a day's touchpoints, that one lies in a window longest."""

    def after(before: Remembered, touch: Touch) -> Remembered:
        time = _micros(touch.at)
        midnight = time - time % (timedelta(days=1) // _MICROSECOND)
        earlier = before[:-1] if before and before[-1] >= midnight else before
        return (*earlier, time)[-most:]

    return after


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def instant(micros: int) -> datetime:
    """The instant that is remembered as a number."""
    return _EPOCH + micros * _MICROSECOND


def value_passes(test: ValueTest, touch: Touch) -> bool:
    """Whether what a touchpoint carries passes a test that is not of a trait."""
    return _holds(test)(NOWHERE, touch)


def _is_among(name: str, words: frozenset[str]) -> Holds:
    return lambda _, touch: getattr(touch, name) in words


def _holds(test: ValueTest) -> Holds:
    if test.source == "sentiment":
        felt = _passes_one(test)
        return lambda _, touch: touch.sentiment is not None and felt(touch.sentiment)
    passes, name = _passes(test), f"{test.source}.{test.name}"
    if test.operator == "exists":
        return lambda _, touch: passes(touch.content.get(name))
    # Most touchpoints carry nothing under a name.
    return lambda _, touch: (value := touch.content.get(name)) is not None and passes(value)


def _passes(test: ValueTest) -> Callable[[Any], bool]:
    """The test of a value; of a list it is enough that one of its members passes."""
    if test.operator == "exists":
        wanted = test.operands[0]
        return lambda value: (value is not None) is wanted
    one = _passes_one(test)
    return lambda value: any(map(one, value)) if isinstance(value, tuple) else one(value)


def _differs(passes: Callable[[Any], bool]) -> Callable[[Any], bool]:
    of_none = passes(None)
    return lambda value: passes(value) is not of_none


def _passes_one(test: ValueTest) -> Callable[[Any], bool]:
    if test.operator == "is":
        exact = {_exact(operand) for operand in test.operands}
        return lambda value: _exact(value) in exact
    if test.operator == "contains":
        text = str(test.operands[0]).casefold()
        return lambda value: isinstance(value, str) and text in value.casefold()
    limit = test.operands[0]
    compare = {"above": gt, "at_least": ge, "below": lt, "at_most": le}[test.operator]
    return lambda value: type(value) in _NUMBERS and compare(value, limit)


def _exact(value: Any) -> tuple[bool, Any]:
    """A value that true and 1 differ in."""
    return isinstance(value, bool), value


def _every(tests: Sequence[Holds]) -> Holds:
    if not tests:
        return always
    if len(tests) == 1:
        return tests[0]

    def every(state: State, touch: Touch) -> bool:
        for test in tests:  # noqa: SIM110 (a third of the time that all() takes)
            if not test(state, touch):
                return False
        return True

    return every


def _flat(rule: AllOf) -> Iterator[Rule]:
    """The parts of a rule, and of those of its parts that ask for all of theirs too."""
    for part in rule.rules:
        if isinstance(part, AllOf):
            yield from _flat(part)
        else:
            yield part


def _first_that(parts: Sequence[Met], *, is_: bool, then: bool) -> Met:
    """The answer `then` if one of the parts is so, else the other one."""

    def met(state: State, at: datetime) -> bool:
        for part in parts:
            if part(state, at) is is_:
                return then
        return not then

    return met


def _some(parts: Sequence[Holds]) -> Holds:
    if always in parts:
        return always
    if len(parts) == 1:
        return parts[0]

    def some(state: State, touch: Touch) -> bool:
        for part in parts:  # noqa: SIM110 (a third of the time that any() takes)
            if part(state, touch):
                return True
        return False

    return some


def asked_in(rules: Iterable[Rule], matchers: Iterable[Matcher]) -> dict[str | None, frozenset[Ask]]:
    """What rules ask of touchpoints beside type and channel, by type; under None what they ask of every
    type. Of traits they ask everywhere: any touchpoint may tell one."""
    found: dict[str | None, set[Ask]] = {}
    for matcher in (*(count.matcher for rule in rules for count in counts_in(rule)), *matchers):
        asked: set[Ask] = {(test.source, test.name) for test in matcher.tests}
        if matcher.owners:
            asked.add(("owner", ""))
        for type_ in matcher.types or (None,):
            found.setdefault(type_, set()).update(asked)
        for test in matcher.traits:
            found.setdefault(None, set()).add(("trait", test.name))
    return {type_: frozenset(asked) for type_, asked in found.items()}
