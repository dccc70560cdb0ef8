"""Clients that hold a connection for as little as they can: each is slow in its own way, and comes again.

They are raw sockets, so that nothing between reads or writes for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import select
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

_DRIP_S = 0.5
_DIAL_S = 10.0
_AT_ONCE = 12
"""Requests in one piece, few enough that the server takes them all."""
_SOON_S = 0.25
"""A client that is closed at once comes again after this, so as not to be a flood of connections too."""


@dataclass(frozen=True, slots=True)
class Siege:
    """So many slow clients of all kinds at once against a port; none comes again after `comes_again_s`, and
    all are to be gone `patience_s` after that. `asking` of them leave long answers lie, and begin spread out:
    to fill the buffers between costs the server work, which is not what is tried here. `head` is a request's
    up to its own headers."""

    port: int
    clients: int
    asking: int
    comes_again_s: float
    patience_s: float
    head: bytes
    refused: bytes
    """A body that is answered at length."""
    seed: int


@dataclass(slots=True)
class Held:
    """How many connections of each kind were made, how long the longest lived, and how many were never
    closed by the server."""

    connections: Counter[str] = field(default_factory=Counter)
    longest_s: dict[str, float] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)


async def besiege(siege: Siege) -> Held:
    """Be slow in all ways at once."""
    held = Held()
    end_s = time.monotonic() + siege.comes_again_s
    others = [kind for kind in KINDS if kind not in _ASKING]
    async with asyncio.TaskGroup() as tasks:
        for number in range(siege.clients):
            asks = number < siege.asking
            kind = _ASKING[number % len(_ASKING)] if asks else others[number % len(others)]
            chance = random.Random(f"{siege.seed}-{number}")
            begin_s = chance.uniform(0, siege.comes_again_s if asks else 0.5)
            tasks.create_task(_client(kind, siege, begin_s, end_s, chance, held))
    return held


async def _client(
    kind: str, siege: Siege, begin_s: float, end_s: float, chance: random.Random, held: Held
) -> None:
    await asyncio.sleep(begin_s)
    while time.monotonic() < end_s:
        with socket.socket() as wire:
            wire.setblocking(False)
            await _connection(kind, wire, siege, end_s + siege.patience_s, chance, held)
        await asyncio.sleep(_SOON_S)


async def _connection(
    kind: str, wire: socket.socket, siege: Siege, until_s: float, chance: random.Random, held: Held
) -> None:
    loop = asyncio.get_running_loop()
    if kind in _DEAF:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    async with asyncio.timeout(_DIAL_S):
        await loop.sock_connect(wire, ("127.0.0.1", siege.port))
    began_s = time.monotonic()
    held.connections[kind] += 1
    try:
        async with asyncio.timeout_at(loop.time() + until_s - began_s):
            with contextlib.suppress(OSError):
                held.answers[f"{kind}: {await KINDS[kind](wire, siege, chance)}"] += 1
    except TimeoutError:
        held.left[kind] += 1
    lived_s = time.monotonic() - began_s
    held.longest_s[kind] = max(held.longest_s.get(kind, 0.0), lived_s)


async def _silent(wire: socket.socket, _: Siege, __: random.Random) -> str:
    return await _until_closed(wire)


async def _drips_headers(wire: socket.socket, siege: Siege, chance: random.Random) -> str:
    await _send(wire, siege.head[: chance.randrange(1, len(siege.head))])
    return await _drip(wire, b"a")


async def _drips_body(wire: socket.socket, siege: Siege, _: random.Random) -> str:
    """The largest body that may be sent is announced, which must not count as if it had come."""
    await _send(wire, siege.head + b"Content-Length: 1048576\r\n\r\n[")
    return await _drip(wire, b" ")


async def _drips_chunks(wire: socket.socket, siege: Siege, _: random.Random) -> str:
    await _send(wire, siege.head + b"Transfer-Encoding: chunked\r\n\r\n")
    return await _drip(wire, b"1\r\n \r\n")


async def _reads_slowly(wire: socket.socket, siege: Siege, _: random.Random) -> str:
    """Asks on and on for long answers, and takes a byte of them now and then."""
    return await _ask_on(wire, siege, reads=True)


async def _never_reads(wire: socket.socket, siege: Siege, _: random.Random) -> str:
    """Asks on and on for long answers, and takes none."""
    return await _ask_on(wire, siege, reads=False)


async def _ask_on(wire: socket.socket, siege: Siege, *, reads: bool) -> str:
    """Ask until the server has reset the connection. What it sent before still lies here, so that reading
    alone would not tell for long."""
    request = siege.head + b"Content-Length: %d\r\n\r\n%s" % (len(siege.refused), siege.refused)
    asking = asyncio.get_running_loop().create_task(_ask(wire, request * _AT_ONCE))
    polled = select.poll()
    polled.register(wire, 0)
    try:
        while not polled.poll(0):
            await asyncio.sleep(_DRIP_S)
            if reads:
                await _read(wire, 1)
        return "reset"
    finally:
        asking.cancel()
        await asyncio.wait([asking])


async def _ask(wire: socket.socket, requests: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            await _send(wire, requests)
            await asyncio.sleep(_DRIP_S)


async def _floods(wire: socket.socket, siege: Siege, _: random.Random) -> str:
    """As many small requests in one piece as a packet holds, and no look at the answers."""
    await _send(wire, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 8_000)
    while True:
        await _send(wire, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(_DRIP_S)


KINDS: Mapping[str, Callable[[socket.socket, Siege, random.Random], Awaitable[str]]] = {
    "silent": _silent,
    "drips headers": _drips_headers,
    "drips a body": _drips_body,
    "drips chunks": _drips_chunks,
    "reads slowly": _reads_slowly,
    "never reads": _never_reads,
    "floods": _floods,
}
_ASKING = ("reads slowly", "never reads")
_DEAF = frozenset((*_ASKING, "floods"))


async def _send(wire: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(wire, data)


async def _read(wire: socket.socket, size: int) -> bytes:
    return await asyncio.get_running_loop().sock_recv(wire, size)


async def _drip(wire: socket.socket, byte: bytes) -> str:
    """Send a little again and again; what the server says in the end."""
    answer = asyncio.get_running_loop().create_task(_until_closed(wire))
    try:
        while not answer.done():
            await asyncio.wait([answer], timeout=_DRIP_S)
            if not answer.done():
                with contextlib.suppress(OSError):
                    await _send(wire, byte)
        return answer.result()
    finally:
        answer.cancel()
        await asyncio.wait([answer])


async def _until_closed(wire: socket.socket) -> str:
    """The status of the first answer, if there was one, once the server has hung up."""
    received = b""
    while more := await _read(wire, 65_536):
        received += more[: 64 - len(received)]
    return received[9:12].decode() or "closed"
