"""An active journey definition, made ready to be looked things up in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from services.api.views.answers import Article, JourneyDefinition, JourneyItem, Place
from shared import strict_yaml
from shared.journey.definition import Definition, Labels
from shared.journey.fold import Journey
from shared.journey.proof import Prover
from shared.journey.touch import Lens


@dataclass(frozen=True, slots=True)
class ActiveJourney:
    """A definition, compiled, with what reads touchpoints for it and what makes its proofs, the labels of its
    places by key, and the whole of it."""

    journey: Journey
    lens: Lens
    prover: Prover
    labels_of: Mapping[str, Labels]
    whole: JourneyDefinition

    @property
    def definition(self) -> Definition:
        return self.journey.definition

    def described(self) -> JourneyItem:
        """What the API says of it."""
        definition, article = self.definition, self.definition.article
        return JourneyItem(
            definition.key,
            definition.version,
            definition.labels,
            [Place(stage.key, stage.labels) for stage in definition.stages],
            [Place(exit_.key, exit_.labels) for exit_ in definition.exits],
            Article(article.number, article.language, article.title, article.by) if article else None,
            definition.subject.property_name or definition.subject.kind,
        )


def activate(definition: Definition) -> ActiveJourney:
    """Make a definition ready."""
    labels_of = {stage.key: stage.labels for stage in definition.stages}
    labels_of |= {exit_.key: exit_.labels for exit_ in definition.exits}
    data = msgspec.Raw(msgspec.json.encode(strict_yaml.load(definition.source, [])))
    whole = JourneyDefinition(definition.key, definition.version, definition.hash, definition.source, data)
    journey = Journey(definition)
    return ActiveJourney(journey, Lens([journey.asks]), Prover(journey), labels_of, whole)
