"""What a rule lacks: to hold at the next touchpoint, or to have been met."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from shared.journey import words
from shared.journey.compiled import Rules
from shared.journey.memory import Counted, Memory
from shared.journey.misses import Seen, nearest, other_trait, ref_of
from shared.journey.reasons import (
    Alternative,
    Awaited,
    Forbidden,
    NoWay,
    OtherValue,
    Passed,
    Reason,
    TooFew,
    TooSoon,
)
from shared.journey.rules import AllOf, AnyOf, Count, Matcher, Rule, can_hold
from shared.journey.state import NEVER, State
from shared.journey.touch import Touch


@dataclass(frozen=True, slots=True)
class Verdict:
    """How much of a rule is there, whether it has been met, and what it lacks."""

    progress: float = 1.0
    met: bool = True
    reasons: list[Reason] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Looked:
    """Behind which instant a touchpoint may have come near, and behind which one that was all that a rule
    asks for can't have done what the rule does."""

    since: datetime = NEVER
    idle_since: datetime = NEVER


class Lacking:
    """Tells what rules lack, as of an instant not earlier than the state's position."""

    def __init__(self, rules: Rules, state: State, seen: Seen, now: datetime, looked: Looked) -> None:
        self._rules = rules
        self._memory = Memory(rules, state, now)
        self._state = state
        self._seen = seen
        self._now = now
        self._looked = looked

    def holds(self, rule: Rule) -> Verdict:
        """What a rule lacks to hold at the next touchpoint."""
        if isinstance(rule, Count):
            return self._count_holds(rule)
        if isinstance(rule, AnyOf):
            return self._any([(part, self.holds(part)) for part in rule.rules if can_hold(part)])
        return self._all_hold(cast(AllOf, rule))

    def _all_hold(self, rule: AllOf) -> Verdict:
        """Every part has to have been met, and one that can hold has to do so."""
        happening = [part for part in rule.rules if can_hold(part)]
        if len(happening) == 1:
            # That one is what has to happen; the others only restrict when.
            return _together(
                [(part, self.holds(part) if part in happening else self.met(part)) for part in rule.rules]
            )
        verdicts = [(part, self.met(part)) for part in rule.rules]
        together = _together(verdicts)
        if not all(verdict.met for part, verdict in verdicts if part in happening):
            return together
        what = words.listed(_happening(rule))
        awaited = Awaited(says=f"waits for {what}", what=what)
        progress = len(happening) / (len(happening) + 1)
        return Verdict(progress, False, [*together.reasons, awaited])

    def met(self, rule: Rule) -> Verdict:
        """What a rule lacks to have been met."""
        if isinstance(rule, Count):
            return self._count_met(rule)
        if isinstance(rule, AllOf):
            return _together([(part, self.met(part)) for part in rule.rules])
        if isinstance(rule, AnyOf):
            return self._any([(part, self.met(part)) for part in rule.rules])
        reasons: list[Reason] = [self._forbidden(part) for part in rule.rules if self.met(part).met]
        return Verdict(0.0 if reasons else 1.0, not reasons, reasons)

    def _any(self, ways: Sequence[tuple[Rule, Verdict]]) -> Verdict:
        if any(verdict.met for _, verdict in ways):
            return Verdict()
        progress = max(verdict.progress for _, verdict in ways)
        if len(ways) == 1:
            return ways[0][1]
        told = [
            Alternative(rule=words.rule(part), progress=round(verdict.progress, 3), reasons=verdict.reasons)
            for part, verdict in ways
        ]
        return Verdict(progress, False, [NoWay(says=f"none of {len(told)} ways is there", ways=told)])

    def _count_met(self, count: Count) -> Verdict:
        if count.is_condition:
            lacking = self._other_traits(count.matcher)
            tests = len(count.matcher.traits)
            return Verdict((tests - len(lacking)) / tests, not lacking, [*lacking])
        counted = self._memory.counted(count)
        if count.ago is not None:
            return self._long_ago(count, counted)
        if counted.number >= count.at_least:
            return Verdict()
        return self._too_few(count, counted)

    def _count_holds(self, count: Count) -> Verdict:
        if not count.is_condition:
            return self._too_few(count, self._memory.counted(count))
        met = self._count_met(count)
        if not met.met:
            return met
        return Verdict(0.5, False, [Awaited(says="waits for any touchpoint", what="any touchpoint")])

    def _too_few(self, count: Count, counted: Counted) -> Verdict:
        """What a leaf that counts lacks: the last of its touchpoints is still to come."""
        need, have = count.at_least, min(counted.number, count.at_least)
        more = max(1, need - have)
        reason = TooFew(
            says=_too_few_says(count, counted),
            what=words.touchpoints(count.matcher),
            have=have,
            need=need,
            more=more,
            unit="days" if count.distinct_days else "touchpoints",
            within=None if count.within is None else words.duration(count.within),
            in_stage=count.in_stage,
            counted_until=counted.times[0] + count.within if counted.times and count.within else None,
        )
        reasons: list[Reason] = [reason, *self._other_traits(count.matcher)]
        progress = (need - more) / need
        near = nearest(count.matcher, self._came_near(count))
        if near is not None and near.missed:
            return Verdict(max(progress, near.share / need), False, [*reasons, *near.missed])
        is_all_it_takes = not count.matcher.traits and not self._memory.has(count)
        if near is not None and is_all_it_takes and near.touch.at > self._looked.idle_since:
            at = words.moment(near.touch.at)
            says = f"{near.touch.type} at {at} was one, and something stood in the way"
            return Verdict(1.0, False, [*reasons, Passed(says=says, touchpoint=ref_of(near.touch))])
        return Verdict(progress, False, reasons)

    def _came_near(self, count: Count) -> Sequence[Touch]:
        since = self._looked.since
        if count.in_stage and self._state.entered_at is not None:
            since = max(since, self._state.entered_at)
        return [touch for touch in self._seen.newest if touch.at > since]

    def _long_ago(self, count: Count, counted: Counted) -> Verdict:
        assert count.ago is not None
        what, length = words.touchpoints(count.matcher), words.duration(count.ago)
        if not counted.times:
            says = f"no {what} yet: it has to lie {length} back"
            return Verdict(0.0, False, [TooSoon(says=says, what=what, first_at=None, holds_from=None)])
        first, holds_from = counted.times[0], counted.times[0] + count.ago
        if holds_from <= self._now:
            return Verdict()
        says = f"the first {what} at {words.moment(first)} lies {length} back only from " + words.moment(
            holds_from
        )
        reason = TooSoon(says=says, what=what, first_at=first, holds_from=holds_from)
        return Verdict(0.5, False, [reason])

    def _forbidden(self, rule: Rule) -> Reason:
        what, until = words.rule(rule), self._memory.met_until(rule)
        rest = f"that counts until {words.moment(until)}" if until else "time alone doesn't end that"
        return Forbidden(says=f"there must not have been: {what}; {rest}", what=what, until=until)

    def _other_traits(self, matcher: Matcher) -> list[OtherValue]:
        return [
            other_trait(test, self._seen)
            for test in matcher.traits
            if not self._rules.known_to_pass(test, self._state)
        ]


def _together(verdicts: Sequence[tuple[Rule, Verdict]]) -> Verdict:
    """All of some parts. What only restricts is no progress."""
    counted = [verdict.progress for part, verdict in verdicts if can_hold(part)] or [
        verdict.progress for _, verdict in verdicts
    ]
    reasons = [reason for _, verdict in verdicts for reason in verdict.reasons]
    met = all(verdict.met for _, verdict in verdicts)
    return Verdict(sum(counted) / len(counted), met, reasons)


def _happening(rule: Rule) -> Iterator[str]:
    """The touchpoints at which a rule can hold, in words."""
    if isinstance(rule, Count):
        yield "any touchpoint" if rule.is_condition else words.touchpoints(rule.matcher)
        return
    for part in rule.rules:
        if can_hold(part):
            yield from _happening(part)


def _too_few_says(count: Count, counted: Counted) -> str:
    what, span = words.touchpoints(count.matcher), words.span(count)
    need, have = count.at_least, min(counted.number, count.at_least)
    if need == 1:
        return f"waits for {what}"
    said = f"{have} of {need} {'days with ' if count.distinct_days else ''}{what}{span}"
    if have >= need:
        return f"{said}, and waits for the next one"
    if count.distinct_days and counted.today:
        said += "; today counts already"
    if counted.times and count.within is not None:
        said += f"; the oldest counts until {words.moment(counted.times[0] + count.within)}"
    return said
