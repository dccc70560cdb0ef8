"""Rules at their edges, where random timelines seldom come."""

from __future__ import annotations

from typing import Any

import pytest

from shared.journey.language import parse
from tests.support.stories import Told, on, tell

LABELS = "{en: A, da: B, sv: C}"


def journey(second: str, more: str = "") -> Any:
    """Three stages, the second entered by a rule."""
    stages = [("one", "{}"), ("two", second), ("three", "{type: buy}")]
    lines = [f"key: edges\nversion: 1\nlabels: {LABELS}\nstages:"]
    lines += [f"  - {{key: {key}, labels: {LABELS}, enter: {rule}}}" for key, rule in stages]
    return parse("\n".join([*lines, more]), "edges.yaml")


def place(told: Told) -> str | None:
    return told.state.place


@pytest.mark.parametrize(("last", "expected"), [(2.0, "two"), (2.001, "one")])
def test_a_window_takes_in_its_own_length(last: float, expected: str) -> None:
    """A touchpoint that lies exactly so long back counts, and one that lies longer back doesn't."""
    rule = journey("{type: view, at_least: 2, within: 2d}")

    assert place(tell(rule, on(0, "view"), on(last, "view"))) == expected


@pytest.mark.parametrize(
    ("times", "expected"), [((0.9, 1.0), "two"), ((1.0, 1.9), "one"), ((0.0, 1.0), "two")]
)
def test_a_day_begins_at_midnight(times: tuple[float, float], expected: str) -> None:
    """Midnight belongs to the day that it begins, with a window and without."""
    views = [on(time, "view") for time in times]

    for rule in (
        "{type: view, at_least: 2, distinct: days}",
        "{type: view, at_least: 2, distinct: days, within: 9d}",
    ):
        assert place(tell(journey(rule), *views)) == expected


@pytest.mark.parametrize(("last", "expected"), [(6.9, "one"), (7, "two")])
def test_so_long_ago_is_reached_at_that_instant(last: float, expected: str) -> None:
    """`ago` is told from the first match; the touchpoint that it lets through may be any other."""
    rule = journey("{all: [{type: view, ago: 7d}, {type: call}]}")

    assert place(tell(rule, on(0, "view"), on(3, "view"), on(last, "call"))) == expected


@pytest.mark.parametrize(("value", "expected"), [(True, "gone"), (1, "two")])
def test_true_and_1_count_apart(value: object, expected: str) -> None:
    """Rules that ask for the one and for the other are two, though Python has both for equal."""
    rule = "{{type: view, property: {{p: {}}}, at_least: 2}}".format
    exits = f"exits: [{{key: gone, labels: {LABELS}, enter: {{on: {rule('true')}}}}}]"
    views = [on(day, "view", properties={"p": value}) for day in range(2)]

    assert place(tell(journey(rule(1), exits), *views)) == expected


def test_counts_begin_anew_with_a_lap() -> None:
    """Two views of the first lap are none of the second; the touchpoint that begins it counts for neither."""
    laps = "laps: [{from: three, to: one, on: {type: view}}]"
    definition = journey("{type: view, at_least: 2}", laps)
    first = [on(0, "view"), on(1, "view"), on(2, "buy"), on(3, "view")]

    assert place(tell(definition, *first)) == "one"
    assert place(tell(definition, *first, on(4, "view"))) == "one"
    assert place(tell(definition, *first, on(4, "view"), on(5, "view"))) == "two"


def test_counts_in_a_stage_begin_anew_with_the_stage() -> None:
    """Views before the purchase say nothing about what happened since."""
    laps = "laps: [{from: three, to: one, on: {type: view, at_least: 2, in_stage: true}}]"
    definition = journey("{type: never}", laps)
    bought = [on(0, "view"), on(1, "view"), on(2, "buy"), on(3, "view")]

    assert tell(definition, *bought).state.lap == 1
    assert tell(definition, *bought, on(4, "view")).state.lap == 2


def test_going_back_is_never_to_where_one_is() -> None:
    """A way back from any stage leads only to an earlier one."""
    definition = journey("{type: call}", "regress: [{to: two, on: {type: return}}]")

    assert tell(definition, on(0, "call"), on(1, "return")).path == ["two"]
    assert tell(definition, on(0, "buy"), on(1, "return")).path == ["three", "two"]


def test_what_was_inferred_stays_inferred_until_it_is_observed() -> None:
    """Going back to the first stage doesn't forget that the second must have been."""
    definition = journey("{type: call}", "regress: [{to: one, on: {type: return}}]")
    back = tell(definition, on(0, "buy"), on(1, "return"))
    again = tell(definition, on(0, "buy"), on(1, "return"), on(2, "call"))

    assert (back.observed, back.inferred) == (["one", "three"], ["two"])
    assert (again.observed, again.inferred) == (["one", "two", "three"], [])
