"""Laws of the rig: the broker in the tests is a real one, and faults done to it are real."""

import asyncio
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.support.broker import Broker
from tests.support.child import RigError
from tests.support.ports import free_port


async def test_a_record_sent_is_a_record_read(broker: Broker, topic: str) -> None:
    """What a client sends to the session's broker, another client reads."""
    await broker.create_topic(topic, partitions=2)

    await _send(broker.bootstrap, topic, [b"a", b"b"])

    assert await _read(broker.bootstrap, topic, 2) == {b"a", b"b"}


async def test_a_topic_is_never_made_by_accident(broker: Broker, topic: str) -> None:
    """Asking for a topic doesn't create it."""
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
    await producer.start()
    try:
        await producer.client.fetch_all_metadata()
        assert topic not in producer.client.cluster.topics()
    finally:
        await producer.stop()


async def test_kill_and_stop_keep_data_and_address(own_broker: Broker, topic: str) -> None:
    """A broker killed, then one stopped, comes back on the same port with every record."""
    address = own_broker.bootstrap
    await own_broker.create_topic(topic, config={"flush.messages": "1"})
    await _send(address, topic, [b"before"])

    own_broker.kill()
    assert not own_broker.running
    await asyncio.to_thread(own_broker.start)
    await _send(address, topic, [b"between"])
    await asyncio.to_thread(own_broker.restart)

    assert own_broker.bootstrap == address
    assert await _read(address, topic, 2) == {b"before", b"between"}


def test_paused_is_alive_and_mute(own_broker: Broker) -> None:
    """A paused broker's process lives and does nothing until it is resumed."""
    own_broker.pause()
    assert psutil.Process(own_broker.pid).status() == psutil.STATUS_STOPPED

    own_broker.resume()
    assert psutil.Process(own_broker.pid).status() != psutil.STATUS_STOPPED


def test_the_advertised_address_is_the_proxys(tmp_path: Path) -> None:
    """With a proxy before it, a broker is still started and reached past the proxy."""
    proxy_port = free_port()
    with Broker(tmp_path, advertised_port=proxy_port) as broker:
        assert broker.bootstrap == f"127.0.0.1:{proxy_port}"
        assert broker.direct != broker.bootstrap


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A refused configuration is told with the broker's own words, not as a timeout."""
    broker = Broker(tmp_path, properties={"num.io.threads": "none"})

    with pytest.raises(RigError, match=r"num\.io\.threads"):
        broker.start()


async def _send(address: str, topic: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def _read(address: str, topic: str, count: int) -> set[bytes]:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=address, group_id=topic, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            return {(await consumer.getone()).value for _ in range(count)}
    finally:
        await consumer.stop()
