"""The rules that could move a customer from where they are, or change what stands beside it: what each of
them lacks, exactly.

Theory of operation. What a rule has seen so far is what the state remembers of it, so that no timeline has to
be read to say "2 of 3 within 14 d". That is told as of an instant: windows are cut there. Which touchpoint
came near, and by which value it missed, no state remembers: that is looked for among the touchpoints that
the caller read, the newest first, behind the instant at which the customer came to where they are; for what
ends an overlay or a signal, behind the one at which it began. The caller bounds how many those are; a miss
that lies further back isn't told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from shared.journey import words
from shared.journey.beside import Beside, rules_beside
from shared.journey.definition import START, Definition
from shared.journey.fold import Journey
from shared.journey.lacking import Lacking, Looked, Verdict
from shared.journey.memory import Memory
from shared.journey.misses import Seen
from shared.journey.plan import WayOut, ways_out
from shared.journey.reasons import Blocked, Elsewhere, NearBeside, NearRule, NotForThem, Reason, Window
from shared.journey.state import NEVER, State


class Nearness:
    """Explains one customer's rules as of an instant, not earlier than the state's position."""

    def __init__(self, journey: Journey, state: State, seen: Seen, now: datetime) -> None:
        self._definition = journey.definition
        self._plans = journey.plans
        self._state = state
        self._seen = seen
        self._now = now
        since = state.entered_at or NEVER
        self._lacking = self._lacking_in(Looked(since, since))
        self._ways = list(ways_out(self._definition, state.place))
        self._beside = list(rules_beside(self._definition, state))

    def _lacking_in(self, looked: Looked) -> Lacking:
        return Lacking(self._plans.rules, self._state, self._seen, self._now, looked)

    def rules(self) -> list[NearRule]:
        """Every rule that could move the customer, the nearest first, then as they win."""
        found = [self._near(rank, way) for rank, way in enumerate(self._ways)]
        return sorted(found, key=lambda one: (-one.progress, one.rank))

    def beside(self) -> list[NearBeside]:
        """Every rule that could change what stands beside the stage, the nearest first, then in the order of
        the definition."""
        return sorted(map(self._near_beside, self._beside), key=lambda one: -one.progress)

    def windows(self) -> list[Window]:
        """What time alone will change in what those rules have seen, the earliest first."""
        rules = [(way.rule, way.on) for way in self._ways] + [(one.rule, one.on) for one in self._beside]
        return Memory(self._plans.rules, self._state, self._now).windows(rules)

    def _near(self, rank: int, way: WayOut) -> NearRule:
        verdict = self._lacking.holds(way.on)
        return NearRule(
            change=way.kind,
            to=way.to,
            rule=way.rule,
            says=words.rule(way.on),
            rank=rank,
            progress=round(verdict.progress, 3),
            reasons=[*self._in_the_way(way), *verdict.reasons],
        )

    def _near_beside(self, one: Beside) -> NearBeside:
        verdict = self._lacking_in(one.looked).holds(one.on)
        return NearBeside(
            change=one.change,
            about=one.about,
            rule=one.rule,
            says=words.rule(one.on),
            progress=round(verdict.progress, 3),
            reasons=[*one.in_the_way, *verdict.reasons],
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
        unmet = Verdict() if audience.when is None else self._lacking.met(audience.when)
        parts = []
        if personas and persona not in personas:
            parts.append(f"for {words.listed(personas)}, and the customer is {persona or 'none of these'}")
        if not unmet.met and audience.when is not None:
            parts.append(f"for whom this has been met: {words.rule(audience.when)}")
        says = f"the journey begins only {words.listed(parts, 'and')}"
        yield NotForThem(says=says, persona=persona, personas=personas, reasons=unmet.reasons)


def _in_order(definition: Definition, places: Iterable[str]) -> list[str]:
    order = (START, *definition.places)
    return sorted(places, key=order.index)
