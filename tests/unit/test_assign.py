"""Changes: whatever the order, the duplication and the batching, they add up to the fold."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from itertools import accumulate, pairwise
from random import Random
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.stager.assign import (
    CHECKPOINT_EVERY,
    Change,
    Held,
    carried_on,
    carry,
    flows,
    has_checkpoints,
    is_marked,
    position_of,
    presences,
    run_clock,
)
from services.stager.refolding import Refold, refolded
from shared.journey.catalog import all_definitions
from shared.journey.definition import Definition
from shared.journey.fold import Journey, OutOfOrder, fold
from shared.journey.state import NOWHERE, State, Transition
from shared.journey.touch import LAST_POSITION, Touch
from tests.support.journeys import EPOCH, all_journeys, stored, touches
from tests.support.random_journeys import definitions, rich_touches

JOURNEYS = all_journeys()
BUILT_IN = [definition for definition, _ in all_definitions(None)]
ALICE = UUID(int=1)
SWEEPS = st.lists(st.integers(0, 90), max_size=5)
LATER = EPOCH + timedelta(days=500)


class Customer:
    """A customer as the store keeps one: a timeline, a held state, a standing history and counters."""

    def __init__(self, journey: Journey, portion: int = 3) -> None:
        self.journey = journey
        self.portion = portion
        self.met = self.recorded_anew = 0
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
            self.apply(self._refolded(ordered))
        else:
            self.apply(carried_on(ALICE, self.journey, self.held, carried))

    def _refolded(self, batch: list[Touch]) -> Change:
        """From the last checkpoint before what came late to the first that is met again."""
        first = position_of(batch[0])
        since = max(
            (one for one in self.checkpoints if position_of(one) < first), key=position_of, default=NOWHERE
        )
        refold = Refold(ALICE, self.journey, self.held, late=batch, since=since)
        kept = {one.id: one for one in self.checkpoints}
        timeline = sorted(self.timeline.values(), key=position_of)
        while refold.met is None and refold.position < LAST_POSITION:
            behind = [one for one in timeline if position_of(one) > refold.position]
            portion, rest = behind[: self.portion], behind[self.portion :]
            refold.fold(portion, position_of(portion[-1]) if rest else LAST_POSITION, kept)
        begin, end = refold.old_part
        if refold.met is not None and not refold.is_as_before(self.history[begin:end]):
            end = None
        self.met += refold.met is not None
        self.recorded_anew += refold.is_recorded_anew
        behind_it = [
            one
            for one in self.checkpoints
            if refold.is_recorded_anew and refold.met and position_of(one) > position_of(refold.met)
        ]
        return refold.change(self.history[begin:end], behind_it)

    def sweep(self, now: datetime) -> None:
        self.apply(run_clock(ALICE, self.journey, self.held, now))

    def apply(self, change: Change) -> None:
        if change.superseded:
            assert self.history[-len(change.superseded) :] == change.superseded
            del self.history[-len(change.superseded) :]
        self.history += change.added
        if change.outdated is not None:
            begin, end = change.outdated
            stay = [one for one in self.checkpoints if not begin < position_of(one) < end]
            self.checkpoints = stay
        self.checkpoints = sorted([*self.checkpoints, *change.checkpoints], key=position_of)
        self.held = change.after
        for way, by_hour in flows([change]).items():
            self.flows.update({(way, hour): delta for hour, delta in by_hour.items()})
        self.presences.update(presences([change]))

    def _concerns(self, touch: Touch) -> bool:
        return self.journey.concerns(touch.type)


def marked(timelines: st.SearchStrategy[list[Touch]]) -> st.SearchStrategy[list[Touch]]:
    """The timelines with other ids: after about half of the touches there is a checkpoint."""
    half = CHECKPOINT_EVERY // 2
    return timelines.map(
        lambda found: [msgspec.structs.replace(one, id=UUID(int=one.id.int * half)) for one in found]
    )


@st.composite
def arrivals(
    draw: st.DrawFn, timelines: st.SearchStrategy[list[Touch]]
) -> tuple[list[Touch], list[list[Touch]]]:
    """A timeline, and its touches in any order, some of them repeated, cut into any batches."""
    timeline = draw(marked(timelines))
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
    assert_is_the_fold(customer, timeline)


def assert_is_the_fold(customer: Customer, timeline: list[Touch]) -> None:
    journey = customer.journey
    concerning = [one for one in timeline if journey.concerns(one.type)]
    state, history = fold(journey, concerning, customer.held.state.at)
    expected = Customer(journey)
    expected.apply(Change(ALICE, journey, Held(), Held(state), history))

    assert stored(customer.held.state) == stored(state)
    if has_checkpoints(journey):
        steps = list(accumulate(concerning, lambda at, one: journey.step(at, one)[0], initial=NOWHERE))
        after = [stored(step) for step, one in zip(steps[1:], concerning, strict=True) if is_marked(one)]
        assert [stored(one) for one in customer.checkpoints] == after
    assert customer.history == history
    assert +customer.flows == +expected.flows
    here = {(*journey.version, state.place, state.paused): 1} if state.place else {}
    assert +customer.presences == here
    assert not -customer.flows


@settings(max_examples=60)
@given(definition=definitions, timeline=marked(rich_touches(20)), data=st.data())
def test_whichever_touchpoint_comes_late_it_adds_up_to_the_fold(
    definition: Definition, timeline: list[Touch], data: st.DataObject
) -> None:
    """Each touchpoint of a timeline in turn comes after all others, with some that come in time, whatever
    the portions in which it is read."""
    journey = Journey(definition)
    held_back = data.draw(st.integers(0, 3), label="held back")
    portion = data.draw(st.integers(1, 5), label="portion")
    end = max(0, len(timeline) - held_back)
    for late in range(end):
        customer = Customer(journey, portion)
        customer.receive(timeline[:late] + timeline[late + 1 : end])
        customer.receive([*timeline[end:], timeline[late]])
        assert_is_the_fold(customer, timeline)


@pytest.mark.parametrize("definition", BUILT_IN, ids=lambda one: one.key)
def test_a_refold_ends_where_the_timeline_goes_on_as_before(definition: Definition) -> None:
    """Of touchpoints anywhere in a long timeline, most are folded in without what lies far behind them; what
    they leave as it was, what they number anew and what they tell in another way, all is the fold's."""
    journey = Journey(definition)
    if not has_checkpoints(journey):
        return
    draw = Random(5)
    types = sorted(type_ for type_ in journey.asks if type_)
    timeline = [
        Touch(EPOCH + timedelta(hours=number * 7), UUID(int=(number + 1) << 9), draw.choice(types), "web")
        for number in range(240)
    ]
    met = 0
    for late in range(0, 200, 10):
        customer = Customer(journey, portion=7)
        customer.receive(timeline[:late] + timeline[late + 1 :])
        customer.receive([timeline[late]])
        assert_is_the_fold(customer, timeline)
        met += customer.met
    assert met > 14


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda one: one.definition.key)
@given(timeline=touches())
def test_a_refold_that_changes_nothing_supersedes_nothing(journey: Journey, timeline: list[Touch]) -> None:
    """Folding the same timeline again adds no transition and keeps the revision."""
    concerning = [one for one in timeline if journey.concerns(one.type)]
    change = carried_on(ALICE, journey, Held(), carry(journey, NOWHERE, concerning))

    again = refolded(ALICE, journey, change.after, change.added, concerning)

    assert (again.added, again.superseded, again.after) == ([], [], change.after)
