"""What a state merely records, and no rule asks for.

Where two folds stand at the same touchpoint in states that differ in nothing else, they go the same way from
there: they make the same transitions, but for their numbers. So whoever knows one of them to its end knows
the other, and only what is recorded has to be told anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.journey.fold import Journey
from shared.journey.state import Kind, State, Transition

_ENTERING: frozenset[Kind] = frozenset(("enter", "pass", "regress", "lap", "exit", "return"))


def goes_the_same_way(one: State, other: State) -> bool:
    """Whether states differ in nothing but what they record."""
    return other == msgspec.structs.replace(
        one,
        entered_at=other.entered_at,
        furthest=other.furthest,
        transitions=other.transitions,
        lap=other.lap,
        observed=other.observed,
        inferred=other.inferred,
        counts=other.counts,
    )


def recorded_anew(
    journey: Journey, was: State, now: State, later: State, between: Sequence[Transition]
) -> State:
    """What a fold comes to later that goes from `now` the same way as one that went from `was` to `later` by
    the transitions `between`."""
    places = journey.plans.places
    entered_at, furthest, observed, inferred = now.entered_at, now.furthest, now.observed, now.inferred
    for one in between:
        if one.kind in _ENTERING:
            entered_at, place = one.at, places[one.to_place]
            if place.bit:
                observed |= place.bit
                inferred = (inferred | place.earlier) & ~observed
                if furthest is None or place.bit > places[furthest].bit:
                    furthest = place.key
    found = msgspec.structs.replace(
        later,
        entered_at=entered_at,
        furthest=furthest,
        transitions=later.transitions + now.transitions - was.transitions,
        lap=later.lap + now.lap - was.lap,
    )
    # A new lap has begun all of this anew.
    if later.lap == was.lap:
        found.observed, found.inferred = observed, inferred
        found.counts = _counted_on(later.counts, was.counts, now.counts)
    return found


def _counted_on(later: tuple[int, ...], was: tuple[int, ...], now: tuple[int, ...]) -> tuple[int, ...]:
    size = max(len(later), len(now))
    full = [counts or (0,) * size for counts in (later, was, now)]
    found = tuple(end - before + after for end, before, after in zip(*full, strict=True))
    return found if any(found) else ()
