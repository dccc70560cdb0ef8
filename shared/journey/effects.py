"""What can happen to a state at its position: each is a change of it, and the transition that tells of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from shared.journey.definition import Definition
from shared.journey.plan import Numbered, Place, Plans
from shared.journey.state import Kind, State, Transition, note
from shared.journey.touch import Touch

Arrive: TypeAlias = Callable[[State, Kind, UUID | None, str, list[Transition]], None]
"""Enters a place, by a touchpoint or by time, and goes on through a gate; the text names the rule."""


class Effects:
    """The effects that a definition knows of."""

    def __init__(self, definition: Definition, plans: Plans) -> None:
        self._definition = definition
        self._places = plans.places
        self._substages = {stage.key: [one.key for one in stage.substages] for stage in definition.stages}
        self.arrive: Mapping[str, Arrive] = _arrivals(plans.places, sorted(plans.rules.of_stage))

    def pause(self, state: State, rule: str, out: list[Transition]) -> None:
        """Pause the stage, by time."""
        assert state.place is not None
        note(state, "pause", state.place, True, None, rule, out)

    def reset_clocks(
        self, state: State, touch: Touch, resets: Sequence[Numbered], out: list[Transition]
    ) -> None:
        """Start the clocks anew that this touchpoint starts anew, and end the pause if one of them paused."""
        place = state.place
        assert place is not None
        for number, matches in resets:
            if matches(state, touch):
                anchors = state.anchors
                state.anchors = (*anchors[:number], touch.at, *anchors[number + 1 :])
                clock = self._places[place].clocks[number]
                if clock.to is None and state.paused:
                    note(state, "resume", place, False, touch.id, clock.rule, out)

    def enter_substage(
        self, state: State, touch: Touch, substages: Sequence[Numbered], out: list[Transition]
    ) -> None:
        """Enter the first substage whose rule holds, if it lies further on."""
        assert state.place is not None
        keys = self._substages[state.place]
        here = -1 if state.substage is None else keys.index(state.substage)
        for number, holds in substages:
            if number > here and holds(state, touch):
                state.substage = keys[number]
                rule = f"{state.place}.{keys[number]}.enter"
                note(state, "substage", state.place, state.paused, touch.id, rule, out)
                return

    def close(self, state: State, touch: Touch, closes: Sequence[Numbered], out: list[Transition]) -> None:
        """Close the open overlays that this touchpoint closes."""
        for number, holds in closes:
            if state.open and state.open[number] is not None and holds(state, touch):
                self.set_open(state, number, None, touch.id, "close", out)

    def set_open(
        self,
        state: State,
        number: int,
        since: datetime | None,
        touchpoint_id: UUID | None,
        why: str,
        out: list[Transition],
    ) -> None:
        """Open an overlay, or close it."""
        assert state.place is not None
        overlays = self._definition.overlays
        state.open = _with_value(state.open, number, since, len(overlays))
        rule = f"{overlays[number].key}.{why}"
        note(state, "open" if since else "close", state.place, state.paused, touchpoint_id, rule, out)

    def turn(
        self,
        state: State,
        number: int,
        since: datetime | None,
        touchpoint_id: UUID | None,
        why: str,
        out: list[Transition],
    ) -> None:
        """Turn a signal on, or off."""
        assert state.place is not None
        signals = self._definition.signals
        state.signals = _with_value(state.signals, number, since, len(signals))
        kind: Kind = "signal_on" if since else "signal_off"
        rule = f"{signals[number].key}.{why}"
        note(state, kind, state.place, state.paused, touchpoint_id, rule, out)


def _arrivals(places: Mapping[str, Place], of_stage: Sequence[int]) -> Mapping[str, Arrive]:
    bits = {key: place.bit for key, place in places.items()}
    found: dict[str, Arrive] = {}
    # A gate leads to a later stage.
    for key, place in reversed([*places.items()]):
        passes_on = None if place.leads_to is None else found[place.leads_to]
        found[key] = _arrival(place, bits, of_stage, passes_on)
    return found


def _arrival(
    place: Place, bits: Mapping[str, int], of_stage: Sequence[int], passes_on: Arrive | None
) -> Arrive:
    key, bit, earlier, substage = place.key, place.bit, place.earlier, place.substage
    clocks, gate = len(place.clocks), f"{place.key}.gate"

    def arrive(
        state: State, kind: Kind, touchpoint_id: UUID | None, rule: str, out: list[Transition]
    ) -> None:
        # `note`, without the call.
        at, number = state.at, state.transitions
        out.append(Transition(number, at, kind, state.place, state.paused, key, False, touchpoint_id, rule))
        state.place, state.paused, state.transitions = key, False, number + 1
        state.entered_at, state.substage = at, substage
        state.anchors = (at,) * clocks
        if of_stage and state.tallies:
            for tally in of_stage:
                if state.tallies[tally]:
                    state.tallies = (*state.tallies[:tally], (), *state.tallies[tally + 1 :])
        if not bit:
            return
        observed = state.observed = state.observed | bit
        state.inferred = (state.inferred | earlier) & ~observed
        if state.furthest is None or bit > bits[state.furthest]:
            state.furthest = key
        if passes_on is not None:
            passes_on(state, "pass", touchpoint_id, gate, out)

    return arrive


def _with_value(
    values: tuple[datetime | None, ...], number: int, value: datetime | None, size: int
) -> tuple[datetime | None, ...]:
    """The values with one of them set; empty where nothing stands in them."""
    full = values or (None,) * size
    found = (*full[:number], value, *full[number + 1 :])
    return found if any(found) else ()
