"""A customer's state in a journey, its transitions, and how a state is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import msgspec

Kind = Literal[
    "enter",
    "pass",
    "regress",
    "lap",
    "exit",
    "return",
    "pause",
    "resume",
    "substage",
    "open",
    "close",
    "signal_on",
    "signal_off",
]

NEVER = datetime.min.replace(tzinfo=UTC)
FOR_EVER = datetime.max.replace(tzinfo=UTC)
FIRST_ID = UUID(int=0)


class State(msgspec.Struct, array_like=True, gc=False):
    """Everything that has to be known to carry a fold on.

    `at` and `id` are the position: the last touchpoint, or the last due time, that was folded in. `furthest`
    is the furthest stage ever entered; `transitions` says how many transitions there have been. Tuples follow
    the order of the definition, and are empty where nothing stands in them:

    - `anchors`: the instants from which the clocks of the current stage run
    - `tallies`: what the counting rules remember of this lap
    - `observed`, `inferred`: bits of the stages entered in this lap, and of those that must have come before
    - `facts`: bits of the tests of traits that pass, by what is known of the customer
    - `open`, `signals`: since when overlays are open and signals on
    - `counts`, `counted`: the tallies' numbers in this lap, and bits of those that are final

    It is altered by the fold alone, and there only in a copy of its own.
    """

    at: datetime = NEVER
    id: UUID = FIRST_ID
    place: str | None = None
    paused: bool = False
    entered_at: datetime | None = None
    furthest: str | None = None
    transitions: int = 0
    anchors: tuple[datetime, ...] = ()
    tallies: tuple[tuple[int, ...], ...] = ()
    lap: int = 1
    substage: str | None = None
    observed: int = 0
    inferred: int = 0
    facts: int = 0
    open: tuple[datetime | None, ...] = ()
    signals: tuple[datetime | None, ...] = ()
    counts: tuple[int, ...] = ()
    counted: int = 0


NOWHERE = State()
"""The state of a customer without a touchpoint."""


class Kept(msgspec.Struct, array_like=True, gc=False):
    """A customer's state in one version of a journey, as the store keeps it beside those in other journeys.

    `revision` is how often the history was folded anew. `due_at` is not later than when time will move the
    state, and None if it never will: it stays as it was where clocks were merely started anew.
    """

    journey_key: str
    version: int
    revision: int
    due_at: datetime | None
    state: State


_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
encode_state: Callable[[State], bytes] = _encoder.encode
decode_state = msgspec.msgpack.Decoder(State).decode
encode_states: Callable[[Sequence[Kept]], bytes] = _encoder.encode
decode_states = msgspec.msgpack.Decoder(list[Kept]).decode


def state_in(states: bytes, journey_key: str, version: int) -> State:
    """The state of one definition among encoded ones that have its mark."""
    found = (
        one.state for one in decode_states(states) if (one.journey_key, one.version) == (journey_key, version)
    )
    return next(found, NOWHERE)


def mark_of(journey_key: str, version: int) -> bytes:
    """What encoded states hold if one of them is of this definition: something for SQL to look for."""
    return _encoder.encode(journey_key) + _encoder.encode(version)


class Transition(msgspec.Struct, frozen=True, gc=False):
    """One change of place, of its pause, or of what stands beside it, when it was true, and its cause.

    `seq` numbers a history from 0. The cause is the touchpoint `touchpoint_id`, or time when that is None;
    `rule` names the rule or the clock of the definition.
    """

    seq: int
    at: datetime
    kind: Kind
    from_place: str | None
    from_paused: bool
    to_place: str
    to_paused: bool
    touchpoint_id: UUID | None
    rule: str


def note(
    state: State,
    kind: Kind,
    place: str,
    paused: bool,
    touchpoint_id: UUID | None,
    rule: str,
    out: list[Transition],
) -> None:
    """Make a transition at the state's position."""
    number = state.transitions
    out.append(
        Transition(number, state.at, kind, state.place, state.paused, place, paused, touchpoint_id, rule)
    )
    state.place, state.paused, state.transitions = place, paused, number + 1
