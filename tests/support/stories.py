"""Stories: what happened to somebody, told day by day, and the way through a journey that it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from shared.codec import decode
from shared.journey.catalog import all_definitions
from shared.journey.definition import Definition
from shared.journey.fold import Journey, fold, fold_runs
from shared.journey.state import State, Transition
from shared.journey.touch import Lens, Touch
from tests.support.journeys import EPOCH

BUILT_IN: Mapping[str, Definition] = {one.key: one for one, _ in all_definitions(None)}

Happening = tuple[float, str, str, Mapping[str, Any]]
"""The day, the type, the channel, and whatever else the touchpoint says."""


def on(day: float, type_: str, channel: str = "web", **more: Any) -> Happening:
    """A touchpoint so many days after the story's beginning."""
    return day, type_, channel, more


def day(number: float) -> datetime:
    """An instant of the story."""
    return EPOCH + timedelta(days=number)


@dataclass(frozen=True)
class Told:
    """What a story gives: the state at its end, and the transitions on the way."""

    definition: Definition
    state: State
    history: Sequence[Transition]

    @property
    def path(self) -> list[str]:
        """The stages and exits in the order in which they were entered."""
        return [one.to_place for one in self.history if one.kind in _MOVES]

    def kinds(self, *kinds: str) -> list[tuple[str, str, float]]:
        """The transitions of some kinds: the kind, the rule, and the day."""
        return [
            (one.kind, one.rule, (one.at - EPOCH) / timedelta(days=1))
            for one in self.history
            if one.kind in kinds
        ]

    @property
    def observed(self) -> list[str]:
        return self._stages(self.state.observed)

    @property
    def inferred(self) -> list[str]:
        return self._stages(self.state.inferred)

    @property
    def signals(self) -> list[str]:
        return [
            one.key for one, since in zip(self.definition.signals, self.state.signals, strict=False) if since
        ]

    @property
    def open(self) -> list[str]:
        return [
            one.key for one, since in zip(self.definition.overlays, self.state.open, strict=False) if since
        ]

    @property
    def counts(self) -> Mapping[str, int]:
        return {
            one.key: count
            for one, count in zip(self.definition.tallies, self.state.counts, strict=False)
            if count
        }

    def _stages(self, bits: int) -> list[str]:
        return [stage.key for bit, stage in enumerate(self.definition.stages) if bits >> bit & 1]


_MOVES = frozenset({"enter", "pass", "regress", "lap", "exit", "return"})


def tell(definition: Definition | str, *happenings: Happening, until: float | None = None) -> Told:
    """Fold a story, up to its last touchpoint or to a later day."""
    definition = BUILT_IN[definition] if isinstance(definition, str) else definition
    journey = Journey(definition)
    last = max(happening[0] for happening in happenings)
    return Told(definition, *fold(journey, touches(journey, happenings), day(max(last, until or 0))))


def tell_runs(key: str, *happenings: Happening, until: float) -> Mapping[str, Told]:
    """The same for a journey whose runs are about things."""
    journey = Journey(BUILT_IN[key])
    runs = fold_runs(journey, touches(journey, happenings), day(until))
    return {name: Told(BUILT_IN[key], *run) for name, run in runs.items()}


def touches(journey: Journey, happenings: Sequence[Happening]) -> list[Touch]:
    """The touches that the stager would make of the touchpoints."""
    lens = Lens([journey.asks])
    found = []
    for number, (when, type_, channel, more) in enumerate(sorted(happenings, key=lambda one: one[0]), 1):
        at = day(when)
        said = {"id": str(number), "type": type_, "channel": channel, "occurred_at": at, "received_at": at}
        said |= {"source": "story", "identities": ("user_id:ann",), **more}
        found.append(lens.touch(UUID(int=number), decode(msgspec.json.encode(said))))
    return found
