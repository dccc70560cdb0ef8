"""The pages about journeys tell the truth."""

from __future__ import annotations

import re

import pytest

from shared.journey.catalog import all_definitions
from shared.journey.definition import Definition
from shared.journey.language import parse, schema
from tests.docs.journeys_page import FILE, diagram, text
from tests.support.stories import Happening, Told, on, tell

GUIDE = FILE.with_name("writing-journeys.md")
GYM = FILE.with_name("examples") / "gym.yaml"


def test_the_page_of_the_built_in_journeys_is_made_from_them() -> None:
    """Diagrams, tables and words are the definitions'; run python -m tests.docs.journeys_page."""
    assert FILE.read_text() == text()


@pytest.mark.parametrize("definition", [one for one, _ in all_definitions(None)], ids=lambda one: one.key)
def test_every_stage_and_exit_can_be_reached_in_its_diagram(definition: Definition) -> None:
    """An arrow leads to each of them, and there are no others."""
    arrows = [line.strip().partition(":")[0] for line in diagram(definition).splitlines() if "-->" in line]
    reached = {arrow.partition(" --> ")[2] for arrow in arrows}

    assert reached == {key.replace("-", "_") for key in definition.places}


def test_the_guides_example_is_the_file_that_it_names() -> None:
    """What a reader copies from the page is what the tests run."""
    assert f"```yaml\n{GYM.read_text()}```\n" in GUIDE.read_text()


def test_the_guide_tells_every_name_of_the_language() -> None:
    """No part of a file or of a rule is left out of its tables."""
    guide, rule = GUIDE.read_text(), schema()["$defs"]["rule"]["properties"]
    names = {*schema()["properties"], *rule, *_stage_names()}

    assert not [name for name in sorted(names) if not re.search(rf"`[^`]*\b{name}\b[^`]*`", guide)]


def test_the_gym_does_what_the_guide_says() -> None:
    """Ida's way: on trial, paused, a member, a regular, at risk, gone, and back."""
    visits = [on(20 + number, "store_visited", "store") for number in range(8)]
    story = [on(0, "trial_started", "store"), on(12, "subscription_started"), *visits]
    complained = [on(30, "complaint", "phone")]

    assert gym(*story[:1], until=7).state.paused
    assert gym(*story).path == ["trial", "member", "regular"]
    assert gym(*story[:9], on(26.5, "complaint"), *visits[-1:]).path == ["trial", "member"]
    assert (gym(*story, *complained).open, gym(*story, *complained).signals) == (["complaint"], ["at_risk"])
    left = [*story, *complained, on(40, "subscription_cancelled")]
    back = gym(*left, on(90, "subscription_started"))
    assert back.path == ["trial", "member", "regular", "left", "member"]
    assert (back.state.lap, back.counts) == (2, {})


def gym(*happenings: Happening, until: float | None = None) -> Told:
    return tell(parse(GYM.read_text(), "gym.yaml"), *happenings, until=until)


def _stage_names() -> set[str]:
    return set(schema()["properties"]["stages"]["items"]["properties"])
