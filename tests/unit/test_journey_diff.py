"""`rejse journeys diff` says in words what changed, and nothing of how a file is laid out."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.supervisor.journey_diff import Change, changes
from shared.journey.language import parse
from tests.support.journeys import EVERYTHING, WHOLE

GYM = (Path(__file__).parents[2] / "docs/examples/gym.yaml").read_text()


def told(text: str, old: str, new: str) -> list[Change]:
    assert old in text
    return list(changes(parse(text, "before"), parse(text.replace(old, new, 1), "after")))


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("version: 1", "version: 2", Change("version", "1", "2")),
        ("da: På prøve", "da: Prøver", Change("stage trial: label in Danish", "På prøve", "Prøver")),
        (
            "pause: {after: 7d}",
            "pause: {after: 9d}",
            Change("stage trial: the clock that pauses it", "{after: 7d}", "{after: 9d}"),
        ),
        (
            "{type: store_visited, at_least: 8, distinct: days, within: 30d}",
            "{type: store_visited, at_least: 6}",
            Change(
                "stage regular: how it is entered",
                "{type: store_visited, at_least: 8, distinct: days, within: 30d}",
                "{type: store_visited, at_least: 6}",
            ),
        ),
        (
            "off_after: 60d",
            "off_after: 4w",
            Change("signal at_risk: the clock that turns it off", "60d", "4w"),
        ),
        (
            "close: {type: complaint_resolved}",
            "close: {type: chat_ended}",
            Change("overlay complaint: what closes it", "{type: complaint_resolved}", "{type: chat_ended}"),
        ),
        (
            "of: {type: store_visited}",
            "of: {type: class_booked}",
            Change("tally visits: what it counts", "{type: store_visited}", "{type: class_booked}"),
        ),
        (
            "    return: {to: member, on: {type: subscription_started}, new_lap: true}\n",
            "",
            Change(
                "exit left: the ways back from it",
                "{to: member, on: {type: subscription_started}, new_lap: true}",
                "",
            ),
        ),
    ],
)
def test_one_change_is_told_by_what_it_is_about(old: str, new: str, change: Change) -> None:
    """Stage, rule, clock, exit, overlay, signal, tally or label: its name, and both sides as a file has
    them."""
    assert told(GYM, old, new) == [change]


def test_what_came_and_went_is_told_whole() -> None:
    """A stage that is gone, a new one, and another order."""
    stage = "  - {key: guest, labels: {en: G, da: G, sv: G}, enter: {type: store_visited}}\n"
    came = told(GYM, "  - key: trial\n", f"{stage}  - key: trial\n")
    went = changes(parse(GYM.replace("  - key: trial\n", f"{stage}  - key: trial\n"), "b"), parse(GYM, "a"))
    other = (Path(__file__).parents[1] / "support/definitions/whole.yaml").read_text()

    assert came == [Change("stage guest", "is new", "{enter: {type: store_visited}}")]
    assert went == [Change("stage guest", "{enter: {type: store_visited}}", "is gone")]
    assert len(changes(parse(EVERYTHING, "a"), parse(other, "b"))) > 10


def test_comments_layout_and_single_items_are_no_change() -> None:
    """What means the same says the same."""
    for text in (GYM, EVERYTHING, WHOLE):
        assert told(text, "key: ", "# a comment\nkey: ") == []
    assert told(GYM, "from: member\n", "from: [member]\n") == []
