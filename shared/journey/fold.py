"""The stage as a pure function of the timeline.

Theory of operation. A journey folds a customer's touchpoints in the order of (event time, id). A *place* is
where the customer is: nowhere yet, in a stage, or in an exit. A touchpoint is counted by every rule that it
matches, closes what it closes, and then moves the customer by the first of these that holds: the way back, in
an exit; an exit; the way back to an earlier stage; a new lap; the furthest later stage. Without a move it
starts clocks anew and may end a pause. At last it opens overlays and turns signals on and off, as they are in
the new place. A gate passes the customer on at once, by the same touchpoint.

Time moves a customer too: the clocks of a stage, and those of overlays and signals, give the state its next
due time, and whatever is due at or before an instant happens before a touchpoint of that instant.

The result depends on nothing but the definition, the touchpoints and how far time has been told to run. So
it doesn't matter whether `step` met the touchpoints one by one, with `advance` between them at any instants
not later than the next touchpoint, or whether everything was folded anew: the states and the transitions
are the same. That is what lets the stager carry a state on, and a sweeper apply time by itself.

A touchpoint at or before a state's position can't be carried on from: `step` refuses it, and the caller
folds the whole timeline again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from shared.journey.definition import Definition
from shared.journey.effects import Effects
from shared.journey.plan import Plans
from shared.journey.state import FIRST_ID, NEVER, NOWHERE, State, Transition
from shared.journey.steps import Steps
from shared.journey.touch import BARE, Ask, Touch

# A third of the time that copy.copy() takes.
_copy: Callable[[State], State] = State.__copy__  # type: ignore[attr-defined]
_BARE_OWNER = BARE.owner
_OVERLAYS = 10_000
_SIGNALS = 20_000
"""From these numbers on, a clock is that of an overlay or of a signal: a stage never has so many."""

RUN_NAME_BYTES_MAX = 200
"""As long as an identity may be: a run's name stands in the keys of the store."""


class OutOfOrder(Exception):
    """A touchpoint lies at or before the state's position: the timeline has to be folded again."""


class Journey:
    """A definition, compiled. Stateless: one may serve any number of customers."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        plans = self._plans = Plans(definition)
        self._places = plans.places
        self._effects = Effects(definition, plans)
        steps = Steps(definition, plans, self._effects)
        self._steps_of, self._steps_of_bare = steps.of, steps.of_bare
        self.version = (definition.key, definition.version)
        """What the store knows the definition by."""
        self.types = plans.types
        """The touchpoint types that can change a state; None: every type can."""
        self._facts = plans.rules.facts
        self._expiries = [one.close_after for one in definition.overlays]
        self._signal_expiries = [one.off_after for one in definition.signals]

    @property
    def plans(self) -> Plans:
        """The definition compiled, for whoever explains what the fold did."""
        return self._plans

    @property
    def asks(self) -> Mapping[str | None, frozenset[Ask]]:
        """What a touch has to carry beside type and channel, by type; under None what every one has to."""
        return self._plans.asks

    def concerns(self, type_: str) -> bool:
        """Whether a touchpoint of this type can change a state. Others need not be folded."""
        return self.types is None or type_ in self.types

    def due_at(self, state: State) -> datetime | None:
        """When time will move this state if no touchpoint comes first; None: never."""
        anchors = state.anchors
        if len(anchors) == 1 and state.place is not None and not state.open and not state.signals:
            # Mostly it is so.
            clock = self._places[state.place].clocks[0]
            return None if clock.to is None and state.paused else anchors[0] + clock.after
        due = self._next_due(state)
        return due[0] if due else None

    def upcoming(self, state: State) -> Transition | None:
        """What time alone will do next to this state; None: nothing."""
        due = self._next_due(state)
        if due is None:
            return None
        transitions: list[Transition] = []
        self._fire(_copy(state), *due, transitions)
        return transitions[0]

    def persona(self, state: State) -> str | None:
        """The first persona whose rule has been met; None: none has."""
        return self._plans.persona(state, state.at)

    def advance(self, state: State, now: datetime) -> tuple[State, list[Transition]]:
        """Let time run: everything that is due at or before `now` happens, each at its own due time."""
        transitions: list[Transition] = []
        due = self._next_due(state)
        if due is None or due[0] > now:
            return state, transitions
        state = _copy(state)
        self._advance(state, now, transitions)
        return state, transitions

    def step(self, state: State, touch: Touch) -> tuple[State, list[Transition]]:
        """Fold one touchpoint in, after all that was due by then.

        Raises:
            OutOfOrder: the touchpoint lies at or before the state's position.
        """
        return self.carry(state, (touch,))

    def carry(
        self, state: State, touches: Iterable[Touch], still_until: datetime = NEVER
    ) -> tuple[State, list[Transition]]:
        """Fold touchpoints in, in order, each after all that was due by then. It is known that time moves the
        state not before `still_until`, and so no later state either that is reached without a transition.

        Raises:
            OutOfOrder: one lies at or before the one before it, or the state's position.
        """
        state = _copy(state)
        return state, self.carry_in_place(state, touches, still_until)

    def carry_in_place(
        self, state: State, touches: Iterable[Touch], still_until: datetime = NEVER
    ) -> list[Transition]:
        """The same, for whoever has the state to themselves and needs no more what it was: it is altered.

        Raises:
            OutOfOrder: as `carry` does. If it is the first touchpoint, the state is as it was.
        """
        transitions: list[Transition] = []
        types, facts = self.types, self._facts
        for touch in touches:
            at = touch.at
            if at <= state.at and (at < state.at or touch.id <= state.id):
                raise OutOfOrder
            if types is not None and touch.type not in types:
                continue
            if (transitions or at >= still_until) and (state.anchors or state.open or state.signals):
                self._advance(state, at, transitions)
            steps_of = self._steps_of_bare
            if touch.content or touch.sentiment is not None or touch.owner != _BARE_OWNER:
                steps_of = self._steps_of
                if facts:
                    self._learn(state, touch)
            state.at, state.id = at, touch.id
            steps_of[state.place][touch.type].do(state, touch, transitions)
        return transitions

    def _advance(self, state: State, now: datetime, out: list[Transition]) -> None:
        while (due := self._next_due(state)) is not None and due[0] <= now:
            self._fire(state, *due, out)

    def _next_due(self, state: State) -> tuple[datetime, int] | None:
        """The earliest due clock, as its due time and its number; of several the one of the least number."""
        earliest: tuple[datetime, int] | None = None
        if state.anchors and state.place is not None:
            clocks, paused = self._places[state.place].clocks, state.paused
            for number, anchor in enumerate(state.anchors):
                clock = clocks[number]
                if clock.to is not None or not paused:
                    due_at = anchor + clock.after
                    if earliest is None or due_at < earliest[0]:
                        earliest = due_at, number
        if state.open:
            earliest = _earlier(earliest, _expiring(state.open, self._expiries, _OVERLAYS))
        if state.signals:
            earliest = _earlier(earliest, _expiring(state.signals, self._signal_expiries, _SIGNALS))
        return earliest

    def _fire(self, state: State, due_at: datetime, number: int, out: list[Transition]) -> None:
        assert state.place is not None
        state.at, state.id = due_at, FIRST_ID
        if number >= _SIGNALS:
            self._effects.turn(state, number - _SIGNALS, None, None, "off_after", out)
        elif number >= _OVERLAYS:
            self._effects.set_open(state, number - _OVERLAYS, None, None, "close_after", out)
        else:
            clock = self._places[state.place].clocks[number]
            if clock.to is None:
                self._effects.pause(state, clock.rule, out)
            else:
                self._effects.arrive[clock.to](state, "exit", None, clock.rule, out)

    def _learn(self, state: State, touch: Touch) -> None:
        for name, bit, differs in self._facts:
            if name in touch.content:
                state.facts = state.facts | bit if differs(touch.content[name]) else state.facts & ~bit


def fold(
    journey: Journey, touches: Iterable[Touch], now: datetime, state: State = NOWHERE
) -> tuple[State, list[Transition]]:
    """Fold touchpoints in order onto a state, then let time run to `now`.

    Raises:
        OutOfOrder: a touchpoint lies at or before the one before it, or the state's position.
    """
    state, transitions = journey.carry(state, touches)
    state, more = journey.advance(state, now)
    return state, transitions + more


def subject_of(definition: Definition, touch: Touch) -> str | None:
    """Which run of the journey a touchpoint belongs to; None: to none. The runs of a customer and of an
    account have no name: the timeline is theirs. A thing is named by a text or a whole number that is not
    longer than `RUN_NAME_BYTES_MAX`."""
    if definition.subject.kind != "property":
        return ""
    value = touch.content.get(f"property.{definition.subject.property_name}")
    if not isinstance(value, str | int) or isinstance(value, bool):
        return None
    name = str(value)
    return name if 0 < len(name.encode()) <= RUN_NAME_BYTES_MAX else None


def runs_of(journey: Journey, touches: Iterable[Touch]) -> dict[str, list[Touch]]:
    """The touchpoints of each run of a journey that a timeline has, in their order."""
    runs: dict[str, list[Touch]] = {}
    for touch in touches:
        if journey.concerns(touch.type):
            run = subject_of(journey.definition, touch)
            if run is not None:
                runs.setdefault(run, []).append(touch)
    return runs


def fold_runs(
    journey: Journey, touches: Iterable[Touch], now: datetime
) -> dict[str, tuple[State, list[Transition]]]:
    """Fold each run of a journey: one for each thing that the touchpoints name."""
    return {run: fold(journey, its, now) for run, its in runs_of(journey, touches).items()}


def _earlier(
    earliest: tuple[datetime, int] | None, others: Iterable[tuple[datetime, int]]
) -> tuple[datetime, int] | None:
    return min(others if earliest is None else (earliest, *others), default=None)


def _expiring(
    since: Sequence[datetime | None], after: Sequence[timedelta | None], first_number: int
) -> Iterator[tuple[datetime, int]]:
    for number, (begun, length) in enumerate(zip(since, after, strict=True), first_number):
        if begun is not None and length is not None:
            yield begun + length, number
