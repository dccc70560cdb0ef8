"""What every service's HTTP server does with connections that are slow or too large, by raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from shared.lifecycle import listen, serve_http
from shared.receiving import DeadlineProtocol
from tests.service.api_store import serving
from tests.support.eventually import eventually_async

RESET = struct.pack("ii", 1, 0)
"""What makes the kernel reset a connection instead of ending it."""
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


class Hasty(DeadlineProtocol):
    """The protocol with deadlines that a test can wait for."""

    idle_s: ClassVar[float] = 1.0
    headers_s: ClassVar[float] = 1.0
    body_s: ClassVar[float] = 1.0
    write_s: ClassVar[float] = 0.2
    keep_alive_s: ClassVar[float] = 0.2

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive = self.keep_alive_s  # type: ignore[assignment]


async def _slow(request: Request) -> Response:
    """The body, in an answer that takes longer than any of the deadlines."""
    try:
        body = await request.body()
    except ClientDisconnect:
        return Response()
    await asyncio.sleep(1)  # the slowness itself, not a wait for something
    return PlainTextResponse(body)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port of an app that is served as the services are."""
    app = Starlette(routes=[Route("/", _slow, methods=["GET", "POST"])])
    listener, stop = listen("127.0.0.1", 0), asyncio.Event()
    number: int = listener.getsockname()[1]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_http(app, listener, stop, 2.0, http=Hasty))
        await eventually_async(lambda: asks(number, b"\r\n"), tolerate=(OSError,), until=lambda _: True)
        yield number
        stop.set()


async def asks(port: int, sent: bytes, dripped: bytes = b"") -> bytes:
    """All that is answered to some bytes until the connection is closed, while more drip in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = b""
    with contextlib.suppress(ConnectionResetError):
        writer.write(sent)
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        more = await reader.read(65_536)
                        answered += more
                        if not more:
                            break
                writer.write(dripped)
    writer.transport.abort()
    return answered


@pytest.mark.parametrize(
    ("sent", "dripped", "answer"),
    [
        (b"", b"", b""),
        (GET, b"", b"HTTP/1.1 408 "),
        (GET + b"X-Drip: ", b"a", b"HTTP/1.1 408 "),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n", b"a", b"HTTP/1.1 408 "),
        (GET + b"X-Large: " + b"a" * 17_000 + b"\r\n\r\n", b"", b"HTTP/1.1 431 "),
        (b"GET / HTTP/9.9\r\n\r\n", b"", b"HTTP/1.1 400 "),
    ],
    ids=["silent", "headers", "dripping headers", "dripping body", "large headers", "no HTTP"],
)
async def test_what_does_not_come_in_time_or_is_too_large_is_cut_off(
    port: int, sent: bytes, dripped: bytes, answer: bytes
) -> None:
    """Within a deadline that bytes can't put off."""
    assert (await asks(port, sent, dripped))[: len(answer) or 1] == answer


async def test_a_request_that_came_whole_has_all_the_time_for_its_answer(port: int) -> None:
    """The deadlines are for receiving: an answer may take longer."""
    body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"
    answered = await asks(port, body)

    assert answered.startswith(b"HTTP/1.1 200 ")
    assert answered.endswith(b"body")


async def test_a_connection_that_was_reset_is_forgotten(port: int) -> None:
    """uvicorn's own timer of an idle connection goes off behind a reset, and leaves nothing to go wrong."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET + b"\r\n")
    assert await reader.readuntil(b"200")
    client: socket.socket = writer.get_extra_info("socket")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()

    await asyncio.sleep(Hasty.keep_alive_s + 2 * Hasty.write_s)  # the deadlines' own time
    assert not errors


async def test_the_query_api_is_served_so(database_url: str) -> None:
    """Its headers have the bound."""
    async with serving(database_url) as client:
        assert (await client.get("/livez", headers={"X-Large": "a" * 17_000})).status_code == 431
