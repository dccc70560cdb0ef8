"""Re-derives where a customer is from what the API says alone: the timeline, the definition and the proof.

It reads JSON, keeps every touchpoint and asks each rule by looking at all of them; it knows the language of
journeys by its guide, and shares no code with the fold. How far time has run it takes from the proof: to the
last transition or touchpoint. A journey that others start can't be checked: what they say is in none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

Json = Mapping[str, Any]
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_COMBINATIONS = ("all", "any", "none")


def check(proof: Json, timeline: Sequence[Json], definition: Json) -> Derived:
    """Fail unless all that the proof says of where the customer is, and why, follows from the timeline; what
    follows is returned."""
    (run,) = proof["runs"]
    told = run["transitions"]
    assert run["earlier_transitions"] == 0, "ask for the whole history"
    touchpoints = sorted(
        (one for one in timeline if one["kind"] == "touchpoint"), key=lambda one: (at(one), one["id"])
    )
    until = max(map(at, [*told, *touchpoints]), default=None)
    derived = Derived(definition)
    for touchpoint in touchpoints:
        derived.let_time_run(at(touchpoint))
        derived.meet(touchpoint)
    if until is not None:
        derived.let_time_run(until)

    assert [_change(one) for one in told] == derived.told
    assert [one["seq"] for one in told] == list(range(len(told)))
    known = {one["id"]: one for one in touchpoints}
    for cause in (one["cause"]["touchpoint"] for one in told):
        assert cause is None or cause == {name: known[cause["id"]][name] for name in cause}
    assert (run["stage"], run["paused"], run["lap"]) == (derived.place, derived.paused, derived.lap)
    assert (run["furthest_stage"], run["substage"]) == (derived.furthest, derived.substage)
    assert (run["entered_at"] and _instant(run["entered_at"])) == derived.entered_at
    order = [stage["key"] for stage in definition["stages"]]
    assert run["observed"] == [key for key in order if key in derived.observed]
    assert run["inferred"] == [key for key in order if key in derived.inferred]
    for name, since in (("overlays", derived.open), ("signals", derived.on)):
        assert {one["key"]: _instant(one["since"]) for one in run[name]} == since
    counts = {one["key"]: (one["count"], one["final"]) for one in run["tallies"]}
    assert counts == {key: (derived.counts.get(key, 0), key in derived.final) for key in counts}
    due = min(derived.dues(), default=None, key=lambda one: one[:2])
    assert (run["next"] and (_instant(run["next"]["at"]), run["next"]["rule"])) == (due and (due[0], due[4]))
    clocks = sorted((_instant(one["at"]), one["rule"]) for one in run["clocks"])
    assert clocks == sorted((one[0], one[4]) for one in derived.dues())
    return derived


def at(said: Json) -> datetime:
    """When something was."""
    return _instant(said["at"])


@dataclass
class Derived:
    """A customer's way through a journey, one touchpoint after the other."""

    definition: Json
    place: str | None = None
    paused: bool = False
    entered_at: datetime | None = None
    furthest: str | None = None
    lap: int = 1
    substage: str | None = None
    observed: set[str] = field(default_factory=set)
    inferred: set[str] = field(default_factory=set)
    open: dict[str, datetime] = field(default_factory=dict)
    on: dict[str, datetime] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    final: set[str] = field(default_factory=set)
    told: list[tuple[Any, ...]] = field(default_factory=list)
    known: dict[str, Any] = field(default_factory=dict)
    seen: list[tuple[Json, Json]] = field(default_factory=list)
    met_so_far: list[tuple[Json, Json]] = field(default_factory=list)
    before_entry: int = 0
    in_place: list[tuple[Json, Json]] = field(default_factory=list)

    def let_time_run(self, until: datetime) -> None:
        while due := min(self.dues(), default=None, key=lambda one: one[:2]):
            when, _, kind, about, rule = due
            if when > until:
                return
            if kind == "pause":
                self.tell(when, "pause", self.place, None, rule, paused=True)
            elif kind == "exit":
                self.enter(when, "exit", about, None, rule)
            else:
                del (self.open if kind == "close" else self.on)[about]
                self.tell(when, kind, self.place, None, rule, paused=self.paused)

    def dues(self) -> Iterator[tuple[datetime, int, str, str, str]]:
        stage = self.stage()
        if stage is not None:
            for exit_ in self.part("exits"):
                for rule, way in numbered(f"{exit_['key']}.enter", exit_["enter"]):
                    if "after" in way and self.starts_here(way):
                        yield self.anchor(way) + length(way["after"]), 0, "exit", exit_["key"], rule
            if "pause" in stage and not self.paused:
                due = self.anchor(stage["pause"]) + length(stage["pause"]["after"])
                yield due, 1, "pause", stage["key"], f"{stage['key']}.pause"
        for name, since, after, kind in (
            ("overlays", self.open, "close_after", "close"),
            ("signals", self.on, "off_after", "signal_off"),
        ):
            for number, one in enumerate(self.part(name)):
                if one["key"] in since and after in one:
                    rank = (2 if kind == "close" else 3) * 100 + number
                    yield (
                        since[one["key"]] + length(one[after]),
                        rank,
                        kind,
                        one["key"],
                        f"{one['key']}.{after}",
                    )

    def anchor(self, clock: Json) -> datetime:
        assert self.entered_at is not None
        found = (at(one) for one, known in self.in_place if matches(clock.get("since", {}), one, known))
        return max(found, default=self.entered_at)

    def meet(self, touchpoint: Json) -> None:
        when, id_ = at(touchpoint), touchpoint["id"]
        self.known = learnt(self.known, touchpoint["traits"])
        self.seen.append((touchpoint, self.known))
        self.met_so_far.append((touchpoint, self.known))
        for tally in self.part("tallies"):
            if tally["key"] not in self.final:
                if "until" in tally and self.holds(tally["until"], touchpoint):
                    self.final.add(tally["key"])
                elif any(matches(one, touchpoint, self.known) for one in many(tally["of"])):
                    self.counts[tally["key"]] = self.counts.get(tally["key"], 0) + 1
        for overlay in self.part("overlays"):
            if overlay["key"] in self.open and self.holds(overlay["close"], touchpoint):
                del self.open[overlay["key"]]
                self.tell(when, "close", self.place, id_, f"{overlay['key']}.close", paused=self.paused)
        if not self.move(touchpoint):
            self.in_place.append((touchpoint, self.known))
            stage = self.stage()
            pause = stage.get("pause") if stage else None
            if self.paused and pause and matches(pause.get("since", {}), touchpoint, self.known):
                self.tell(when, "resume", self.place, id_, f"{self.place}.pause", paused=False)
        if self.place is not None:
            self.beside(touchpoint)

    def move(self, touchpoint: Json) -> bool:
        if self.place is None and not self.is_for_them(at(touchpoint)):
            return False
        for kind, to, rule, on, new_lap in self.ways():
            blocked = any(
                one["key"] in self.open and to in many(one.get("blocks", [])) for one in self.part("overlays")
            )
            if not blocked and self.holds(on, touchpoint):
                if new_lap:
                    self.lap += 1
                    for memory in (self.seen, self.observed, self.inferred, self.counts, self.final):
                        memory.clear()
                self.enter(at(touchpoint), kind, to, touchpoint["id"], rule)
                return True
        return False

    def ways(self) -> Iterator[tuple[str, str, str, Json, bool]]:
        stages = [stage["key"] for stage in self.definition["stages"]]
        if self.place is not None and self.place not in stages:
            (exit_,) = (one for one in self.part("exits") if one["key"] == self.place)
            for rule, way in numbered(f"{self.place}.return", exit_.get("return", [])):
                yield "return", way["to"], rule, way["on"], way.get("new_lap", False)
            return
        here = -1 if self.place is None else stages.index(self.place)
        if self.place is not None:
            for exit_ in self.part("exits"):
                for rule, way in numbered(f"{exit_['key']}.enter", exit_["enter"]):
                    if "on" in way and self.starts_here(way):
                        yield "exit", exit_["key"], rule, way["on"], False
            for number, jump in enumerate(self.part("regress")):
                if self.starts_here(jump) and stages.index(jump["to"]) < here:
                    yield "regress", jump["to"], f"regress[{number}]", jump["on"], False
            for number, jump in enumerate(self.part("laps")):
                if self.starts_here(jump):
                    yield "lap", jump["to"], f"laps[{number}]", jump["on"], True
        for stage in reversed(self.definition["stages"][here + 1 :]):
            if "enter" in stage and self.starts_here(stage):
                yield "enter", stage["key"], f"{stage['key']}.enter", stage["enter"], False

    def beside(self, touchpoint: Json) -> None:
        when, id_, stage = at(touchpoint), touchpoint["id"], self.stage()
        if stage is not None:
            substages = stage.get("substages", [])
            keys = [one["key"] for one in substages]
            here = keys.index(self.substage) if self.substage else -1
            for one in reversed(substages[here + 1 :]):
                if "enter" in one and self.holds(one["enter"], touchpoint):
                    self.substage, rule = one["key"], f"{stage['key']}.{one['key']}.enter"
                    self.tell(when, "substage", self.place, id_, rule, paused=self.paused)
                    break
            for one in self.part("overlays"):
                shut = one["key"] not in self.open and self.starts_here(one)
                if shut and self.holds(one["open"], touchpoint):
                    self.open[one["key"]] = when
                    self.tell(when, "open", self.place, id_, f"{one['key']}.open", paused=self.paused)
        for one in self.part("signals"):
            if one["key"] in self.on:
                if "off" in one and self.holds(one["off"], touchpoint):
                    del self.on[one["key"]]
                    self.tell(when, "signal_off", self.place, id_, f"{one['key']}.off", paused=self.paused)
            elif self.starts_here(one) and self.holds(one["on"], touchpoint):
                self.on[one["key"]] = when
                self.tell(when, "signal_on", self.place, id_, f"{one['key']}.on", paused=self.paused)

    def enter(self, when: datetime, kind: str, to: str, cause: str | None, rule: str) -> None:
        self.tell(when, kind, to, cause, rule, paused=False)
        self.entered_at, self.in_place, self.substage = when, [], None
        self.before_entry = len(self.seen)
        stage, keys = self.stage(), [one["key"] for one in self.definition["stages"]]
        if stage is None:
            return
        place = keys.index(to)
        self.observed.add(to)
        self.inferred = (self.inferred | set(keys[:place])) - self.observed
        self.furthest = keys[max(place, keys.index(self.furthest) if self.furthest else 0)]
        if stage.get("substages") and "enter" not in stage["substages"][0]:
            self.substage = stage["substages"][0]["key"]
        if stage.get("gate"):
            self.enter(when, "pass", keys[place + 1], cause, f"{to}.gate")

    def tell(
        self, when: datetime, kind: str, to: str | None, cause: str | None, rule: str, *, paused: bool
    ) -> None:
        self.told.append((when, kind, self.place, self.paused, to, paused, cause, rule))
        self.place, self.paused = to, paused

    def part(self, name: str) -> Sequence[Json]:
        return self.definition.get(name, ())  # type: ignore[no-any-return]

    def stage(self) -> Json | None:
        return next((one for one in self.definition["stages"] if one["key"] == self.place), None)

    def starts_here(self, said: Json) -> bool:
        return "from" not in said or (self.place or "start") in many(said["from"])

    def is_for_them(self, when: datetime) -> bool:
        audience = self.definition.get("for", {})
        if "when" in audience and not self.met(audience["when"], when):
            return False
        met = (one["key"] for one in self.part("personas") if self.met(one["when"], when))
        return "personas" not in audience or next(met, None) in many(audience["personas"])

    def holds(self, rule: Json, touchpoint: Json) -> bool:
        """Whether a rule holds at this touchpoint, the last that was seen."""
        when = at(touchpoint)
        holds = []
        for name, said in parts(rule):
            if name == "count":
                happens = "ago" not in said and matches(said, touchpoint, self.known)
                holds.append(happens and (said.get("at_least", 1) == 1 or self.count_met(said, when)))
            elif name == "all":
                some = any(self.holds(part, touchpoint) for part in said)
                holds.append(some and self.met({"all": said}, when))
            elif name == "any":
                holds.append(any(self.holds(part, touchpoint) for part in said))
        if len(parts(rule)) == 1:
            return any(holds)
        return any(holds) and self.met(rule, when)

    def met(self, rule: Json, when: datetime) -> bool:
        """Whether a rule has been met by then."""
        for name, said in parts(rule):
            if name == "count":
                met = self.count_met(said, when)
            else:
                found = [self.met(part, when) for part in said]
                met = all(found) if name == "all" else any(found) is (name == "any")
            if not met:
                return False
        return True

    def count_met(self, said: Json, when: datetime) -> bool:
        if said.keys() == {"trait"}:
            return passes_all(said["trait"], self.known)
        found = self.counted(said, when)
        if "ago" in said:
            return bool(found) and found[0] <= when - length(said["ago"])
        number = len({one.date() for one in found} if "distinct" in said else found)
        return number >= int(said.get("at_least", 1))

    def counted(self, said: Json, when: datetime) -> list[datetime]:
        """The times of all touchpoints that count by then."""
        seen = self.seen[self.before_entry :] if said.get("in_stage") else self.seen
        found = [at(one) for one, known in seen if matches(said, one, known)]
        return [one for one in found if "within" not in said or one >= when - length(said["within"])]


def parts(rule: Json) -> list[tuple[str, Any]]:
    """What a rule says in one: what it counts, and combinations."""
    combined = [(name, rule[name]) for name in _COMBINATIONS if name in rule]
    counted = {name: said for name, said in rule.items() if name not in _COMBINATIONS}
    return [*([("count", counted)] if counted or not combined else []), *combined]


def matches(said: Json, touchpoint: Json, known: Json) -> bool:
    """Whether a touchpoint is one of those that a rule is about."""
    if any(
        name in said and touchpoint[name] not in many(said[name]) for name in ("type", "channel", "owner")
    ):
        return False
    if "sentiment" in said and not passes(said["sentiment"], touchpoint["sentiment"]):
        return False
    tests = (("property", touchpoint["properties"]), ("context", touchpoint["context"]))
    return passes_all(said.get("trait", {}), known) and all(
        passes(test, value(values, name))
        for source, values in tests
        for name, test in said.get(source, {}).items()
    )


def passes_all(tests: Json, known: Json) -> bool:
    return all(passes(test, value(known, name)) for name, test in tests.items())


def passes(test: Any, found: Any) -> bool:
    """Whether a value passes what is said of it."""
    if not isinstance(test, dict):
        return any(same(one, wanted) for one in many(found) for wanted in many(test))
    return all(passes_one(operator, operand, found) for operator, operand in test.items())


def passes_one(operator: str, operand: Any, found: Any) -> bool:
    if operator == "exists":
        return (found is not None) is operand
    if isinstance(found, list):
        return any(passes_one(operator, operand, one) for one in found)
    if operator == "contains":
        return isinstance(found, str) and operand.casefold() in found.casefold()
    if isinstance(found, bool) or not isinstance(found, int | float):
        return False
    return bool(
        {
            "above": found > operand,
            "at_least": found >= operand,
            "below": found < operand,
            "at_most": found <= operand,
        }[operator]
    )


def same(one: Any, wanted: Any) -> bool:
    return isinstance(one, bool) == isinstance(wanted, bool) and bool(one == wanted)


def value(values: Any, name: str) -> Any:
    """What stands under a name with dots; nothing of an object, but that it is there."""
    for step in name.split("."):
        if not isinstance(values, dict) or step not in values:
            return None
        values = values[step]
    return [] if isinstance(values, dict) else values


def learnt(known: Json, told: Json) -> dict[str, Any]:
    """What is known of a customer, with what a touchpoint tells beside it."""
    merged = dict(known)
    for name, said in told.items():
        before = merged.get(name)
        merged[name] = learnt(before, said) if isinstance(said, dict) and isinstance(before, dict) else said
    return merged


def many(said: Any) -> list[Any]:
    """One, or several."""
    return said if isinstance(said, list) else [said]


def numbered(name: str, ways: Any) -> Iterator[tuple[str, Json]]:
    """Ways with the names of their rules: a single one has no number."""
    found = many(ways)
    for number, way in enumerate(found):
        yield f"{name}[{number}]" if len(found) > 1 else name, way


def length(said: str) -> timedelta:
    """A duration such as 14d."""
    return timedelta(**{_UNITS[said[-1]]: int(said[:-1])})


def _instant(said: str) -> datetime:
    return datetime.fromisoformat(said)


def _change(said: Json) -> tuple[Any, ...]:
    cause = said["cause"]
    return (
        at(said),
        said["change"],
        said["from"],
        said["from_paused"],
        said["to"],
        said["to_paused"],
        cause["touchpoint"] and cause["touchpoint"]["id"],
        cause["rule"],
    )
