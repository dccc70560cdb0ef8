"""The proxy passes bytes as they are, and really cuts when it is told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.proxy import Mood, Proxy


class Echo:
    """A server that answers what it is sent, and keeps it."""

    def __init__(self) -> None:
        self.heard = b""
        self.left = 0
        """How many connections have been ended by their client."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                while chunk := connection.recv(65_536):
                    self.heard += chunk
                    connection.sendall(chunk)
            except OSError:
                pass
            self.left += 1


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(free_port(), echo.port) as running:
        yield running


def connected(proxy: Proxy) -> socket.socket:
    """A client of the proxy."""
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def answered(proxy: Proxy) -> bytes:
    """What a client hears that says nothing."""
    with connected(proxy) as client:
        return client.recv(1)


def said(client: socket.socket, text: bytes) -> bytes:
    """What comes back."""
    client.sendall(text)
    found = b""
    while len(found) < len(text) and (chunk := client.recv(65_536)):
        found += chunk
    return found


@pytest.mark.parametrize("mood", [Mood(), Mood(sliced=True), Mood(delay_s=0.05)])
def test_bytes_arrive_as_they_were_sent(proxy: Proxy, mood: Mood) -> None:
    """Slow or in slices, nothing is lost or altered."""
    proxy.set(mood)
    with connected(proxy) as client:
        assert said(client, b"0123456789" * 30) == b"0123456789" * 30


def test_a_cut_resets_what_is_open_and_nothing_else(proxy: Proxy) -> None:
    """A client sees a reset, not an end; the next connection works."""
    with connected(proxy) as client:
        assert said(client, b"a") == b"a"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connected(proxy) as client:
        assert said(client, b"b") == b"b"


def test_a_refusing_proxy_lets_nobody_through(proxy: Proxy, echo: Echo) -> None:
    """Until it is told otherwise."""
    proxy.set(Mood(refuse=True))
    with pytest.raises(ConnectionResetError):
        answered(proxy)
    assert echo.heard == b""
    proxy.set()
    with connected(proxy) as client:
        assert said(client, b"b") == b"b"


def test_a_hole_swallows_bytes_and_keeps_the_connection(proxy: Proxy, echo: Echo) -> None:
    """Nothing arrives and nothing fails."""
    proxy.set(Mood(hole=True))
    with connected(proxy) as client:
        client.sendall(b"lost")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
    assert echo.heard == b""


def test_half_a_reply_is_half_a_reply(proxy: Proxy) -> None:
    """The rest never comes, and the connection is reset; it happens once."""
    proxy.set(Mood(half_frame=True))
    with connected(proxy) as client:
        client.sendall(b"12345678")
        assert client.recv(100) == b"1234"
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert proxy.struck.is_set()
    with connected(proxy) as client:
        assert said(client, b"b") == b"b"


def test_a_reply_is_cut_off_after_its_request_has_arrived(proxy: Proxy, echo: Echo) -> None:
    """The server has the request; the client learns nothing of it."""
    proxy.set(Mood(cut_after=b"COMMIT"))
    with connected(proxy) as client:
        assert said(client, b"BEGIN") == b"BEGIN"
        client.sendall(b"COMMIT")
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    eventually(lambda: echo.heard == b"BEGINCOMMIT")


def test_a_silent_connection_lives_on_at_its_server(proxy: Proxy, echo: Echo) -> None:
    """Of what its client sends or does after those bytes the server learns nothing, and the client nothing of
    the reply. Other connections go on."""
    proxy.set(Mood(silent_after=b"COPY"))
    with connected(proxy) as client:
        assert said(client, b"BEGIN") == b"BEGIN"
        client.sendall(b"COPY and its rows")
        assert proxy.struck.wait(5)
        client.sendall(b"lost")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
    with connected(proxy) as client:
        assert said(client, b"b") == b"b"
    assert echo.heard == b"BEGINCOPYb"
    eventually(lambda: echo.left == 1)
