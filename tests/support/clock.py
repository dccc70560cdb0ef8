"""A clock that moves by hand."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta


class ManualClock:
    """A `shared.clock.Clock` whose time only moves when a test or a sleeper moves it."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._now += timedelta(seconds=seconds)
        self._elapsed_s += seconds

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)
