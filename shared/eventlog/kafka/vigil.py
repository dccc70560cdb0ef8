"""Notices that a consumer has fallen silent although its broker answers.

aiokafka's consumer can stop for good without an error: its coordinator is gone and it looks for it in vain,
or one of its tasks has died. The signs that it lives are that the group answers its heartbeats, and the
broker its fetches and what it asks besides; it takes all of them. While the broker itself does not answer,
silence says nothing, and a consumer that waits for it comes back sooner than a new one would get in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from shared.clock import Clock
from shared.errors import RejseError
from shared.eventlog.background import Background

SILENT_S = 30.0
_SUSPECT_SHARE = 1 / 6
_PROBE_SHARE = 1 / 6


Question = Literal["bounds", "records"]
"""Where a partition begins and ends; what stands at an offset."""


class Vigil:
    """Watches one consumer. `probe` asks the broker over another connection, and raises if it is away."""

    def __init__(
        self, probe: Callable[[], Awaitable[object]], background: Background, clock: Clock, silent_s: float
    ) -> None:
        self._probe = probe
        self._background = background
        self._clock = clock
        self._silent_s = silent_s
        self._probing = False
        self.begin()

    def begin(self) -> None:
        """Watch a new consumer, of which nothing has been heard yet."""
        self._group_s = self._fetch_s = self._probed_s = self._clock.monotonic_s()
        self._answering_since_s: float | None = None
        self._in_vain_s: dict[Question, float] = {}
        """Since when a question is asked in vain. One that is answered says nothing of the other."""

    def group_heard(self) -> None:
        """The group has answered the consumer."""
        self._group_s = self._clock.monotonic_s()

    def fetch_heard(self) -> None:
        """The broker has answered a fetch, or there is nothing to fetch."""
        self._fetch_s = self._clock.monotonic_s()

    def asked(self, question: Question, answered: bool) -> None:
        """The broker was asked something by way of the consumer."""
        if answered:
            self._in_vain_s.pop(question, None)
        else:
            self._in_vain_s.setdefault(question, self._clock.monotonic_s())

    def is_silent(self) -> bool:
        """Whether for so many seconds the broker answered and the consumer did not; to be asked often."""
        now_s = self._clock.monotonic_s()
        heard_s = min(self._group_s, self._fetch_s, *self._in_vain_s.values())
        if now_s - heard_s < self._silent_s * _SUSPECT_SHARE:
            self._answering_since_s = None
            return False
        if not self._probing and now_s - self._probed_s >= self._silent_s * _PROBE_SHARE:
            self._probing = True
            self._background.spawn(self._ask(), "kafka-vigil-probe")
        if self._answering_since_s is None:
            return False
        return now_s - max(heard_s, self._answering_since_s) >= self._silent_s * (1 - _SUSPECT_SHARE)

    async def _ask(self) -> None:
        try:
            await self._probe()
            if self._answering_since_s is None:
                self._answering_since_s = self._clock.monotonic_s()
        except RejseError:
            self._answering_since_s = None
        finally:
            self._probing = False
            self._probed_s = self._clock.monotonic_s()
