"""How far the stagers are behind."""

from __future__ import annotations

import asyncio

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tests.faults.places import Places
from tests.faults.rig import PARTITIONS, TOPIC
from tests.support import plain_http

_WAITING = """
SELECT (SELECT count(*) FROM identity_links WHERE unsettled_at IS NOT NULL)
    + (SELECT count(*) FROM erasures WHERE waits_since IS NOT NULL)
"""


def behind(places: Places) -> int:
    """How many records lie in the log that aren't staged, how many links aren't settled, and how many
    erasures aren't carried out; one more while ingest's spool is in use.

    Raises:
        OSError: the broker or the store is away.
        httpx.HTTPError: ingest is away.
    """
    return asyncio.run(_unstaged(places)) + _spooling(places)


async def _unstaged(places: Places) -> int:
    connection = await asyncpg.connect(places.database_url, timeout=5)
    try:
        rows = await connection.fetch("SELECT partition, next_offset FROM stager_offsets")
        waiting = int(await connection.fetchval(_WAITING))
    finally:
        await connection.close()
    stands: dict[int, int] = {row["partition"]: row["next_offset"] for row in rows}
    ends = await _ends(places.kafka)
    return waiting + sum(end - stands.get(partition, 0) for partition, end in ends.items())


async def _ends(kafka: str) -> dict[int, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    try:
        await consumer.start()
        ends = await consumer.end_offsets([TopicPartition(TOPIC, number) for number in range(PARTITIONS)])
    except KafkaError as error:
        raise OSError(str(error)) from error
    finally:
        await consumer.stop()
    return {place.partition: end for place, end in ends.items()}


def _spooling(places: Places) -> int:
    text = plain_http.get(f"{places.ingest_url}/metrics", timeout=5).text
    return int("rejse_ingest_breaker_open 0.0" not in text)
