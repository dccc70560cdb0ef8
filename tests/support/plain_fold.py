"""The fold once more, slow and plain: it keeps every touchpoint and asks each rule by looking at all of them.

It shares the definitions' data with the real one and nothing else: no index, no closures, no carried state.
What it gives is what the words of the language mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.journey.definition import START, Definition, Stage
from shared.journey.rules import AllOf, AnyOf, Count, Matcher, NoneOf, Rule, ValueTest
from shared.journey.touch import Touch

Seen = tuple[Touch, Mapping[str, Any]]
"""A touchpoint, and what was known of the customer then."""
Told = tuple[datetime, str, str | None, str, UUID | None, str]
"""A transition: when, kind, from, to, cause and rule."""


@dataclass
class PlainFold:
    """A customer's way through a journey, one touchpoint after the other."""

    definition: Definition
    place: str | None = None
    paused: bool = False
    entered_at: datetime | None = None
    lap: int = 1
    substage: str | None = None
    observed: set[str] = field(default_factory=set)
    inferred: set[str] = field(default_factory=set)
    open: dict[str, datetime] = field(default_factory=dict)
    signals: dict[str, datetime] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    final: set[str] = field(default_factory=set)
    told: list[Told] = field(default_factory=list)
    known: dict[str, Any] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    since_entry: list[Seen] = field(default_factory=list)
    seen_before_entry: int = 0

    def run(self, touches: Sequence[Touch], now: datetime) -> PlainFold:
        """Everything up to `now`."""
        for touch in touches:
            self.let_time_run(touch.at)
            self.meet(touch)
        self.let_time_run(now)
        return self

    def let_time_run(self, until: datetime) -> None:
        """What is due at or before an instant, the earliest first; of two at once an exit, then a pause."""
        while True:
            dues = sorted(self.dues(), key=lambda due: due[:2])
            if not dues or dues[0][0] > until:
                return
            at, _, kind, what, rule = dues[0]
            if kind == "pause":
                self.tell(at, "pause", self.place, None, rule, paused=True)
            elif kind == "exit":
                self.enter(at, "exit", what, None, rule)
            elif kind == "close":
                del self.open[what]
                self.tell(at, "close", self.place, None, rule, paused=self.paused)
            else:
                del self.signals[what]
                self.tell(at, "signal_off", self.place, None, rule, paused=self.paused)

    def dues(self) -> Iterator[tuple[datetime, int, str, str, str]]:
        stage = self.stage()
        if stage is not None and self.entered_at is not None:
            for exit_ in self.definition.exits:
                for number, way in enumerate(exit_.ways):
                    if way.after is not None and (not way.sources or stage.key in way.sources):
                        rule = f"{exit_.key}.enter" + (f"[{number}]" if len(exit_.ways) > 1 else "")
                        yield self.anchor(way.since) + way.after, 0, "exit", exit_.key, rule
            if stage.pause is not None and not self.paused:
                due = self.anchor(stage.pause.since) + stage.pause.after
                yield due, 1, "pause", stage.key, f"{stage.key}.pause"
        for overlay in self.definition.overlays:
            if overlay.key in self.open and overlay.close_after is not None:
                due = self.open[overlay.key] + overlay.close_after
                yield due, 2, "close", overlay.key, f"{overlay.key}.close_after"
        for signal in self.definition.signals:
            if signal.key in self.signals and signal.off_after is not None:
                due = self.signals[signal.key] + signal.off_after
                yield due, 3, "off", signal.key, f"{signal.key}.off_after"

    def anchor(self, since: Matcher) -> datetime:
        """When a clock of the stage began to run."""
        assert self.entered_at is not None
        found = (touch.at for touch, known in self.since_entry if matches(since, touch, known))
        return max(found, default=self.entered_at)

    def meet(self, touch: Touch) -> None:
        """One touchpoint."""
        self.known |= {name: value for name, value in touch.content.items() if name.startswith("trait.")}
        self.seen.append((touch, dict(self.known)))
        self.tally(touch)
        for overlay in self.definition.overlays:
            if overlay.key in self.open and self.holds(overlay.close, touch):
                del self.open[overlay.key]
                self.tell(touch.at, "close", self.place, touch.id, f"{overlay.key}.close", paused=self.paused)
        if not self.move(touch):
            self.since_entry.append((touch, dict(self.known)))
            stage = self.stage()
            if self.paused and stage and stage.pause and matches(stage.pause.since, touch, self.known):
                self.tell(touch.at, "resume", stage.key, touch.id, f"{stage.key}.pause", paused=False)
        if self.place is not None:
            self.beside(touch)

    def tally(self, touch: Touch) -> None:
        for one in self.definition.tallies:
            if one.key in self.final:
                continue
            if one.until is not None and self.holds(one.until, touch):
                self.final.add(one.key)
            elif any(matches(matcher, touch, self.known) for matcher in one.of):
                self.counts[one.key] = self.counts.get(one.key, 0) + 1

    def move(self, touch: Touch) -> bool:
        if self.place is None and not self.is_admitted(touch.at):
            return False
        for kind, to, on, rule, new_lap in self.ways():
            blocked = any(one.key in self.open and to in one.blocks for one in self.definition.overlays)
            if blocked or not self.holds(on, touch):
                continue
            if new_lap:
                self.lap += 1
                for memory in (self.seen, self.observed, self.inferred, self.counts, self.final):
                    memory.clear()
            self.enter(touch.at, kind, to, touch.id, rule)
            return True
        return False

    def ways(self) -> Iterator[tuple[str, str, Rule, str, bool]]:
        definition, stages = self.definition, [stage.key for stage in self.definition.stages]
        if self.place is not None and self.place not in stages:
            (exit_,) = (one for one in definition.exits if one.key == self.place)
            for number, back in enumerate(exit_.returns):
                rule = f"{exit_.key}.return" + (f"[{number}]" if len(exit_.returns) > 1 else "")
                yield "return", back.to, back.on, rule, back.new_lap
            return
        here = -1 if self.place is None else stages.index(self.place)
        if self.place is not None:
            for exit_ in definition.exits:
                for number, way in enumerate(exit_.ways):
                    rule = f"{exit_.key}.enter" + (f"[{number}]" if len(exit_.ways) > 1 else "")
                    if way.on is not None and (not way.sources or self.place in way.sources):
                        yield "exit", exit_.key, way.on, rule, False
            for number, jump in enumerate(definition.regresses):
                if (not jump.sources or self.place in jump.sources) and stages.index(jump.to) < here:
                    yield "regress", jump.to, jump.on, f"regress[{number}]", False
            for number, jump in enumerate(definition.laps):
                if not jump.sources or self.place in jump.sources:
                    yield "lap", jump.to, jump.on, f"laps[{number}]", True
        for stage in reversed(definition.stages[here + 1 :]):
            if stage.enter is not None and (not stage.sources or (self.place or START) in stage.sources):
                yield "enter", stage.key, stage.enter, f"{stage.key}.enter", False
        if self.place is None:
            for started in definition.started_by:
                yield "enter", stages[0], started.on, started.rule, False

    def beside(self, touch: Touch) -> None:
        stage = self.stage()
        if stage is not None:
            keys = [one.key for one in stage.substages]
            here = keys.index(self.substage) if self.substage else -1
            for one in reversed(stage.substages[here + 1 :]):
                if one.enter is not None and self.holds(one.enter, touch):
                    self.substage = one.key
                    rule = f"{stage.key}.{one.key}.enter"
                    self.tell(touch.at, "substage", stage.key, touch.id, rule, paused=self.paused)
                    break
            for overlay in self.definition.overlays:
                inside = not overlay.sources or stage.key in overlay.sources
                if overlay.key not in self.open and inside and self.holds(overlay.open, touch):
                    self.open[overlay.key] = touch.at
                    self.tell(
                        touch.at, "open", stage.key, touch.id, f"{overlay.key}.open", paused=self.paused
                    )
        for signal in self.definition.signals:
            if signal.key in self.signals:
                if signal.off is not None and self.holds(signal.off, touch):
                    del self.signals[signal.key]
                    rule = f"{signal.key}.off"
                    self.tell(touch.at, "signal_off", self.place, touch.id, rule, paused=self.paused)
            elif (not signal.sources or self.place in signal.sources) and self.holds(signal.on, touch):
                self.signals[signal.key] = touch.at
                rule = f"{signal.key}.on"
                self.tell(touch.at, "signal_on", self.place, touch.id, rule, paused=self.paused)

    def enter(self, at: datetime, kind: str, to: str, cause: UUID | None, rule: str) -> None:
        self.tell(at, kind, to, cause, rule, paused=False)
        self.entered_at, self.since_entry, self.substage = at, [], None
        self.seen_before_entry = len(self.seen)
        stage = self.stage()
        if stage is None:
            return
        keys = [one.key for one in self.definition.stages]
        self.observed.add(to)
        self.inferred = (self.inferred | set(keys[: keys.index(to)])) - self.observed
        if stage.substages and stage.substages[0].enter is None:
            self.substage = stage.substages[0].key
        if stage.gate:
            self.enter(at, "pass", keys[keys.index(to) + 1], cause, f"{to}.gate")

    def tell(
        self, at: datetime, kind: str, to: str | None, cause: UUID | None, rule: str, *, paused: bool
    ) -> None:
        assert to is not None
        self.told.append((at, kind, self.place, to, cause, rule))
        self.place, self.paused = to, paused

    def stage(self) -> Stage | None:
        return next((stage for stage in self.definition.stages if stage.key == self.place), None)

    def is_admitted(self, at: datetime) -> bool:
        audience = self.definition.audience
        if audience.when is not None and not self.met(audience.when, at):
            return False
        persona = next((one.key for one in self.definition.personas if self.met(one.when, at)), None)
        return not audience.personas or persona in audience.personas

    def holds(self, rule: Rule, touch: Touch) -> bool:
        """Whether a rule holds at this touchpoint, the last that was seen."""
        if isinstance(rule, Count):
            matched = matches(rule.matcher, touch, self.known)
            # The touchpoint that began a lap is part of the old one, and counts for nothing in the new.
            return rule.ago is None and matched and (rule.at_least == 1 or self.met(rule, touch.at))
        if isinstance(rule, NoneOf):
            return False
        holds = any(self.holds(part, touch) for part in rule.rules)
        return holds and (isinstance(rule, AnyOf) or self.met(rule, touch.at))

    def met(self, rule: Rule, at: datetime) -> bool:
        """Whether a rule has been met by then."""
        if isinstance(rule, Count):
            return self.count_met(rule, at)
        met = [self.met(part, at) for part in rule.rules]
        return all(met) if isinstance(rule, AllOf) else any(met) is isinstance(rule, AnyOf)

    def count_met(self, count: Count, at: datetime) -> bool:
        if count.is_condition:
            return all(passes(test, self.known.get(f"trait.{test.name}")) for test in count.matcher.traits)
        found = self.counted(count, at)
        if count.ago is not None:
            return bool(found) and found[0] <= at - count.ago
        return len({one.date() for one in found} if count.distinct_days else found) >= count.at_least

    def counted(self, count: Count, at: datetime) -> list[datetime]:
        """The times of all touchpoints that a leaf counts by then."""
        seen = self.seen[self.seen_before_entry :] if count.in_stage else self.seen
        found = [touch.at for touch, known in seen if matches(count.matcher, touch, known)]
        return [one for one in found if count.within is None or one >= at - count.within]


def matches(matcher: Matcher, touch: Touch, known: Mapping[str, Any]) -> bool:
    """Whether a touchpoint is one that the matcher is about."""
    return (
        (not matcher.types or touch.type in matcher.types)
        and (not matcher.channels or touch.channel in matcher.channels)
        and (not matcher.owners or touch.owner in matcher.owners)
        and all(passes(test, value_of(test, touch)) for test in matcher.tests)
        and all(passes(test, known.get(f"trait.{test.name}")) for test in matcher.traits)
    )


def value_of(test: ValueTest, touch: Touch) -> Any:
    """What a touchpoint carries of what is tested."""
    return touch.sentiment if test.source == "sentiment" else touch.content.get(f"{test.source}.{test.name}")


def passes(test: ValueTest, value: Any) -> bool:
    """Whether a value passes."""
    if test.operator == "exists":
        return (value is not None) == test.operands[0]
    if isinstance(value, tuple):
        return any(passes(test, one) for one in value)
    if test.operator == "is":
        return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in test.operands)
    limit: Any = test.operands[0]
    if test.operator == "contains":
        return isinstance(value, str) and limit.casefold() in value.casefold()
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    if test.operator in ("above", "at_least"):
        return bool(value > limit or (value == limit and test.operator == "at_least"))
    return bool(value < limit or (value == limit and test.operator == "at_most"))
