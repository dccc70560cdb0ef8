"""Runs a service as `python -m` does, and tells where its CPU time goes: a sampling profiler.

A timer of the process's own CPU time interrupts it, and the module is noted that ran: the innermost frame
outside the standard library, which answers for what it called there and in C. Time in the event loop's own C
counts for what the loop calls next. Nothing runs between two samples, so the service is as fast as ever.

SIGUSR1 begins, SIGUSR2 ends and writes what was found. SQL statements are timed too if that is asked for:
from the driver's call to its answer.
"""

from __future__ import annotations

import runpy
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import asyncpg
import msgspec

EVERY_S = 0.002
STATEMENTS = "statements"
LOOP = "the loop"
_STANDARD = sys.stdlib_module_names
_OUTERMOST = "__main__"


class Found(msgspec.Struct):
    """Samples by module; seconds of wall time; seconds by SQL text, and that of everything."""

    samples: dict[str, int]
    wall_s: float
    statements_s: dict[str, float]


class _Sampler:
    def __init__(self, to: Path) -> None:
        self._to = to
        self._samples: Counter[str] = Counter()
        self._statements_s: defaultdict[str, float] = defaultdict(float)
        self._began_s = 0.0

    def listen(self) -> None:
        """Wait for the signals."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR1, self._begin)
        signal.signal(signal.SIGUSR2, self._end)

    def note_query(self, query: Any) -> None:
        """Add to what a statement took; asyncpg calls it."""
        self.note_statement(query.query, query.elapsed)

    def note_statement(self, sql: str, seconds: float) -> None:
        """Add to what a statement took."""
        self._statements_s[sql] += seconds

    def _begin(self, _: int, __: FrameType | None) -> None:
        self._samples.clear()
        self._statements_s.clear()
        self._began_s = time.monotonic()
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)

    def _end(self, _: int, __: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        wall_s = time.monotonic() - self._began_s
        found = Found(dict(self._samples), wall_s, dict(self._statements_s))
        unfinished = self._to.with_suffix(".part")
        unfinished.write_bytes(msgspec.json.encode(found))
        unfinished.replace(self._to)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        self._samples[_module(frame)] += 1


def _module(frame: FrameType | None) -> str:
    while frame is not None:
        name: str = frame.f_globals.get("__name__", "")
        if name == _OUTERMOST:
            break
        if name.partition(".")[0] not in _STANDARD:
            return name
        frame = frame.f_back
    return LOOP


def _time_statements(sampler: _Sampler) -> None:
    class Timed(asyncpg.Connection):
        """Notes COPY too, of which asyncpg tells nobody."""

        def __init__(self, *how: Any, **named: Any) -> None:
            super().__init__(*how, **named)
            self.add_query_logger(sampler.note_query)

        async def copy_records_to_table(self, table_name: str, **how: Any) -> str:
            with self._noted(table_name):
                return await super().copy_records_to_table(table_name, **how)

        async def copy_to_table(self, table_name: str, **how: Any) -> str:
            with self._noted(table_name):
                return await super().copy_to_table(table_name, **how)

        @contextmanager
        def _noted(self, table_name: str) -> Iterator[None]:
            began_s = time.perf_counter()
            try:
                yield
            finally:
                sampler.note_statement(f"COPY {table_name}", time.perf_counter() - began_s)

    asyncpg.create_pool = partial(asyncpg.create_pool, connection_class=Timed)


def main(module: str, to: str, *what: str) -> None:
    """Run a module as the program."""
    sampler = _Sampler(Path(to))
    sampler.listen()
    if STATEMENTS in what:
        _time_statements(sampler)
    sys.argv[1:] = []
    runpy.run_module(module, run_name=_OUTERMOST, alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
