"""A definition compiled: for each place and each sort of touchpoint, the little that has to be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

from shared.journey.compiled import Counter, Holds, Met, Rules, Sort, always, asked_in
from shared.journey.definition import START, Definition
from shared.journey.rules import Matcher, Rule
from shared.journey.state import Kind, State
from shared.journey.touch import Ask


@dataclass(frozen=True, slots=True)
class Clock:
    """Runs in a stage: pauses it, or moves the customer `to` an exit. `rule` names it."""

    after: timedelta
    since: Matcher
    to: str | None
    rule: str


@dataclass(frozen=True, slots=True)
class Place:
    """A stage or an exit: its bit and those of the stages before it, its clocks, the stage that a gate leads
    to, and the substage that is entered with it."""

    key: str
    bit: int
    earlier: int
    clocks: tuple[Clock, ...]
    leads_to: str | None
    substage: str | None


@dataclass(frozen=True, slots=True)
class Move:
    """A move that is possible in a place, `blocked_by` overlays of these numbers."""

    holds: Holds
    kind: Kind
    to: str
    rule: str
    blocked_by: tuple[int, ...]
    new_lap: bool


Numbered: TypeAlias = tuple[int, Holds]
OnOff: TypeAlias = tuple[int, Holds | None, Holds | None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a touchpoint of one sort can do to a customer in one place.

    `moves` are in the order in which they win. `resets` are the clocks that it may start anew;
    `resets_for_sure` is their number if it starts all clocks of the place anew, whatever else, or 0. Whatever
    stands beside the stage comes by its number: `tallies` with what counts and what ends the counting,
    overlays that may open and close, substages, and signals with what turns them on and off.
    """

    counters: tuple[Counter, ...]
    moves: tuple[Move, ...]
    resets: tuple[Numbered, ...]
    resets_for_sure: int
    tallies: tuple[OnOff, ...]
    closes: tuple[Numbered, ...]
    opens: tuple[Numbered, ...]
    substages: tuple[Numbered, ...]
    signals: tuple[OnOff, ...]


class Plans:
    """Makes the plans of a definition."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        triggers, conditions = tuple(_triggers(definition)), tuple(_conditions(definition))
        matchers = tuple(_matchers(definition))
        self.rules = Rules(triggers, conditions, matchers)
        self.asks: Mapping[str | None, frozenset[Ask]] = _with_subject(
            asked_in((*triggers, *conditions), matchers), definition
        )
        self.types = None if None in self.asks else frozenset(type_ for type_ in self.asks if type_)
        self.places = {place.key: place for place in places_of(definition)}
        self._personas = [(persona.key, self.rules.met(persona.when)) for persona in definition.personas]
        self.admits = self._admits()

    def made(self, place: str | None, sort: Sort) -> Plan:
        """The plan of one place, None being where the journey has not begun, and of a sort of touchpoints."""
        definition, rules = self._definition, self.rules
        in_stage = any(stage.key == place for stage in definition.stages)
        overlays = tuple(enumerate(definition.overlays))
        resets = tuple(self._resets(place, sort))
        return Plan(
            tuple(rules.counters(sort)),
            tuple(self._moves(place, sort)),
            resets,
            self._resets_for_sure(place, resets),
            tuple(self._tallies(sort)),
            _numbered((number, rules.holds(one.close, sort)) for number, one in overlays),
            _numbered(
                (number, rules.holds(one.open, sort))
                for number, one in overlays
                if in_stage and _is_source(place, one.sources)
            ),
            self._substages(place, sort),
            tuple(self._signals(place, sort)),
        )

    def end_of(self, place: str) -> str:
        """Where somebody is who has entered a place: behind its gate, if it is one."""
        while (leads_to := self.places[place].leads_to) is not None:
            place = leads_to
        return place

    def persona(self, state: State, at: datetime) -> str | None:
        """The first persona whose rule has been met by then."""
        return next((key for key, met in self._personas if met(state, at)), None)

    def _admits(self) -> Met | None:
        """Whether the journey may begin for a customer; None: for everybody."""
        audience = self._definition.audience
        when = None if audience.when is None else self.rules.met(audience.when)
        personas = audience.personas
        if not personas:
            return when
        of_all = [(met, key in personas) for key, met in self._personas]

        def admits(state: State, at: datetime) -> bool:
            if when is not None and not when(state, at):
                return False
            for met, is_admitted in of_all:
                if met(state, at):
                    return is_admitted
            return False

        return admits

    def _moves(self, place: str | None, sort: Sort) -> Iterator[Move]:
        """All moves out of a place: to exits and back, into a lap, then forward, the furthest first."""
        for way in ways_out(self._definition, place):
            holds = self.rules.holds(way.on, sort) if way.begins_at(place) else None
            if holds is not None:
                blocked_by = tuple(
                    number for number, one in enumerate(self._definition.overlays) if way.to in one.blocks
                )
                yield Move(holds, way.kind, way.to, way.rule, blocked_by, way.new_lap)

    def _resets(self, place: str | None, sort: Sort) -> Iterator[Numbered]:
        clocks = self.places[place].clocks if place is not None else ()
        for number, clock in enumerate(clocks):
            matches = self.rules.matches(clock.since, sort)
            if matches is not None:
                yield number, matches

    def _resets_for_sure(self, place: str | None, resets: Sequence[Numbered]) -> int:
        clocks = self.places[place].clocks if place is not None else ()
        sure = sum(matches is always for _, matches in resets)
        return sure if sure == len(clocks) else 0

    def _tallies(self, sort: Sort) -> Iterator[OnOff]:
        for number, tally in enumerate(self._definition.tallies):
            counts = self.rules.matches_any(tally.of, sort)
            ends = None if tally.until is None else self.rules.holds(tally.until, sort)
            if counts or ends:
                yield number, counts, ends

    def _substages(self, place: str | None, sort: Sort) -> tuple[Numbered, ...]:
        """The furthest first."""
        substages = [
            one for stage in self._definition.stages if stage.key == place for one in stage.substages
        ]
        return _numbered(
            (number, self.rules.holds(one.enter, sort))
            for number, one in reversed(tuple(enumerate(substages)))
            if one.enter is not None
        )

    def _signals(self, place: str | None, sort: Sort) -> Iterator[OnOff]:
        for number, signal in enumerate(self._definition.signals):
            on = self.rules.holds(signal.on, sort) if _is_source(place, signal.sources) else None
            off = None if signal.off is None else self.rules.holds(signal.off, sort)
            if place is not None and (on or off):
                yield number, on, off


def _is_source(place: str | None, sources: frozenset[str]) -> bool:
    return not sources or place in sources


def _numbered(found: Iterator[tuple[int, Holds | None]]) -> tuple[Numbered, ...]:
    return tuple((number, holds) for number, holds in found if holds is not None)


class WayOut(NamedTuple):
    """A rule by which a touchpoint moves a customer out of a place, if it is one of the `sources`."""

    kind: Kind
    to: str
    on: Rule
    rule: str
    sources: frozenset[str] = frozenset()
    new_lap: bool = False

    def begins_at(self, place: str | None) -> bool:
        """Whether it starts from this place."""
        return _is_source(place or START, self.sources)


def ways_out(definition: Definition, place: str | None) -> Iterator[WayOut]:
    """The ways out of a place in the order in which they win: to exits and back, into a lap, then forward,
    the furthest first. Those that start from other places only are among them."""
    stages = [stage.key for stage in definition.stages]
    if place is not None and place not in stages:
        (exit_,) = (one for one in definition.exits if one.key == place)
        for number, back in enumerate(exit_.returns):
            rule = f"{exit_.key}.return{_index(number, exit_.returns)}"
            yield WayOut("return", back.to, back.on, rule, new_lap=back.new_lap)
        return
    here = -1 if place is None else stages.index(place)
    if place is not None:
        for exit_ in definition.exits:
            for number, way in enumerate(exit_.ways):
                if way.on is not None:
                    rule = f"{exit_.key}.enter{_index(number, exit_.ways)}"
                    yield WayOut("exit", exit_.key, way.on, rule, way.sources)
        for number, jump in enumerate(definition.regresses):
            if stages.index(jump.to) < here:
                yield WayOut("regress", jump.to, jump.on, f"regress[{number}]", jump.sources)
        for number, jump in enumerate(definition.laps):
            yield WayOut("lap", jump.to, jump.on, f"laps[{number}]", jump.sources, new_lap=True)
    for stage in reversed(definition.stages[here + 1 :]):
        if stage.enter is not None:
            yield WayOut("enter", stage.key, stage.enter, f"{stage.key}.enter", stage.sources)
    if place is None:
        for started in definition.started_by:
            yield WayOut("enter", stages[0], started.on, started.rule)


def places_of(definition: Definition) -> Iterator[Place]:
    """The stages in order, then the exits."""
    for number, stage in enumerate(definition.stages):
        first = stage.substages[0] if stage.substages and stage.substages[0].enter is None else None
        yield Place(
            stage.key,
            1 << number,
            (1 << number) - 1,
            tuple(_clocks(definition, number)),
            definition.stages[number + 1].key if stage.gate else None,
            None if first is None else first.key,
        )
    for exit_ in definition.exits:
        yield Place(exit_.key, 0, 0, (), None, None)


def _clocks(definition: Definition, number: int) -> Iterator[Clock]:
    """The clocks of a stage: where two are due at once, an exit comes before a pause."""
    stage = definition.stages[number]
    for exit_ in definition.exits:
        for index, way in enumerate(exit_.ways):
            if way.after is not None and _is_source(stage.key, way.sources):
                yield Clock(way.after, way.since, exit_.key, f"{exit_.key}.enter{_index(index, exit_.ways)}")
    if stage.pause is not None:
        yield Clock(stage.pause.after, stage.pause.since, None, f"{stage.key}.pause")


def _index(number: int, of: Sequence[object]) -> str:
    """As a file may say one without its list, a single one has no number."""
    return f"[{number}]" if len(of) > 1 else ""


def _triggers(definition: Definition) -> Iterator[Rule]:
    yield from (stage.enter for stage in definition.stages if stage.enter is not None)
    yield from (one.enter for stage in definition.stages for one in stage.substages if one.enter is not None)
    yield from (way.on for exit_ in definition.exits for way in exit_.ways if way.on is not None)
    yield from (back.on for exit_ in definition.exits for back in exit_.returns)
    yield from (jump.on for jump in (*definition.regresses, *definition.laps))
    for overlay in definition.overlays:
        yield from (overlay.open, overlay.close)
    for signal in definition.signals:
        yield from (rule for rule in (signal.on, signal.off) if rule is not None)
    yield from (tally.until for tally in definition.tallies if tally.until is not None)
    yield from (started.on for started in definition.started_by)


def _conditions(definition: Definition) -> Iterator[Rule]:
    yield from (persona.when for persona in definition.personas)
    if definition.audience.when is not None:
        yield definition.audience.when


def _matchers(definition: Definition) -> Iterator[Matcher]:
    yield from (way.since for exit_ in definition.exits for way in exit_.ways if way.after is not None)
    yield from (stage.pause.since for stage in definition.stages if stage.pause is not None)
    yield from (matcher for tally in definition.tallies for matcher in tally.of)


def _with_subject(
    asks: Mapping[str | None, frozenset[Ask]], definition: Definition
) -> Mapping[str | None, frozenset[Ask]]:
    if definition.subject.kind != "property":
        return asks
    asked = frozenset({("property", definition.subject.property_name)})
    return {type_: found | asked for type_, found in asks.items()}
