"""Accepting connections, on real sockets and on both event loops."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

import pytest
import uvloop

from shared.accepting import Acceptor
from shared.lifecycle import listen
from tests.support.eventually import eventually_async

LOOPS = pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
NewLoop = Callable[[], asyncio.AbstractEventLoop]
CROWD = 200
TURNS = 10
"""Far less than there are connections, and more than the steps of accepting one."""


class Guest(asyncio.Protocol):
    """Greets who connects."""

    def __init__(self, guests: list[asyncio.Transport]) -> None:
        self._guests = guests

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._guests.append(cast(asyncio.Transport, transport))


@asynccontextmanager
async def accepting(listener: socket.socket) -> AsyncIterator[list[asyncio.Transport]]:
    """An acceptor, and who has connected to it."""
    guests: list[asyncio.Transport] = []
    acceptor = Acceptor(listener, lambda: Guest(guests))
    try:
        yield guests
    finally:
        acceptor.close()
        acceptor.close()
        await acceptor.wait_closed()
        for guest in guests:
            guest.close()


@pytest.fixture
def queue() -> Iterator[socket.socket]:
    """A listener at which `CROWD` clients wait."""
    with ExitStack() as parts:
        listener = parts.enter_context(listen("127.0.0.1", 0))
        listener.listen(CROWD)
        for _ in range(CROWD):
            parts.enter_context(socket.create_connection(listener.getsockname(), 5))
        yield listener


@LOOPS
def test_a_crowd_is_accepted_in_one_turn(queue: socket.socket, new_loop: NewLoop) -> None:
    """However many wait, nobody waits for the turns of the others."""

    async def run() -> int:
        async with accepting(queue) as guests:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            return len(guests)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(run()) == CROWD


@pytest.mark.expects_error("shared.accepting: not_accepting")
@LOOPS
def test_who_found_no_descriptor_left_is_accepted_later(queue: socket.socket, new_loop: NewLoop) -> None:
    """Nobody has to connect anew."""

    async def run() -> None:
        with descriptors(CROWD // 2) as lift:
            async with accepting(queue) as guests:
                for _ in range(TURNS):
                    await asyncio.sleep(0)
                assert 0 < len(guests) < CROWD
                lift()
                await eventually_async(lambda: count(guests), until=lambda seen: seen == CROWD)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.get_loop()
        runner.run(run())


async def count(guests: list[asyncio.Transport]) -> int:
    """How many there are by now."""
    return len(guests)


@contextmanager
def descriptors(more: int) -> Iterator[Callable[[], None]]:
    """Let this process open about so many files beyond those that it has, until that is lifted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())

    def lift() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    resource.setrlimit(resource.RLIMIT_NOFILE, (top + 1 + more, hard))
    try:
        yield lift
    finally:
        lift()
