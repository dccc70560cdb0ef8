"""Counts what became of touchpoints, and says what was refused in one log line every few seconds."""

from __future__ import annotations

import logging
from collections import Counter as Tally

from prometheus_client import Counter

from services.ingest.accept import Accepted
from shared.clock import Clock
from shared.logs import fields
from shared.metrics import Metrics
from shared.touchpoint import IDENTITY_KINDS

SUMMARY_S = 10.0

_log = logging.getLogger(__name__)


class Ledger:
    """Received = accepted + duplicate + refused + set aside, for every source."""

    def __init__(self, metrics: Metrics) -> None:
        self._refused = metrics.counter("rejse_ingest_touchpoints_refused_total")
        self._worthless = metrics.counter("rejse_ingest_identities_worthless_total")
        self._columns = {
            name: metrics.counter(f"rejse_ingest_touchpoints_{name}_total")
            for name in ("received", "accepted", "duplicate", "set_aside")
        }
        self._pages: dict[str, dict[str, Counter]] = {}
        self._unsaid: Tally[tuple[str, str]] = Tally()

    def count(self, source: str, accepted: Accepted, kept: int) -> None:
        """Enter a request that got its verdict; `kept` of its records are durable, the others set aside."""
        page = self._pages.get(source) or self._page(source)
        page["received"].inc(accepted.received)
        page["accepted"].inc(kept)
        if accepted.duplicates:
            page["duplicate"].inc(accepted.duplicates)
        if len(accepted.records) > kept:
            page["set_aside"].inc(len(accepted.records) - kept)
        if accepted.refusals:
            for code, count in Tally(refusal.code for refusal in accepted.refusals).items():
                self._refused.labels(source, code).inc(count)
                self._unsaid[source, code] += count
        for kind, count in Tally(accepted.worthless).items() if accepted.worthless else ():
            self._worthless.labels(source, kind if kind in IDENTITY_KINDS else "external").inc(count)

    def _page(self, source: str) -> dict[str, Counter]:
        page = {name: counter.labels(source) for name, counter in self._columns.items()}
        self._pages[source] = page
        return page

    async def run(self, clock: Clock) -> None:
        """Say what was refused, for ever."""
        while True:
            await clock.sleep(SUMMARY_S)
            self.say()

    def say(self) -> None:
        """Say what was refused since the last time, if anything was."""
        unsaid, self._unsaid = self._unsaid, Tally()
        for (source, code), count in sorted(unsaid.items()):
            _log.warning("touchpoints_refused", extra=fields(source=source, code=code, touchpoints=count))
