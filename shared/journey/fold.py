"""The stage as a pure function of the timeline.

Theory of operation. A journey folds a customer's touchpoints in the order of (event time, id). A *place* is
where the customer is: nowhere yet, in a stage, or in an exit. A touchpoint moves it by the first of these
that applies: the way back, in an exit; the exit that the touchpoint enters; the furthest later stage whose
rule holds. Stages are never left backwards. Time moves it too: a stage's clocks give the state its next due
time, and whatever is due at or before an instant happens before a touchpoint of that instant.

The result depends on nothing but the definition, the touchpoints and how far time has been told to run. So
it doesn't matter whether `step` met the touchpoints one by one, with `advance` between them at any instants
not later than the next touchpoint, or whether everything was folded anew: the states and the transitions
are the same. That is what lets the stager carry a state on, and a sweeper apply time by itself.

A touchpoint at or before a state's position can't be carried on from: `step` refuses it, and the caller
folds the whole timeline again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import msgspec

from shared.journey.definition import Clock, Definition, Exit, Rule, Stage

Kind = Literal["enter", "exit", "return", "pause", "resume"]

_NEVER = datetime.min.replace(tzinfo=UTC)
_FIRST_ID = UUID(int=0)
_NO_DAY = 0


class Touch(msgspec.Struct, frozen=True, gc=False):
    """What a fold needs to know of a touchpoint: event time, the store's id, type and channel."""

    at: datetime
    id: UUID
    type: str
    channel: str


class Tally(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How many touchpoints have counted for a rule (capped at its number), and the last day that did."""

    count: int = 0
    day: int = _NO_DAY


class State(msgspec.Struct, frozen=True, array_like=True):
    """Where a customer is in a journey, and all that is needed to go on from there.

    `at` and `id` are the position: the last touchpoint, or the last due time, that was folded in. `anchors`
    are the instants from which the clocks of the current stage run, in the definition's order. `furthest`
    is the furthest stage ever entered; `transitions` says how many transitions there have been.
    """

    place: str | None = None
    paused: bool = False
    entered_at: datetime | None = None
    furthest: str | None = None
    at: datetime = _NEVER
    id: UUID = _FIRST_ID
    anchors: tuple[datetime, ...] = ()
    tallies: tuple[Tally, ...] = ()
    transitions: int = 0

    @property
    def position(self) -> tuple[datetime, UUID]:
        return (self.at, self.id)


NOWHERE = State()
"""The state of a customer without a touchpoint."""


class Transition(msgspec.Struct, frozen=True):
    """One change of place or of its pause, when it was true, and its cause.

    `seq` numbers a history from 0. The cause is the touchpoint `touchpoint_id`, or time when that is None;
    `rule` names the rule or the clock of the definition.
    """

    seq: int
    at: datetime
    kind: Kind
    from_place: str | None
    from_paused: bool
    to_place: str
    to_paused: bool
    touchpoint_id: UUID | None
    rule: str


class OutOfOrder(Exception):
    """A touchpoint lies at or before the state's position: the timeline has to be folded again."""


class Journey:
    """A definition, compiled. Stateless: one may serve any number of customers."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self._stage_index = {stage.key: index for index, stage in enumerate(definition.stages)}
        self._exits = {exit_.key: exit_ for exit_ in definition.exits}
        self._saying_no = tuple(exit_ for exit_ in definition.exits if exit_.enter is not None)
        self._types = _types_of_interest(definition)
        self._fresh_tallies = (Tally(),) * len(definition.stages)

    @property
    def types(self) -> frozenset[str] | None:
        """The touchpoint types that can change a state; None: every type can."""
        return self._types

    def concerns(self, type_: str) -> bool:
        """Whether a touchpoint of this type can change a state. Others need not be folded."""
        return self._types is None or type_ in self._types

    def due_at(self, state: State) -> datetime | None:
        """When time will move this state if no touchpoint comes first; None: never."""
        due = self._next_due(state)
        return due[0] if due else None

    def upcoming(self, state: State) -> Transition | None:
        """What time alone will do next to this state; None: nothing."""
        due = self._next_due(state)
        return self._fire(state, *due)[1] if due else None

    def advance(self, state: State, now: datetime) -> tuple[State, list[Transition]]:
        """Let time run: everything that is due at or before `now` happens, each at its own due time."""
        transitions: list[Transition] = []
        while (due := self._next_due(state)) is not None and due[0] <= now:
            state, transition = self._fire(state, due[0], due[1])
            transitions.append(transition)
        return state, transitions

    def step(self, state: State, touch: Touch) -> tuple[State, list[Transition]]:
        """Fold one touchpoint in, after all that was due by then.

        Raises:
            OutOfOrder: the touchpoint lies at or before the state's position.
        """
        if (touch.at, touch.id) <= (state.at, state.id):
            raise OutOfOrder
        transitions: list[Transition] = []
        if state.anchors:
            state, transitions = self.advance(state, touch.at)
        if not self.concerns(touch.type):
            return state, transitions
        tallies = self._count(state.tallies or self._fresh_tallies, touch)
        state = msgspec.structs.replace(state, at=touch.at, id=touch.id, tallies=tallies)
        state, moved = self._move(state, touch)
        if moved is None:
            state, moved = self._touch_clocks(state, touch)
        if moved is not None:
            transitions.append(moved)
        return state, transitions

    def _next_due(self, state: State) -> tuple[datetime, int] | None:
        """The earliest due clock of the current stage, as its due time and its number."""
        if not state.anchors or state.place is None:
            return None
        clocks = self._stage(state.place).clocks
        dues = [
            (anchor + clock.after, number)
            for number, (anchor, clock) in enumerate(zip(state.anchors, clocks, strict=True))
            if clock.exit_to is not None or not state.paused
        ]
        return min(dues, default=None)

    def _fire(self, state: State, due_at: datetime, number: int) -> tuple[State, Transition]:
        clock_place = state.place
        assert clock_place is not None
        clock = self._stage(clock_place).clocks[number]
        state = msgspec.structs.replace(state, at=due_at, id=_FIRST_ID)
        rule = f"{clock_place}.clocks[{number}]"
        if clock.exit_to is None:
            return _changed(state, "pause", clock_place, True, due_at, None, rule)
        return self._enter_exit(state, self._exits[clock.exit_to], due_at, None, rule)

    def _count(self, tallies: tuple[Tally, ...], touch: Touch) -> tuple[Tally, ...]:
        return tuple(
            _counted(tally, stage.enter, touch)
            for tally, stage in zip(tallies, self.definition.stages, strict=True)
        )

    def _move(self, state: State, touch: Touch) -> tuple[State, Transition | None]:
        here = self._stage_index.get(state.place) if state.place is not None else -1
        if here is None:
            assert state.place is not None
            return self._return(state, self._exits[state.place], touch)
        if here >= 0:
            for exit_ in self._saying_no:
                if exit_.enter is not None and exit_.enter.matches(touch.type, touch.channel):
                    return self._enter_exit(state, exit_, touch.at, touch.id, f"{exit_.key}.enter")
        for stage, tally in _furthest_first(self.definition.stages, state.tallies, here):
            if _holds(stage.enter, tally, touch):
                return self._enter_stage(state, stage, "enter", touch, f"{stage.key}.enter")
        return state, None

    def _return(self, state: State, exit_: Exit, touch: Touch) -> tuple[State, Transition | None]:
        if exit_.back is None or not exit_.back.matcher.matches(touch.type, touch.channel):
            return state, None
        return self._enter_stage(state, self._stage(exit_.back.to), "return", touch, f"{exit_.key}.return")

    def _enter_stage(
        self, state: State, stage: Stage, kind: Kind, touch: Touch, rule: str
    ) -> tuple[State, Transition]:
        before = -1 if state.furthest is None else self._stage_index[state.furthest]
        furthest = stage.key if self._stage_index[stage.key] > before else state.furthest
        state, transition = _changed(state, kind, stage.key, False, touch.at, touch.id, rule)
        anchors = (touch.at,) * len(stage.clocks)
        state = msgspec.structs.replace(state, entered_at=touch.at, furthest=furthest, anchors=anchors)
        return state, transition

    def _enter_exit(
        self, state: State, exit_: Exit, at: datetime, touchpoint_id: UUID | None, rule: str
    ) -> tuple[State, Transition]:
        state, transition = _changed(state, "exit", exit_.key, False, at, touchpoint_id, rule)
        return msgspec.structs.replace(state, entered_at=at, anchors=()), transition

    def _touch_clocks(self, state: State, touch: Touch) -> tuple[State, Transition | None]:
        """Start the clocks anew that this touchpoint starts anew, and end the pause if one of them paused."""
        place = state.place
        if not state.anchors or place is None:
            return state, None
        clocks = self._stage(place).clocks
        touched = [clock.since.matches(touch.type, touch.channel) for clock in clocks]
        anchors = tuple(
            touch.at if hit else anchor for hit, anchor in zip(touched, state.anchors, strict=True)
        )
        state = msgspec.structs.replace(state, anchors=anchors)
        if state.paused and any(_pauses(clock) and hit for clock, hit in zip(clocks, touched, strict=True)):
            rule = f"{place}.clocks"
            return _changed(state, "resume", place, False, touch.at, touch.id, rule)
        return state, None

    def _stage(self, key: str) -> Stage:
        return self.definition.stages[self._stage_index[key]]


def fold(
    journey: Journey, touches: Iterable[Touch], now: datetime, state: State = NOWHERE
) -> tuple[State, list[Transition]]:
    """Fold touchpoints in order onto a state, then let time run to `now`.

    Raises:
        OutOfOrder: a touchpoint lies at or before the one before it, or the state's position.
    """
    transitions: list[Transition] = []
    for touch in touches:
        state, more = journey.step(state, touch)
        transitions += more
    state, more = journey.advance(state, now)
    return state, transitions + more


def _types_of_interest(definition: Definition) -> frozenset[str] | None:
    matchers = [stage.enter.matcher for stage in definition.stages]
    matchers += [clock.since for stage in definition.stages for clock in stage.clocks]
    matchers += [exit_.enter for exit_ in definition.exits if exit_.enter]
    matchers += [exit_.back.matcher for exit_ in definition.exits if exit_.back]
    if not all(matcher.types for matcher in matchers):
        return None
    return frozenset().union(*(matcher.types for matcher in matchers))


def _counted(tally: Tally, rule: Rule, touch: Touch) -> Tally:
    if tally.count >= rule.at_least or not rule.matcher.matches(touch.type, touch.channel):
        return tally
    day = touch.at.toordinal()
    if rule.distinct_days and day == tally.day:
        return tally
    return Tally(tally.count + 1, day)


def _holds(rule: Rule, tally: Tally, touch: Touch) -> bool:
    return tally.count >= rule.at_least and rule.matcher.matches(touch.type, touch.channel)


def _furthest_first(
    stages: Sequence[Stage], tallies: Sequence[Tally], here: int
) -> Iterable[tuple[Stage, Tally]]:
    return ((stages[index], tallies[index]) for index in range(len(stages) - 1, here, -1))


def _pauses(clock: Clock) -> bool:
    return clock.exit_to is None


def _changed(
    state: State,
    kind: Kind,
    place: str,
    paused: bool,
    at: datetime,
    touchpoint_id: UUID | None,
    rule: str,
) -> tuple[State, Transition]:
    transition = Transition(
        state.transitions, at, kind, state.place, state.paused, place, paused, touchpoint_id, rule
    )
    moved = msgspec.structs.replace(state, place=place, paused=paused, transitions=state.transitions + 1)
    return moved, transition
