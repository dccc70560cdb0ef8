"""Taking new connections, as many as wait, in every turn of the event loop.

libuv takes one connection a turn from a listener (`uv__server_io`), however many wait. While the requests of
others make every turn long, a crowd of new ones would wait for as many long turns as it has heads, in the
kernel, where nothing tells them to come back later.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from shared.logs import fields

BACKLOG = 2_048
ACCEPTED_A_TURN_MAX = 512
"""Some tens of milliseconds: those who are connected wait meanwhile."""
_PAUSE_S = 0.5

_log = logging.getLogger(__name__)


class Acceptor:
    """Accepts from a bound socket until it is closed; in place of an `asyncio.Server`."""

    def __init__(self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._listener = listener
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._entering: set[asyncio.Task[object]] = set()
        listener.setblocking(False)
        listener.listen(BACKLOG)
        self._begin()

    def close(self) -> None:
        """Accept no more. Idempotent."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()

    async def wait_closed(self) -> None:
        """Wait for those that are being accepted."""
        if self._entering:
            await asyncio.wait(self._entering)

    def _begin(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_A_TURN_MAX):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue
            except OSError as error:
                # No descriptor or no memory is left, which does not change by asking at once again.
                _log.error("not_accepting", extra=fields(error=str(error), seconds=_PAUSE_S))
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_PAUSE_S, self._begin)
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._enter(connection)

    def _enter(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        entering = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._entering.add(entering)
        entering.add_done_callback(self._entered)

    def _entered(self, entering: asyncio.Task[object]) -> None:
        self._entering.discard(entering)
        if not entering.cancelled() and (error := entering.exception()) is not None:
            _log.warning("connection_not_taken", extra=fields(error=f"{type(error).__name__}: {error}"))
