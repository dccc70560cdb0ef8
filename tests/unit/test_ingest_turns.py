"""Short turns of the event loop, and what waits for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.steps import Steps
from services.ingest.turns import SHARE, SHORT_BYTES, STEP_S, TURN_S, TURN_S_MAX, WAIT_S_MAX, Turns
from shared.problem import Problem
from tests.support.clock import ManualClock
from tests.support.journeys import EPOCH


class Loop:
    """A loop whose turns a test begins, with jobs that take their time."""

    def __init__(self) -> None:
        self.clock = ManualClock(EPOCH)
        self._next: list[Callable[[], None]] = []
        self.turns = Turns(self.clock, self._next.append, lambda: 3)
        self.done: list[int] = []

    def turn(self) -> None:
        """Begin the next turn."""
        callbacks, self._next[:] = list(self._next), []
        for callback in callbacks:
            callback()

    def come(self, number: int, seconds: float, size: int = SHORT_BYTES, steps: int = 1) -> None:
        """A job comes that will take so long in each of its steps, for so many bytes."""

        def job() -> Steps[None]:
            for _ in range(steps - 1):
                self.clock.advance(seconds)
                yield
            self.clock.advance(seconds)
            self.done.append(number)

        self.turns.do(job(), size)

    @property
    def idle(self) -> bool:
        """Whether nothing is to be done in the next turn."""
        return not self._next


def refused(turns: Turns, behind_s: float = 0.0, size: int = SHORT_BYTES) -> bool:
    """Whether a new request is turned away."""
    try:
        turns.check(behind_s, size)
    except Problem as problem:
        return (problem.status, problem.code, problem.retry_after_s) == (503, "overloaded", 3)
    return False


def test_a_turn_that_has_lasted_leaves_the_rest_to_the_next_ones() -> None:
    """Jobs are done at once while the turn is short, and in their order afterwards."""
    loop = Loop()
    for number in range(4):
        loop.come(number, 0.8 * TURN_S)
    assert loop.done == [0, 1]

    loop.turn()
    assert loop.done == [0, 1, 2, 3]
    loop.turn()
    assert loop.idle


def test_what_would_have_to_wait_for_too_long_is_refused_until_less_waits() -> None:
    """How long one takes is known from those that have waited."""
    loop = Loop()
    for number in range(100):
        loop.come(number, 2 * TURN_S)
    assert not refused(loop.turns)

    loop.turn()
    assert refused(loop.turns)
    while refused(loop.turns):
        loop.turn()
    assert len(loop.done) == pytest.approx(100 - WAIT_S_MAX / (2 * TURN_S), abs=1)


def test_what_waits_further_on_counts_too() -> None:
    """A commit that is far behind turns new requests away as well."""
    turns = Loop().turns
    assert not refused(turns, WAIT_S_MAX)
    assert refused(turns, WAIT_S_MAX + 0.01)


def test_reading_has_its_share_of_a_loop_that_is_busy_elsewhere() -> None:
    """While requests are refused: the longer everything else takes, the longer a turn reads."""
    loop = Loop()
    for number in range(1_000):
        loop.come(number, TURN_S)
    loop.turn()
    assert refused(loop.turns)
    before = len(loop.done)
    loop.clock.advance(5 * TURN_S)

    loop.turn()
    assert len(loop.done) - before == pytest.approx(5 * SHARE, abs=1)


def test_turns_stay_short_while_nobody_is_refused() -> None:
    """However busy the loop is elsewhere."""
    loop = Loop()
    for number in range(10):
        loop.come(number, 2 * TURN_S)
    loop.turn()
    loop.clock.advance(5 * TURN_S)
    loop.turn()

    assert loop.done == [0, 1, 2]


def test_a_loop_that_was_stopped_reads_no_longer_than_another() -> None:
    """A process that slept for a minute has nothing to make up for, and a turn always does something."""
    loop = Loop()
    for number in range(1_000):
        loop.come(number, TURN_S)
    loop.turn()
    before = len(loop.done)
    loop.clock.advance(60)
    assert refused(loop.turns)

    loop.turn()
    assert 0 < len(loop.done) - before <= TURN_S_MAX / TURN_S + 1


def test_what_is_short_waits_for_no_more_than_the_turn_under_way() -> None:
    """However many long ones came before, and however long they take; and each turn has one of these too."""
    loop = Loop()
    for number in range(5):
        loop.come(number, 2 * TURN_S, SHORT_BYTES + 1)
    loop.come(5, 2 * TURN_S)
    loop.come(6, 2 * TURN_S)
    assert loop.done == [0]

    loop.turn()
    assert loop.done == [0, 1, 5]
    loop.come(7, 2 * TURN_S)
    loop.turn()
    assert loop.done == [0, 1, 5, 2, 6]
    while not loop.idle:
        loop.turn()
    assert sorted(loop.done) == list(range(8))


def test_a_job_of_many_steps_holds_up_no_other() -> None:
    """After a few of its steps the others have their turn: one that is short, and one that is long."""
    loop = Loop()
    loop.come(0, STEP_S, SHORT_BYTES + 1, steps=1_000)
    loop.come(1, STEP_S)
    loop.come(2, STEP_S, SHORT_BYTES + 1)
    assert loop.done == [1]

    began_s = loop.clock.monotonic_s()
    loop.turn()
    assert loop.done == [1, 2]
    assert loop.clock.monotonic_s() - began_s <= TURN_S + 3 * STEP_S
    while not loop.idle:
        loop.turn()
    assert loop.done == [1, 2, 0]


def test_a_short_body_that_takes_long_waits_with_the_long_ones() -> None:
    """Few bytes may ask for much work."""
    loop = Loop()
    loop.come(0, STEP_S, steps=1_000)
    loop.come(1, STEP_S)
    loop.come(2, STEP_S)
    assert loop.done == [1, 2]


def test_long_ones_that_wait_refuse_others_and_not_the_short_ones() -> None:
    """Those don't wait for them."""
    loop = Loop()
    for number in range(10):
        loop.come(number, TURN_S, SHORT_BYTES + 1, steps=10)
    while not loop.done:
        loop.turn()

    assert refused(loop.turns, size=SHORT_BYTES + 1)
    assert not refused(loop.turns)


@given(st.lists(st.tuples(st.floats(0, 0.2), st.booleans(), st.booleans()), max_size=60))
def test_every_job_is_done_once_and_in_the_order_of_its_kind(coming: list[tuple[float, bool, bool]]) -> None:
    """However long they take and whenever the turns begin."""
    loop = Loop()
    for number, (seconds, turns, is_short) in enumerate(coming):
        loop.come(number, seconds, SHORT_BYTES + (not is_short))
        if turns:
            loop.turn()
    while not loop.idle:
        loop.turn()

    for kind in (True, False):
        numbers = [number for number, (_, _, is_short) in enumerate(coming) if is_short is kind]
        assert [number for number in loop.done if number in set(numbers)] == numbers
    assert len(loop.done) == len(coming)
