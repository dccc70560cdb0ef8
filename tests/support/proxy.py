"""A TCP proxy that stands between a client and a server and does to their bytes what it is told."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar

T = TypeVar("T")
_CHUNK_BYTES = 64 * 1024
_SLICE_BYTES = 7
_ARRIVES_S = 0.05
_CLOSE_TURNS, _CLOSE_TURN_S = 100, 0.02
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: closing sends a reset."""


@dataclass(frozen=True, slots=True)
class Mood:
    """What is done to the bytes.

    `refuse`: connections are reset as soon as they are made. `hole`: bytes are swallowed. `delay_s`: each
    chunk waits so long. `sliced`: chunks go on a few bytes at a time. `half_frame`: half of the next reply
    goes on, then the connection is reset. `cut_after`: a request with these bytes is delivered, and its
    connection is reset before the reply. `silent_after`: what a client sends is delivered up to the
    end of these bytes; of the rest the server hears nothing, nor the client of the server, until that ends
    the connection. The last three happen once.
    """

    refuse: bool = False
    hole: bool = False
    delay_s: float = 0.0
    sliced: bool = False
    half_frame: bool = False
    cut_after: bytes = b""
    silent_after: bytes = b""


_FAIR = Mood()


class Proxy:
    """A proxy in a thread of its own: `with Proxy(port, target): ...`. Its methods may be called from any."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.connections = 0
        """How many have been made through it."""
        self.struck = threading.Event()
        """Set when a mood that happens once has happened."""
        self._target = target
        self._mood = _FAIR
        self._open: set[asyncio.StreamWriter] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening = threading.Event()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{port}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(5), "the proxy can't listen"
        return self

    def __exit__(self, *_: object) -> None:
        self._within(self._closing.set)
        self._thread.join(5)

    def set(self, mood: Mood = _FAIR) -> None:
        """Do this to all bytes from now on; without a mood they pass as they are."""
        self.struck.clear()
        self._within(lambda: setattr(self, "_mood", mood))

    def cut(self) -> None:
        """Reset every connection that is open."""
        self._within(self._reset_all)

    def _reset_all(self) -> None:
        for writer in list(self._open):
            _reset(writer)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self._listening.set()
        await self._closing.wait()
        server.close()
        for _ in range(_CLOSE_TURNS):
            if not self._open:
                break
            self._reset_all()
            await asyncio.sleep(_CLOSE_TURN_S)

    def _within(self, call: Callable[[], T]) -> T:
        async def do() -> T:
            return call()

        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(5)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self._mood.refuse:
                raise ConnectionRefusedError
            there_reader, there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            return
        both = {writer, there}
        self._open |= both
        try:
            async with asyncio.TaskGroup() as tasks:
                answerless = asyncio.Event()
                tasks.create_task(self._pump(reader, there, answerless, request=True))
                tasks.create_task(self._pump(there_reader, writer, answerless, request=False))
        except* (OSError, EOFError):
            for one in both:
                _reset(one)
        finally:
            self._open -= both
            for one in both:
                one.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answerless: asyncio.Event,
        request: bool,
    ) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            mood = self._mood
            if mood.delay_s:
                await asyncio.sleep(mood.delay_s)
            if mood.hole or (answerless.is_set() and not request):
                continue
            if mood.half_frame and not request:
                await _write(writer, chunk[: len(chunk) // 2])
                self._mood = _FAIR
                self.struck.set()
                raise ConnectionResetError("by the proxy")
            sought = mood.cut_after or mood.silent_after
            struck = bool(sought) and request and sought in chunk
            if struck:
                self._mood = _FAIR
                answerless.set()
                if mood.silent_after:
                    chunk = chunk[: chunk.index(sought) + len(sought)]
            await _write(writer, chunk, _SLICE_BYTES if mood.sliced else len(chunk))
            if struck:
                # Its server shall have it before anything happens to the connection.
                await asyncio.sleep(_ARRIVES_S)
                self.struck.set()
                if mood.cut_after:
                    raise ConnectionResetError("by the proxy")
                await self._closing.wait()
        if answerless.is_set() and not request:
            raise ConnectionResetError("by the server")
        writer.write_eof()


async def _write(writer: asyncio.StreamWriter, chunk: bytes, step: int = _CHUNK_BYTES) -> None:
    for begin in range(0, len(chunk), step):
        writer.write(chunk[begin : begin + step])
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
