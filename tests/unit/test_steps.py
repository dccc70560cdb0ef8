"""The functions that touchpoints are folded by; what they do, the laws of the fold say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from shared.journey.catalog import all_definitions
from shared.journey.effects import Effects
from shared.journey.fold import Journey, fold
from shared.journey.language import parse
from shared.journey.plan import Plans
from shared.journey.steps import Steps
from shared.journey.touch import Touch
from tests.support.journeys import EPOCH


def test_types_that_senders_make_up_cost_no_memory_each() -> None:
    """Of types that no rule names there may be any number: they share one step, in each place, and only so
    many of their names are remembered."""
    for definition, _ in all_definitions(None):
        plans = Plans(definition)
        steps = Steps(definition, plans, Effects(definition, plans))
        for here in (steps.of[None], steps.of_bare[definition.stages[-1].key]):
            made = {id(here[f"made_up_{number}"]) for number in range(2_000)}

            assert len(made) == 1
            assert len(here) <= 1_000


_SIMPLE = """
key: simple
version: 1
labels: {en: Simple, da: Enkel, sv: Enkel}
stages:
  - key: first
    labels: {en: First, da: Første, sv: Första}
    enter: {}
  - key: second
    labels: {en: Second, da: Anden, sv: Andra}
    enter: {type: order_completed, at_least: 2}
"""


def test_no_word_of_a_definition_is_compiled() -> None:
    """Its texts are values: one that would be code anywhere in a source is only the name of a place."""
    hostile = "'\"\n    raise SystemExit #"
    definition = parse(_SIMPLE, "simple.yaml")
    stages = tuple(replace(one, key=hostile + one.key) for one in definition.stages)
    orders = [
        Touch(EPOCH + timedelta(days=day), UUID(int=day + 1), "order_completed", "web") for day in range(3)
    ]

    _, history = fold(Journey(replace(definition, stages=stages)), orders, EPOCH + timedelta(days=9))

    assert [one.to_place for one in history] == [f"{hostile}first", f"{hostile}second"]
