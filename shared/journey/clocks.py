"""What time alone will do to a customer: the clocks that run, and what comes of them in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from shared.journey import words
from shared.journey.fold import Journey
from shared.journey.state import FOR_EVER, State, Transition


class RunningClock(msgspec.Struct, frozen=True, kw_only=True):
    """A clock that runs: `since` an instant, and due `at`, if nothing stops it or starts it anew before.

    What it is about is the stage that is paused (`patience`: such a silence is what the stage is for), the
    exit that is entered, the overlay that closes or the signal that goes off. `restarts_on` says which
    touchpoints start it anew; null: none does.
    """

    kind: Literal["pause", "exit", "close", "signal_off"]
    about: str
    at: datetime
    since: datetime
    rule: str
    says: str
    restarts_on: str | None = None
    patience: bool = False


def running(journey: Journey, state: State) -> list[RunningClock]:
    """The clocks that run in a state, the first that is due first."""
    return sorted((*_of_stage(journey, state), *_beside(journey, state)), key=lambda clock: clock.at)


def ahead(journey: Journey, state: State) -> Sequence[Transition]:
    """All that time will do to this state, in turn, if no touchpoint ever comes. It ends: each clock runs
    out once, and an exit has none."""
    return journey.advance(state, FOR_EVER)[1]


def _of_stage(journey: Journey, state: State) -> Iterator[RunningClock]:
    if state.place is None:
        return
    patient = {one.key for one in journey.definition.stages if one.pause is not None and one.pause.patience}
    for since, clock in zip(state.anchors, journey.plans.places[state.place].clocks, strict=True):
        if clock.to is None and state.paused:
            continue
        yield RunningClock(
            kind="exit" if clock.to else "pause",
            about=clock.to or state.place,
            at=since + clock.after,
            since=since,
            rule=clock.rule,
            says=words.silence(clock.after, clock.since),
            restarts_on=words.touchpoints(clock.since),
            patience=clock.to is None and state.place in patient,
        )


def _beside(journey: Journey, state: State) -> Iterator[RunningClock]:
    definition = journey.definition
    for overlay, since in zip(definition.overlays, state.open, strict=False):
        if since is not None and overlay.close_after is not None:
            yield _ending("close", overlay.key, since, overlay.close_after)
    for signal, since in zip(definition.signals, state.signals, strict=False):
        if since is not None and signal.off_after is not None:
            yield _ending("signal_off", signal.key, since, signal.off_after)


def _ending(
    kind: Literal["close", "signal_off"], about: str, since: datetime, after: timedelta
) -> RunningClock:
    why = "close_after" if kind == "close" else "off_after"
    says = words.ending(after, "was opened" if kind == "close" else "went on")
    return RunningClock(
        kind=kind, about=about, at=since + after, since=since, rule=f"{about}.{why}", says=says
    )
