"""The rules that could move a customer from where they are: what each of them lacks, exactly.

Theory of operation. What a rule has seen so far is what the state remembers of it, so that no timeline has to
be read to say "2 of 3 within 14 d". That is told as of an instant: windows are cut there. Which touchpoint
came near, and by which value it missed, no state remembers: that is looked for among the touchpoints that
the caller read, the newest first, behind the instant at which the customer came to where they are. The
caller bounds how many those are; a miss that lies further back isn't told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from shared.journey import words
from shared.journey.definition import START, Definition
from shared.journey.fold import Journey
from shared.journey.memory import Counted, Memory
from shared.journey.misses import Seen, nearest, other_trait, ref_of
from shared.journey.plan import WayOut, ways_out
from shared.journey.reasons import (
    Alternative,
    Awaited,
    Blocked,
    Elsewhere,
    Forbidden,
    NearRule,
    NotForThem,
    NoWay,
    OtherValue,
    Passed,
    Reason,
    TooFew,
    TooSoon,
    Window,
)
from shared.journey.rules import AllOf, AnyOf, Count, Matcher, Rule, can_hold
from shared.journey.state import State


@dataclass(frozen=True, slots=True)
class _Verdict:
    """How much of a rule is there, whether it has been met, and what it lacks."""

    progress: float = 1.0
    met: bool = True
    reasons: list[Reason] = field(default_factory=list)


class Nearness:
    """Explains one customer's rules as of an instant, not earlier than the state's position."""

    def __init__(self, journey: Journey, state: State, seen: Seen, now: datetime) -> None:
        self._definition = journey.definition
        self._plans = journey.plans
        self._rules = journey.plans.rules
        self._memory = Memory(self._rules, state, now)
        self._state = state
        self._seen = seen
        self._now = now
        since = state.entered_at
        self._since_entry = [one for one in seen.newest if since is None or one.at > since]

    def rules(self) -> list[NearRule]:
        """Every rule that could move the customer, the nearest first, then as they win."""
        ways = ways_out(self._definition, self._state.place)
        found = [self._near(rank, way) for rank, way in enumerate(ways)]
        return sorted(found, key=lambda one: (-one.progress, one.rank))

    def windows(self) -> list[Window]:
        """What time alone will change in what those rules have seen, the earliest first."""
        return self._memory.windows(ways_out(self._definition, self._state.place))

    def _near(self, rank: int, way: WayOut) -> NearRule:
        verdict = self._holds(way.on)
        return NearRule(
            change=way.kind,
            to=way.to,
            rule=way.rule,
            says=words.rule(way.on),
            rank=rank,
            progress=round(verdict.progress, 3),
            reasons=[*self._in_the_way(way), *verdict.reasons],
        )

    def _in_the_way(self, way: WayOut) -> Iterator[Reason]:
        place = self._state.place
        if not way.begins_at(place):
            places = _in_order(self._definition, way.sources)
            says = f"only from {words.listed(places)}, and the customer is in {place or START}"
            yield Elsewhere(says=says, places=places)
        for overlay, since in zip(self._definition.overlays, self._state.open, strict=False):
            if since is not None and way.to in overlay.blocks:
                says = f"blocked by the open {overlay.kind} {overlay.key}, since {words.moment(since)}"
                yield Blocked(says=says, overlay=overlay.key, since=since)
        if place is None:
            yield from self._audience()

    def _audience(self) -> Iterator[Reason]:
        audience, admits = self._definition.audience, self._plans.admits
        if admits is None or admits(self._state, self._now):
            return
        persona = self._plans.persona(self._state, self._now)
        personas = audience.personas
        unmet = _Verdict() if audience.when is None else self._met(audience.when)
        parts = []
        if personas and persona not in personas:
            parts.append(f"for {words.listed(personas)}, and the customer is {persona or 'none of these'}")
        if not unmet.met and audience.when is not None:
            parts.append(f"for whom this has been met: {words.rule(audience.when)}")
        says = f"the journey begins only {words.listed(parts, 'and')}"
        yield NotForThem(says=says, persona=persona, personas=personas, reasons=unmet.reasons)

    def _holds(self, rule: Rule) -> _Verdict:
        """What a rule lacks to hold at the next touchpoint."""
        if isinstance(rule, Count):
            return self._count_holds(rule)
        if isinstance(rule, AnyOf):
            return self._any([(part, self._holds(part)) for part in rule.rules if can_hold(part)])
        return self._all_hold(cast(AllOf, rule))

    def _all_hold(self, rule: AllOf) -> _Verdict:
        """Every part has to have been met, and one that can hold has to do so."""
        happening = [part for part in rule.rules if can_hold(part)]
        if len(happening) == 1:
            # That one is what has to happen; the others only restrict when.
            return _together(
                [(part, self._holds(part) if part in happening else self._met(part)) for part in rule.rules]
            )
        verdicts = [(part, self._met(part)) for part in rule.rules]
        together = _together(verdicts)
        if not all(verdict.met for part, verdict in verdicts if part in happening):
            return together
        what = words.listed(_happening(rule))
        awaited = Awaited(says=f"waits for {what}", what=what)
        progress = len(happening) / (len(happening) + 1)
        return _Verdict(progress, False, [*together.reasons, awaited])

    def _met(self, rule: Rule) -> _Verdict:
        """What a rule lacks to have been met."""
        if isinstance(rule, Count):
            return self._count_met(rule)
        if isinstance(rule, AllOf):
            return _together([(part, self._met(part)) for part in rule.rules])
        if isinstance(rule, AnyOf):
            return self._any([(part, self._met(part)) for part in rule.rules])
        reasons: list[Reason] = [self._forbidden(part) for part in rule.rules if self._met(part).met]
        return _Verdict(0.0 if reasons else 1.0, not reasons, reasons)

    def _any(self, ways: Sequence[tuple[Rule, _Verdict]]) -> _Verdict:
        if any(verdict.met for _, verdict in ways):
            return _Verdict()
        progress = max(verdict.progress for _, verdict in ways)
        if len(ways) == 1:
            return ways[0][1]
        told = [
            Alternative(rule=words.rule(part), progress=round(verdict.progress, 3), reasons=verdict.reasons)
            for part, verdict in ways
        ]
        return _Verdict(progress, False, [NoWay(says=f"none of {len(told)} ways is there", ways=told)])

    def _count_met(self, count: Count) -> _Verdict:
        if count.is_condition:
            lacking = self._other_traits(count.matcher)
            tests = len(count.matcher.traits)
            return _Verdict((tests - len(lacking)) / tests, not lacking, [*lacking])
        counted = self._memory.counted(count)
        if count.ago is not None:
            return self._long_ago(count, counted)
        if counted.number >= count.at_least:
            return _Verdict()
        return self._too_few(count, counted)

    def _count_holds(self, count: Count) -> _Verdict:
        if not count.is_condition:
            return self._too_few(count, self._memory.counted(count))
        met = self._count_met(count)
        if not met.met:
            return met
        return _Verdict(0.5, False, [Awaited(says="waits for any touchpoint", what="any touchpoint")])

    def _too_few(self, count: Count, counted: Counted) -> _Verdict:
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
        near = nearest(count.matcher, self._since_entry)
        if near is not None and near.missed:
            return _Verdict(max(progress, near.share / need), False, [*reasons, *near.missed])
        if near is not None and not count.matcher.traits and not self._memory.has(count):
            at = words.moment(near.touch.at)
            says = f"{near.touch.type} at {at} was one, and something stood in the way"
            return _Verdict(1.0, False, [*reasons, Passed(says=says, touchpoint=ref_of(near.touch))])
        return _Verdict(progress, False, reasons)

    def _long_ago(self, count: Count, counted: Counted) -> _Verdict:
        assert count.ago is not None
        what, length = words.touchpoints(count.matcher), words.duration(count.ago)
        if not counted.times:
            says = f"no {what} yet: it has to lie {length} back"
            return _Verdict(0.0, False, [TooSoon(says=says, what=what, first_at=None, holds_from=None)])
        first, holds_from = counted.times[0], counted.times[0] + count.ago
        if holds_from <= self._now:
            return _Verdict()
        says = f"the first {what} at {words.moment(first)} lies {length} back only from " + words.moment(
            holds_from
        )
        reason = TooSoon(says=says, what=what, first_at=first, holds_from=holds_from)
        return _Verdict(0.5, False, [reason])

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


def _together(verdicts: Sequence[tuple[Rule, _Verdict]]) -> _Verdict:
    """All of some parts. What only restricts is no progress."""
    counted = [verdict.progress for part, verdict in verdicts if can_hold(part)] or [
        verdict.progress for _, verdict in verdicts
    ]
    reasons = [reason for _, verdict in verdicts for reason in verdict.reasons]
    met = all(verdict.met for _, verdict in verdicts)
    return _Verdict(sum(counted) / len(counted), met, reasons)


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


def _in_order(definition: Definition, places: Iterable[str]) -> list[str]:
    order = (START, *definition.places)
    return sorted(places, key=order.index)
