"""The rules that can change what stands beside the stage: substages, overlays and signals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import chain, repeat
from typing import NamedTuple

from shared.journey import words
from shared.journey.definition import START, Definition, Overlay, Signal
from shared.journey.lacking import Looked
from shared.journey.reasons import BesideKind, Elsewhere, Reason, Stands
from shared.journey.rules import Rule
from shared.journey.state import NEVER, State


class Beside(NamedTuple):
    """A rule that could change the substage, overlay or signal `about`: where touchpoints that came near lie,
    and what stands in its way."""

    change: BesideKind
    about: str
    on: Rule
    rule: str
    looked: Looked
    in_the_way: tuple[Reason, ...] = ()


def rules_beside(definition: Definition, state: State) -> Iterator[Beside]:
    """What could be entered further on in the stage, the furthest first; what could open or go on, also where
    it is so already; and what could end what is."""
    yield from _substages(definition, state)
    for overlay, since in zip(definition.overlays, _all(state.open), strict=False):
        obstacles = tuple(_overlay_obstacles(definition, state, overlay, since))
        looked = _looked(state, since, is_here=not obstacles)
        yield Beside("open", overlay.key, overlay.open, f"{overlay.key}.open", looked, obstacles)
        if since is not None:
            yield Beside("close", overlay.key, overlay.close, f"{overlay.key}.close", Looked(since, since))
    for signal, since in zip(definition.signals, _all(state.signals), strict=False):
        obstacles = tuple(_signal_obstacles(definition, state, signal, since))
        looked = _looked(state, since, is_here=not obstacles)
        yield Beside("signal_on", signal.key, signal.on, f"{signal.key}.on", looked, obstacles)
        if since is not None and signal.off is not None:
            yield Beside("signal_off", signal.key, signal.off, f"{signal.key}.off", Looked(since, since))


def _all(since: tuple[datetime | None, ...]) -> Iterator[datetime | None]:
    """A state has no values where nothing stands in them."""
    return chain(since, repeat(None))


def _substages(definition: Definition, state: State) -> Iterator[Beside]:
    looked = Looked(state.entered_at or NEVER, state.entered_at or NEVER)
    for stage in definition.stages:
        if stage.key == state.place:
            keys = [one.key for one in stage.substages]
            here = -1 if state.substage is None else keys.index(state.substage)
            for one in reversed(stage.substages[here + 1 :]):
                if one.enter is not None:
                    yield Beside("substage", one.key, one.enter, f"{stage.key}.{one.key}.enter", looked)


def _looked(state: State, since: datetime | None, *, is_here: bool) -> Looked:
    """A touchpoint that was all that a rule asks for has done nothing while what it opens was open, nor in a
    place where it doesn't. Elsewhere it may have opened what has ended since, which no state remembers."""
    if since is not None:
        return Looked(since, since)
    if is_here:
        return Looked(idle_since=datetime.max.replace(tzinfo=NEVER.tzinfo))
    return Looked(idle_since=state.entered_at or NEVER)


def _overlay_obstacles(
    definition: Definition, state: State, overlay: Overlay, since: datetime | None
) -> Iterator[Reason]:
    if since is not None:
        says = f"the {overlay.kind} {overlay.key} is open already, since {words.moment(since)}"
        yield Stands(says=says, since=since)
    stages = [stage.key for stage in definition.stages]
    places = [key for key in stages if key in overlay.sources] or stages
    if state.place not in places:
        only = f"only in {words.listed(places)}" if overlay.sources else "only in a stage"
        yield Elsewhere(says=f"{only}, and the customer is in {state.place or START}", places=places)


def _signal_obstacles(
    definition: Definition, state: State, signal: Signal, since: datetime | None
) -> Iterator[Reason]:
    if since is not None:
        yield Stands(says=f"the signal {signal.key} is on already, since {words.moment(since)}", since=since)
    places = [key for key in definition.places if not signal.sources or key in signal.sources]
    if state.place not in places:
        only = f"only in {words.listed(places)}" if signal.sources else "only once the journey has begun"
        yield Elsewhere(says=f"{only}, and the customer is in {state.place or START}", places=places)
