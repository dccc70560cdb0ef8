"""Freshness: from the 2xx of an event to the event in its customer's timeline, as the API answers it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shared.clock import SystemClock
from tests.bench.events import wire_event
from tests.bench.http import BadAnswer, Connection, connect, get, post
from tests.bench.load import Job, Paced, percentile_ms
from tests.bench.measure import Measure, interleaved
from tests.bench.processes import PARTITIONS, apart, service
from tests.bench.rig import kafka, new_key, postgres
from tests.bench.table import Section, Target

KAFKA, LOCAL = "through Kafka", "through the local log"
RATE_S, SECONDS, CUSTOMERS = 1_000.0, 8.0, 5_000
SAMPLE_EVERY, POLL_EVERY_S = 20, 0.003
_WATCHERS = 16
_TIMEOUT_S = 10.0
_ORDER_EVERY = 10


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Where a running Rejse takes events and answers, and the keys for that."""

    ingest_port: int
    api_port: int
    write_key: str
    read_key: str
    pids: Sequence[int]


def measure(home: Path) -> Sequence[Section]:
    """The same on both event logs, in turns."""
    with ExitStack() as parts:
        store = parts.enter_context(postgres(core=None))
        broker = parts.enter_context(kafka(home, core=None))
        on_kafka = {"kafka_bootstrap": broker.bootstrap, "kafka_partitions": str(PARTITIONS)}
        pipelines = {
            name: parts.enter_context(
                pipeline(home / folder, parts.enter_context(store.database()), settings)
            )
            for name, folder, settings in ((KAFKA, "kafka", on_kafka), (LOCAL, "local", {}))
        }
        numbers = itertools.count(1)
        rows = interleaved({name: partial(_sample, one, numbers) for name, one in pipelines.items()})
    return [_section(rows)]


@contextlib.contextmanager
def pipeline(home: Path, database_url: str, log: Mapping[str, str]) -> Iterator[Pipeline]:
    """A running Rejse on a store, and on the event log that the settings name."""
    home.mkdir()
    with ExitStack() as parts:
        write_key, read_key = new_key(database_url, "write"), new_key(database_url, "read")
        settings = {"database_url": database_url, "data_dir": str(home / "data"), **log}
        ingest, stager, api = (
            parts.enter_context(service(name, settings, home, core=None))
            for name in ("ingest", "stager", "api")
        )
        pids = [*ingest.pids, *stager.pids, *api.pids]
        yield Pipeline(ingest.port, api.port, write_key, read_key, pids)


def _sample(pipeline: Pipeline, numbers: Iterator[int]) -> Measure:
    found: Measure = apart(sampled, pipeline, next(numbers), core=None)
    return found


async def sampled(pipeline: Pipeline, run: int, rate_s: float = RATE_S) -> Measure:
    """Send at the fixed rate and watch every so many-th event; latencies are from 2xx to visible."""
    async with asyncio.TaskGroup() as tasks:
        watchers = [await _Watcher.open(pipeline) for _ in range(_WATCHERS)]
        load = _Sampled(pipeline, run, rate_s, watchers, tasks)
        loaded = await load.run()
    fresh_s = sorted(load.fresh_s)
    for watcher in watchers:
        watcher.close()
    return Measure(
        rate_s=loaded.rate_s,
        per_cpu_s=loaded.rate_s * loaded.seconds / loaded.cpu_s,
        p50_ms=percentile_ms(fresh_s, 0.50),
        p99_ms=percentile_ms(fresh_s, 0.99),
    )


class _Sampled(Paced):
    """Paced events of which every so many-th is watched from its 2xx on."""

    def __init__(
        self,
        pipeline: Pipeline,
        run: int,
        rate_s: float,
        watchers: Sequence[_Watcher],
        tasks: asyncio.TaskGroup,
    ) -> None:
        super().__init__(Job(pipeline.ingest_port, (), SECONDS, pipeline.pids), rate_s)
        self._key = pipeline.write_key
        self._run = run
        self._numbers = itertools.count()
        self._sent_on: dict[Connection, int] = {}
        self._free: asyncio.Queue[_Watcher] = asyncio.Queue()
        for watcher in watchers:
            self._free.put_nowait(watcher)
        self._tasks = tasks
        self._clock = SystemClock()
        self.fresh_s: list[float] = []

    def next_request(self, connection: Connection) -> bytes:
        """An event that happens now, with an id of its own."""
        number = self._sent_on[connection] = next(self._numbers)
        type_ = "page_viewed" if number % _ORDER_EVERY else "order_completed"
        event = wire_event(self._id(number), self._customer(number), self._clock.now(), type_)
        return post("/v1/touchpoints", event, self._key)

    def answered(self, connection: Connection) -> None:
        """Begin to watch, if this is a sample."""
        number = self._sent_on[connection]
        if self.counting and number % SAMPLE_EVERY == 0:
            self._tasks.create_task(self._watch(number, time.monotonic()), name="watch")

    async def _watch(self, number: int, kept_s: float) -> None:
        """Watch one sample. None is left out: one that has to wait for a watcher waits on the clock."""
        watcher = await self._free.get()
        await watcher.until_visible(self._customer(number), self._id(number))
        self.fresh_s.append(time.monotonic() - kept_s)
        self._free.put_nowait(watcher)

    def _id(self, number: int) -> str:
        return f"{self._run:08x}{number:016x}"

    def _customer(self, number: int) -> int:
        return number * 7919 % CUSTOMERS


class _Watcher:
    """Asks the API for one timeline at a time."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._connection: Connection | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    @classmethod
    async def open(cls, pipeline: Pipeline) -> _Watcher:
        """A watcher on a connection of its own."""
        watcher = cls(pipeline.read_key)
        watcher._connection = await connect(pipeline.api_port, watcher._answered, watcher._failed)
        return watcher

    async def until_visible(self, customer: int, id_: str) -> None:
        """Ask until the event of that id is in the customer's timeline.

        Raises:
            TimeoutError: it was not within ten seconds.
            BadAnswer: the API answered something else than a timeline.
        """
        request = get(f"/v1/customers/user_id:customer-{customer:08d}/timeline?limit=10", self._key)
        async with asyncio.timeout(_TIMEOUT_S):
            while True:
                status, body = await self._ask(request)
                if status == 200 and id_.encode() in body:
                    return
                if status not in (200, 404):
                    raise BadAnswer(f"{status}: {body[:300]!r}")
                await asyncio.sleep(POLL_EVERY_S)

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()

    async def _ask(self, request: bytes) -> tuple[int, bytes]:
        assert self._connection is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._connection.send(request)
        return await self._answer

    def _answered(self, _: Connection, status: int, body: bytes) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, body))

    def _failed(self, error: BadAnswer) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def _section(rows: Mapping[str, Measure]) -> Section:
    return Section(
        "Freshness, 2xx to visible in the API",
        rows,
        notes=(
            f"{RATE_S:,.0f} events a second on a fixed schedule through ingest, log, stager and api; one "
            f"in {SAMPLE_EVERY} is asked for every {1000 * POLL_EVERY_S:.0f} ms until its timeline shows it.",
            "p50 and p99 are from the 2xx to the first answer that has it; CPU is of all three services. "
            "Nothing is pinned.",
        ),
        targets=(
            Target("freshness through Kafka, p50 ms", rows[KAFKA].p50_ms, 30, "at most"),
            Target("freshness through Kafka, p99 ms", rows[KAFKA].p99_ms, 150, "at most"),
            Target("freshness through the local log, p50 ms", rows[LOCAL].p50_ms, 30, "at most"),
            Target("freshness through the local log, p99 ms", rows[LOCAL].p99_ms, 150, "at most"),
        ),
    )
