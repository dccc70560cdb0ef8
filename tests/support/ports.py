"""Ports for servers that the tests start."""

import random
import socket
from collections.abc import Iterator
from functools import cache

_FIRST, _LAST = 10_000, 32_000
"""Below the range from which Linux draws the source ports of outgoing connections. A client that calls a
dead server again and again could otherwise be given the server's own port, and hold it when it comes back."""


def free_port() -> int:
    """Return a TCP port that is free on 127.0.0.1 now and was not returned before in this process.

    Raises:
        OSError: no port is free.
    """
    for port in _candidates():
        if _is_free(port):
            return port
    raise OSError(f"no free port between {_FIRST} and {_LAST}")


@cache
def _candidates() -> Iterator[int]:
    ports = list(range(_FIRST, _LAST))
    # The system's own randomness: hypothesis seeds the module's, and two sessions would collide.
    random.SystemRandom().shuffle(ports)
    return iter(ports)


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def is_refused(port: int) -> bool:
    """Whether nobody listens on this port of this machine.

    A connection that waits while its listener is closed is not refused but reset: nobody listens then either.
    """
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionError:
        return True
    return False
