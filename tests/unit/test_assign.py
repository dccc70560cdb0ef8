"""Changes: whatever the order, the duplication and the batching, they add up to the fold."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.stager.assign import (
    CHECKPOINT_EVERY,
    Change,
    Held,
    carried_on,
    carry,
    flows,
    has_checkpoints,
    presences,
    refold,
    run_clock,
)
from shared.journey.definition import Definition
from shared.journey.fold import Journey, OutOfOrder, fold
from shared.journey.state import NOWHERE, State, Transition
from shared.journey.touch import Touch
from tests.support.journeys import EPOCH, all_journeys, stored, touches
from tests.support.random_journeys import definitions, rich_touches

JOURNEYS = all_journeys()
ALICE = UUID(int=1)
SWEEPS = st.lists(st.integers(0, 90), max_size=5)
LATER = EPOCH + timedelta(days=500)


def _position(state: State) -> tuple[datetime, UUID]:
    return (state.at, state.id)


class Customer:
    """A customer as the store keeps one: a timeline, a held state, a standing history and counters."""

    def __init__(self, journey: Journey) -> None:
        self.journey = journey
        self.timeline: dict[UUID, Touch] = {}
        self.held = Held()
        self.history: list[Transition] = []
        self.checkpoints: list[State] = []
        self.flows: Counter[object] = Counter()
        self.presences: Counter[object] = Counter()

    def receive(self, batch: list[Touch]) -> None:
        fresh = {one.id: one for one in batch if one.id not in self.timeline and self._concerns(one)}
        self.timeline |= fresh
        ordered = sorted(fresh.values(), key=lambda one: (one.at, one.id))
        try:
            carried = carry(self.journey, self.held.state, ordered)
        except OutOfOrder:
            self.apply(self._refolded(ordered[0]))
        else:
            self.apply(carried_on(ALICE, self.journey, self.held, carried))

    def _refolded(self, late: Touch) -> Change:
        """From the last checkpoint before the touch that came late."""
        since = max(
            (one for one in self.checkpoints if _position(one) < (late.at, late.id)),
            key=_position,
            default=NOWHERE,
        )
        timeline = sorted(self.timeline.values(), key=lambda one: (one.at, one.id))
        tail = [one for one in timeline if (one.at, one.id) > _position(since)]
        history = self.history[since.transitions :]
        return refold(ALICE, self.journey, self.held, history, tail, since=since)

    def sweep(self, now: datetime) -> None:
        self.apply(run_clock(ALICE, self.journey, self.held, now))

    def apply(self, change: Change) -> None:
        for one in change.superseded:
            self.history.remove(one)
        self.history += change.added
        if change.since is not None:
            outdated = _position(change.since)
            self.checkpoints = [one for one in self.checkpoints if _position(one) <= outdated]
        self.checkpoints += change.checkpoints
        self.held = change.after
        self.flows.update(flows([change]))
        self.presences.update(presences([change]))

    def _concerns(self, touch: Touch) -> bool:
        return self.journey.concerns(touch.type)


@st.composite
def arrivals(
    draw: st.DrawFn, timelines: st.SearchStrategy[list[Touch]]
) -> tuple[list[Touch], list[list[Touch]]]:
    """A timeline, and its touches in any order, some of them repeated, cut into any batches. After about half
    of them there is a checkpoint."""
    half = CHECKPOINT_EVERY // 2
    timeline = [msgspec.structs.replace(one, id=UUID(int=one.id.int * half)) for one in draw(timelines)]
    repeated = draw(st.lists(st.sampled_from(timeline), max_size=6)) if timeline else []
    arriving = draw(st.permutations(timeline + repeated))
    cuts = sorted(draw(st.lists(st.integers(0, len(arriving)), max_size=4)))
    edges = [0, *cuts, len(arriving)]
    return timeline, [arriving[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda one: one.definition.key)
@given(arrived=arrivals(touches()), sweeps=SWEEPS)
def test_any_order_duplication_and_batching_adds_up_to_the_fold(
    journey: Journey, arrived: tuple[list[Touch], list[list[Touch]]], sweeps: list[int]
) -> None:
    """States, standing transitions and counters equal the fold of the timeline, whatever came when."""
    adds_up(journey, arrived, sweeps)


@given(definition=definitions, arrived=arrivals(rich_touches()), sweeps=SWEEPS)
def test_the_same_holds_for_whatever_the_language_can_say(
    definition: Definition, arrived: tuple[list[Touch], list[list[Touch]]], sweeps: list[int]
) -> None:
    """Random definitions, random timelines, any order of arrival: the same bytes."""
    adds_up(Journey(definition), arrived, sweeps)


def adds_up(journey: Journey, arrived: tuple[list[Touch], list[list[Touch]]], sweeps: list[int]) -> None:
    timeline, batches = arrived
    customer = Customer(journey)
    for number, batch in enumerate(batches):
        customer.receive(batch)
        if number < len(sweeps):
            customer.sweep(EPOCH + timedelta(days=sweeps[number]))
    customer.sweep(LATER)

    concerning = [one for one in timeline if journey.concerns(one.type)]
    state, history = fold(journey, concerning, LATER)
    expected = Customer(journey)
    expected.apply(Change(ALICE, journey, Held(), Held(state), history))

    assert stored(customer.held.state) == stored(state)
    marked = [one for one in concerning if not one.id.int % CHECKPOINT_EVERY]
    if has_checkpoints(journey):
        assert [_position(one) for one in customer.checkpoints] == [(one.at, one.id) for one in marked]
    assert customer.history == history
    assert +customer.flows == +expected.flows
    assert +customer.presences == +expected.presences
    assert not -customer.flows


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda one: one.definition.key)
@given(timeline=touches())
def test_a_refold_that_changes_nothing_supersedes_nothing(journey: Journey, timeline: list[Touch]) -> None:
    """Folding the same timeline again adds no transition and keeps the revision."""
    concerning = [one for one in timeline if journey.concerns(one.type)]
    change = carried_on(ALICE, journey, Held(), carry(journey, NOWHERE, concerning))

    again = refold(ALICE, journey, change.after, change.added, concerning)

    assert (again.added, again.superseded, again.after) == ([], [], change.after)
