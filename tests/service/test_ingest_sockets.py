"""Connections that are slow, silent, broken or hostile below HTTP, by raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from services.ingest.protocol import BoundedProtocol
from shared.eventlog.choose import LOCAL_FOLDER
from shared.eventlog.local.file import FILE_NAME
from shared.receiving import PIPELINED_MAX
from tests.support.eventually import eventually_async
from tests.support.ingest import KEY, PATH, Ingest, event, kept_in_local_log, running_ingest
from tests.support.ports import is_refused

BODY = json.dumps(event()).encode()
HEAD = (
    f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
).encode()
REQUEST = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY

_LONG_WAY = b"".join(b'{"%s":' % (b"%d" % n + b"n" * 190) for n in range(14))
REFUSED_AT_LENGTH = (
    b"["
    + b",".join(
        [
            b'{"type":"t","channel":"web","identities":{"crm":"1"},"properties":%sNaN%s}'
            % (_LONG_WAY, b"}" * 14)
        ]
        * 300
    )
    + b"]"
)
"""A request whose answer is as long as it is: the place of each refusal is a long one."""


class Hasty(BoundedProtocol):
    """The protocol with deadlines that a test can wait for."""

    idle_s: ClassVar[float] = 1.0
    headers_s: ClassVar[float] = 1.0
    body_s: ClassVar[float] = 1.0
    write_s: ClassVar[float] = 0.8


@pytest.fixture
async def ingest(tmp_path: Path) -> AsyncIterator[Ingest]:
    """Ingest with short deadlines."""
    variables = {"connections_per_address_max": 0}
    async with running_ingest(tmp_path, protocol=Hasty, variables=variables) as running:
        yield running


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[Ingest]:
    """Ingest with the deadlines that it has."""
    async with running_ingest(tmp_path, variables={"connections_per_address_max": 0}) as running:
        yield running


Dial = Callable[[], Awaitable["Wire"]]
"""Gives a new raw connection to the service."""


@asynccontextmanager
async def dialling(ingest: Ingest) -> AsyncIterator[Dial]:
    """Connections that are closed at the end."""
    async with AsyncExitStack() as wires:

        async def connect() -> Wire:
            wire = Wire(*await asyncio.open_connection("127.0.0.1", ingest.port))
            wires.callback(wire.close)
            return wire

        yield connect


@pytest.fixture
async def dial(ingest: Ingest) -> AsyncIterator[Dial]:
    """Connections to the service, which are closed at the end."""
    async with dialling(ingest) as connect:
        yield connect


class Wire:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    async def answers(self) -> bytes:
        """All that comes until the other side closes; it resets where it leaves bytes unread."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(10):
                while more := await self._reader.read(65_536):
                    received += more
        return received

    async def answers_while_dripping(self, byte: bytes) -> bytes:
        """All that comes while a byte is sent every now and then."""
        async with asyncio.TaskGroup() as tasks:
            dripping = tasks.create_task(self._drip(byte))
            answers = await self.answers()
            dripping.cancel()
        return answers

    async def _drip(self, byte: bytes) -> None:
        while True:
            self._writer.write(byte)
            await asyncio.sleep(0.05)

    async def answer(self) -> bytes:
        """The next answer's status line."""
        async with asyncio.timeout(10):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await self._reader.readexactly(length)
            return head.partition(b"\r\n")[0]

    def close(self) -> None:
        """Hang up."""
        self._writer.transport.abort()


async def test_a_silent_connection_is_closed(dial: Dial) -> None:
    """Nobody holds a socket for nothing, before the first request or with blank lines after one."""
    silent, blank = await dial(), await dial()
    blank.send(REQUEST)
    assert await blank.answer() == b"HTTP/1.1 202 Accepted"
    blank.send(b"\r\n")

    assert await silent.answers() == b""
    assert await blank.answers() == b""


@pytest.mark.parametrize("sent", [b"POST /v1", HEAD, HEAD + b"X-Drip: "])
async def test_headers_that_do_not_end_are_408(dial: Dial, sent: bytes) -> None:
    """The deadline runs from the first byte; more bytes buy no more time."""
    wire = await dial()
    wire.send(sent)

    assert (await wire.answers_while_dripping(b"a")).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "head", [b"Content-Length: 5000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nfff\r\n"]
)
async def test_a_body_that_does_not_end_is_408(ingest: Ingest, dial: Dial, head: bytes) -> None:
    """Announced or in chunks; what it held of the budget is given back."""
    wire = await dial()
    wire.send(HEAD + head)

    assert (await wire.answers_while_dripping(b" ")).startswith(b"HTTP/1.1 408 ")
    assert (await ingest.metrics())["rejse_ingest_in_flight_bytes"] == 0


async def test_a_refused_request_whose_body_never_comes_is_closed(dial: Dial) -> None:
    """The answer is sent before the body; the connection does not wait for it longer than for any other."""
    wire = await dial()
    wire.send(HEAD + b"Content-Length: 99999999\r\n\r\n")
    answers = await wire.answers()

    assert answers.startswith(b"HTTP/1.1 413 ")
    assert answers.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "headers",
    [b"X-A: " + b"a" * 17_000 + b"\r\n", b"".join(b"X-%d: aaaaaaaaaa\r\n" % n for n in range(1_000))],
    ids=["one", "many"],
)
@pytest.mark.parametrize("pieces", [1, 50])
async def test_headers_larger_than_16_kb_are_431(dial: Dial, headers: bytes, pieces: int) -> None:
    """One long header or many, at once or in pieces."""
    wire = await dial()
    whole = HEAD + headers + b"Content-Length: 0\r\n\r\n"
    size = -(-len(whole) // pieces)
    for at in range(0, len(whole), size):
        wire.send(whole[at : at + size])

    assert (await wire.answers()).startswith(b"HTTP/1.1 431 ")


async def test_a_header_without_end_stops_at_the_bound(ingest: Ingest, dial: Dial) -> None:
    """50 MB of header are not read, let alone held."""
    wire = await dial()
    wire.send(HEAD + b"X-Endless: ")
    for _ in range(100):
        wire.send(b"a" * 65_536)

    assert (await wire.answers())[:13] in (b"HTTP/1.1 431 ", b"")
    assert (await ingest.post(event())).status_code == 202


@pytest.mark.parametrize(
    "request_",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1e3\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_not_http_is_400(dial: Dial, request_: bytes) -> None:
    """And the connection is closed: what follows can't be told apart."""
    wire = await dial()
    wire.send(request_)

    assert (await wire.answers()).startswith(b"HTTP/1.1 400 ")


async def test_requests_in_one_packet_are_answered_in_order(ingest: Ingest, dial: Dial) -> None:
    """Pipelined requests, the last of which is cut into pieces, are requests like others."""
    wire = await dial()
    wire.send(REQUEST + REQUEST.replace(b"order_placed", b"Order-placed") + REQUEST[:200])
    wire.send(REQUEST[200:])

    statuses = [await wire.answer() for _ in range(3)]
    assert [status.split()[1] for status in statuses] == [b"202", b"422", b"202"]
    assert len(await kept_in_local_log(ingest.data_dir)) == 2


@pytest.mark.parametrize(
    "behind", [b"no HTTP\r\n\r\n", HEAD + b"X: " + b"a" * 17_000 + b"\r\n\r\n", b"G" * 20_000]
)
async def test_what_came_whole_is_answered_before_its_connection_ends(
    ingest: Ingest, dial: Dial, behind: bytes
) -> None:
    """Whatever stands behind it in the same packet, which is never looked at further."""
    wire = await dial()
    wire.send(REQUEST + REQUEST + behind)
    answers = await wire.answers()

    assert answers.count(b"HTTP/1.1 202 ") == answers.count(b"HTTP/1.1 ") == 2
    assert answers.count(b"connection: close") == 1
    assert (await ingest.post(event())).status_code == 202


async def test_a_large_body_is_not_counted_as_the_next_requests_headers(dial: Dial) -> None:
    """A request whose headers begin in the packet in which a body ends has its own 16 kB."""
    wire = await dial()
    large = json.dumps(event(properties={"a": "x" * 30_000})).encode()
    first = HEAD + b"Content-Length: %d\r\n\r\n" % len(large) + large
    wire.send(first + REQUEST[:30])
    assert (await wire.answer()).split()[1] == b"202"
    wire.send(REQUEST[30:90])
    wire.send(REQUEST[90:])

    assert (await wire.answer()).split()[1] == b"202"


async def test_requests_beyond_a_few_in_one_packet_are_not_queued(ingest: Ingest, dial: Dial) -> None:
    """Nobody fills the memory with requests whose answers it never waits for."""
    wire = await dial()
    wire.send(REQUEST * 200)
    answers = await wire.answers()

    assert answers.count(b"HTTP/1.1 202") <= PIPELINED_MAX + 1, answers.count(b"HTTP/1.1 202")
    assert len(await kept_in_local_log(ingest.data_dir)) <= PIPELINED_MAX + 1
    assert (await ingest.post(event())).status_code == 202


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"], ids=["open", "closing"])
async def test_a_client_that_does_not_read_is_cut_off(ingest: Ingest, last: bytes) -> None:
    """Answers that nobody takes are held for a while, not for ever; also those at the connection's end."""
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        deaf.connect(("127.0.0.1", ingest.port))
        head = HEAD + b"Content-Length: %d\r\n" % len(REFUSED_AT_LENGTH)
        requests = (head + b"\r\n" + REFUSED_AT_LENGTH) * 10 + head + last + b"\r\n" + REFUSED_AT_LENGTH
        deaf.settimeout(8)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(_send, deaf, requests))
            await eventually_async(partial(_is_gone, deaf))


def _send(wire: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        wire.sendall(data)


def _is_gone(wire: socket.socket) -> bool:
    """Whether the other side has reset the connection; what it sent before still lies here."""
    polled = select.poll()
    polled.register(wire, 0)
    return bool(polled.poll(0))


async def test_hanging_up_in_the_middle_leaves_nothing_behind(patient: Ingest) -> None:
    """No record, no held bytes, no error."""
    async with dialling(patient) as dial:
        wire = await dial()
        wire.send(HEAD + b"Content-Length: 1000\r\n\r\n" + BODY)
        await eventually_async(patient.metrics, until=lambda found: found["rejse_ingest_in_flight_bytes"] > 0)
        wire.close()
        await eventually_async(
            patient.metrics, until=lambda found: found["rejse_ingest_in_flight_bytes"] == 0
        )

    assert await kept_in_local_log(patient.data_dir) == []


async def test_a_body_is_asked_for_only_when_it_is_wanted(dial: Dial) -> None:
    """`Expect: 100-continue` of a request without a key is answered 401, not 100."""
    wire = await dial()
    wire.send(
        REQUEST.replace(KEY.encode(), b"nobody").replace(b"Host: x", b"Host: x\r\nExpect: 100-continue")
    )

    assert (await wire.answer()).split()[1] == b"401"


async def test_announced_bytes_that_do_not_come_shut_nobody_out(patient: Ingest) -> None:
    """Seventy bodies of a mebibyte, announced and not sent, are more than may be in flight."""
    async with dialling(patient) as dial:
        for _ in range(70):
            (await dial()).send(HEAD + b"Content-Length: 1048576\r\n\r\n{")
        await eventually_async(
            patient.metrics, until=lambda found: found["rejse_ingest_in_flight_bytes"] == 70
        )
        assert (await patient.post(event())).status_code == 202


async def test_slow_connections_do_not_slow_the_others(ingest: Ingest, dial: Dial) -> None:
    """With 200 of them open, real requests are answered, each well within a second of what the disk takes."""
    wires = [await dial() for _ in range(200)]
    for number, wire in enumerate(wires):
        wire.send([b"", HEAD[:50], HEAD + b"Content-Length: 900\r\n\r\n{"][number % 3])
    loop = asyncio.get_running_loop()
    for _ in range(20):
        assert (await ingest.post(event())).status_code == 202
        began = loop.time()
        assert (await ingest.post({})).status_code == 422
        assert loop.time() - began < 1

    for wire in wires:
        await wire.answers()


async def test_an_address_with_too_many_connections_is_told_and_cut_off(tmp_path: Path) -> None:
    """The connection beyond the bound is answered 429 at once and closed; those within it work, and one that
    is closed makes room."""
    variables = {"connections_per_address_max": 5}
    async with running_ingest(tmp_path, variables=variables) as ingest, dialling(ingest) as dial:
        wires = [await dial() for _ in range(4)]
        assert (await ingest.post(event())).status_code == 202
        answer = await (await dial()).answers()
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: " in answer.lower()
        assert b"too_many_connections" in answer
        assert (await ingest.metrics())["rejse_ingest_connections_refused_total"] == 1

        wires[0].close()

        async def works() -> bool:
            wire = await dial()
            wire.send(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
            return b"202 Accepted" in await wire.answers()

        await eventually_async(works)


async def test_a_client_that_hangs_up_while_it_waits_costs_nobody_anything(tmp_path: Path) -> None:
    """Its request was whole, so it is kept, once; what it held is given back, and the next one answered."""
    async with running_ingest(tmp_path) as ingest, dialling(ingest) as dial:
        path = tmp_path / LOCAL_FOLDER / FILE_NAME
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            wire = await dial()
            wire.send(REQUEST)
            await eventually_async(
                ingest.metrics, until=lambda metrics: metrics["rejse_ingest_in_flight_bytes"] > 0
            )
            wire.close()
            other.execute("ROLLBACK")
        await eventually_async(
            ingest.metrics, until=lambda metrics: metrics["rejse_ingest_in_flight_bytes"] == 0
        )
        assert (await ingest.post(event())).status_code == 202
        assert len(await kept_in_local_log(tmp_path)) == 2


class Patient(BoundedProtocol):
    """The protocol as it ends a service, with more time than a test takes."""

    linger_s: ClassVar[float] = 6.0


async def test_a_request_that_is_on_the_wire_at_the_end_is_answered(tmp_path: Path) -> None:
    """Who keeps a connection open can't know that the service has been told to end: the request that it sends
    in that moment is answered, as the connection's last one."""
    async with running_ingest(tmp_path, protocol=Patient) as ingest, dialling(ingest) as dial:
        wire = await dial()
        wire.send(REQUEST)
        assert (await wire.answer()).split()[1] == b"202"
        ingest.stop.set()
        await eventually_async(lambda: is_refused(ingest.port))
        wire.send(REQUEST)
        answers = await wire.answers()

    assert answers.startswith(b"HTTP/1.1 202 ")
    assert b"\r\nconnection: close\r\n" in answers
