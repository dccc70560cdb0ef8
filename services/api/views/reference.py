"""What every request needs and seldom changes: the valid keys, and the active journey definitions.

They are read in the background once a second, so that a revoked key stops within seconds, and a request
never waits for them. While the store is away the last ones stay valid.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from services.api.views.active import ActiveJourney, activate
from shared.clock import Clock
from shared.errors import ConfigError, RejseError, Transient
from shared.keys import Keyring
from shared.logs import fields
from shared.metrics import Metrics
from shared.store.definitions import Version, fetch_active
from shared.store.engine import Connection, Pool, connection_of
from shared.store.keys import fetch_keys

log = logging.getLogger("rejse.api")

REFRESH_EVERY_S = 1.0
STALE_AFTER_S = 10.0


class Reference:
    """The keys and definitions as last read. `run` keeps them fresh."""

    def __init__(self, pool: Pool, metrics: Metrics, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._refreshes = metrics.counter("rejse_api_refreshes_total")
        self._by_hash: dict[str, ActiveJourney | None] = {}
        self._read_at_s: float | None = None
        self._failing: str | None = None
        self.keyring: Keyring | None = None
        self.journeys: Mapping[str, ActiveJourney] = {}

    def check(self) -> str:
        """The store's state for `/readyz`."""
        if self._read_at_s is None:
            return f"away: {self._failing or 'not read yet'}"
        if self._clock.monotonic_s() - self._read_at_s > STALE_AFTER_S:
            return f"away: {self._failing or 'no answer'}"
        return "ok"

    async def run(self, stop: asyncio.Event) -> None:
        """Refresh until `stop` is set."""
        while not stop.is_set():
            await self.refresh()
            try:
                async with asyncio.timeout(REFRESH_EVERY_S):
                    await stop.wait()
            except TimeoutError:
                pass

    async def refresh(self) -> None:
        """Read keys and definitions once; a store that is away leaves the last ones."""
        try:
            async with connection_of(self._pool) as connection:
                keyring = Keyring({record.digest: record for record in await fetch_keys(connection)})
                journeys = await self._read_journeys(connection)
        except (Transient, ConfigError) as error:
            self._note_failure(error)
            return
        self.keyring, self.journeys = keyring, journeys
        self._read_at_s, self._failing = self._clock.monotonic_s(), None
        self._refreshes.labels("ok").inc()

    async def _read_journeys(self, connection: Connection) -> Mapping[str, ActiveJourney]:
        active = await fetch_active(connection)
        known = self._by_hash
        self._by_hash = {one.hash: known[one.hash] if one.hash in known else _read(one) for one in active}
        found = {one.key: self._by_hash[one.hash] for one in active}
        return {key: journey for key, journey in found.items() if journey is not None}

    def _note_failure(self, error: RejseError) -> None:
        # Set up wrongly counts too: a store without tables is one that its first migration is on its way to.
        reason = str(error)
        if self._failing is None:
            log.warning("store_away", extra=fields(error=reason))
        self._failing = reason
        self._refreshes.labels("failed").inc()


def _read(stored: Version) -> ActiveJourney | None:
    """A stored definition, or None if it says what this version of Rejse can't read."""
    try:
        return activate(stored.definition())
    except ConfigError as error:
        log.error("definition_unreadable", extra=fields(error=str(error)))
        return None
