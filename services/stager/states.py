"""The held states of runs: read together and written together, a row for each subject.

Theory of operation. A row holds the states of a customer, of an account or of a thing in all journeys as one
value, because a touchpoint moves most of them: a journey more costs bytes, and neither a row nor a version of
one. Whoever writes a row has locked the customer or the account before reading it, and leaves in it what
belongs to journeys that it doesn't know.

The row's `due_at` is indexed, and an update that alters it can't stay on its page. So it is a bound: time
moves none of the states before it. A clock that is started anew leaves it as it is; the sweeper looks then,
finds nothing due, and sets it to what is due next.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from itertools import groupby
from uuid import UUID

from services.stager import sql
from services.stager.assign import Change, Held, carried_on, carry, has_checkpoints, is_marked, was_in
from services.stager.refolding import Late
from services.stager.runs import Portion, Subject
from shared.journey.fold import Journey, OutOfOrder
from shared.journey.state import FOR_EVER, NEVER, Kept, State, decode_states, encode_states
from shared.store.engine import Connection

STRANGE_AGAIN_AFTER = timedelta(days=1)
"""A state that is due, of a version that is folded no more, is for nobody to move unless it is taken back. It
is looked at so seldom."""

_NOTHING = Held()

Version = tuple[str, int]
"""A journey's key, and the version of its definition."""


class _Row:
    """A row: its bound, its states by journey, and when it was written if that lies ahead of the clock.

    States are held decoded only while somebody works at them: a processor's cache hasn't room for a batch's.
    """

    __slots__ = ("_encoded", "_kept", "due_at", "entered_at", "is_changed", "is_new", "not_before")

    def __init__(self, due_at: datetime | None, encoded: bytes | None, not_before: datetime = NEVER) -> None:
        self.due_at = due_at
        self.not_before = not_before
        self.is_new = encoded is None
        self.is_changed = False
        self.entered_at: datetime | None = None
        """Of a thing that has been closed, when a state of it last entered a place."""
        self._encoded = encoded
        self._kept: dict[Version, Kept] | None = None

    def open(self) -> dict[Version, Kept]:
        """The states, to be altered until the row is closed."""
        if self._kept is None:
            kept = decode_states(self._encoded) if self._encoded else ()
            self._kept = {(one.journey_key, one.version): one for one in kept}
        return self._kept

    def close(self, run: str) -> None:
        """Encode the states, and keep them no longer as they are."""
        if self._kept is not None:
            kept = self._kept.values()
            self._encoded = encode_states([*kept])
            if run:
                entered = (one.state.entered_at for one in kept if one.state.entered_at)
                self.entered_at = max(entered, default=None)
            self._kept = None

    @property
    def encoded(self) -> bytes:
        """The states of a row that is closed."""
        assert self._encoded is not None
        return self._encoded

    def put(self, change: Change) -> None:
        self.is_changed = True
        after, version = change.after, change.journey.version
        states = self.open()
        kept = states.get(version)
        if kept is None:
            due_at = change.journey.due_at(after.state)
            states[version] = Kept(*version, after.revision, due_at, after.state)
        else:
            # Without what another customer has got, clocks may have begun earlier.
            if change.added or change.superseded or change.late:
                kept.due_at = change.journey.due_at(after.state)
            kept.revision, kept.state = after.revision, after.state
            due_at = kept.due_at
        self.look_by(due_at)

    def look_by(self, due_at: datetime | None) -> None:
        """Be looked at by then. The sweeper may have put off a state of a version that was folded no more,
        and is again."""
        if due_at is not None and (self.due_at is None or due_at < self.due_at):
            self.due_at = due_at


class States:
    """The rows of some subjects, whose customers and accounts are locked."""

    def __init__(self, rows: dict[Subject, _Row]) -> None:
        self._rows = rows

    def held(self, subject: Subject, journey: Journey) -> Held:
        """The subject's state in a journey, or its beginning."""
        row = self._rows.get(subject)
        kept = row and row.open().get(journey.version)
        return Held(kept.state, kept.revision, row.not_before) if row and kept else _NOTHING

    def carry_on(
        self, subject: Subject, portions: Iterable[Portion], changes: list[Change], late: list[Late]
    ) -> None:
        """Fold new touches onto the subject's states, to be written when others are saved. Mostly nothing but
        the state is another one then, and that is no change. What comes before a state's position is late,
        and leaves it as it was."""
        owner_id, run = subject
        row = self._row_of(subject)
        states = row.open()
        for touches, journeys in portions:
            marked = any(map(is_marked, touches))
            for journey in journeys:
                begun = states.get(journey.version)
                kept = begun or Kept(*journey.version, 0, None, State())
                state, due_at = kept.state, kept.due_at
                place, paused = state.place, state.paused
                checkpoints: Sequence[State] = ()
                try:
                    if marked and has_checkpoints(journey):
                        kept.state, transitions, checkpoints = carry(journey, state, touches)
                    else:
                        transitions = journey.carry_in_place(state, touches, due_at or FOR_EVER)
                except OutOfOrder:
                    late.append(Late(owner_id, run, journey, self.held(subject, journey), touches))
                    continue
                row.is_changed = True
                if begun is None:
                    states[journey.version] = kept
                if transitions or checkpoints:
                    kept.due_at = due_at = journey.due_at(kept.state)
                    held = was_in(place, paused, kept.revision, row.not_before if begun else NEVER)
                    carried = kept.state, transitions, checkpoints
                    changes.append(carried_on(owner_id, journey, held, carried, run))
                row.look_by(due_at)
        row.close(run)

    def _row_of(self, subject: Subject) -> _Row:
        row = self._rows.get(subject)
        if row is None:
            row = self._rows[subject] = _Row(None, None)
        return row

    def runs(self, owner_id: UUID, journey: Journey) -> Mapping[str, Held]:
        """The states of a customer's or an account's runs of a journey, among the rows that were read."""
        return self._by_owner.get((owner_id, journey.version), {})

    def versions(self, owner_ids: Collection[UUID]) -> set[Version]:
        """The versions that some customers have runs of, among the rows that were read."""
        return {
            version
            for (owner_id, _), row in self._rows.items()
            if owner_id in owner_ids
            for version in row.open()
        }

    def has(self, owner_id: UUID, journey: Journey) -> bool:
        """Whether a customer or an account has a run of the journey, among the rows that were read."""
        return (owner_id, journey.version) in self._by_owner

    @cached_property
    def _by_owner(self) -> Mapping[tuple[UUID, Version], Mapping[str, Held]]:
        found: defaultdict[tuple[UUID, Version], dict[str, Held]] = defaultdict(dict)
        for (owner_id, run), row in self._rows.items():
            for version, kept in row.open().items():
                found[owner_id, version][run] = Held(kept.state, kept.revision, row.not_before)
        return found

    def due(self, journeys: Collection[Journey], now: datetime) -> Iterator[tuple[Subject, Journey, Held]]:
        """The states in the journeys that may be due by now."""
        known = {journey.version: journey for journey in journeys}
        for subject, row in self._rows.items():
            for version, kept in row.open().items():
                if kept.due_at is not None and kept.due_at <= now and version in known:
                    yield subject, known[version], Held(kept.state, kept.revision, row.not_before)

    async def save(self, connection: Connection, changes: Iterable[Change], now: datetime) -> None:
        """Write the rows that the changes are about, and those whose states were carried on."""
        # Those of a subject mostly come together, and to look an id up takes long.
        for subject, its in groupby(changes, key=lambda change: (change.customer_id, change.run)):
            row = self._row_of(subject)
            for change in its:
                row.put(change)
        await _write(connection, [one for one in self._rows.items() if one[1].is_changed], now)

    async def drop(self, connection: Connection, version: Version) -> Counter[tuple[str | None, bool]]:
        """Take the states of a version out of the rows, and remove the rows that have no other. Returns how
        many were in each place, paused or not."""
        places: Counter[tuple[str | None, bool]] = Counter()
        empty: list[Subject] = []
        left: list[tuple[Subject, _Row]] = []
        for subject, row in self._rows.items():
            dropped = row.open().pop(version, None)
            if dropped:
                places[dropped.state.place, dropped.state.paused] += 1
                if row.open():
                    left.append((subject, row))
                else:
                    empty.append(subject)
        if empty:
            await connection.execute(sql.DROP_STATES_OF, *_columns(empty))
        await _write(connection, left, NEVER)
        return places

    async def save_swept(
        self, connection: Connection, changes: Iterable[Change], journeys: Collection[Journey], now: datetime
    ) -> None:
        """Write the changes, and in every row when time moves it next; what was due by now must be done."""
        for change in changes:
            self._rows[change.customer_id, change.run].put(change)
        known = {journey.version: journey for journey in journeys}
        for row in self._rows.values():
            for version, kept in row.open().items():
                if version in known:
                    kept.due_at = known[version].due_at(kept.state)
            row.due_at = min(_looks(row.open().values(), now), default=None)
        await _write(connection, [one for one in self._rows.items() if one[1].is_changed], now)
        # Nothing has become known of the others: what does next may be known no later than its own time.
        await _write(connection, [one for one in self._rows.items() if not one[1].is_changed], NEVER)


async def read_states(
    connection: Connection, subjects: Collection[Subject], now: datetime, *, whole: bool
) -> States:
    """The states of subjects; `whole` means those of all things of the customers too."""
    owner_ids = list({owner_id for owner_id, _ in subjects})
    rows = await connection.fetch(sql.STATES, owner_ids, whole, now)
    named = [subject for subject in subjects if subject[1]]
    if named and not whole:
        rows += await connection.fetch(sql.STATES_OF_THINGS, *_columns(named), now)
    return States({(row[0], row[1]): _Row(row[2], row[3], row[4] or NEVER) for row in rows})


async def _write(connection: Connection, rows: Sequence[tuple[Subject, _Row]], now: datetime) -> None:
    for (_, run), row in rows:
        row.close(run)
    new = [(*subject, row.due_at, row.encoded, row.entered_at, now) for subject, row in rows if row.is_new]
    if new:
        await connection.copy_records_to_table("journey_states", columns=sql.STATE_COLUMNS, records=new)
    old = [one for one in rows if not one[1].is_new]
    if old:
        old.sort(key=lambda one: not one[0][1])
        await connection.execute(
            sql.SAVE_STATES,
            [owner_id for (owner_id, _), _ in old],
            [row.due_at for _, row in old],
            [row.encoded for _, row in old],
            [run for (_, run), _ in old if run],
            [row.entered_at for (_, run), row in old if run],
            now,
        )


def _looks(kept: Iterable[Kept], now: datetime) -> Iterator[datetime]:
    """When to look at each of a row's states again, all that could be done by now being done."""
    for one in kept:
        if one.due_at is not None:
            yield one.due_at if one.due_at > now else now + STRANGE_AGAIN_AFTER


def _columns(rows: Iterable[tuple[UUID, str]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
