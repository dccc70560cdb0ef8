"""The journeys that touchpoints are folded by now: the active versions, and those that will take over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from services.stager.assign import Change
from services.stager.runs import Runs
from services.stager.states import States
from shared.errors import ConfigError, Contended
from shared.journey.fold import Journey
from shared.store.definitions import Version, fetch_folded, fetch_revision, hold_revision
from shared.store.engine import Connection, Pool, connection_of


class Folding:
    """What is folded at one revision. A batch has one from its begin to its end."""

    def __init__(self, revision: int, versions: Iterable[tuple[Version, Journey]]) -> None:
        self.revision = revision
        self._versions = {journey: version for version, journey in versions}
        self.journeys: Sequence[Journey] = tuple(self._versions)
        self.runs = Runs(self.journeys)
        self.on_the_way = {one: version for one, version in self._versions.items() if not version.is_active}
        """The journeys that are to take over."""

    def knows(self, journey: Journey, owner_id: UUID, states: States) -> bool:
        """Whether the store is up to date about the runs of a customer or an account, and about there being
        no state: such a run is at its beginning then. Else the whole timeline has to be folded."""
        version = self.on_the_way.get(journey)
        if version is None or owner_id <= version.reached:
            return True
        return not version.has_old_states and states.has(owner_id, journey)

    def of_active(self, changes: Iterable[Change]) -> Sequence[Change]:
        """The changes of versions that are read: consumers are told of nothing else."""
        return [change for change in changes if change.journey not in self.on_the_way]

    def journey(self, wanted: Version) -> Journey | None:
        """The journey of a version; None: it isn't folded at this revision."""
        return next((one for one, version in self._versions.items() if version.hash == wanted.hash), None)


class InForce:
    """What is folded now, as last read from the store."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._is_outdated = True
        self.now = Folding(0, ())

    def outdate(self) -> None:
        """Take note that the store has another revision."""
        self._is_outdated = True

    async def latest(self) -> Folding:
        """What is folded, as far as it is known.

        Raises:
            Transient: the store is away or busy.
            ConfigError: this version of Rejse can't fold what is active.
        """
        return await self.follow() if self._is_outdated else self.now

    async def hold(self, connection: Connection, folding: Folding) -> None:
        """Let nothing else be in force before the transaction has ended.

        Raises:
            Contended: something else is in force already.
        """
        if await hold_revision(connection) != folding.revision:
            self.outdate()
            raise Contended("other journeys are in force")

    async def follow(self) -> Folding:
        """Read anew what is folded; raises as `latest` does."""
        async with (
            connection_of(self._pool) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            revision = await fetch_revision(connection)
            versions = await fetch_folded(connection)
        self.now, self._is_outdated = Folding(revision, self._compiled(versions)), False
        return self.now

    def _compiled(self, versions: Sequence[Version]) -> Iterable[tuple[Version, Journey]]:
        compiled = {journey.definition.hash: journey for journey in self.now.journeys}
        wanted = {version.key for version in versions if version.is_wanted}
        for version in versions:
            try:
                yield version, compiled.get(version.hash) or Journey(version.definition())
            except ConfigError:
                # One that an older Rejse has folded may stand until what takes over from it has come.
                if version.is_wanted or version.key not in wanted:
                    raise
