"""Kafka away: the breaker, the spool and the drainer, with a real broker that is killed and frozen."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import pytest

from services.ingest.spool import SET_ASIDE_FILE, Spool
from shared import codec
from shared.clock import SystemClock
from shared.errors import Transient
from shared.eventlog.choose import open_reader
from shared.eventlog.port import EventReader, NewRecord, Outcome
from shared.touchpoint import Touchpoint
from tests.support.broker import Broker
from tests.support.eventually import eventually_async
from tests.support.ingest import Ingest, event, running_ingest

ACK_TIMEOUT_S = 2.0
"""It is the spool's deadline too: longer than a disk stands still."""

pytestmark = pytest.mark.allows_error("aiokafka")


@pytest.fixture
def absent_broker(tmp_path: Path) -> Broker:
    """A broker that is never there."""
    return Broker(tmp_path)


async def in_topic(broker: Broker, topic: str, data_dir: Path) -> list[Touchpoint]:
    """Every touchpoint of a topic, each partition's in order."""

    async def opened() -> EventReader:
        return await open_reader(
            kafka_bootstrap=broker.bootstrap,
            data_dir=data_dir,
            partitions=2,
            replicas=1,
            clock=SystemClock(),
            topic=topic,
            group_id=f"reader-of-{topic}",
            accept_weak_topic=True,
        )

    # A broker that was frozen names no node until its controller has heard of it again.
    reader = await eventually_async(opened, 30, tolerate=(Transient,))
    try:
        bounds = {
            number: (await reader.bounds([number]))[number] for number in reader.assignment().partitions
        }
        for number in bounds:
            reader.start(number, bounds[number].begin)
        missing = sum(bound.end - bound.begin for bound in bounds.values())
        found: list[Touchpoint] = []
        while len(found) < missing:
            found += [codec.decode(record.value) for record in await reader.poll(1_000, 5.0)]
        return found
    finally:
        await reader.close(2.0)


def kafka_ingest(
    tmp_path: Path, broker: Broker, topic: str, **variables: object
) -> AbstractAsyncContextManager[Ingest]:
    """Ingest in front of a broker, with a short deadline."""
    return running_ingest(
        tmp_path,
        topic=topic,
        variables={
            "kafka_bootstrap": broker.bootstrap,
            "ack_timeout_s": ACK_TIMEOUT_S,
            "kafka_partitions": 2,
            **variables,
        },
    )


def small_ingest(tmp_path: Path, broker: Broker, topic: str) -> AbstractAsyncContextManager[Ingest]:
    """Ingest that was told to use a topic which takes no large records."""
    return kafka_ingest(tmp_path, broker, topic, ack_timeout_s=10, kafka_accept_weak_topic="true")


async def post_many(ingest: Ingest, prefix: str, count: int) -> list[str]:
    """Events of three customers, one request each; their ids, all of which were answered 202."""
    ids = [f"{prefix}-{number}" for number in range(count)]
    for number, id_ in enumerate(ids):
        answer = await ingest.post(event(id=id_, identities={"user_id": f"u-{number % 3}"}))
        assert answer.status_code == 202, answer.text
    return ids


async def drained(ingest: Ingest) -> None:
    """Wait until the breaker has closed."""
    await eventually_async(
        ingest.metrics, 60, until=lambda metrics: metrics["rejse_ingest_breaker_open"] == 0
    )


async def test_a_killed_broker_costs_nothing(tmp_path: Path, own_broker: Broker, topic: str) -> None:
    """What was answered 202 before, during and after is in the topic, each customer's in order."""
    async with kafka_ingest(tmp_path, own_broker, topic, ack_timeout_s=15) as ingest:
        before = await post_many(ingest, "before", 9)
        assert (await ingest.metrics())["rejse_ingest_spooled_total"] == 0
    async with kafka_ingest(tmp_path, own_broker, topic) as ingest:
        own_broker.kill()
        during = await post_many(ingest, "during", 30)
        status, checks = await ingest.checks()
        assert (status, checks["durable"].partition(":")[0]) == (200, "degraded")
        await asyncio.to_thread(own_broker.start)
        await drained(ingest)
        after = await post_many(ingest, "after", 9)
        await drained(ingest)
        metrics = await ingest.metrics()
        assert metrics["rejse_ingest_spooled_total"] == metrics["rejse_ingest_drained_total"] >= 30

    found = await in_topic(own_broker, topic, tmp_path)
    assert {touchpoint.id for touchpoint in found} == {*before, *during, *after}
    for customer in ("user_id:u-0", "user_id:u-1", "user_id:u-2"):
        first_copies = list(dict.fromkeys(found_.id for found_ in found if customer in found_.identities))
        sent = [id_ for id_ in before + during + after if id_ in first_copies]
        assert first_copies == sent


async def test_the_spool_is_left_while_senders_go_on(tmp_path: Path, own_broker: Broker, topic: str) -> None:
    """There is no moment without a record on its way to the spool; and what came is in the log, each
    customer's in order."""
    async with kafka_ingest(tmp_path, own_broker, topic) as ingest, asyncio.TaskGroup() as tasks:
        own_broker.kill()
        ids = await post_many(ingest, "away", 1)
        going_on = asyncio.Event()

        async def send(sender: int) -> list[str]:
            sent: list[str] = []
            while not going_on.is_set():
                sent.append(f"{sender}-{len(sent)}")
                touchpoint = event(id=sent[-1], identities={"user_id": f"u-{sender}"})
                assert (await ingest.post(touchpoint)).status_code == 202
            return sent

        senders = [tasks.create_task(send(number)) for number in range(8)]
        await asyncio.to_thread(own_broker.start)
        await drained(ingest)
        going_on.set()
        await asyncio.wait(senders)

    found = await in_topic(own_broker, topic, tmp_path)
    for number, sender in enumerate(senders):
        copies = [one.id for one in found if f"user_id:u-{number}" in one.identities and one.id not in ids]
        assert list(dict.fromkeys(copies)) == sender.result()


async def test_a_frozen_broker_costs_one_deadline(tmp_path: Path, own_broker: Broker, topic: str) -> None:
    """The first request waits one deadline for the log, the next ones don't; nothing is lost."""
    async with kafka_ingest(tmp_path, own_broker, topic, ack_timeout_s=4) as ingest:
        ids = await post_many(ingest, "before", 3)
        await drained(ingest)
        own_broker.pause()
        clock = SystemClock()
        took_s: list[float] = []
        for number in range(21):
            began_s = clock.monotonic_s()
            ids += await post_many(ingest, f"frozen-{number}", 1)
            took_s.append(clock.monotonic_s() - began_s)
        assert 3.9 < took_s[0] < 8
        assert max(took_s[1:]) < 3.9
        own_broker.resume()
        await drained(ingest)

    assert {touchpoint.id for touchpoint in await in_topic(own_broker, topic, tmp_path)} == set(ids)


async def test_a_restart_finds_the_spool_and_drains_it(
    tmp_path: Path, absent_broker: Broker, broker: Broker, topic: str
) -> None:
    """Without a single new request; and a broker that was never there is only a broker away."""
    async with kafka_ingest(tmp_path, absent_broker, topic) as ingest:
        ids = await post_many(ingest, "alone", 5)
    async with kafka_ingest(tmp_path, broker, topic, ack_timeout_s=5) as ingest:
        await drained(ingest)

    assert {touchpoint.id for touchpoint in await in_topic(broker, topic, tmp_path)} == set(ids)


async def test_a_full_spool_is_503(tmp_path: Path, absent_broker: Broker, topic: str) -> None:
    """Nothing is dropped to make room: the sender keeps what there is no room for, and is told so."""
    async with kafka_ingest(tmp_path, absent_broker, topic, spool_bytes_max=2_000_000) as ingest:
        large = [event(id=str(number), properties={"a": "x" * 30_000}) for number in range(30)]
        answers = [await ingest.post(large) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [202, 503, 503]
        assert answers[1].json()["code"] == "not_durable"
        assert 1 <= int(answers[1].headers["retry-after"]) <= 7
        status, checks = await ingest.checks()
        assert (status, checks["durable"]) == (503, "the log is away and the spool is full")
        metrics = await ingest.metrics()
        assert metrics['rejse_ingest_touchpoints_accepted_total{source="shop"}'] == 30
        assert 900_000 < metrics["rejse_ingest_spool_bytes"] <= 2_000_000


async def test_an_empty_spool_says_nothing_of_the_log(
    tmp_path: Path, absent_broker: Broker, topic: str
) -> None:
    """Where not even the spool takes a record, senders wait for the log once, and are refused at once from
    then on: the breaker closes when the log is back, not when there is nothing to drain."""
    async with kafka_ingest(tmp_path, absent_broker, topic, spool_bytes_max=1) as ingest:
        answers = [await ingest.post(event(id=str(number))) for number in range(20)]

        assert {answer.status_code for answer in answers} == {503}
        assert max(answer.elapsed.total_seconds() for answer in answers[1:]) < ACK_TIMEOUT_S / 2
        status, checks = await ingest.checks()
        assert (status, checks["durable"]) == (503, "the log is away and the spool is full")
        assert (await ingest.metrics())["rejse_ingest_breaker_open"] == 1


async def test_a_record_that_the_log_does_not_take_is_refused_alone(
    tmp_path: Path, broker: Broker, topic: str
) -> None:
    """Its neighbours are accepted, and the ledger sets it aside."""
    await broker.create_topic(topic, partitions=2, config={"max.message.bytes": "2000"})
    async with small_ingest(tmp_path, broker, topic) as ingest:
        answer = await ingest.post([event(), event(properties={"a": "x" * 9_000}), event()])

        assert answer.status_code == 202
        assert answer.json()["accepted"] == 2
        assert [(refusal["index"], refusal["code"]) for refusal in answer.json()["refused"]] == [
            (1, "log_refused")
        ]
        metrics = await ingest.metrics()
        assert metrics['rejse_ingest_touchpoints_set_aside_total{source="shop"}'] == 1
        assert metrics['rejse_ingest_touchpoints_received_total{source="shop"}'] == 3


async def test_a_topic_that_turns_out_to_be_weak_is_not_written_to_until_it_is_mended(
    tmp_path: Path, own_broker: Broker, topic: str
) -> None:
    """Ingest that started while Kafka was away keeps its touchpoints in the spool, is unready and says what
    to set; once that is set they go on without a hand."""
    await own_broker.create_topic(topic, partitions=2)
    own_broker.kill()
    async with kafka_ingest(tmp_path, own_broker, topic) as ingest:
        ids = await post_many(ingest, "weak", 5)
        await asyncio.to_thread(own_broker.start)
        answer = await eventually_async(
            ingest.checks, 30, until=lambda answer: "flush.messages=1" in answer[1]["durable"]
        )
        assert answer[0] == 503
        ids += await post_many(ingest, "still-weak", 2)
        await own_broker.alter_topic(topic, {"flush.messages": "1"})
        await drained(ingest)
        assert (await ingest.checks())[0] == 200

    assert {touchpoint.id for touchpoint in await in_topic(own_broker, topic, tmp_path)} == set(ids)


@pytest.mark.expects_error("services.ingest.detour: spool_records_set_aside")
async def test_a_spooled_record_that_the_log_does_not_take_is_set_aside(
    tmp_path: Path, absent_broker: Broker, broker: Broker, topic: str
) -> None:
    """It was answered 202, so it is written beside for a person, and holds up none that came after it."""
    async with kafka_ingest(tmp_path, absent_broker, topic) as ingest:
        ids = await post_many(ingest, "small", 2)
        assert (await ingest.post(event(id="large", properties={"a": "x" * 9_000}))).status_code == 202
        ids += await post_many(ingest, "later", 2)
    await broker.create_topic(topic, partitions=2, config={"max.message.bytes": "2000"})
    async with small_ingest(tmp_path, broker, topic) as ingest:
        await drained(ingest)
        assert (await ingest.metrics())["rejse_ingest_spool_set_aside_total"] == 1

    assert {touchpoint.id for touchpoint in await in_topic(broker, topic, tmp_path)} == set(ids)
    (line,) = (tmp_path / "ingest" / "spool" / SET_ASIDE_FILE).read_bytes().splitlines()
    assert codec.decode(base64.b64decode(msgspec.json.decode(line)["value"])).id == "large"


async def test_the_spool_gives_back_what_it_took(tmp_path: Path) -> None:
    """Key and value, in order, from where it was dropped before, also when opened again."""
    records = [NewRecord(b"key-%d" % number, json.dumps(number).encode()) for number in range(5)]
    spool = await Spool.open(tmp_path, 1 << 30, SystemClock())
    assert spool.is_empty()
    assert await spool.append(records, 5.0) == [Outcome.KEPT] * 5
    assert not spool.is_empty()
    first = await spool.oldest(2)
    assert first.records == records[:2]
    await spool.drop(first)
    await spool.close(1.0)

    again = await Spool.open(tmp_path, 1 << 30, SystemClock())
    rest = await again.oldest(100)
    assert rest.records == records[2:]
    await again.drop(rest)
    assert again.is_empty()
    assert (await again.oldest(100)).records == []
    await again.close(1.0)
