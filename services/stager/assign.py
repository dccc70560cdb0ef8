"""From touchpoints and held states to changes: plain functions, so that every order can be tried on them.

A customer whose new touchpoints all lie behind the held position is *carried on*. Any other is *refolded*
from the whole timeline, as far in time as the held state had come; what the old history and the new one
have in common stands, the rest of the old is superseded. Both give the state that `fold` gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from shared.journey.fold import Journey, fold
from shared.journey.state import NEVER, NOWHERE, State, Transition
from shared.journey.touch import Touch

Place = tuple[str, bool]
"""A stage or an exit, and whether it is paused; the empty name is nowhere."""


@dataclass(frozen=True, slots=True)
class Held:
    """A stored state, and how often its history was folded anew."""

    state: State = NOWHERE
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written of one customer's journey."""

    customer_id: UUID
    journey: Journey
    before: Held
    after: Held
    added: Sequence[Transition]
    superseded: Sequence[Transition] = ()


Span = Literal["hour", "day", "month"]

_LARGER_SPANS: Mapping[Span, Callable[[datetime], datetime]] = {
    "day": lambda hour: hour.replace(hour=0),
    "month": lambda hour: hour.replace(day=1, hour=0),
}
"""Each with the begin of the span that an hour (UTC) lies in."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Customers who went from one place to another within a span of event time that begins at `since`."""

    journey_key: str
    version: int
    span: Span
    since: datetime
    origin: Place
    target: Place


@dataclass(frozen=True, slots=True)
class Presence:
    """Customers who are in a place now."""

    journey_key: str
    version: int
    place: Place


def is_late(held: Held, touches: Sequence[Touch]) -> bool:
    """Whether touches, in order, begin at or before the position and so need a refold."""
    return bool(touches) and (touches[0].at, touches[0].id) <= held.state.position


def carry_on(customer_id: UUID, journey: Journey, held: Held, touches: Sequence[Touch]) -> Change:
    """Fold new touches, in order and behind the position, onto the held state."""
    state, added = journey.carry(held.state, touches)
    return Change(customer_id, journey, held, Held(state, held.revision), added)


def run_clock(customer_id: UUID, journey: Journey, held: Held, now: datetime) -> Change:
    """Let time run to `now` for the held state."""
    state, added = journey.advance(held.state, now)
    return Change(customer_id, journey, held, Held(state, held.revision), added)


def refold(
    customer_id: UUID,
    journey: Journey,
    held: Held,
    history: Sequence[Transition],
    timeline: Iterable[Touch],
    until: datetime = NEVER,
) -> Change:
    """Fold the whole timeline anew, as far in time as the held state had come, and at least to `until`.

    `history` is the standing history of the held state, in order.
    """
    state, new_history = fold(journey, timeline, max(held.state.at, until))
    standing = _common_prefix(history, new_history)
    superseded = history[standing:]
    after = Held(state, held.revision + 1 if superseded else held.revision)
    return Change(customer_id, journey, held, after, new_history[standing:], superseded)


def flows(changes: Iterable[Change]) -> Counter[Flow]:
    """How the changes alter the flows: an added transition counts 1, a superseded one −1.

    Each flow is told by the hour, by the day and by the month, so that all up to a time can be read from the
    largest spans that end before it.
    """
    deltas: Counter[Flow] = Counter()
    for change in changes:
        for transitions, delta in ((change.added, 1), (change.superseded, -1)):
            for transition in transitions:
                flow = _flow(change.journey, transition)
                # What stands beside the stage has changed, and no count of customers has.
                if flow.origin != flow.target:
                    deltas[flow] += delta
    for flow, delta in list(deltas.items()):
        for span, begin in _LARGER_SPANS.items():
            deltas[replace(flow, span=span, since=begin(flow.since))] += delta
    return _without_zeros(deltas)


def presences(changes: Iterable[Change]) -> Counter[Presence]:
    """How the changes alter the number of customers in each place."""
    deltas: Counter[Presence] = Counter()
    for change in changes:
        key, version = change.journey.definition.key, change.journey.definition.version
        for held, delta in ((change.before, -1), (change.after, 1)):
            if held.state.place is not None:
                deltas[Presence(key, version, (held.state.place, held.state.paused))] += delta
    return _without_zeros(deltas)


def _common_prefix(old: Sequence[Transition], new: Sequence[Transition]) -> int:
    for index, (left, right) in enumerate(zip(old, new, strict=False)):
        if left != right:
            return index
    return min(len(old), len(new))


def _flow(journey: Journey, transition: Transition) -> Flow:
    return Flow(
        journey.definition.key,
        journey.definition.version,
        "hour",
        transition.at.replace(minute=0, second=0, microsecond=0),
        (transition.from_place or "", transition.from_paused),
        (transition.to_place, transition.to_paused),
    )


def _without_zeros(deltas: Counter[Flow] | Counter[Presence]) -> Counter:  # type: ignore[type-arg]
    return Counter({key: delta for key, delta in deltas.items() if delta})
