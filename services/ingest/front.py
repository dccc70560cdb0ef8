"""uvicorn's HTTP protocol with doors: a POST to a door's path goes straight to it, all else takes ASGI's way.

uvicorn makes a task, an event and several messages for each request, which together cost more than taking a
touchpoint does. What a door answers is written in one piece.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.ingest.head import Head
from services.ingest.steps import Steps
from services.ingest.visit import Answer, Door, Visit

_CLOSE = b"connection: close\r\n"


class DoorProtocol(HttpToolsProtocol):
    """One connection. The application has to have `doors`: by path, what takes the POSTs to it; and `turns`,
    in which they take them."""

    cycle: Any
    """The newest request: a `Visit`, or uvicorn's own."""
    pipeline: deque[Any]
    """The requests that came before the answer to an earlier one, the newest first."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._doors: Mapping[bytes, Door] = self.app.doors
        self.in_turn: Callable[[Steps[None], int], None] = self.app.turns.do
        self._waits_for_reader = False

    def connection_lost(self, exc: Exception | None) -> None:
        """End the request that has not come whole."""
        super().connection_lost(exc)
        if isinstance(self.cycle, Visit):
            self.cycle.leave()

    def resume_writing(self) -> None:
        """Go on with the requests that waited for the client to read its answers."""
        super().resume_writing()
        if self._waits_for_reader:
            self._waits_for_reader = False
            super().on_response_complete()

    def on_headers_complete(self) -> None:
        """Send the request to its door, if its path has one."""
        door = self._door() if self.parser.get_method() == b"POST" else None
        if door is None:
            super().on_headers_complete()
            return
        before = self.cycle
        visit = Visit(
            door,
            Head(self.headers, self.url.partition(b"?")[2]),
            self,
            keep_alive=self.parser.should_keep_alive(),
            expects_continue=self.expect_100_continue,
        )
        self.cycle = visit
        if before is None or before.response_complete:
            visit.begin()
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((visit, self.app))

    def on_body(self, body: bytes) -> None:
        """A piece of the newest request's body."""
        if isinstance(self.cycle, Visit):
            self.cycle.on_body(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of the newest request."""
        if isinstance(self.cycle, Visit):
            self.cycle.on_whole()
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, unless the client lets its answers pile up."""
        if self.flow.write_paused and not self.transport.is_closing():
            self._waits_for_reader = True
            self.flow.pause_reading()
        else:
            super().on_response_complete()

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def finish(self, visit: Visit, answer: Answer) -> None:
        """Send a visit's answer and go on with the next request."""
        if not self.transport.is_closing():
            self.transport.write(self._ready(answer, visit.keep_alive))
            if not visit.keep_alive:
                self.transport.close()
        self.on_response_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Visit):
            # Not at once: a pipeline of requests that are all refused would be as deep as it is long.
            self.loop.call_soon(self._begin, cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def _begin(self, visit: Visit) -> None:
        if not self.transport.is_closing():
            visit.begin()

    def _door(self) -> Door | None:
        """The door of the request's path, however that is written."""
        found = self._doors.get(self.url)
        if found is None:
            path = httptools.parse_url(self.url).path
            found = self._doors.get(unquote_to_bytes(path)) if path else None
        return found

    def _ready(self, answer: Answer, keep_alive: bool) -> bytes:
        date = b"".join(b"%s: %s\r\n" % header for header in self.server_state.default_headers)
        connection = b"" if keep_alive else _CLOSE
        return b"%s%s%s%scontent-length: %d\r\n\r\n%s" % (
            STATUS_LINE[answer.status],
            date,
            answer.head,
            connection,
            len(answer.body),
            answer.body,
        )
