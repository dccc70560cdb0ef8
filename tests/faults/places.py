"""Where the oracle finds everything."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.faults.traffic import PROBE_SOURCE


class Places(msgspec.Struct, frozen=True):
    """Addresses, keys and files. `database_url` and `kafka` lead past every proxy."""

    ingest_url: str
    api_url: str
    database_url: str
    kafka: str
    keys: dict[str, str]
    seed: int
    ledger: str
    earlier_logs: str
    """Files of faces that were on logs which have been made anew since: `NAME.N` for the Nth."""
    spool: str
    journeys: str
    events_s: int

    def key(self, source: str) -> dict[str, str]:
        """The headers of a request of a source."""
        return {"authorization": f"Bearer {self.keys[source]}", "content-type": "application/json"}

    @property
    def probe_headers(self) -> dict[str, str]:
        """The headers of a fresh event."""
        return self.key(PROBE_SOURCE)

    @property
    def read_headers(self) -> dict[str, str]:
        """The headers of a question to the public API."""
        return {"authorization": f"Bearer {self.keys['read']}"}

    @property
    def ledger_path(self) -> Path:
        """The oracle's book."""
        return Path(self.ledger)
