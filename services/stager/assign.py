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

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, TypeAlias
from uuid import UUID

import msgspec

from shared.journey.fold import Journey
from shared.journey.state import NEVER, NOWHERE, State, Transition
from shared.journey.touch import Position, Touch

CHECKPOINT_EVERY = 1024
"""Touchpoints from one checkpoint to the next, on average: a power of two."""


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


@lru_cache(10_000)
def was_in(place: str | None, paused: bool, revision: int, not_before: datetime) -> Held:
    """What is left to tell of a state that was carried on in place."""
    return Held(State(place=place, paused=paused), revision, not_before)


Carried: TypeAlias = tuple[State, list[Transition], Sequence[State]]
"""The state behind touches, the transitions on the way, and the states at which a later fold may begin."""


class Way(NamedTuple):
    """From where to where runs of a journey went."""

    journey_key: str
    version: int
    from_stage: str
    from_paused: bool
    to_stage: str
    to_paused: bool


Flows: TypeAlias = Mapping[Way, Mapping[int, int]]
"""How many runs went which way, by the hour of event time, counted from the beginning of 1970 (UTC)."""

_Way = tuple[Journey, str | None, bool, str, bool]
_FIRST_DAY = date(1970, 1, 1).toordinal()


Stand = tuple[str, int, str, bool]
"""Being in a stage or an exit of a journey's version, paused or not."""


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


def flows(changes: Iterable[Change]) -> Flows:
    """How the changes alter the flows: an added transition counts 1, a superseded one −1."""
    found: defaultdict[_Way, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    for change in changes:
        if change.added:
            _add_moves(found, change.journey, change.added, 1)
        if change.superseded:
            _add_moves(found, change.journey, change.superseded, -1)
    return {
        Way(*journey.version, from_place or "", from_paused, to_place, to_paused): by_hour
        for (journey, from_place, from_paused, to_place, to_paused), by_hour in found.items()
    }


def presences(changes: Iterable[Change]) -> Mapping[Stand, int]:
    """How the changes alter the number of runs in each place."""
    found: defaultdict[tuple[Journey, str | None, bool], int] = defaultdict(int)
    for change in changes:
        before, after = change.before.state, change.after.state
        if before.place != after.place or before.paused != after.paused:
            found[change.journey, before.place, before.paused] -= 1
            found[change.journey, after.place, after.paused] += 1
    return {
        (*journey.version, place, paused): delta
        for (journey, place, paused), delta in found.items()
        if delta and place is not None
    }


def _add_moves(
    found: Mapping[_Way, defaultdict[int, int]],
    journey: Journey,
    transitions: Iterable[Transition],
    delta: int,
) -> None:
    for one in transitions:
        place, paused, to_place, to_paused = one.from_place, one.from_paused, one.to_place, one.to_paused
        # Where only what stands beside the stage has changed, no count of runs has.
        if place != to_place or paused != to_paused:
            at = one.at
            hour = (at.toordinal() - _FIRST_DAY) * 24 + at.hour
            found[journey, place, paused, to_place, to_paused][hour] += delta


def has_checkpoints(journey: Journey) -> bool:
    """Whether checkpoints are kept along the timelines of the journey's runs."""
    return journey.definition.subject.kind != "property"


def is_marked(touch: Touch) -> bool:
    """Whether a checkpoint is kept after the touch."""
    return not touch.id.int % CHECKPOINT_EVERY


def position_of(one: State | Touch) -> Position:
    """Where a touch stands in the timeline, or how far in it a state has come."""
    return one.at, one.id
