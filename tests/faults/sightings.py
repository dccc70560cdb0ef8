"""What has to happen sometimes, or the campaign hasn't shown anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tests.faults.report import Line
from tests.faults.rig import STAGERS, Rig

SOMETIMES = (
    "a fenced batch",
    "a dropped duplicate",
    "a refold by a late event",
    "the spool used",
    "a producer replaced",
    "a contended batch retried",
    "a dead letter",
    "a 429",
    "a 503",
    "a torn tail repaired",
    "a customer parted",
    "a customer erased",
    "a takeover",
)
_IN_LOGS = {
    "a fenced batch": '"error": "FencedOut',
    "a producer replaced": '"event": "kafka_producer_replaced"',
    "a contended batch retried": '"event": "batch_contended"',
    "a takeover": '"event": "partition_lost"',
}


def seen_in_logs(rig: Rig) -> Counter[str]:
    """How often the services' logs tell of these things."""
    found: Counter[str] = Counter()
    for part in ("ingest", *STAGERS, "stager-guest"):
        path = rig.log_of(part)
        text = path.read_text(errors="replace") if path.exists() else ""
        for what, sign in _IN_LOGS.items():
            found[what] += text.count(sign)
    return found


def missing(seen: Mapping[str, int]) -> Iterator[Line]:
    """A line for each thing that has to happen sometimes."""
    for what in SOMETIMES:
        yield Line(f"sometimes: {what}", "at least once", f"{seen.get(what, 0)} times", seen.get(what, 0) > 0)
