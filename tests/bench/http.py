"""A client connection that costs next to nothing: ready-made requests in, status and body out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import cast

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"

Answered = Callable[["Connection", int, bytes], None]
"""Called with the connection, which is free again, the status and the body."""


class BadAnswer(Exception):
    """A server answered what a benchmark can't count, or hung up."""


class Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection with at most one request under way.

    `due_s` is for the user: when the request under way should have been sent. `head` is the last answer's
    status line and headers.
    """

    def __init__(self, answered: Answered, lost: Callable[[BadAnswer], None]) -> None:
        self._answered = answered
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self.due_s = 0.0
        self.head = b""

    def send(self, request: bytes) -> None:
        """Send a whole request."""
        assert self._transport is not None
        self._transport.write(request)

    def close(self) -> None:
        """Hang up."""
        self._lost = lambda error: None
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports inherit from none of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the user, unless it was the user who hung up."""
        self._lost(BadAnswer(f"the server hung up: {exc}"))

    def data_received(self, data: bytes) -> None:
        """Hand on an answer as soon as it is whole."""
        data = self._received + data if self._received else data
        head = data.find(_END)
        if head < 0:
            self._received = data
            return
        length = _LENGTH.search(data, 0, head)
        if length is None:
            self._lost(BadAnswer(f"an answer without its length: {data[:200]!r}"))
            return
        begin = head + len(_END)
        if len(data) < begin + int(length[1]):
            self._received = data
            return
        self._received, self.head = b"", data[:head]
        self._answered(self, int(data[9:12]), data[begin:])


async def connect(port: int, answered: Answered, lost: Callable[[BadAnswer], None]) -> Connection:
    """A connection to a port of this machine."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(answered, lost), "127.0.0.1", port)
    return connection


def post(path: str, body: bytes, key: str = "") -> bytes:
    """A request with a JSON body, as bytes."""
    return _head("POST", path, key) + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


def get(path: str, key: str = "") -> bytes:
    """A request without a body, as bytes."""
    return _head("GET", path, key) + b"\r\n"


def _head(method: str, path: str, key: str) -> bytes:
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}".encode()
