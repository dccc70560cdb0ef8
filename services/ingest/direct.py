"""The log as the only place where records are kept: embedded, where it is on the same disk as a spool
would be."""

from __future__ import annotations

from collections.abc import Sequence

from shared.clock import Clock
from shared.eventlog.port import EventWriter, NewRecord, Outcome
from shared.metrics import Metrics

FAILED_FOR_S = 10.0
"""So long after a failure nobody is sent here; then a request may try again."""


class DirectLog:
    """A log without a way round."""

    def __init__(self, log: EventWriter, ack_timeout_s: float, clock: Clock, metrics: Metrics) -> None:
        self._log = log
        self._ack_timeout_s = ack_timeout_s
        self._clock = clock
        self._seconds = metrics.histogram("rejse_ingest_append_seconds").labels("log")
        self._failed_s: float | None = None
        self._full = False

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Outcome]:
        """Make records durable."""
        with self._seconds.time():
            outcomes = await self._log.append(records, self._ack_timeout_s)
        failed = Outcome.UNKNOWN in outcomes or Outcome.FULL in outcomes
        self._failed_s = self._clock.monotonic_s() if failed else None
        self._full = Outcome.FULL in outcomes
        return outcomes

    def state(self) -> str:
        """For the readiness check: whether records can be made durable now."""
        if self._failed_s is None or self._clock.monotonic_s() - self._failed_s > FAILED_FOR_S:
            return "ok"
        if self._full:
            return "the log's disk is nearly full"
        age_s = self._log.last_kept_age_s()
        return (
            f"the log does not answer; it kept something {'never' if age_s is None else f'{age_s:.0f} s ago'}"
        )
