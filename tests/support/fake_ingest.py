"""An ingest that a test makes answer as it likes; a test holds it to the real one's answers."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Refuse = Callable[[dict[str, Any]], dict[str, str] | None]
"""The code, message and pointer that an event is refused with; None: it is taken."""


@dataclass(frozen=True)
class Turn:
    """What becomes of one request instead of the usual: another status, or no answer."""

    status: int = 202
    headers: str = ""
    cut: bool = False
    keep: bool = False
    """Whether what was sent is taken, although the answer does not say so."""


@dataclass
class FakeIngest:
    """Answers `POST /v1/touchpoints`, and counts each event that it took by its text."""

    key: str
    port: int = 0
    refuse: Refuse = lambda event: None
    turns: deque[Turn] = field(default_factory=deque)
    kept: Counter[str] = field(default_factory=Counter)
    batches: list[int] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    hold: asyncio.Event | None = None
    """While set to an event, answers wait for it."""
    _connections: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until it ends."""
        self._connections[asyncio.current_task()] = writer
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.lower().split(": ", 1) for line in head.decode().splitlines()[1:-1])
                body = await reader.readexactly(int(fields["content-length"]))
                if not await self._answer(head, fields, body, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            del self._connections[asyncio.current_task()]

    async def close(self) -> None:
        """Cut what is connected."""
        connections = dict(self._connections)
        for writer in connections.values():
            writer.transport.abort()
        await asyncio.gather(*filter(None, connections))

    async def _answer(
        self, head: bytes, fields: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        if self.hold is not None:
            await self.hold.wait()
        turn = self.turns.popleft() if self.turns else Turn(keep=True)
        if not head.startswith(b"POST /v1/touchpoints "):
            turn = Turn(404)
        if f"bearer {self.key.lower()}" != fields.get("authorization"):
            turn = Turn(401)
        answer = self._take(fields, body) if turn.keep else {"code": "a_code", "detail": "a detail"}
        if turn.cut:
            writer.transport.abort()
            return False
        text = json.dumps(answer).encode()
        writer.write(
            f"HTTP/1.1 {turn.status} X\r\n{turn.headers}Content-Type: application/json\r\n"
            f"Content-Length: {len(text)}\r\n\r\n".encode()
            + text
        )
        await writer.drain()
        return True

    def _take(self, fields: dict[str, str], body: bytes) -> dict[str, Any]:
        self.bodies.append(len(body))
        events = json.loads(gzip.decompress(body) if fields.get("content-encoding") == "gzip" else body)
        self.batches.append(len(events))
        refused: list[dict[str, Any]] = []
        repeated, seen = 0, set[str]()
        for index, event in enumerate(events):
            text = json.dumps(event, sort_keys=True)
            if (why := self.refuse(event)) is not None:
                refused.append({"index": index, **why})
            elif text in seen:
                repeated += 1
            else:
                self.kept[text] += 1
            seen.add(text)
        accepted = len(events) - repeated - len(refused)
        return {"accepted": accepted, "duplicate_in_request": repeated, "refused": refused}


@asynccontextmanager
async def fake_ingest(key: str = "rejse_write_of-the-tests", **change: Any) -> AsyncIterator[FakeIngest]:
    """A fake ingest on a port of its own."""
    fake = FakeIngest(key, **change)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0, limit=1 << 22)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        await fake.close()
