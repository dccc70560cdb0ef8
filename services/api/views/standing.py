"""What a state says beside the stage, in the definition's words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.api.views.answers import OpenOverlay, SignalOn, TallyItem
from shared.journey.definition import Definition
from shared.journey.state import State


def stages_of(definition: Definition, bits: int) -> Sequence[str]:
    """The stages of a state's bits, in order."""
    return [stage.key for number, stage in enumerate(definition.stages) if bits >> number & 1]


def overlays(definition: Definition, state: State) -> Iterator[OpenOverlay]:
    """Those that are open."""
    for overlay, since in zip(definition.overlays, state.open, strict=False):
        if since is not None:
            yield OpenOverlay(overlay.key, overlay.kind, overlay.labels, since, sorted(overlay.blocks))


def signals(definition: Definition, state: State) -> Iterator[SignalOn]:
    """Those that are on."""
    for signal, since in zip(definition.signals, state.signals, strict=False):
        if since is not None:
            yield SignalOn(signal.key, signal.labels, since)


def tallies(definition: Definition, state: State) -> Iterator[TallyItem]:
    """All of them."""
    for number, tally in enumerate(definition.tallies):
        count = state.counts[number] if state.counts else 0
        yield TallyItem(tally.key, tally.labels, count, bool(state.counted >> number & 1))
