"""One connection to ingest: doors, deadlines and a bound on the connections of one address."""

from __future__ import annotations

import asyncio

from services.ingest.front import DoorProtocol
from shared.problem import Problem
from shared.receiving import DeadlineProtocol


class BoundedProtocol(DeadlineProtocol, DoorProtocol):
    """One connection. The application has to have `doors` and `turns`, and `peers` for who may connect."""

    _peer: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless the address has too many connections already."""
        super().connection_made(transport)
        try:
            self._peer = self.app.peers.enter(self.client[0] if self.client else "")
        except Problem as problem:
            self.refuse(problem)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for another one."""
        if self._peer is not None:
            self.app.peers.leave(self._peer)
        super().connection_lost(exc)
