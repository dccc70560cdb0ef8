"""Stage changes go out: by the outbox, on a real PostgreSQL and a real local log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.stager.metrics import CATALOGUE
from services.stager.publish import Publisher
from shared.clock import SystemClock
from shared.errors import Contended, FencedOut, Transient
from shared.eventlog.choose import open_reader, open_writer
from shared.eventlog.local.reader import LocalReader
from shared.eventlog.local.writer import LocalWriter
from shared.eventlog.port import STAGE_CHANGES, EventWriter, NewRecord, Outcome
from shared.failpoints import Failpoints
from shared.journey.fold import Journey
from shared.journey.language import parse
from shared.metrics import Metrics
from shared.store.definitions import retire, want
from shared.store.engine import Pool, connection_of
from shared.touchpoint import Channel, Touchpoint
from tests.service.staging import Staging, staging
from tests.support.eventually import eventually_async
from tests.support.journeys import EPOCH, EVERYTHING
from tests.support.told import TRANSITIONS, Consumer, listen

JOURNEY = Journey(parse(EVERYTHING, "everything.yaml"))
TYPES = ("order_completed", "product_viewed", "call_ended", "offer_declined")
LIVE = EPOCH + timedelta(days=100)
_numbers = count()
_FILL_OUTBOX = """
INSERT INTO outbox (key, value)
SELECT 'anybody', convert_to('{"kind":"padded","with":"' || repeat('x', 300) || '"}', 'UTF8')
FROM generate_series(1, $1)
"""


def touchpoint(who: str, day: int, type_: str = "order_completed", channel: Channel = "store") -> Touchpoint:
    return Touchpoint(
        id=f"{who}-{next(_numbers)}",
        type=type_,
        channel=channel,
        occurred_at=EPOCH + timedelta(days=day),
        received_at=LIVE,
        source="till",
        identities=(f"user_id:{who}",),
    )


class Hearing:
    """A writer on a real log that can be told not to say what became of some records, or to keep none."""

    def __init__(self, writer: EventWriter) -> None:
        self._writer = writer
        self.deaf = False
        self.away = False

    async def append(self, records: Sequence[NewRecord], timeout_s: float) -> Sequence[Outcome]:
        if self.away:
            return [Outcome.UNKNOWN] * len(records)
        outcomes = await self._writer.append(records, timeout_s)
        return [Outcome.UNKNOWN] * len(records) if self.deaf else outcomes

    async def partitions(self, timeout_s: float) -> int | None:
        return None if self.away else await self._writer.partitions(timeout_s)

    def last_kept_age_s(self) -> float | None:
        return self._writer.last_kept_age_s()

    def wrong(self) -> str | None:
        return self._writer.wrong()

    async def close(self, timeout_s: float) -> None:
        await self._writer.close(timeout_s)


class Outlet:
    """A publisher, the log that it tells, and whoever reads that."""

    def __init__(self, pool: Pool, writer: Hearing, data_dir: Path) -> None:
        self.metrics = Metrics(CATALOGUE)
        self.publisher = Publisher(pool, writer, self.metrics, Failpoints())
        self.writer = writer
        self._pool = pool
        self._data_dir = data_dir

    async def publish(self) -> None:
        while await self.publisher.publish():
            pass

    async def messages(self) -> list[bytes]:
        reader = await open_reader(
            kafka_bootstrap=None,
            data_dir=self._data_dir,
            partitions=1,
            replicas=1,
            clock=SystemClock(),
            topic=STAGE_CHANGES,
        )
        reader.start(0, 0)
        found: list[bytes] = []
        while records := await reader.poll(10_000, 0.01):
            found += [record.value for record in records]
        await reader.close(5)
        return found

    async def consumer(self) -> Consumer:
        return listen(await self.messages())

    async def transitions(self) -> list[dict[str, Any]]:
        async with connection_of(self._pool) as connection:
            return [dict(row) for row in await connection.fetch(TRANSITIONS)]

    async def waits(self) -> bool:
        """Whether the gauge says that something waits."""
        return b"rejse_stager_stage_changes_waiting_seconds 0.0" not in self.metrics.exposition()

    async def waiting(self) -> int:
        async with connection_of(self._pool) as connection:
            return int(await connection.fetchval("SELECT count(*) FROM outbox"))


@pytest.fixture
async def stager(database_url: str) -> AsyncIterator[Staging]:
    async with staging(database_url, [JOURNEY], EPOCH, tells=True) as staging_:
        yield staging_


@pytest.fixture
async def outlet(stager: Staging, tmp_path: Path) -> AsyncIterator[Outlet]:
    writer = await open_writer(
        kafka_bootstrap=None,
        data_dir=tmp_path,
        partitions=1,
        replicas=1,
        clock=SystemClock(),
        topic=STAGE_CHANGES,
        local_keep_bytes=1 << 30,
    )
    yield Outlet(stager.pool, Hearing(writer), tmp_path)
    await writer.close(5)


Step = tuple[Literal["batch", "sweep", "publish", "deaf"], int, list[tuple[str, int, str, Channel]]]
_touchpoints = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.integers(0, 40),
        st.sampled_from(TYPES),
        st.sampled_from(get_args(Channel)[:4]),
    ),
    min_size=1,
    max_size=5,
)
_steps: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(st.just("batch"), st.integers(0, 6), _touchpoints)
    | st.tuples(st.sampled_from(["sweep", "publish", "deaf"]), st.integers(0, 6), st.just([])),
    min_size=2,
    max_size=10,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps)
async def test_who_follows_the_messages_has_the_histories(
    stager: Staging, outlet: Outlet, steps: list[Step]
) -> None:
    """Whatever comes late, whatever time does and however often the log's answer is lost: a consumer who
    drops what repeats was told every transition that was ever committed, once, and no other; and the
    corrections leave the histories that stand."""
    customer = next(_numbers)
    for kind, hour, wanted in steps:
        now = LIVE + timedelta(hours=hour)
        outlet.writer.deaf = kind == "deaf"
        if kind == "batch":
            batch = [touchpoint(f"{who}-{customer}", *rest) for who, *rest in wanted]  # type: ignore[arg-type]
            await stager.commit(now, *batch)
        elif kind == "sweep":
            await stager.sweep(now)
        elif kind == "publish":
            await outlet.publish()
        elif await outlet.waiting():
            with pytest.raises(Transient):
                await outlet.publish()

    outlet.writer.deaf = False
    await outlet.publish()
    assert (await outlet.consumer()).differences(await outlet.transitions()) == []
    assert await outlet.waiting() == 0


async def test_a_message_says_what_happened(stager: Staging, outlet: Outlet) -> None:
    """A transition names its cause; a correction says what did not happen, what did, and what came late."""
    first, late = touchpoint("ida", 3), touchpoint("ida", 1, "page_viewed")
    await stager.commit(LIVE, first)
    await stager.commit(LIVE + timedelta(hours=1), late)
    await outlet.publish()
    told = [msgspec.json.decode(value) for value in await outlet.messages()]

    began, transition, correction, *added = told
    assert began == {
        "id": 1,
        "kind": "journey_version",
        "journey": "everything",
        "version": 1,
        "former": None,
        "known_at": "2026-01-01T00:00:00Z",
    }
    about = {"customer": transition["customer"], "journey": "everything", "version": 1, "run": ""}
    assert transition.pop("cause")["rule"] == "buying.enter"
    assert transition == {
        **about,
        "id": 2,
        "kind": "transition",
        "revision": 0,
        "seq": 0,
        "at": "2026-01-04T00:00:00Z",
        "known_at": "2026-04-11T00:00:00Z",
        "change": "enter",
        "from": None,
        "from_paused": False,
        "to": "buying",
        "to_paused": False,
    }
    assert correction.pop("cause") == {"touchpoint": added[0]["cause"]["touchpoint"], "rule": None}
    assert correction == {
        **about,
        "id": 3,
        "kind": "correction",
        "revision": 1,
        "at": "2026-01-02T00:00:00Z",
        "known_at": "2026-04-11T01:00:00Z",
        "from": "buying",
        "from_paused": False,
        "to": None,
        "to_paused": False,
        "superseded": {"first": 0, "last": 0},
        "added": {"first": 0, "last": 1},
    }
    assert [(one["revision"], one["seq"], one["to"]) for one in added] == [(1, 0, "aware"), (1, 1, "buying")]


async def test_a_backlog_goes_out_whatever_postgresql_has_counted(stager: Staging, outlet: Outlet) -> None:
    """An outbox is empty whenever PostgreSQL counts what tables have; then the log is away, and it is not."""
    async with connection_of(stager.pool) as connection:
        await connection.execute(_FILL_OUTBOX, 20_000)
        await connection.execute("DELETE FROM outbox WHERE id < (SELECT max(id) FROM outbox)")
        await connection.execute("VACUUM ANALYZE outbox")
        await connection.execute("DELETE FROM outbox")
        await connection.execute("VACUUM outbox")
        await connection.execute(_FILL_OUTBOX, 20_000)

    await outlet.publish()
    assert len(await outlet.messages()) == 20_000


async def test_what_was_rolled_back_is_not_told(stager: Staging, outlet: Outlet) -> None:
    """A batch that is fenced out tells nothing."""
    await outlet.publish()
    await stager.store.claim(0, 0)
    with pytest.raises(FencedOut):
        await stager.commit(LIVE, touchpoint("bo", 1))

    assert await outlet.waiting() == 0


async def test_a_definition_that_is_new_tells_no_history_of_before(
    stager: Staging, outlet: Outlet, database_url: str
) -> None:
    """Neither what a backfill stages nor what time did by then goes out, and what happens from then on does:
    also to a customer whom a touchpoint reaches before the backfill does. Until the version takes over, what
    the active one makes of touchpoints is told."""
    for who in ("early", "late"):
        await stager.commit(LIVE, touchpoint(who, 1))
    await outlet.publish()
    counts = [len(await outlet.messages())]
    newer = Journey(parse(EVERYTHING.replace("version: 1", "version: 2"), "newer.yaml"))
    async with staging(database_url, [newer], LIVE, tells=True) as next_:
        await next_.commit(LIVE + timedelta(hours=1), touchpoint("early", 2))
        await next_.backfill(LIVE + timedelta(hours=2))
        await next_.sweep(LIVE + timedelta(hours=3))
        await outlet.publish()
        counts.append(len(await outlet.messages()))
        await next_.commit(LIVE + timedelta(hours=4), touchpoint("early", 100, "call_ended", "phone"))
        await outlet.publish()

    told = [msgspec.json.decode(value) for value in await outlet.messages()]
    *meanwhile, took_over = told[counts[0] : counts[1]]
    after = told[counts[1] :]
    assert {one["version"] for one in meanwhile} == {1}
    assert (took_over["kind"], took_over["version"], took_over["former"]) == ("journey_version", 2, 1)
    assert [(one["version"], one["to"]) for one in after] == [(2, "considering")]


async def test_what_is_told_of_two_versions_lies_on_either_side_of_the_takeover(
    stager: Staging, outlet: Outlet
) -> None:
    """While touchpoints keep coming, versions take over from one another, and one is let go and taken back:
    every change that is told is of the version that was read last, as the messages before it say."""
    versions = [parse(EVERYTHING.replace("version: 1", f"version: {number}"), "v") for number in (1, 2)]
    over = asyncio.Event()
    committed: list[str] = []

    async def live() -> None:
        for number in count():
            who, type_ = f"l{number % 7}", TYPES[number % 4]
            try:
                await stager.commit(LIVE, touchpoint(who, number % 40, type_))
                committed.append(who)
            except Contended:
                await stager.in_force.follow()
            if over.is_set():
                return

    async def some_more() -> bool:
        if len(committed) < 10:
            return False
        committed.clear()
        return True

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(live())
        for turn in range(8):
            await eventually_async(some_more, until=bool)
            async with connection_of(stager.pool) as connection:
                if turn % 4 == 3:
                    assert await retire(connection, "everything", LIVE)
                else:
                    await want(connection, versions[(turn + 1) % 2], LIVE)
            await stager.backfill(LIVE)
        over.set()

    await outlet.publish()
    told_of = [msgspec.json.decode(value) for value in await outlet.messages()]
    read = [(one["version"], one["former"]) for one in told_of if one["kind"] == "journey_version"]
    assert read == [(1, None), (2, 1), (1, 2), (2, 1), (None, 2), (2, None), (1, 2), (2, 1), (None, 2)]
    # Of a version that took over, the histories are the API's to tell.
    assert [one for one in (await outlet.consumer()).wrong if "version" in one] == []


async def test_each_partition_hears_of_a_takeover(stager: Staging, outlet: Outlet, tmp_path: Path) -> None:
    """Between the same messages, so who reads one partition knows which version each change in it is of; and
    as a message of the journey, so that a log that keeps the last one of each key keeps it."""
    log = await LocalWriter.open(tmp_path / "three", SystemClock(), 3)
    publisher = Publisher(stager.pool, log, outlet.metrics, Failpoints())
    await stager.commit(LIVE, *(touchpoint(f"p{number}", 1) for number in range(20)))
    async with connection_of(stager.pool) as connection:
        await retire(connection, "everything", LIVE)
    while await publisher.publish():
        pass
    reader = await LocalReader.open(tmp_path / "three", SystemClock(), 3)
    told: dict[int, list[str]] = {partition: [] for partition in range(3)}
    for partition in told:
        reader.start(partition, 0)
    while records := await reader.poll(1_000, 0.01):
        for record in records:
            told[record.partition].append(msgspec.json.decode(record.value)["kind"])
    await reader.close(5)
    await log.close(5)

    assert [(kinds[0], kinds[-1]) for kinds in told.values()] == [("journey_version",) * 2] * 3
    assert all(kinds.count("journey_version") == 2 and len(kinds) > 2 for kinds in told.values())


async def test_only_what_changes_who_is_read_is_told(stager: Staging, outlet: Outlet) -> None:
    """Not that a version is asked for or given up, and not what is active already."""
    await stager.commit(LIVE, touchpoint("ida", 1))
    await outlet.publish()
    newer = parse(EVERYTHING.replace("version: 1", "version: 2"), "newer.yaml")
    async with connection_of(stager.pool) as connection:
        for asked in (JOURNEY.definition, newer, JOURNEY.definition):
            await want(connection, asked, LIVE)

    assert await outlet.waiting() == 0


async def test_several_publishers_tell_nothing_twice(stager: Staging, outlet: Outlet) -> None:
    """Whoever finds another at it leaves it to that one; together they tell everything once."""
    await stager.commit(LIVE, *(touchpoint(f"c{number}", 1) for number in range(5_000)))
    others = [Publisher(stager.pool, outlet.writer, outlet.metrics, Failpoints()) for _ in range(3)]

    async def all_of(publisher: Publisher) -> None:
        while await outlet.waiting():
            await publisher.publish()

    await asyncio.gather(*(all_of(publisher) for publisher in others))
    consumer = await outlet.consumer()
    assert (consumer.repeated, len(consumer.told)) == (0, 5_000)


async def test_a_log_that_is_away_lets_the_outbox_grow_and_staging_go_on(
    stager: Staging, outlet: Outlet
) -> None:
    """Batches commit meanwhile, a gauge says for how long something has waited, and all goes out once the log
    is back."""
    outlet.writer.away = True
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(outlet.publisher.run(stop))
        for day in range(10):
            await stager.commit(LIVE, touchpoint("una", day, "page_viewed"))
        await eventually_async(outlet.waits, until=lambda waits: waits)
        stop.set()
    assert await outlet.waiting() > 0

    outlet.writer.away = False
    await outlet.publish()
    assert (await outlet.consumer()).differences(await outlet.transitions()) == []
