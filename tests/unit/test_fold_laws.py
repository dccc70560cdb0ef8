"""The laws of the fold, over random timelines, and over random definitions and the built-in ones."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.journey.catalog import all_definitions
from shared.journey.definition import Definition
from shared.journey.fold import Journey, fold
from shared.journey.language import parse
from shared.journey.state import FOR_EVER, NOWHERE, State, Transition
from shared.journey.touch import Touch
from tests.support.journeys import EPOCH, WHOLE, restored, stored
from tests.support.plain_fold import PlainFold
from tests.support.random_journeys import definitions, rich_touches

INSTANTS = st.integers(0, 70 * 4).map(lambda quarters: EPOCH + timedelta(hours=quarters * 6))
EARLY = st.lists(st.timedeltas(timedelta(), timedelta(days=15)), min_size=12, max_size=12)
KNOWN = [definition for definition, _ in all_definitions(None)] + [parse(WHOLE, "whole.yaml")]
TYPES = {one.key: tuple(sorted(type_ for type_ in Journey(one).asks if type_)) for one in KNOWN}


@settings(max_examples=250)
@given(definition=definitions, timeline=rich_touches(20), now=INSTANTS)
def test_the_fold_does_what_the_words_of_the_language_mean(
    definition: Definition, timeline: list[Touch], now: datetime
) -> None:
    """Indexed, compiled and carried on, it tells what asking every rule about all touchpoints tells."""
    means_what_it_says(definition, timeline, now)


@given(definition=definitions, timeline=rich_touches(), now=INSTANTS, early=EARLY)
def test_time_may_run_between_any_two_touchpoints(
    definition: Definition, timeline: list[Touch], now: datetime, early: list[timedelta]
) -> None:
    """A sweeper that applies time at any instants gives what one fold gives, in bytes, and the same history;
    and what it is given, it leaves as it was."""
    agrees_with_a_sweeper(definition, timeline, now, early)


@given(definition=definitions, timeline=rich_touches(), now=INSTANTS)
def test_nothing_is_due_after_time_has_run(
    definition: Definition, timeline: list[Touch], now: datetime
) -> None:
    """Due times are kept to the microsecond, and `upcoming` says what will then happen. Without a transition
    a state is never due earlier than before, so that an earlier due time can stand for a later one: no clock
    is looked at before it."""
    keeps_its_times(definition, timeline, now)


@given(definition=definitions, timeline=rich_touches(20), now=INSTANTS)
def test_a_bare_touchpoint_is_one_that_carries_nothing_asked_for(
    definition: Definition, timeline: list[Touch], now: datetime
) -> None:
    """What is decided beforehand of touchpoints that carry nothing is what asking each of them decides."""
    journey = Journey(definition)
    bare = [Touch(one.at, one.id, one.type, one.channel) for one in timeline]
    asked = [msgspec.structs.replace(one, content={"property.nobody_asks": 1}) for one in bare]

    assert fold(journey, bare, now) == fold(journey, asked, now)


@given(definition=definitions, timeline=rich_touches(), now=INSTANTS)
def test_a_state_is_small_and_survives_the_store(
    definition: Definition, timeline: list[Touch], now: datetime
) -> None:
    """A state is a few hundred bytes whatever the length of the timeline, and comes back as it was."""
    is_small(definition, timeline, now)


@given(definition=definitions, timeline=rich_touches(), now=INSTANTS)
def test_a_history_is_a_path(definition: Definition, timeline: list[Touch], now: datetime) -> None:
    """Transitions are numbered, in time, and each begins where the one before it ended."""
    is_a_path(definition, timeline, now)


@pytest.mark.parametrize("definition", KNOWN, ids=lambda one: one.key)
@settings(max_examples=60)
@given(data=st.data(), now=INSTANTS, early=EARLY)
def test_every_built_in_definition_keeps_the_laws(
    definition: Definition, data: st.DataObject, now: datetime, early: list[timedelta]
) -> None:
    """All of the above, told in the types of touchpoints that the definition is about."""
    timeline = data.draw(rich_touches(types=TYPES[definition.key]))

    means_what_it_says(definition, timeline, now)
    agrees_with_a_sweeper(definition, timeline, now, early)
    keeps_its_times(definition, timeline, now)
    is_small(definition, timeline, now)
    is_a_path(definition, timeline, now)


def means_what_it_says(definition: Definition, timeline: list[Touch], now: datetime) -> None:
    now = max([now, *(touch.at for touch in timeline)])
    state, history = fold(Journey(definition), timeline, now)
    plain = PlainFold(definition).run(timeline, now)

    told = [(one.at, one.kind, one.from_place, one.to_place, one.touchpoint_id, one.rule) for one in history]
    assert told == plain.told
    assert (state.place, state.paused, state.lap) == (plain.place, plain.paused, plain.lap)
    assert (state.entered_at, state.substage) == (plain.entered_at, plain.substage)
    stages = [stage.key for stage in definition.stages]
    assert {key for bit, key in enumerate(stages) if state.observed >> bit & 1} == plain.observed
    assert {key for bit, key in enumerate(stages) if state.inferred >> bit & 1} == plain.inferred
    assert beside(definition, state) == (plain.open, plain.signals, plain.counts)
    reached = [stages.index(one.to_place) for one in history if one.to_place in stages]
    assert state.furthest == (stages[max(reached)] if reached else None)


def beside(
    definition: Definition, state: State
) -> tuple[dict[str, datetime], dict[str, datetime], dict[str, int]]:
    overlays = zip(definition.overlays, state.open, strict=False)
    signals = zip(definition.signals, state.signals, strict=False)
    counts = zip(definition.tallies, state.counts, strict=False)
    return (
        {one.key: since for one, since in overlays if since is not None},
        {one.key: since for one, since in signals if since is not None},
        {one.key: count for one, count in counts if count},
    )


def agrees_with_a_sweeper(
    definition: Definition, timeline: list[Touch], now: datetime, early: list[timedelta]
) -> None:
    journey = Journey(definition)
    state = NOWHERE
    history: list[Transition] = []
    for touch, before in zip(timeline, early, strict=False):
        kept = stored(state)
        state, swept = journey.advance(restored(kept), touch.at - before)
        held = stored(state)
        after, more = journey.step(state, touch)
        assert stored(state) == held
        state, history = after, history + swept + more
    state, swept = journey.advance(state, now)

    expected, expected_history = fold(journey, timeline, now)
    assert stored(state) == stored(expected)
    assert history + swept == expected_history


def keeps_its_times(definition: Definition, timeline: list[Touch], now: datetime) -> None:
    journey = Journey(definition)
    state, _ = fold(journey, timeline, now)
    due_at = journey.due_at(state)

    assert due_at is None or due_at > now
    if due_at is not None:
        just_before, nothing = journey.advance(state, due_at - timedelta(microseconds=1))
        assert (just_before, nothing) == (state, [])
        first = journey.advance(state, due_at)[1][0]
        assert (first.at, first) == (due_at, journey.upcoming(state))
    state, still_until = NOWHERE, FOR_EVER
    for touch in timeline:
        before, found = journey.due_at(state), journey.step(state, touch)
        assert journey.carry(state, [touch], still_until) == found
        state, transitions = found
        after = journey.due_at(state)
        assert transitions or after is None or (before is not None and before <= after)
        still_until = (after or FOR_EVER) if transitions else still_until
    assert journey.carry(NOWHERE, timeline, FOR_EVER) == journey.carry(NOWHERE, timeline)


def is_small(definition: Definition, timeline: list[Touch], now: datetime) -> None:
    many = [
        msgspec.structs.replace(touch, at=touch.at + timedelta(days=day), id=UUID(int=number))
        for number, (day, touch) in enumerate(((day, one) for day in range(3) for one in timeline), 1)
    ]
    state, _ = fold(Journey(definition), sorted(many, key=lambda one: (one.at, one.id)), now)

    assert restored(stored(state)) == state
    assert len(stored(state)) < 600


def is_a_path(definition: Definition, timeline: list[Touch], now: datetime) -> None:
    state, history = fold(Journey(definition), timeline, now)

    place: tuple[str | None, bool] = (None, False)
    for number, one in enumerate(history):
        assert one.seq == number
        assert (one.from_place, one.from_paused) == place
        assert one.to_place in definition.places
        place = (one.to_place, one.to_paused)
    assert place == (state.place, state.paused)
    assert [one.at for one in history] == sorted(one.at for one in history)
    assert state.transitions == len(history)
