"""uvicorn's HTTP protocol with deadlines for receiving a request and a bound on its headers.

uvicorn waits for ever for a request's next byte. Here a silent connection has `idle_s` seconds, a request's
headers `headers_s` from their first byte and its body `body_s` from the end of the headers; then the
connection is answered 408 and closed. A request that comes in one piece, as nearly all do, sets no timer.

Nor does it wait for ever for a client to take its answers: one that leaves them lie for `write_s`, also at
the end of the connection, is cut off. And it queues whatever requests come in one packet, each with objects
of its own; here no more than a few may wait, and a connection that sends more is closed.

At the end of the service uvicorn closes a connection without a request under way at once, though one may be
on the wire. Here it stays open for `linger_s`, and what comes meanwhile is answered, with `Connection:
close`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import ClassVar, Literal

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from shared.problem import Problem, problem_response

HEADER_BYTES_MAX = 16 * 1024
PIPELINED_MAX = 16
"""Requests of one connection that may wait for the answer to an earlier one. Hardly a client sends two."""

_DROP_UNSENT = struct.pack("ii", 1, 0)
_MALFORMED = Problem(400, "malformed_request", "the request is not HTTP/1.1")
_LATE = Problem(408, "request_timeout", "the request did not come in time")
_HEADERS_TOO_LARGE = Problem(
    431, "headers_too_large", f"the headers are larger than {HEADER_BYTES_MAX} bytes"
)

Phase = Literal["idle", "headers", "body"]


class _HeadersTooLarge(Exception):
    """Stops the parser that calls back."""


class _TooManyPipelined(Exception):
    """Stops the parser that calls back."""


class DeadlineProtocol(HttpToolsProtocol):
    """One connection."""

    idle_s: ClassVar[float] = 5.0
    headers_s: ClassVar[float] = 5.0
    body_s: ClassVar[float] = 15.0
    write_s: ClassVar[float] = 10.0
    linger_s: ClassVar[float] = 0.3

    _phase: Phase = "idle"
    _message = 0
    _has_cycle = False
    _chunk_bytes = _first_chunk_bytes = 0
    _header_bytes = 0
    """What came of a request's headers after their first chunk."""
    _are_headers_too_large = False
    _deadline: asyncio.TimerHandle | None = None
    _deadline_of: tuple[Phase, int] | None = None
    _write_deadline: asyncio.TimerHandle | None = None
    _is_lost = False
    """Whether nobody is there any more; what was asked may still be being answered."""
    is_ending = False
    """Whether the service ends: every answer is the last one of its connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for the first request."""
        super().connection_made(transport)
        self._set_deadline("idle")

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._is_lost = True
        self._set_deadline(None)
        self._clear_write_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, then watch for the rest."""
        was_in_headers = self._phase == "headers"
        self._chunk_bytes = len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if was_in_headers and self._phase == "headers":
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES_MAX:
                self.refuse(_HEADERS_TOO_LARGE)
                return
        self._set_deadline(None if self._phase == "idle" and self._is_answering() else self._phase)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._phase, self._header_bytes = "headers", 0
        self._first_chunk_bytes = self._chunk_bytes
        self._message += 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The end of the headers."""
        if len(self.pipeline) >= PIPELINED_MAX:
            raise _TooManyPipelined
        self._phase = "body"
        if self._first_chunk_bytes + self._header_bytes + self._chunk_bytes > HEADER_BYTES_MAX:
            self._measure_headers()
        super().on_headers_complete()
        self._has_cycle = True
        if self.is_ending:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._phase = "idle"
        super().on_message_complete()

    def shutdown(self) -> None:
        """Answer what is under way, or on its way, and no more."""
        self.is_ending = True
        if self._is_answering():
            super().shutdown()
        else:
            self.loop.call_later(self.linger_s, self._end_idle)

    def _end_idle(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def on_response_complete(self) -> None:
        """The end of an answer, which may also be the end of the connection."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._set_write_deadline()

    def timeout_keep_alive_handler(self) -> None:
        """No other request came."""
        self._close()

    def pause_writing(self) -> None:
        """The client takes its answers more slowly than they are made."""
        super().pause_writing()
        self._set_write_deadline()

    def resume_writing(self) -> None:
        """The client has taken most of what there was."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._clear_write_deadline()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser stopped at."""
        self.refuse(_HEADERS_TOO_LARGE if self._are_headers_too_large else _MALFORMED)

    def _measure_headers(self) -> None:
        """Stop at headers that are too large; what came in so many bytes may also be other requests."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEADER_BYTES_MAX:
            self._phase, self._are_headers_too_large = "headers", True
            raise _HeadersTooLarge

    def _is_answering(self) -> bool:
        """Whether a request that was received whole waits for its answer."""
        return self._has_cycle and not self.cycle.response_complete

    def _set_deadline(self, phase: Phase | None) -> None:
        """Give the request's phase its time; the same phase of the same request keeps the time it has."""
        wanted = None if phase is None else (phase, self._message)
        if wanted == self._deadline_of:
            return
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._deadline_of = wanted
        if phase is not None:
            self._deadline = self.loop.call_later(self._seconds(phase), self._on_deadline, phase)

    def _seconds(self, phase: Phase) -> float:
        return {"idle": self.idle_s, "headers": self.headers_s, "body": self.body_s}[phase]

    def _on_deadline(self, phase: Phase) -> None:
        if self.transport.is_closing():
            return
        if self.pipeline or (phase == "headers" and self._is_answering()):
            # An earlier request is being answered, and reading may have been paused for it.
            self._deadline_of = None
            self._set_deadline(phase)
        elif phase == "idle" or (phase == "body" and self.cycle.response_started):
            self._close()
        else:
            self.refuse(_LATE)

    def refuse(self, problem: Problem) -> None:
        """Answer, where no other answer is on its way, and close."""
        if self._phase != "body" and self._is_answering():
            # What came whole before is answered first, and is the last that is.
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if not self.pipeline and not (self._phase == "body" and self.cycle.response_started):
            response = problem_response(problem)
            headers = [*response.raw_headers, (b"connection", b"close")]
            lines = [b"%s: %s\r\n" % header for header in headers]
            self.transport.write(
                b"".join([STATUS_LINE[problem.status], *lines, b"\r\n", bytes(response.body)])
            )
        self._close()

    def _close(self) -> None:
        """Close as soon as the client has taken what was written, or cut it off if it doesn't."""
        self.transport.close()
        self._set_write_deadline()

    def _set_write_deadline(self) -> None:
        if self._write_deadline is None and not self._is_lost:
            self._write_deadline = self.loop.call_later(self.write_s, self._abort)

    def _abort(self) -> None:
        """Cut the connection off. Without the option the kernel would go on holding what isn't taken."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_UNSENT)
        self.transport.abort()

    def _clear_write_deadline(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
