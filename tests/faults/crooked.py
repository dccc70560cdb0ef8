"""Requests that are hostile in their HTTP: lengths that lie, chunks that don't end, heads without measure."""

from __future__ import annotations

import random

_EVENT = (
    b'{"id":"crooked","type":"page_viewed","channel":"web","occurred_at":"2026-03-01T12:00:00Z",'
    b'"identities":{"user_id":"crooked"}}'
)
_PATHS = (
    b"/", b"//", b"/v1/touchpoints/", b"/v1//touchpoints", b"/v1/touchpoints%00",
    b"/v1/../v1/touchpoints", b"/v1/%2e%2e/%2e%2e/etc/passwd", b"/..%5c..%5cetc", b"/%252e%252e/",
    b"/v1/touchpoints%2f", b"/V1/TOUCHPOINTS", b"/v1/touchpoints;a=b",
    b"http://evil.example/v1/touchpoints", b"*", b"evil.example:443", b"/\xff\xfe", b"/a b",
    b"/" + b"a" * 9_000, b"/?" + b"a=b&" * 2_000, b"/v1/touchpoints?key=%00",
    b"/v1/touchpoints?key=&key=x", b"",
)  # fmt: skip
_METHODS = (
    b"GET", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT", b"PROPFIND", b"post",
    b"POST\x00", b"BREW", b"",
)  # fmt: skip
_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"HTTQ/1.1", b"")
_LINES = (
    b"X: " + b"a" * 17_000, b"X" * 17_000 + b": a", b"no colon", b": no name", b"X : space",
    b"X: a\r\n folded", b"X: \x00", b"X: \x7f", b"Host: evil.example", b"Host: a\r\nHost: b",
    b"X-HTTP-Method-Override: DELETE", b"X-Forwarded-For: 127.0.0.1", b"Expect: 200-maybe",
    b"Expect: 100-continue",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA",
    b"Upgrade: h2c\r\nConnection: Upgrade", b"Connection: close", b"Connection: keep-alive, \xff",
    b"Content-Type: \xff", b"Range: bytes=0-,0-,0-", b"Cookie: " + b"a=b; " * 3_000,
    b"Transfer-Encoding: identity", b"Trailer: X", b"TE: trailers, deflate;q=\x01",
)  # fmt: skip
_LENGTHS = (
    b"Content-Length: -1", b"Content-Length: +5", b"Content-Length: 1e3", b"Content-Length: 0x10",
    b"Content-Length: 5, 5", b"Content-Length: 1\r\nContent-Length: 2",
    b"Content-Length: 99999999999999999999999", b"Content-Length: 1048577",
    b"Content-Length: 2\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: \x0bchunked", b"Content-Length: 5\r\nContent-Length: 5",
)  # fmt: skip
_CHUNKS = (
    b"zz\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"5;" + b"a" * 20_000 + b"\r\n", b"5\nhello\n0\n\n",
    b"1\r\n{\r\n0\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", b"0\r\n\r\n",
    b"1\r\n{\r\n" * 3_000 + b"0\r\n\r\n", b"2\r\n{\r\n",
)  # fmt: skip
_WHOLLY_OTHER = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x00" * 1_000, b"\r\n" * 1_000, b"SSH-2.0-x\r\n", b"EHLO x\r\n", b"*1\r\n$4\r\nPING\r\n",
    b"\xff\xfe" * 500, b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n" * 50,
)  # fmt: skip

Crooked = tuple[str, bytes, bool]
"""What it is, its bytes, and whether the server can answer without waiting for more."""


def crooked(chance: random.Random, key: str) -> Crooked:
    """One request."""
    return chance.choice((_path, _method, _version, _line, _length, _lying, _chunks, _endless, _other))(
        chance, key
    )


def _head(
    key: str, method: bytes = b"POST", path: bytes = b"/v1/touchpoints", version: bytes = b"HTTP/1.1"
) -> bytes:
    line = b" ".join((method, path, version))
    return (
        line
        + b"\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer "
        + key.encode()
        + b"\r\n"
    )


def _with_event(head: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n%s" % (len(_EVENT), _EVENT)


def _path(chance: random.Random, key: str) -> Crooked:
    return "path", _with_event(_head(key, path=chance.choice(_PATHS))), False


def _method(chance: random.Random, key: str) -> Crooked:
    return "method", _with_event(_head(key, method=chance.choice(_METHODS))), False


def _version(chance: random.Random, key: str) -> Crooked:
    return "version", _with_event(_head(key, version=chance.choice(_VERSIONS))), False


def _line(chance: random.Random, key: str) -> Crooked:
    if chance.random() < 0.01:
        return "50 MB of headers", _head(key) + b"X: " + b"a" * 50_000_000, True
    return "header", _with_event(_head(key) + chance.choice(_LINES) + b"\r\n"), False


def _length(chance: random.Random, key: str) -> Crooked:
    return "length", _head(key) + chance.choice(_LENGTHS) + b"\r\n\r\n" + _EVENT, False


def _lying(chance: random.Random, key: str) -> Crooked:
    """The body is shorter or longer than was said."""
    said = max(0, len(_EVENT) + chance.choice((-100, -1, 1, 100, 1_000_000)))
    return "false length", _head(key) + b"Content-Length: %d\r\n\r\n" % said + _EVENT, False


def _chunks(chance: random.Random, key: str) -> Crooked:
    return "chunks", _head(key) + b"Transfer-Encoding: chunked\r\n\r\n" + chance.choice(_CHUNKS), False


def _endless(chance: random.Random, key: str) -> Crooked:
    size = chance.choice((1_000, 30_000))
    chunk = b"%x\r\n%s\r\n" % (size, b" " * size)
    return (
        "endless chunks",
        _head(key) + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * (1_200_000 // size),
        True,
    )


def _other(chance: random.Random, _: str) -> Crooked:
    return "another protocol", chance.choice(_WHOLLY_OTHER), False
