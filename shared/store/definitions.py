"""Journey definitions in the store: which versions there are, which is active, and which takes over.

A version that is *wanted* is folded beside the active one, from the moment on at which it is asked for; the
customers of before are staged by it page by page. When all are, it *takes over*: one transaction makes it the
active one, which is what everybody reads, and *retires* the one before it, which is folded no more. What was
retired some time ago is *cleared*: its history is left, and none of its states.

What is folded has a revision. Every batch of touchpoints holds it in share, so a change of it waits for those
under way, and each later one begins with the new: no touchpoint is stored that a wanted version has missed.

Locks are taken in this order: the wanted version of a key, its other versions, the revision, customers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from shared.errors import ConfigError
from shared.journey.definition import Definition
from shared.journey.language import link, restored
from shared.store.engine import Connection
from shared.store.outbox import tell_version
from shared.store.pages import BEFORE_ALL, Owners

_COLUMNS = (
    "key, version, hash, source, links, wanted_at, activated_at, retired_at, cleared_at, reached, "
    "customers_done, customers_total"
)
_REVISION = "SELECT revision FROM journeys_in_force"
_HOLD = f"{_REVISION} FOR SHARE"
_RAISE = "UPDATE journeys_in_force SET revision = revision + 1"
_FOLDED = f"""
SELECT {_COLUMNS} FROM journey_definitions
WHERE activated_at IS NOT NULL OR wanted_at IS NOT NULL ORDER BY key, version
"""
_ACTIVE = f"SELECT {_COLUMNS} FROM journey_definitions WHERE activated_at IS NOT NULL ORDER BY key"
_ALL = f"SELECT {_COLUMNS} FROM journey_definitions ORDER BY key, version"
_ONE = f"SELECT {_COLUMNS} FROM journey_definitions WHERE key = $1 AND version = $2"
_NEW = """
INSERT INTO journey_definitions (key, version, hash, source, links, recorded_at)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
"""
_LOCK_WANTED = "SELECT FROM journey_definitions WHERE key = $1 AND wanted_at IS NOT NULL FOR UPDATE"
_LOCK = "SELECT FROM journey_definitions WHERE key = $1 ORDER BY version FOR UPDATE"
_GIVE_UP = """
UPDATE journey_definitions SET wanted_at = NULL, reached = NULL, retired_at = $3, cleared_at = NULL
WHERE key = $1 AND version <> $2 AND wanted_at IS NOT NULL
"""
_WANT = """
UPDATE journey_definitions SET wanted_at = $3, reached = NULL, customers_done = 0, customers_total = NULL
WHERE key = $1 AND version = $2
"""
_RETIRE = """
UPDATE journey_definitions SET activated_at = NULL, reached = NULL, retired_at = $2
WHERE key = $1 AND activated_at IS NOT NULL RETURNING version
"""
_ACTIVATE = """
UPDATE journey_definitions
SET activated_at = $3, wanted_at = NULL, reached = NULL, retired_at = NULL, cleared_at = NULL
WHERE key = $1 AND version = $2
"""
_ANY_CUSTOMER = "SELECT EXISTS (SELECT FROM customers)"
_NEXT = f"""
SELECT {_COLUMNS} FROM journey_definitions
WHERE wanted_at IS NOT NULL ORDER BY wanted_at, key LIMIT 1 FOR UPDATE SKIP LOCKED
"""
_NEXT_RETIRED = f"""
SELECT {_COLUMNS} FROM journey_definitions
WHERE retired_at <= $1 AND cleared_at IS NULL AND wanted_at IS NULL
ORDER BY retired_at, key, version LIMIT 1 FOR UPDATE SKIP LOCKED
"""
_CLEARED = "UPDATE journey_definitions SET cleared_at = $3 WHERE key = $1 AND version = $2"
_COUNTED = "UPDATE journey_definitions SET customers_total = $3 WHERE key = $1 AND version = $2"
_REACH = """
UPDATE journey_definitions SET reached = $3, customers_done = customers_done + $4
WHERE key = $1 AND version = $2
"""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a journey in the store.

    `wanted_at` tells since when it is on its way to be active, `activated_at` since when it is. While it is
    on its way, the customers or accounts up to `reached` are staged by it, `done` of about `total` (None:
    not counted yet). With a `retired_at` it was folded until then; its states of that time are removed up to
    `reached`, and all of them since `cleared_at`.
    """

    key: str
    version: int
    hash: str
    source: str
    links: str
    wanted_at: datetime | None
    activated_at: datetime | None
    retired_at: datetime | None
    cleared_at: datetime | None
    reached: UUID
    done: int
    total: int | None

    @property
    def is_wanted(self) -> bool:
        return self.wanted_at is not None

    @property
    def is_active(self) -> bool:
        return self.activated_at is not None

    @property
    def has_old_states(self) -> bool:
        """Whether there may be states of it from the time before it was retired."""
        return self.retired_at is not None and self.cleared_at is None

    @property
    def share(self) -> float:
        """How much of its customers of before it has met, from 0 to 1."""
        return 1.0 if self.is_active else min(1.0, self.done / self.total) if self.total else 0.0

    def definition(self) -> Definition:
        """The definition, as it was linked when it was stored.

        Raises:
            ConfigError: this version of Rejse can't read it, or folds it in another way.
        """
        name = f"journey {self.key} version {self.version}"
        definition = restored(self.source, self.links, name)
        if definition.hash != self.hash:
            raise ConfigError(f"{name} was folded in another way by an older Rejse: raise its version")
        return definition


async def fetch_revision(connection: Connection) -> int:
    """The revision of what is folded."""
    revision: int = await connection.fetchval(_REVISION)
    return revision


async def hold_revision(connection: Connection) -> int:
    """The revision of what is folded, which stays so until the transaction ends."""
    revision: int = await connection.fetchval(_HOLD)
    return revision


async def fetch_folded(connection: Connection) -> Sequence[Version]:
    """The versions that touchpoints are folded by: the active ones, and those on their way."""
    return [_version(row) for row in await connection.fetch(_FOLDED)]


async def fetch_active(connection: Connection) -> Sequence[Version]:
    """The versions that are read, one a key."""
    return [_version(row) for row in await connection.fetch(_ACTIVE)]


async def fetch_versions(connection: Connection) -> Sequence[Version]:
    """All versions that were ever stored, by key and version."""
    return [_version(row) for row in await connection.fetch(_ALL)]


async def fetch_version(connection: Connection, key: str, version: int) -> Version | None:
    """One version; None: there is no such one."""
    row = await connection.fetchrow(_ONE, key, version)
    return None if row is None else _version(row)


async def as_stored(
    connection: Connection, definition: Definition, known: Iterable[Definition]
) -> Definition:
    """A definition as the store has it; one that is new, with the rules by which others start it: of those
    that are known, and of those that are active.

    Raises:
        ConfigError: the version is stored, and can't be read.
    """
    versions = await fetch_versions(connection)
    for stored in versions:
        same_version = (stored.key, stored.version) == (definition.key, definition.version)
        if same_version and stored.source == definition.source:
            return stored.definition()
    others = {one.key: restored(one.source, one.links, one.key) for one in versions if one.is_active}
    return link(definition, {**others, **{one.key: one for one in known}}.values())


async def want(connection: Connection, definition: Definition, now: datetime) -> Version:
    """Ask for a version to take over, and say how it stands. Without any customer it takes over at once; one
    that is active or on its way stays so. Another version of the key that is on its way is given up.

    Raises:
        ConfigError: the version is stored with another text.
    """
    key, version = definition.key, definition.version
    async with connection.transaction():
        texts = definition.hash, definition.source, definition.links
        await connection.execute(_NEW, key, version, *texts, now)
        await connection.execute(_LOCK_WANTED, key)
        await connection.execute(_LOCK, key)
        stored = await fetch_version(connection, key, version)
        assert stored is not None
        require_same(stored, definition)
        given_up = await connection.execute(_GIVE_UP, key, version, now)
        if not (stored.is_active or stored.is_wanted):
            await connection.execute(_WANT, key, version, now)
        if given_up != "UPDATE 0" or not (stored.is_active or stored.is_wanted):
            await connection.execute(_RAISE)
        # Behind the revision: a batch that makes the first customer has ended, or will fold by the new one.
        if not stored.is_active and not await connection.fetchval(_ANY_CUSTOMER):
            await take_over(connection, key, version, now)
        found = await fetch_version(connection, key, version)
        assert found is not None
        return found


def require_same(stored: Version, definition: Definition) -> None:
    """Refuse a definition that differs from the version that is stored.

    Raises:
        ConfigError: states of both would mix: it has to be another version.
    """
    if stored.hash != definition.hash:
        raise ConfigError(f"journey {stored.key} has changed but is still version {stored.version}: raise it")


async def next_wanted(connection: Connection) -> Version | None:
    """A version on its way that no other transaction is at work on, locked until this one ends."""
    row = await connection.fetchrow(_NEXT)
    return None if row is None else _version(row)


async def next_retired(connection: Connection, until: datetime) -> Version | None:
    """A version that was retired by then and isn't cleared, and that no other transaction is at work on,
    locked until this one ends."""
    row = await connection.fetchrow(_NEXT_RETIRED, until)
    return None if row is None else _version(row)


async def cleared(connection: Connection, retired: Version, now: datetime) -> None:
    """Keep that a version has no states any more, in the transaction that has it locked."""
    await connection.execute(_CLEARED, retired.key, retired.version, now)


async def count_customers(connection: Connection, wanted: Version, owners: Owners) -> None:
    """Keep how many customers or accounts there are, so that everybody can tell how far the version is."""
    total = await connection.fetchval(owners.total)
    await connection.execute(_COUNTED, wanted.key, wanted.version, total)


async def reach(connection: Connection, version: Version, customer_id: UUID, customers: int) -> None:
    """Keep that so many more customers are staged by the version, which has come up to this one."""
    await connection.execute(_REACH, version.key, version.version, customer_id, customers)


async def take_over(connection: Connection, key: str, version: int, now: datetime) -> None:
    """Make the version the active one and tell consumers, in the transaction that has it locked."""
    former = await connection.fetchval(_RETIRE, key, now)
    await connection.execute(_ACTIVATE, key, version, now)
    await connection.execute(_RAISE)
    await tell_version(connection, key, version, former, now)


async def retire(connection: Connection, key: str, now: datetime) -> bool:
    """Let nobody be staged in a journey any more; its history stays. Whether anybody was."""
    async with connection.transaction():
        await connection.execute(_LOCK_WANTED, key)
        await connection.execute(_LOCK, key)
        given_up = await connection.execute(_GIVE_UP, key, 0, now)
        retired = await connection.fetchval(_RETIRE, key, now)
        if given_up == "UPDATE 0" and retired is None:
            return False
        await connection.execute(_RAISE)
        if retired is not None:
            await tell_version(connection, key, None, retired, now)
        return True


def _version(row: asyncpg.Record) -> Version:
    values = dict(row)
    reached, done, total = (values.pop(name) for name in ("reached", "customers_done", "customers_total"))
    return Version(**values, reached=reached or BEFORE_ALL, done=done or 0, total=total)
