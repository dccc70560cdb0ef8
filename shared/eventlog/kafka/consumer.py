"""One life of aiokafka's consumer, from its making to its certain end, and the signs that it lives.

Like `producer` for writing, this is the one module for reading that touches the client's parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from shared.eventlog.kafka.connections import close_connections
from shared.eventlog.kafka.errors import DRIVER_ERRORS, translated

SESSION_TIMEOUT_MS = 8_000
HEARTBEAT_MS = 1_000
_REQUEST_TIMEOUT_MS = 15_000
"""Longer than a session: a request to join is answered only when a dead member's session has run out."""
_POLL_INTERVAL_MS_MAX = 600_000
_FETCH_WAIT_MS = 100
"""A partition that is started while a fetch waits at the broker joins the next one: keep that short."""
_FETCH_BYTES_MAX = 16 * 1024 * 1024
_PARTITION_BYTES_MAX = 2 * 1024 * 1024
_END_S = 1.0


def new_consumer(bootstrap: str, group_id: str) -> Any:
    """A consumer that commits nothing by itself and never chooses where to read; not started."""
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id="rejse",
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        # With one topic the round robin is even; and more than one assignor would join once for each.
        partition_assignment_strategy=(RoundRobinPartitionAssignor,),
        session_timeout_ms=SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
        max_poll_interval_ms=_POLL_INTERVAL_MS_MAX,
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        fetch_max_bytes=_FETCH_BYTES_MAX,
        max_partition_fetch_bytes=_PARTITION_BYTES_MAX,
    )


async def cluster_id(bootstrap: str, timeout_s: float) -> str:
    """The cluster's id, over connections of its own.

    Raises:
        Transient: Kafka is away, or didn't answer within `timeout_s` seconds.
        ConfigError: Kafka refuses us.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=round(timeout_s * 300) + 1)
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            cluster = await admin.describe_cluster()
    except DRIVER_ERRORS as error:
        raise translated(error) from error
    finally:
        await admin.close()
    return str(cluster["cluster_id"])


def on_heartbeat(consumer: Any, heard: Callable[[], None]) -> None:
    """Call `heard` whenever the group's coordinator has answered a started consumer's heartbeat well."""
    heartbeat = consumer._coordinator._do_heartbeat

    async def noting() -> bool:
        success: bool = await heartbeat()
        if success:
            heard()
        return success

    consumer._coordinator._do_heartbeat = noting


def last_fetch_ms(consumer: Any, places: Iterable[Any]) -> int | None:
    """When (milliseconds of the wall clock) a fetch of one of some partitions was answered last, with records
    or without; None before the first, and for partitions that have been taken away."""
    assigned = consumer.assignment()
    times = [consumer.last_poll_timestamp(place) for place in places if place in assigned]
    return max((at for at in times if at is not None), default=None)


async def end_consumer(consumer: Any, timeout_s: float) -> None:
    """Leave the group and end a consumer, by its parts if it does not stop in `timeout_s` seconds."""
    # In a task of its own: aiokafka lets the CancelledError of its tasks out of `stop`.
    stopping = asyncio.get_running_loop().create_task(consumer.stop(), name="kafka-consumer-stop")
    done, _ = await asyncio.wait([stopping], timeout=timeout_s)
    if not done:
        stopping.cancel()
        await asyncio.wait([stopping], timeout=_END_S)
    if stopping.cancelled() or not stopping.done() or stopping.exception() is not None:
        await _abandon(consumer)


async def _abandon(consumer: Any) -> None:
    coordinator = consumer._coordinator
    parts = []
    if coordinator is not None:
        parts += [coordinator._coordination_task, coordinator._heartbeat_task]
        parts += [coordinator._commit_refresh_task]
    if consumer._fetcher is not None:
        parts += [consumer._fetcher._fetch_task, *consumer._fetcher._pending_tasks]
    tasks = [task for task in parts if task is not None and not task.done()]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_END_S)
    await close_connections(consumer._client)
