"""Why a customer is where they are in a journey, what else was close, and what happens next.

A proof is told of a state, its history and the newest touchpoints, whoever read or folded them. It can be
checked: from it, the whole timeline and the definition, everything that it says of the state follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from shared.journey import clocks, standing, words
from shared.journey.clocks import RunningClock
from shared.journey.fold import Journey
from shared.journey.misses import Seen
from shared.journey.nearness import Nearness
from shared.journey.reasons import NearBeside, NearRule, TouchRef, Window
from shared.journey.standing import CUSTOMER, About, OpenOverlay, SignalOn, TallyItem, Upcoming
from shared.journey.state import Kind, State, Transition


class ProofCause(msgspec.Struct, frozen=True):
    """The touchpoint that made a change (null: time did) and the rule or the clock, by its name in the
    definition and in words."""

    touchpoint: TouchRef | None
    rule: str
    says: str


class ProofTransition(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """A change of stage, of its pause, or of what stands beside it; `seq` numbers them from 0, and `from` is
    null where the journey began."""

    seq: int
    at: datetime
    change: Kind
    from_: str | None
    to: str
    from_paused: bool
    to_paused: bool
    cause: ProofCause


class ProofRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the journey: where it stands, every change up to there, what else could have moved it, and
    what time will do.

    `observed` are the stages entered in this lap, `inferred` those before them that no touchpoint told of.
    `transitions` are in order; `earlier_transitions` more came before them. `near` are the rules that could
    move the customer, and `near_beside` those that could change what stands beside the stage, the nearest
    first; near misses were looked for among the newest `touchpoints_seen` touchpoints. `next` is what will
    happen first if no touchpoint comes, `then` what follows in turn; `windows` move nobody, but change what
    the rules have seen.
    """

    about: About
    stage: str | None
    paused: bool
    entered_at: datetime | None
    furthest_stage: str | None
    lap: int
    substage: str | None
    persona: str | None
    observed: Sequence[str]
    inferred: Sequence[str]
    overlays: Sequence[OpenOverlay]
    signals: Sequence[SignalOn]
    tallies: Sequence[TallyItem]
    transitions: Sequence[ProofTransition]
    earlier_transitions: int
    near: Sequence[NearRule]
    near_beside: Sequence[NearBeside]
    touchpoints_seen: int
    clocks: Sequence[RunningClock]
    windows: Sequence[Window]
    next: Upcoming | None
    then: Sequence[Upcoming]


History = Sequence[tuple[Transition, TouchRef | None]]
"""Transitions in order, each with the touchpoint that caused it; None: time did."""


class Prover:
    """Makes the proofs of one journey."""

    def __init__(self, journey: Journey) -> None:
        self._journey = journey
        self._says = words.rules_of(journey.definition)
        self._ends_of_pauses = words.ends_of_pauses(journey.definition)

    def prove(
        self, state: State, history: History, seen: Seen, now: datetime, about: About = CUSTOMER
    ) -> ProofRun:
        """The proof of a state as of an instant. `history` is the standing one, or the end of it."""
        journey, definition = self._journey, self._journey.definition
        # A touchpoint may lie some hours ahead of now, and what it was counted in with it.
        nearness = Nearness(journey, state, seen, max(now, state.at))
        coming = [standing.upcoming(change) for change in clocks.ahead(journey, state)]
        return ProofRun(
            about=about,
            stage=state.place,
            paused=state.paused,
            entered_at=state.entered_at,
            furthest_stage=state.furthest,
            lap=state.lap,
            substage=state.substage,
            persona=journey.persona(state),
            observed=standing.stages_of(definition, state.observed),
            inferred=standing.stages_of(definition, state.inferred),
            overlays=list(standing.overlays(definition, state)),
            signals=list(standing.signals(definition, state)),
            tallies=list(standing.tallies(definition, state)),
            transitions=[self._told(*change) for change in history],
            earlier_transitions=history[0][0].seq if history else 0,
            near=nearness.rules(),
            near_beside=nearness.beside(),
            touchpoints_seen=len(seen.newest),
            clocks=clocks.running(journey, state),
            windows=nearness.windows(),
            next=coming[0] if coming else None,
            then=coming[1:],
        )

    def _told(self, change: Transition, cause: TouchRef | None) -> ProofTransition:
        says = self._ends_of_pauses if change.kind == "resume" else self._says
        return ProofTransition(
            change.seq,
            change.at,
            change.kind,
            change.from_place,
            change.to_place,
            change.from_paused,
            change.to_paused,
            ProofCause(cause, change.rule, says.get(change.rule, change.rule)),
        )
