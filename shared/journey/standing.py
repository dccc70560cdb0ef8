"""What a state says, in the definition's words: what stands beside the stage, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from shared.journey.definition import Definition, Labels, OverlayKind
from shared.journey.state import Kind, State, Transition


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run of a journey is about: the customer, an account by its `account_id`, or the thing that the
    property `name` of its touchpoints names."""

    kind: Literal["customer", "account", "thing"]
    name: str | None = None
    value: str | None = None


CUSTOMER = About("customer")


def about_of(definition: Definition | None, run: str, account: str | None = None) -> About:
    """What a run of a journey is about: the account of that identity, the thing of that name, or else the
    customer."""
    if account is not None:
        kind, _, value = account.partition(":")
        return About("account", kind, value)
    if run:
        return About("thing", definition.subject.property_name if definition else None, run)
    return CUSTOMER


class Upcoming(msgspec.Struct, frozen=True):
    """What will happen, and when, if no touchpoint comes first; `rule` names the clock of the definition."""

    at: datetime
    change: Kind
    to: str
    to_paused: bool
    rule: str


class OpenOverlay(msgspec.Struct, frozen=True):
    """An interruption or a detour that is open, and since when; the stages that it blocks can't be
    entered."""

    key: str
    kind: OverlayKind
    labels: Labels
    since: datetime
    blocks: Sequence[str]


class SignalOn(msgspec.Struct, frozen=True):
    """A signal that is on, and since when."""

    key: str
    labels: Labels
    since: datetime


class TallyItem(msgspec.Struct, frozen=True):
    """A number of touchpoints in this lap, and whether what ends the counting has happened."""

    key: str
    labels: Labels
    count: int
    final: bool


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


def upcoming(change: Transition) -> Upcoming:
    """What time will do, of the transition that it will make."""
    return Upcoming(change.at, change.kind, change.to_place, change.to_paused, change.rule)
