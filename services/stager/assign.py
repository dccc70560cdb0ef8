"""From touchpoints and held states to changes: plain functions, so that every order can be tried on them.

A run whose new touchpoints all lie behind the held position is *carried on*. Any other is *refolded*
from its timeline, as far in time as the held state had come (`refolding`); what the old history and the new
one have in common stands, the rest of the old is superseded. Both give the state that `fold` gives.

Along a timeline some states are kept as checkpoints: those after every touchpoint whose id happens to end in
ten zero bits. A refold may begin at the last one before what came late, instead of at the beginning, and end
at one behind it. Which touchpoints those are hangs on nothing but their ids, so nobody has to count. Runs of
things have none: these are short.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias
from uuid import UUID

import msgspec

from shared.journey.fold import Journey
from shared.journey.state import NEVER, NOWHERE, State, Transition
from shared.journey.touch import Position, Touch

CHECKPOINT_EVERY = 1024
"""Touchpoints from one checkpoint to the next, on average: a power of two."""

Place = tuple[str, bool]
"""A stage or an exit, and whether it is paused; the empty name is nowhere."""


class Held(msgspec.Struct, frozen=True, gc=False):
    """A stored state, and how often its history was folded anew.

    `not_before` is when it became known if that lies ahead of the clock, which has gone back or is another
    process's: what follows from it becomes known no earlier.
    """

    state: State = msgspec.field(default_factory=lambda: NOWHERE)
    revision: int = 0
    not_before: datetime = NEVER


class Change(msgspec.Struct, frozen=True, gc=False):
    """What is to be written of one run of a journey: a customer's, an account's (then `customer_id` is the
    account's), or that of a customer's thing that has the name `run`. Of the state `before` nobody asks more
    than where it was: of one that was carried on in place it tells no more.

    `late` is the earliest touchpoint that came too late for the held state. What isn't `told` goes out to
    nobody: it is history from before the definition. `checkpoints` are states that the fold went through.
    Those that stood between two positions are `outdated` by a refold.
    """

    customer_id: UUID
    journey: Journey
    before: Held
    after: Held
    added: Sequence[Transition]
    superseded: Sequence[Transition] = ()
    run: str = ""
    late: UUID | None = None
    told: bool = True
    checkpoints: Sequence[State] = ()
    outdated: tuple[Position, Position] | None = None

    def known_at(self, now: datetime) -> datetime:
        """When it becomes known: now, but never before what it follows from."""
        return max(now, self.before.not_before)


Carried: TypeAlias = tuple[State, list[Transition], Sequence[State]]
"""The state behind touches, the transitions on the way, and the states at which a later fold may begin."""

Span = Literal["hour", "day", "month"]

_HourlyMove = tuple[Journey, str | None, bool, str, bool, int, int]
"""From where to where, within which hour (UTC) of which day (its ordinal)."""


class Flow(NamedTuple):
    """Runs that went from one place to another within a span of event time that begins at `since`."""

    journey_key: str
    version: int
    span: Span
    since: datetime
    origin: Place
    target: Place


class Presence(NamedTuple):
    """Runs that are in a place now."""

    journey_key: str
    version: int
    place: Place


def carry(journey: Journey, state: State, touches: Sequence[Touch], still_until: datetime = NEVER) -> Carried:
    """Fold new touches, in order, onto a state, which time moves not before `still_until`.

    Raises:
        OutOfOrder: the first lies at or before the state's position; the run needs a refold.
    """
    if len(touches) == 1 and not is_marked(touches[0]):
        return *journey.carry(state, touches, still_until), ()
    ends = []
    if has_checkpoints(journey):
        ends = [number for number, touch in enumerate(touches, 1) if is_marked(touch)]
    if not ends:
        return *journey.carry(state, touches, still_until), ()
    transitions: list[Transition] = []
    checkpoints: list[State] = []
    for begin, end in pairwise([0, *ends, len(touches)]):
        state, more = journey.carry(state, touches[begin:end])
        transitions += more
        checkpoints.append(state)
    return state, transitions, checkpoints[: len(ends)]


def carried_on(customer_id: UUID, journey: Journey, held: Held, carried: Carried, run: str = "") -> Change:
    """What carrying on from the held state has changed."""
    state, added, checkpoints = carried
    after = Held(state, held.revision)
    return Change(customer_id, journey, held, after, added, (), run, checkpoints=checkpoints)


def run_clock(customer_id: UUID, journey: Journey, held: Held, now: datetime, run: str = "") -> Change:
    """Let time run to `now` for the held state."""
    state, added = journey.advance(held.state, now)
    return Change(customer_id, journey, held, Held(state, held.revision), added, (), run)


def unheard(change: Change, now: datetime) -> Change:
    """The first change of a run by a definition that is newer than its timeline: told to nobody, who would
    hear the history of years. So time runs to `now` too, or the sweeper would have to do that, and
    tell it."""
    state, added = change.journey.advance(change.after.state, now)
    after = msgspec.structs.replace(change.after, state=state)
    return msgspec.structs.replace(change, after=after, added=[*change.added, *added], told=False)


def flows(changes: Iterable[Change]) -> Counter[Flow]:
    """How the changes alter the flows: an added transition counts 1, a superseded one −1.

    Each flow is told by the hour, by the day and by the month, so that all up to a time can be read from the
    largest spans that end before it.
    """
    hours: defaultdict[_HourlyMove, int] = defaultdict(int)
    for change in changes:
        if change.added:
            _add_moves(hours, change.journey, change.added, 1)
        if change.superseded:
            _add_moves(hours, change.journey, change.superseded, -1)
    deltas: Counter[Flow] = Counter()
    for (journey, from_place, from_paused, to_place, to_paused, day, hour), delta in hours.items():
        if delta:
            key, version = journey.definition.key, journey.definition.version
            move = ((from_place or "", from_paused), (to_place, to_paused))
            midnight = datetime.fromordinal(day).replace(tzinfo=UTC)
            deltas[Flow(key, version, "hour", midnight.replace(hour=hour), *move)] += delta
            deltas[Flow(key, version, "day", midnight, *move)] += delta
            deltas[Flow(key, version, "month", midnight.replace(day=1), *move)] += delta
    return _without_zeros(deltas)


def presences(changes: Iterable[Change]) -> Counter[Presence]:
    """How the changes alter the number of runs in each place."""
    deltas: defaultdict[tuple[Journey, str | None, bool], int] = defaultdict(int)
    for change in changes:
        journey, before, after = change.journey, change.before.state, change.after.state
        if before.place != after.place or before.paused != after.paused:
            deltas[journey, before.place, before.paused] -= 1
            deltas[journey, after.place, after.paused] += 1
    found: Counter[Presence] = Counter()
    for (journey, place, paused), delta in deltas.items():
        if place is not None:
            found[Presence(journey.definition.key, journey.definition.version, (place, paused))] += delta
    return _without_zeros(found)


def _add_moves(
    hours: defaultdict[_HourlyMove, int], journey: Journey, transitions: Iterable[Transition], delta: int
) -> None:
    for one in transitions:
        # Where only what stands beside the stage has changed, no count of runs has.
        if one.from_place != one.to_place or one.from_paused != one.to_paused:
            day, hour = one.at.toordinal(), one.at.hour
            hours[journey, one.from_place, one.from_paused, one.to_place, one.to_paused, day, hour] += delta


def has_checkpoints(journey: Journey) -> bool:
    """Whether checkpoints are kept along the timelines of the journey's runs."""
    return journey.definition.subject.kind != "property"


def is_marked(touch: Touch) -> bool:
    """Whether a checkpoint is kept after the touch."""
    return not touch.id.int % CHECKPOINT_EVERY


def position_of(one: State | Touch) -> Position:
    """Where a touch stands in the timeline, or how far in it a state has come."""
    return one.at, one.id


def _without_zeros(deltas: Counter[Flow] | Counter[Presence]) -> Counter:  # type: ignore[type-arg]
    return Counter({key: delta for key, delta in deltas.items() if delta})
