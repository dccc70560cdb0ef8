"""One request at a door, from its headers to its answer, without a task and without messages.

A door decides in steps: it *admits* a request by its head, before the body is read, and it *takes* the body
when that is whole. Between them the visit collects the body; afterwards it waits for one call, the answer.
So a request costs a few plain calls, and waiting for the log costs none.

A visit stands where uvicorn has its `RequestResponseCycle`, and has the attributes that uvicorn's protocol
asks for there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from services.ingest.head import Head
from services.ingest.steps import Steps
from shared.problem import Problem

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_OUR_FAULT = Problem(500, "internal_error", "this is a fault of ours; the log tells more")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, header lines that are ready but for the body's length (each with its end), and the body."""

    status: int
    head: bytes
    body: bytes


Reply = Callable[[Callable[[], Answer]], None]
"""Called with what makes the answer; that may raise a Problem."""


class Request(Protocol):
    """A request as a door sees it. After a step has raised a Problem, the next call is `refused`."""

    def admit(self) -> None:
        """Let it in by its head.

        Raises:
            Problem: it is refused, and its body is not wanted.
        """
        ...

    def has_come(self, count: int) -> None:
        """So many bytes of the body have come so far.

        Raises:
            Problem: they are too many, or there is no room for them.
        """
        ...

    def take(self, body: bytes, reply: Reply) -> Steps[None]:
        """The body is whole. `reply` is called once, in one of the steps or later, unless one raises.

        Raises:
            Problem: nothing of it was taken.
        """
        ...

    def refused(self, problem: Problem) -> Answer:
        """Put a problem into this door's words; the request is over."""
        ...

    def left(self) -> None:
        """The client has hung up before the body was whole; the request is over."""
        ...


Door = Callable[[Head], Request]
"""Opens a request by its head."""


class Connection(Protocol):
    """What a visit needs of the connection that it came by."""

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        ...

    def in_turn(self, job: Steps[None], size: int) -> None:
        """Do what may take long, the reading of so many bytes, now or a little later."""
        ...

    def finish(self, visit: Visit, answer: Answer) -> None:
        """Send a visit's answer and go on with the next request."""
        ...


class _NobodyWaits:
    """In place of the event by which uvicorn wakes an ASGI application."""

    def set(self) -> None:
        """Wake nobody."""


_NOBODY_WAITS = _NobodyWaits()


class Visit:
    """Made when a request's headers are complete; `begin` is called when it is its turn."""

    __slots__ = (
        "_body",
        "_connection",
        "_door",
        "_expects_continue",
        "_head",
        "_is_whole",
        "_request",
        "disconnected",
        "keep_alive",
        "message_event",
        "response_complete",
        "response_started",
    )

    def __init__(
        self, door: Door, head: Head, connection: Connection, *, keep_alive: bool, expects_continue: bool
    ) -> None:
        self._door = door
        self._head = head
        self._connection = connection
        self._expects_continue = expects_continue
        self._request: Request | None = None
        self._body = bytearray()
        self._is_whole = False
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_started = self.response_complete = False
        self.message_event = _NOBODY_WAITS

    def begin(self) -> None:
        """Go to the door: every earlier request of the connection has been answered."""
        self._request = self._door(self._head)
        self._guarded(self._admit)
        if self._is_whole and not self.response_complete:
            self._connection.in_turn(self._take(), len(self._body))

    def on_body(self, data: bytes) -> None:
        """Collect a piece of the body."""
        if self.response_complete:
            return
        self._body += data
        if self._request is not None:
            self._guarded(self._has_come)

    def on_whole(self) -> None:
        """Hand the body over: this is its end."""
        self._is_whole = True
        if self._request is not None and not self.response_complete:
            self._connection.in_turn(self._take(), len(self._body))

    def leave(self) -> None:
        """Give up what is still coming: the client has hung up."""
        if self._request is not None and not self._is_whole and not self.response_complete:
            self.response_complete = True
            self._request.left()

    def _admit(self) -> None:
        assert self._request is not None
        self._request.admit()
        if self._body:
            self._has_come()
        if self._expects_continue and not self._is_whole:
            self._connection.write(_CONTINUE)

    def _has_come(self) -> None:
        assert self._request is not None
        self._request.has_come(len(self._body))

    def _take(self) -> Steps[None]:
        assert self._request is not None
        body, self._body = bytes(self._body), bytearray()
        try:
            yield from self._request.take(body, self._reply)
        except Exception as error:
            self._fail(error)

    def _reply(self, decide: Callable[[], Answer]) -> None:
        try:
            self._finish(decide())
        except Exception as error:
            self._fail(error)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        assert self._request is not None
        if isinstance(error, Problem):
            problem = error
        else:
            _log.error("request_failed", exc_info=error)
            problem = _OUR_FAULT
        self._finish(self._request.refused(problem))

    def _finish(self, answer: Answer) -> None:
        self.response_started = self.response_complete = True
        self._body = bytearray()
        self._connection.finish(self, answer)
