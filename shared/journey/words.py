"""Rules and times in plain English, for whoever asks why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from shared.journey.definition import Definition
from shared.journey.plan import places_of, ways_out
from shared.journey.rules import AllOf, AnyOf, Count, Matcher, Operator, Rule, Scalar, ValueTest
from shared.journey.touch import Value

_TEXT_CHARACTERS_MAX = 80
_UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1)))
_COMPARED: Mapping[Operator, str] = {
    "above": "above",
    "at_least": "at least",
    "below": "below",
    "at_most": "at most",
}


def duration(length: timedelta) -> str:
    """A length of time in its largest whole unit: `14 d`."""
    for name, unit in _UNITS:
        if not length % unit:
            return f"{length // unit} {name}"
    return f"{length // timedelta(seconds=1)} s"


def moment(at: datetime) -> str:
    """An instant in UTC, to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def listed(words: Iterable[str], last: str = "or") -> str:
    """`a, b or c`."""
    *front, end = words
    return f"{', '.join(front)} {last} {end}" if front else end


def value(found: Value) -> str:
    """A value that a touchpoint carries, cut where it is long."""
    if found is None:
        return "nothing"
    if isinstance(found, tuple):
        return listed(map(value, found[:5]), "and") if found else "nothing"
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, float):
        return f"{found:g}"
    text = str(found)
    return text if len(text) <= _TEXT_CHARACTERS_MAX else f"{text[:_TEXT_CHARACTERS_MAX]}…"


def subject(test: ValueTest) -> str:
    """What is tested: `property plan`."""
    return f"{test.source} {test.name}" if test.name else test.source


def wanted(test: ValueTest) -> str:
    """What passes: `basic or premium`, `above 9`."""
    operand: Scalar = test.operands[0]
    if test.operator == "is":
        return listed(map(value, test.operands))
    if test.operator == "exists":
        return "anything" if operand else "nothing"
    if test.operator == "contains":
        return f"a text with {value(operand)!r} in it"
    return f"{_COMPARED[test.operator]} {value(operand)}"


def touchpoints(matcher: Matcher) -> str:
    """Which touchpoints a matcher is about: `order_completed in store with property total at least 100`."""
    parts = [listed(sorted(matcher.types)) if matcher.types else "any touchpoint"]
    if matcher.channels:
        parts.append(f"in {listed(sorted(matcher.channels))}")
    if matcher.owners:
        parts.append(f"owned by {listed(sorted(matcher.owners))}")
    if matcher.tests:
        parts.append(f"with {_tested(matcher.tests)}")
    if matcher.traits:
        parts.append(f"while {_tested(matcher.traits)}")
    return " ".join(parts)


def rule(said: Rule) -> str:
    """What a rule asks for."""
    if isinstance(said, Count):
        return _count(said)
    name = "all" if isinstance(said, AllOf) else "any" if isinstance(said, AnyOf) else "none"
    return f"{name} of ({'; '.join(map(rule, said.rules))})"


def rules_of(definition: Definition) -> Mapping[str, str]:
    """What every rule and every clock of a definition says, by the name that a transition's cause has."""
    return dict(_named(definition))


def ends_of_pauses(definition: Definition) -> Mapping[str, str]:
    """By the rule of each pause, what ends it."""
    return {
        clock.rule: f"{touchpoints(clock.since)}, which the pause waited for"
        for at in places_of(definition)
        for clock in at.clocks
        if clock.to is None
    }


def _tested(tests: Sequence[ValueTest]) -> str:
    return listed((f"{subject(test)} {wanted(test)}" for test in tests), "and")


def _count(count: Count) -> str:
    what = touchpoints(count.matcher)
    if count.ago is not None:
        return f"{what}, first at least {duration(count.ago)} ago{_in_stage(count)}"
    if count.is_condition:
        return _tested(count.matcher.traits)
    if count.distinct_days and count.at_least > 1:
        what = f"{what} on {count.at_least} days"
    elif count.at_least > 1:
        what = f"{count.at_least} × {what}"
    return what + span(count)


def span(count: Count) -> str:
    """Over what time a leaf counts: ` within 14 d`; empty: over the lap."""
    within = "" if count.within is None else f" within {duration(count.within)}"
    return within + _in_stage(count)


def _in_stage(count: Count) -> str:
    return " since entering the stage" if count.in_stage else ""


def _named(definition: Definition) -> Iterator[tuple[str, str]]:
    for place in (None, *definition.places):
        for way in ways_out(definition, place):
            yield way.rule, rule(way.on)
    for at in places_of(definition):
        for clock in at.clocks:
            yield clock.rule, silence(clock.after, clock.since)
        if at.leads_to is not None:
            yield f"{at.key}.gate", "a moment without length: on to the next stage at once"
    for stage in definition.stages:
        for one in stage.substages:
            if one.enter is not None:
                yield f"{stage.key}.{one.key}.enter", rule(one.enter)
    for overlay in definition.overlays:
        yield f"{overlay.key}.open", rule(overlay.open)
        yield f"{overlay.key}.close", rule(overlay.close)
        if overlay.close_after is not None:
            yield f"{overlay.key}.close_after", ending(overlay.close_after, "was opened")
    for signal in definition.signals:
        yield f"{signal.key}.on", rule(signal.on)
        if signal.off is not None:
            yield f"{signal.key}.off", rule(signal.off)
        if signal.off_after is not None:
            yield f"{signal.key}.off_after", ending(signal.off_after, "went on")


def silence(after: timedelta, since: Matcher) -> str:
    """What a clock of a stage waits for."""
    return f"{duration(after)} in the stage without {touchpoints(since)}"


def ending(after: timedelta, what: str) -> str:
    """What the clock of an overlay or of a signal waits for."""
    return f"{duration(after)} after it {what}"
