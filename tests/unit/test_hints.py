"""What a definition says that is right, and probably not meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.supervisor.hints import hints
from shared.journey.language import parse
from tests.support.journeys import all_journeys

_GYM = (Path(__file__).parents[2] / "docs/examples/gym.yaml").read_text()
_EXIT = "      - {from: trial, after: 30d}\n"
_SILENCE = "in the stage without any touchpoint"


def hints_with(exits: str) -> list[str]:
    """Those of the gym, its trials ended in other ways. A trial is paused after 7 days."""
    assert _EXIT in _GYM
    return list(hints(parse(_GYM.replace(_EXIT, exits), "gym.yaml")))


def test_the_built_in_journeys_give_none() -> None:
    """Nor does the guide's."""
    found = [hint for journey in all_journeys() for hint in hints(journey.definition)]

    assert found == []
    assert hints_with(_EXIT) == []


@pytest.mark.parametrize("after", ["3d", "7d"])
def test_a_pause_never_comes_where_an_exit_comes_by_then(after: str) -> None:
    """By the same kind of silence, and as long a one at most."""
    assert hints_with(f"      - {{from: trial, after: {after}}}\n") == [
        f"the pause of trial never comes by 7 d {_SILENCE}: exit left comes by {after[0]} d {_SILENCE}"
    ]


def test_clocks_of_different_kinds_of_silence_may_come_in_any_order() -> None:
    """Whatever the lengths, each may be started anew when the other is not; true and 1 are of two kinds."""
    exits = "".join(
        f"      - {{from: trial, after: {after}, since: {{type: visited, property: {{sauna: {value}}}}}}}\n"
        for after, value in (("3d", "true"), ("4d", "1"), ("5d", "2"))
    )

    assert hints_with(exits) == []


def test_an_exit_that_comes_out_of_some_stage_is_not_told() -> None:
    """A way out of every stage is there for those that have no shorter one of their own; of two such ways the
    longer one comes never, which is told once."""
    of_trial, of_all, later = (
        f"      - {{{where}after: {after}}}\n"
        for where, after in (("from: trial, ", "8d"), ("", "90d"), ("", "91d"))
    )

    assert hints_with(of_trial + of_all) == []
    assert hints_with(of_trial + of_all + later) == [
        f"exit left never comes by 91 d {_SILENCE}: exit left comes by 8 d {_SILENCE}"
    ]
