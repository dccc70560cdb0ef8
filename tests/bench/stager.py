"""The stager: a filled topic worked off into PostgreSQL, beside Quix Streams and the plain reference."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path

from shared.clock import SystemClock
from shared.eventlog.port import TOPIC
from tests.bench import topics
from tests.bench.measure import Measure, interleaved
from tests.bench.processes import PARTITIONS, ROOT, Server, apart, launched
from tests.bench.progress import in_group, in_store, watched
from tests.bench.rig import Store, kafka, postgres
from tests.bench.table import Section, Target, ratio
from tests.support.child import Child, inherited_env

RECORDS, CUSTOMERS = 300_000, 50_000
QUIX, REFERENCE = "Quix Streams, exactly once (no timeline)", "the plain reference"
ONE, TWO = "Rejse, one process", "Rejse, two processes"
_QUIX_PYTHON = ROOT / ".cache/quixstreams/bin/python"


def measure(home: Path) -> Sequence[Section]:
    """Each stages the same topic from nothing. Nothing is pinned: who waits for PostgreSQL leaves it the
    core, and two processes need both."""
    begin = SystemClock().now() - timedelta(days=2)
    with kafka(home, core=None) as broker, postgres(core=None) as store:
        apart(topics.fill, broker.bootstrap, TOPIC, RECORDS, CUSTOMERS, begin, core=None)
        stagers = _Stagers(home, broker.bootstrap, store)
        rows = interleaved(
            {
                QUIX: stagers.quix,
                REFERENCE: stagers.reference,
                ONE: lambda: stagers.ours(1),
                TWO: lambda: stagers.ours(2),
            }
        )
    return [_section(rows)]


@dataclass(frozen=True, slots=True)
class _Stagers:
    """What is measured, each with an empty store of its own."""

    home: Path
    bootstrap: str
    store: Store
    _numbers: Iterator[int] = field(default_factory=count)

    def quix(self) -> Measure:
        """Quix Streams, watched by what its group has committed."""
        group = f"quix-{next(self._numbers)}"
        arguments = [self.bootstrap, TOPIC, group, str(self.home / group)]
        with _child("baselines.quix_stager", arguments, self.home, _QUIX_PYTHON) as server:
            measured = asyncio.run(watched(in_group(self.bootstrap, group), server, RECORDS))
        if not asyncio.run(topics.count(self.bootstrap, f"changelog__{group}--{TOPIC}--default")):
            raise ValueError("Quix Streams has committed, and its changelog is empty")
        return measured

    def reference(self) -> Measure:
        """The plain reference."""
        with self.store.empty_database() as url:
            arguments = [url, self.bootstrap, TOPIC, str(PARTITIONS)]
            with _child("reference_stager", arguments, self.home, Path(sys.executable)) as server:
                return asyncio.run(watched(in_store(url), server, RECORDS))

    def ours(self, processes: int) -> Measure:
        """Rejse's stager."""
        with self.store.database() as url:
            settings = stager_settings(url, self.bootstrap)
            with launched("stager", [settings] * processes, self.home, core=None) as server:
                return asyncio.run(watched(in_store(url), server, RECORDS))


def stager_settings(database_url: str, bootstrap: str) -> Mapping[str, str]:
    """The settings of a stager of Rejse's."""
    return {
        "database_url": database_url,
        "kafka_bootstrap": bootstrap,
        "kafka_partitions": str(PARTITIONS),
    }


@contextlib.contextmanager
def _child(module: str, arguments: Sequence[str], home: Path, python: Path) -> Iterator[Server]:
    command: list[str | Path] = [python, "-m", f"tests.bench.{module}", *arguments]
    child = Child(command, env=inherited_env(), log_file=home / f"{module}.log", cwd=ROOT)
    try:
        yield Server([child.pid], 0)
    finally:
        child.end()


def _section(rows: Mapping[str, Measure]) -> Section:
    one, two, reference, quix = rows[ONE], rows[TWO], rows[REFERENCE], rows[QUIX]
    return Section(
        "Stager, timeline kept",
        rows,
        REFERENCE,
        notes=(
            f"{RECORDS:,} touchpoints of {CUSTOMERS:,} customers, {PARTITIONS} partitions; RSS and CPU are "
            "of the stager's processes, summed; counted from the first commit to the last.",
            "PostgreSQL 18 with fsync, shared_buffers=512MB. Nothing is pinned.",
            "Quix Streams keeps the stage alone, in RocksDB and a changelog topic that no fsync waits for. "
            "It runs at its defaults, but commits every 100,000 records instead of every 5 s: as seldom, and "
            "the last commit comes with the last record. Its progress is what its group has committed.",
        ),
        targets=(
            Target(
                "stager, one process, events/s, of Quix Streams exactly once",
                ratio(one.rate_s, quix.rate_s),
                1.5,
                "at least",
            ),
            Target(
                "stager, one process, events/s, of the plain reference",
                ratio(one.rate_s, reference.rate_s),
                0.75,
                "at least",
            ),
            Target("stager, two processes, events/s, of one", ratio(two.rate_s, one.rate_s), 1.5, "at least"),
            Target("stager, memory of one process, MiB", one.rss_mib, 150, "at most"),
        ),
    )
