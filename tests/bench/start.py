"""Start: `rejse run` from nothing, and again on what the first run left."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.measure import REPEATS, Measure, middle
from tests.bench.table import Section, Target
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.process import RejseProcess

FIRST, SECOND = "first start", "second start"
SERVICES = ("ingest", "api", "stager")
_TIMEOUT_S = 60.0


def measure(home: Path) -> Sequence[Section]:
    """Seconds until ingest, api and stager all are ready; each first start on an empty folder."""
    found: dict[str, list[Measure]] = {FIRST: [], SECOND: []}
    for number in range(REPEATS):
        for measures in found.values():
            measures.append(_started(home / f"data-{number}", home / "rejse.log"))
    rows = {name: middle(measures) for name, measures in found.items()}
    return [_section(rows)]


def _started(data_dir: Path, log_file: Path) -> Measure:
    ports = {name: free_port() for name in SERVICES}
    env = {f"REJSE_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    process = RejseProcess(["run"], env={**env, "REJSE_DATA_DIR": str(data_dir)}, log_file=log_file)
    try:
        began_s = time.monotonic()
        process.launch()
        eventually(lambda: all(map(_is_ready, ports.values())), _TIMEOUT_S)
        taken_s = time.monotonic() - began_s
        process.terminate()
    finally:
        process.close()
    return Measure(seconds=taken_s)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _section(rows: Mapping[str, Measure]) -> Section:
    return Section(
        "Start, `rejse run` to all three ready",
        rows,
        notes=("The embedded PostgreSQL and the local log; the first start makes the database.",),
        targets=(Target("second start, seconds", rows[SECOND].seconds, 5, "at most"),),
    )
