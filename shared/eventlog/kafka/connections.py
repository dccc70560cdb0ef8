"""Closing aiokafka's connections for certain, also to a broker that reads nothing any more."""

from __future__ import annotations

import asyncio
from typing import Any

_TIMEOUT_S = 1.0


async def close_connections(client: Any) -> None:
    """Close all connections of an `AIOKafkaClient`, and its task. What waits for an answer on them fails.

    Closing one in order first writes what it has buffered, which a frozen broker never takes.
    """
    for connection in list(client._conns.values()):
        if connection._writer is not None:
            connection._writer.transport.abort()
    closing = asyncio.get_running_loop().create_task(client.close(), name="kafka-connections-close")
    await asyncio.wait([closing], timeout=_TIMEOUT_S)
    if not closing.done():
        closing.cancel()
