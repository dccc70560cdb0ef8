"""The fold: the story of `purchase-lifecycle`, and what the stager relies on when it carries a state on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.journey.fold import Journey, OutOfOrder, fold
from shared.journey.touch import Touch
from tests.support.journeys import EPOCH, all_journeys, stored, touches

JOURNEYS = all_journeys()
PURCHASES = next(one for one in JOURNEYS if one.definition.key == "purchase-lifecycle")
EVERYTHING = next(one for one in JOURNEYS if one.definition.key == "everything")
INSTANTS = st.integers(0, 400).map(lambda days: EPOCH + timedelta(days=days))


def bought(day: int, number: int) -> Touch:
    return Touch(EPOCH + timedelta(days=day), UUID(int=number), "order_completed", "web")


def touched(hour: float, number: int, type_: str, channel: str = "web") -> Touch:
    return Touch(EPOCH + timedelta(hours=hour), UUID(int=number), type_, channel)


def places(journey: Journey, timeline: list[Touch], now: datetime) -> list[tuple[str, str, datetime]]:
    _, transitions = fold(journey, timeline, now)
    return [(one.kind, one.to_place, one.at) for one in transitions]


def test_one_purchase_day_is_first_however_many_purchases() -> None:
    """Two purchases on one day are one purchase day."""
    state, _ = fold(PURCHASES, [bought(0, 1), bought(0, 2)], EPOCH)

    assert state.place == "first"


def test_a_second_purchase_day_is_repeat() -> None:
    """Two distinct purchase days make a repeat customer, from the second day's first purchase on."""
    assert places(PURCHASES, [bought(0, 1), bought(9, 2), bought(9, 3)], EPOCH + timedelta(days=9)) == [
        ("enter", "first", EPOCH),
        ("enter", "repeat", EPOCH + timedelta(days=9)),
    ]


@pytest.mark.parametrize(("days", "place"), [(179, "first"), (180, "dormant"), (181, "dormant")])
def test_a_customer_is_dormant_from_the_180th_day_without_a_purchase(days: int, place: str) -> None:
    """Dormancy begins exactly 180 days after the last purchase."""
    state, _ = fold(PURCHASES, [bought(0, 1)], EPOCH + timedelta(days=days))

    assert state.place == place


def test_the_next_purchase_brings_a_dormant_customer_back_to_repeat() -> None:
    """A purchase on the very day on which dormancy begins comes after it."""
    timeline = [bought(0, 1), bought(180, 2)]

    assert [one[:2] for one in places(PURCHASES, timeline, EPOCH + timedelta(days=180))] == [
        ("enter", "first"),
        ("exit", "dormant"),
        ("return", "repeat"),
    ]


def test_other_touchpoints_do_not_keep_a_customer_from_going_dormant() -> None:
    """The clock starts anew at purchases alone."""
    viewed = touched(24 * 100, 2, "page_viewed")
    state, _ = fold(PURCHASES, [bought(0, 1), viewed], EPOCH + timedelta(days=180))

    assert state.place == "dormant"


def test_every_transition_names_its_cause() -> None:
    """A transition is caused by a touchpoint and a rule, or by a clock and its due time."""
    _, transitions = fold(PURCHASES, [bought(0, 1)], EPOCH + timedelta(days=999))

    assert [(one.touchpoint_id, one.rule) for one in transitions] == [
        (UUID(int=1), "first.enter"),
        (None, "dormant.enter"),
    ]


def test_a_silent_stage_is_paused_and_a_touch_resumes_it() -> None:
    """A pause keeps the stage, and the touch that a clock waits for ends it."""
    timeline = [touched(0, 1, "page_viewed"), touched(24 * 4, 2, "page_viewed")]

    assert places(EVERYTHING, timeline, EPOCH + timedelta(days=4)) == [
        ("enter", "aware", EPOCH),
        ("pause", "aware", EPOCH + timedelta(days=3)),
        ("resume", "aware", EPOCH + timedelta(days=4)),
    ]


def test_a_touchpoint_that_says_no_ends_the_journey_for_good() -> None:
    """An exit without a way back is final."""
    timeline = [touched(0, 1, "page_viewed"), touched(1, 2, "offer_declined"), bought(1, 3)]
    state, _ = fold(EVERYTHING, timeline, EPOCH + timedelta(days=90))

    assert (state.place, state.furthest) == ("refused", "aware")


def test_the_furthest_stage_stays_when_the_customer_comes_back_earlier() -> None:
    """Coming back from an exit to an earlier stage keeps the furthest one beside it."""
    timeline = [bought(0, 1), touched(24 * 5, 2, "call_ended", "phone")]
    state, _ = fold(EVERYTHING, timeline, EPOCH + timedelta(days=5))

    assert (state.place, state.furthest) == ("considering", "buying")


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda one: one.definition.key)
class TestEveryDefinition:
    @given(timeline=touches(), now=INSTANTS)
    def test_folding_on_from_a_prefix_is_folding_the_whole(
        self, journey: Journey, timeline: list[Touch], now: datetime
    ) -> None:
        """A state carries all that is needed to go on."""
        for cut in range(len(timeline) + 1):
            state, history = fold(journey, timeline[:cut], min(timeline[cut - 1].at, now) if cut else EPOCH)
            state, more = fold(journey, timeline[cut:], now, state)
            assert (state, history + more) == fold(journey, timeline, now)

    @given(timeline=touches(), now=INSTANTS)
    def test_types_of_no_concern_change_nothing(
        self, journey: Journey, timeline: list[Touch], now: datetime
    ) -> None:
        """Touchpoints that a definition says nothing about need not be folded."""
        concerning = [touch for touch in timeline if journey.concerns(touch.type)]

        assert fold(journey, concerning, now) == fold(journey, timeline, now)

    @given(timeline=touches(6).filter(lambda found: len(found) > 1))
    def test_a_touchpoint_at_or_before_the_position_is_refused(
        self, journey: Journey, timeline: list[Touch]
    ) -> None:
        """Carrying on never goes back in time, and leaves a state as it was that it would have altered."""
        concerning = [touch for touch in timeline if journey.concerns(touch.type)]
        state, _ = fold(journey, concerning, datetime.min.replace(tzinfo=UTC))
        held = stored(state)
        for touch in concerning:
            with pytest.raises(OutOfOrder):
                journey.step(state, touch)
            with pytest.raises(OutOfOrder):
                journey.carry_in_place(state, [touch])
        assert stored(state) == held
