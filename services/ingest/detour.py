"""The way round a log that is away: a breaker, the spool, and the drainer that empties it.

Closed, the breaker lets records through to the log. Those without an outcome within one deadline go to
the spool, and the breaker opens: from then on records go to the spool at once. The drainer tries the log
with the spool's oldest records; kept there, they are dropped here, and so on in order until the spool is
empty, which closes the breaker. While records keep coming it never would be: so once the log takes what it is
sent and less than a batch is left, what comes waits for that last rest. A record is in the spool, in the log,
or for a moment in both, where its id tells that it is the same; it is never in neither. A spool that an
earlier process left begins open.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from services.ingest.spool import Spool
from shared.clock import Clock
from shared.errors import Transient
from shared.eventlog.port import EventWriter, NewRecord, Outcome
from shared.failpoints import Failpoints
from shared.logs import fields
from shared.metrics import Metrics

DRAIN_RECORDS_MAX, DRAIN_RECORDS_MIN = 5_000, 100
"""How many records of the spool are sent on at once: fewer after each try that was not answered in time."""
_PAUSE_MIN_S, _PAUSE_MAX_S = 0.1, 0.8

_log = logging.getLogger(__name__)


class Detour:
    """A log behind a breaker with a spool."""

    def __init__(
        self,
        log: EventWriter,
        spool: Spool,
        ack_timeout_s: float,
        clock: Clock,
        metrics: Metrics,
        failpoints: Failpoints,
    ) -> None:
        self._log = log
        self._spool = spool
        self._ack_timeout_s = ack_timeout_s
        self._clock = clock
        self._failpoints = failpoints
        self._spooled = metrics.counter("rejse_ingest_spooled_total")
        self._drained = metrics.counter("rejse_ingest_drained_total")
        self._set_aside = metrics.counter("rejse_ingest_spool_set_aside_total")
        self._gauge = metrics.gauge("rejse_ingest_breaker_open")
        metrics.gauge("rejse_ingest_spool_bytes").set_function(spool.bytes_used)
        self._seconds = metrics.histogram("rejse_ingest_append_seconds")
        self._open = asyncio.Event()
        self._may_spool = asyncio.Event()
        self._may_spool.set()
        """Not set while what comes waits for the spool's last rest to be sent on."""
        self._spooling = 0
        self._drain_records = DRAIN_RECORDS_MAX
        self._spool_failed = self._spool_full = False
        if not spool.is_empty():
            self._set_open(True)

    @property
    def open(self) -> bool:
        """Whether records go to the spool."""
        return self._open.is_set()

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Outcome]:
        """Make records durable, in the log or in the spool."""
        await self._may_spool.wait()
        if self.open:
            return await self._append_to_spool(records)
        with self._seconds.labels("log").time():
            outcomes = list(await self._log.append(records, self._ack_timeout_s))
        unknown = [at for at, outcome in enumerate(outcomes) if outcome is Outcome.UNKNOWN]
        if unknown:
            self._set_open(True)
            spooled = await self._append_to_spool([records[at] for at in unknown])
            for at, outcome in zip(unknown, spooled, strict=True):
                outcomes[at] = outcome
        return outcomes

    def state(self) -> str:
        """For the readiness check: whether records can be made durable now.

        With a log that is set up wrongly they can, but it takes a person to bring them on: that is unready.
        """
        if not self.open:
            return "ok"
        wrong = self._log.wrong()
        away = "the log is away" if wrong is None else wrong.replace("\n", "; ")
        if self._spool_failed:
            return f"{away} and the spool's disk fails"
        if self._spool_full or not self._spool.has_room():
            return f"{away} and the spool is full"
        waiting = f"{away}; {self._spool.bytes_used()} bytes wait in the spool"
        return f"degraded: {waiting}" if wrong is None else waiting

    async def drain(self) -> None:
        """Send the spool on whenever there is something in it, for ever."""
        pause_s = _PAUSE_MIN_S
        while True:
            await self._open.wait()
            try:
                sent = await self._send_on()
            except (Transient, OSError) as error:
                _log.warning("spool_not_read", extra=fields(reason=str(error)))
                sent = False
            if sent:
                pause_s = _PAUSE_MIN_S
            else:
                self._may_spool.set()
                await self._clock.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    async def _append_to_spool(self, records: Sequence[NewRecord]) -> Sequence[Outcome]:
        self._spooling += 1
        self._failpoints.reach("ingest.before_spool_commit")
        try:
            with self._seconds.labels("spool").time():
                outcomes = await self._spool.append(records, self._ack_timeout_s)
        finally:
            self._spooling -= 1
        self._spool_failed = Outcome.UNKNOWN in outcomes
        self._spool_full = Outcome.FULL in outcomes
        self._failpoints.reach("ingest.after_spool_commit")
        self._spooled.inc(sum(outcome is Outcome.KEPT for outcome in outcomes))
        return outcomes

    async def _send_on(self) -> bool:
        """Send the spool's oldest records on; whether the log has taken them."""
        count = self._drain_records
        batch = await self._spool.oldest(count)
        if not batch.records:
            # A spool that could keep nothing is empty, too: the log itself has to tell that it is back.
            if await self._log.partitions(self._ack_timeout_s) is None:
                return False
            if not self._spooling and self._spool.is_empty():
                self._set_open(False)
            return True
        outcomes = await self._log.append(batch.records, self._ack_timeout_s)
        if Outcome.UNKNOWN in outcomes:
            self._drain_records = max(DRAIN_RECORDS_MIN, count // 4)
            return False
        self._drain_records = min(DRAIN_RECORDS_MAX, 2 * count)
        refused = [batch.records[at] for at, outcome in enumerate(outcomes) if outcome is Outcome.REFUSED]
        if refused:
            await self._spool.set_aside(refused)
            self._set_aside.inc(len(refused))
            _log.error("spool_records_set_aside", extra=fields(records=len(refused)))
        self._failpoints.reach("ingest.before_spool_drop")
        await self._spool.drop(batch)
        self._failpoints.reach("ingest.after_spool_drop")
        self._spool_full = False
        self._drained.inc(len(batch.records) - len(refused))
        if len(batch.records) < count:
            self._may_spool.clear()
        return True

    def _set_open(self, open_: bool) -> None:
        if open_ == self.open:
            return
        if open_:
            self._open.set()
        else:
            self._open.clear()
            self._may_spool.set()
        self._gauge.set(int(open_))
        event = "breaker_opened" if open_ else "breaker_closed"
        _log.warning(event, extra=fields(spool_bytes=self._spool.bytes_used()))
