"""Asks a service whether it can do its work."""

from __future__ import annotations

import asyncio
import json

from shared.clock import Clock

_POLL_S = 0.05
_ANSWER_TIMEOUT_S = 2.0
_ANSWER_BYTES_MAX = 1 << 16


async def await_ready(host: str, port: int, clock: Clock) -> None:
    """Return when `/readyz` answers 200, however long that takes."""
    while (await _ask(host, port))[0] != 200:
        await clock.sleep(_POLL_S)


async def why_unready(host: str, port: int) -> str:
    """The checks that fail now, in words."""
    status, body = await _ask(host, port)
    if status is None:
        return "it does not answer"
    try:
        checks = json.loads(body)["checks"]
        return ", ".join(f"{name}: {state}" for name, state in checks.items() if state != "ok")
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"it answers {status}"


async def _ask(host: str, port: int) -> tuple[int | None, bytes]:
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                head, _, body = (await reader.read(_ANSWER_BYTES_MAX)).partition(b"\r\n\r\n")
                body += await reader.read(_ANSWER_BYTES_MAX)
            finally:
                writer.close()
            return int(head.split()[1]), body
    except (OSError, TimeoutError, ValueError, IndexError):
        return None, b""
