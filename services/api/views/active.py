"""An active journey definition, made ready to be looked things up in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.api.views.answers import JourneyItem, Labels, Place
from shared.journey.definition import Definition
from shared.journey.fold import Journey


@dataclass(frozen=True, slots=True)
class ActiveJourney:
    """A definition, compiled, with the labels of its places by key."""

    journey: Journey
    labels_of: Mapping[str, Labels]

    @property
    def definition(self) -> Definition:
        return self.journey.definition

    def described(self) -> JourneyItem:
        """What the API says of it."""
        definition = self.definition
        return JourneyItem(
            definition.key,
            definition.version,
            definition.labels,
            [Place(stage.key, stage.labels) for stage in definition.stages],
            [Place(exit_.key, exit_.labels) for exit_ in definition.exits],
        )


def activate(definition: Definition) -> ActiveJourney:
    """Make a definition ready."""
    labels_of = {stage.key: stage.labels for stage in definition.stages}
    labels_of |= {exit_.key: exit_.labels for exit_ in definition.exits}
    return ActiveJourney(Journey(definition), labels_of)
