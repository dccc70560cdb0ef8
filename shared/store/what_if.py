"""What if a definition were active? Both, it and the active version, folded over the stored timelines.

Nothing is written. They are compared run by run. All pages read one snapshot; each has as many
customers, or accounts, as takes a short time, and between two of them the store has as long for others. What
is held is a page, the sums and the samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from shared.clock import Clock
from shared.journey.definition import Definition
from shared.journey.fold import Journey, fold_runs, subject_of
from shared.journey.misses import Seen
from shared.journey.proof import ProofRun, Prover
from shared.journey.reasons import TouchRef
from shared.journey.standing import about_of
from shared.journey.state import NOWHERE, State, Transition
from shared.journey.touch import Touch
from shared.store.engine import Connection
from shared.store.pages import BEFORE_ALL, PageSize, owners_of
from shared.store.timelines import read_timelines

HISTORY_MAX = 20
"""The changes of a sample that are told: the latest."""
SEEN_MAX = 200
"""The touchpoints of a sample among which near misses are looked for: the newest."""

_Move = tuple[str | None, str | None]
_Folded = tuple[State, Sequence[Transition]]
_NOT_BEGUN: _Folded = (NOWHERE, ())


class Sample(msgspec.Struct, frozen=True):
    """A run that would be elsewhere: the customer's, or the account's, with the proofs by the active version
    (null: there is none) and by the other one. Their near misses are looked for among the touchpoints that
    concern one of the two."""

    customer: UUID
    before: ProofRun | None
    after: ProofRun


class PlaceBoth(msgspec.Struct, frozen=True):
    """How many runs are in a stage or an exit by the active version, and by the other one, and how many
    of them are paused there; null where the version has no such place."""

    stage: str
    before: int | None
    before_paused: int | None
    after: int | None
    after_paused: int | None


class Move(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """How many runs are in one place and would be in another, or the same; null: not begun."""

    from_: str | None
    to: str | None
    count: int


class WhatIf(msgspec.Struct, frozen=True):
    """What a definition would make of the customers, or, if it is about accounts, of the accounts, and of
    how many (`customers`). `active_version` is the one that it is compared with, null if there is none whose
    runs are about the same. `moved` and `moves` count runs. Not `complete`: the time was up, and only so
    many, those who came first, were looked at."""

    journey: str
    version: int
    active_version: int | None
    at: datetime
    complete: bool
    customers: int
    touchpoints: int
    moved: int
    stages: Sequence[PlaceBoth]
    moves: Sequence[Move]
    samples: Sequence[Sample]


async def what_if(
    connection: Connection,
    definition: Definition,
    active: Definition | None,
    at: datetime,
    clock: Clock,
    *,
    samples: int = 10,
    seconds_max: float | None = None,
    show: Callable[[int, int | None], None] = lambda done, total: None,
) -> WhatIf:
    """Fold everybody's touchpoints up to `at` by both versions, and compare.

    Raises:
        Transient: the store is away or busy.
    """
    began_s = clock.monotonic_s()
    if active is not None and active.subject != definition.subject:
        active = None
    comparison, owners = Comparison(definition, active, at, samples), owners_of(definition)
    size, after, complete = PageSize(), BEFORE_ALL, False
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        total: int = await connection.fetchval(owners.total)
        while seconds_max is None or clock.monotonic_s() - began_s < seconds_max:
            page_s = clock.monotonic_s()
            rows = await connection.fetch(owners.after, after, size.customers)
            if not rows:
                complete = True
                break
            ids: list[UUID] = [row["id"] for row in rows]
            identities = {row["id"]: row["identity"] for row in rows}
            comparison.add(identities, await read_timelines(connection, ids, comparison.journeys, at))
            after = ids[-1]
            show(comparison.customers, total)
            took_s = clock.monotonic_s() - page_s
            size.took(len(ids), took_s)
            await clock.sleep(took_s)
    return comparison.told(complete)


@dataclass(frozen=True, slots=True)
class _Run:
    """A run, whose it is (an account's with its identity), and the timeline that its touchpoints are in."""

    owner_id: UUID
    run: str
    account: str | None
    timeline: Sequence[Touch]


class Comparison:
    """Two versions over the customers that were added: the sums, and some samples of each move."""

    def __init__(
        self, definition: Definition, active: Definition | None, at: datetime, samples_max: int
    ) -> None:
        self._journey = Journey(definition)
        self._active = None if active is None else Journey(active)
        self._at = at
        self._samples_max = samples_max
        self._places: Counter[tuple[bool, str, bool]] = Counter()
        self._moves: Counter[_Move] = Counter()
        self._samples: dict[_Move, list[Sample]] = {}
        self._touchpoints = 0
        self.customers = 0

    @property
    def journeys(self) -> Sequence[Journey]:
        """What is folded by."""
        return [self._journey] if self._active is None else [self._journey, self._active]

    def add(self, identities: Mapping[UUID, str | None], timelines: Mapping[UUID, Sequence[Touch]]) -> None:
        """Fold some more customers, or accounts, these with their identities; some have no timeline."""
        self.customers += len(identities)
        if self._journey.definition.subject.kind != "property":
            self._moves[None, None] += len(identities) - len(timelines)
        for owner_id, timeline in timelines.items():
            self._touchpoints += len(timeline)
            befores = {} if self._active is None else fold_runs(self._active, timeline, self._at)
            afters = fold_runs(self._journey, timeline, self._at)
            for run in befores | afters:
                its = _Run(owner_id, run, identities[owner_id], timeline)
                self._compare(its, befores.get(run, _NOT_BEGUN), afters.get(run, _NOT_BEGUN))

    def told(self, complete: bool) -> WhatIf:
        """What was found, with samples of as many different moves as there are, the commonest first."""
        definition = self._journey.definition
        active = None if self._active is None else self._active.definition
        commonest = self._moves.most_common()
        kept = [self._samples.get(move, []) for move, _ in commonest]
        in_turns = [some[turn] for turn in range(self._samples_max) for some in kept if turn < len(some)]
        return WhatIf(
            journey=definition.key,
            version=definition.version,
            active_version=None if active is None else active.version,
            at=self._at,
            complete=complete,
            customers=self.customers,
            touchpoints=self._touchpoints,
            moved=sum(count for (origin, target), count in commonest if origin != target),
            stages=self._stages(definition, active),
            moves=[Move(origin, target, count) for (origin, target), count in commonest if count],
            samples=in_turns[: self._samples_max],
        )

    def _compare(self, its: _Run, before: _Folded, after: _Folded) -> None:
        for is_after, (state, _) in ((False, before), (True, after)):
            if state.place is not None:
                self._places[is_after, state.place, state.paused] += 1
        move = before[0].place, after[0].place
        self._moves[move] += 1
        if move[0] != move[1]:
            kept = self._samples.setdefault(move, [])
            if len(kept) < self._samples_max:
                proved = None if self._active is None else self._proved(self._active, its, before)
                kept.append(Sample(its.owner_id, proved, self._proved(self._journey, its, after)))

    def _proved(self, journey: Journey, its: _Run, folded: _Folded) -> ProofRun:
        state, history = folded
        definition = journey.definition
        timeline = [one for one in its.timeline if subject_of(definition, one) == its.run]
        by_id = {one.id: TouchRef(one.id, one.at, one.type, one.channel) for one in timeline}
        latest = [
            (one, None if one.touchpoint_id is None else by_id[one.touchpoint_id])
            for one in history[-HISTORY_MAX:]
        ]
        newest = timeline[: -SEEN_MAX - 1 : -1]
        seen = Seen(newest, whole=len(newest) == len(timeline))
        return Prover(journey).prove(
            state, latest, seen, self._at, about_of(definition, its.run, its.account)
        )

    def _stages(self, definition: Definition, active: Definition | None) -> list[PlaceBoth]:
        olds = () if active is None else active.places
        gone = [place for place in olds if place not in definition.places]
        return [
            PlaceBoth(
                place,
                *(self._count(False, place) if place in olds else (None, None)),
                *(self._count(True, place) if place in definition.places else (None, None)),
            )
            for place in (*definition.places, *gone)
        ]

    def _count(self, is_after: bool, place: str) -> tuple[int, int]:
        paused = self._places[is_after, place, True]
        return self._places[is_after, place, False] + paused, paused
