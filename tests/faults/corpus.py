"""Hostile requests without end: a corpus of nasty values, put together and broken by a seeded chance.

Two out of three are well-formed HTTP around a body that is hostile in its meaning, its JSON, its text or its
compression; the rest are hostile below that.
"""

from __future__ import annotations

import gzip
import random
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from tests.bench.http import post
from tests.faults.crooked import crooked

PATH = "/v1/touchpoints"


@dataclass(frozen=True, slots=True)
class Hostile:
    """One request. `whole` says that it needs nothing more to be answered; `keeps` that it is well-formed
    HTTP, so that the connection lives on. `id` and `properties` are those of the touchpoint that it holds,
    where that must be found as it was sent if the answer is a 202."""

    kind: str
    request: bytes
    whole: bool = True
    keeps: bool = True
    id: str | None = None
    properties: bytes = b""


_ZERO_WIDTH, _BIDI, _COMBINING = "\u200b\u200d\ufeff", "\u202e\u2066", "\u0301"
_TEXTS = (
    "Zoë", unicodedata.normalize("NFD", "Zoë"), "ﬁ", "ß", "İ", "ı", "Σς", "K", "Å", f"a{_ZERO_WIDTH}b",
    f"{_BIDI}drawkcab", "e" + _COMBINING * 60, "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0010ffff", "\ufffe", "\u2028", "\x7f", "\x85", "=1+1", "<script>alert(1)</script>",
    "'; DROP TABLE x; --", "%s%n{0}", "../../etc/passwd", "null", "0", " ", "\u3000", "NaN", "a" * 200,
    "é" * 100, "é" * 101, "x" * 5_000,
)  # fmt: skip
_LITERALS = tuple(
    text.encode()
    for text in (
        "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e131071", "1e-131071", "1e308", "5e-324",
        "-0", "-0.0", "0", "18446744073709551616", "9223372036854775807", "9223372036854775808",
        "-9223372036854775809", "9" * 5_000, "0." + "3" * 500, "1" * 19, "01", "1.", ".5", "+1", "0x10",
        "1_000", "null", "true", "tru", "undefined", "[]", "{}", '""', "[" * 17 + "]" * 17,
        "[" * 14 + "]" * 14, '{"a":' * 15 + "1" + "}" * 15, "[" * 10_000 + "]" * 10_000, '{"a":1,"a":2}',
        '{"":1}', '{"%s":1}' % ("n" * 201), r'"\u0000"', r'"\ud800"', r'"\udc00\ud800"',
        r'"\ud83d\ude00"', r'"\u005cu0000"', r'"\\u0000"', r'"\x00"', r'"\/"', "'a'", "[1,]", '{"a":1,}',
        "/*x*/1", '"\t"', '"\n"', '"' + "a" * 31_000 + '"', "[" + "1e100," * 3_000 + "1]",
        "[" + "0," * 9_000 + "0]",
    )
)  # fmt: skip
_RAW = (
    b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"', b'"\x00"',
    b"\x00", b'"\xf8\x88\x80\x80\x80"',
)  # fmt: skip
_TIMES = (
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z", "2016-12-31T23:59:60Z",
    "2026-02-30T00:00:00Z", "2026-03-01T24:00:00Z", "2026-03-01T00:00:00+99:99", "2026-03-01T00:00:00",
    "2026-03-01", "20260301T000000Z", "2026-03-29T02:30:00+01:00", "2026-03-01T00:00:00.123456789Z",
    "1e3", "1772323200", "+002026-03-01T00:00:00Z", "2026-03-01t00:00:00z", "٢٠٢٦-03-01T00:00:00Z",
)  # fmt: skip
_MEMBERS = (
    "id", "type", "channel", "occurred_at", "identities", "properties", "traits", "context", "consent",
    "owner", "sentiment", "sent_at", "received_at", "source", "__proto__", "",
)  # fmt: skip
_KINDS = (
    "user_id", "email", "phone", "loyalty_id", "account_id", "anonymous_id", "crm", "CRM", "", "a b",
    "ü", "x" * 33, "__class__",
)  # fmt: skip
_MEDIA_TYPES = (b"application/json", b"application/x-ndjson", b"text/plain")


def requests(seed: int, key: str) -> Iterator[Hostile]:
    """Requests without end, the same ones for the same seed."""
    chance = random.Random(seed)
    for number in _count():
        draw = chance.random()
        if draw < 0.1:
            kind, request, whole = crooked(chance, key)
            yield Hostile(kind, request, whole=whole, keeps=False)
        else:
            yield _with_body(chance, number, key, compressed=draw < 0.2)


def _count() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def _with_body(chance: random.Random, number: int, key: str, *, compressed: bool) -> Hostile:
    kind, body, id_, properties = chance.choice(_BODIES)(chance, number)
    media_type = chance.choice(_MEDIA_TYPES) if chance.random() < 0.2 else _MEDIA_TYPES[0]
    headers = b"Content-Type: " + media_type + b"\r\n"
    if compressed:
        packing, body, encoding = _packed(chance, body)
        kind, headers = f"{packing} of {kind}", headers + b"Content-Encoding: " + encoding + b"\r\n"
        if packing != "gzip":
            id_ = None
    head, _, _ = post(PATH, b"", key).partition(b"Content-Type")
    request = head + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body
    return Hostile(kind, request, id=id_, properties=properties)


Body = tuple[str, bytes, str | None, bytes]
"""What it is, its bytes, and the id and the properties of the one touchpoint in it, if they are known."""


def _value(chance: random.Random) -> bytes:
    """A JSON value, or what looks like one."""
    draw = chance.random()
    if draw < 0.5:
        return chance.choice(_LITERALS)
    if draw < 0.6:
        return chance.choice(_RAW)
    return _text(chance.choice(_TEXTS) + chance.choice(("", chance.choice(_TEXTS))))


def _text(text: str) -> bytes:
    """A JSON text as it is, without escapes where none are needed."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return b'"' + escaped.encode(errors="surrogatepass") + b'"'


def _event(number: int) -> dict[str, bytes]:
    return {
        "id": b'"h-%d"' % number,
        "type": b'"page_viewed"',
        "channel": b'"web"',
        "occurred_at": b'"2026-03-01T12:00:00Z"',
        "identities": b'{"user_id":"hostile-%d"}' % (number % 500),
        "properties": b'{"a":1}',
    }


def _written(members: dict[str, bytes]) -> bytes:
    return b"{" + b",".join(b'"%s":%s' % (name.encode(), value) for name, value in members.items()) + b"}"


def _in_properties(chance: random.Random, number: int) -> Body:
    properties = b'{"a":%s,"b":[%s]}' % (_value(chance), _value(chance))
    return "a value", _written(_event(number) | {"properties": properties}), f"h-{number}", properties


def _in_a_member(chance: random.Random, number: int) -> Body:
    name = chance.choice(_MEMBERS)
    return f"member {name}", _written(_event(number) | {name: _value(chance)}), None, b""


def _in_a_time(chance: random.Random, number: int) -> Body:
    return "time", _written(_event(number) | {"occurred_at": _text(chance.choice(_TIMES))}), None, b""


def _in_identities(chance: random.Random, number: int) -> Body:
    value = _text(chance.choice(_TEXTS)) if chance.random() < 0.7 else _value(chance)
    identities = b'{"user_id":"u","%s":%s}' % (chance.choice(_KINDS).encode(), value)
    return "identity", _written(_event(number) | {"identities": identities}), f"h-{number}", b'{"a":1}'


def _without_a_member(chance: random.Random, number: int) -> Body:
    event = _event(number)
    del event[chance.choice(list(event))]
    return "missing member", _written(event), None, b""


def _twice(chance: random.Random, number: int) -> Body:
    event = _written(_event(number))
    return (
        "duplicate member",
        event[:-1] + b',"%s":%s}' % (chance.choice(_MEMBERS).encode(), _value(chance)),
        None,
        b"",
    )


def _cut_or_flipped(chance: random.Random, number: int) -> Body:
    # One bit makes another's id of an id: these have a name of their own.
    members = {"id": b'"f-%d"' % number, "properties": b'{"a":%s}' % _value(chance)}
    event = bytearray(_written(_event(number) | members))
    at = chance.randrange(len(event))
    if chance.random() < 0.5:
        return "cut", bytes(event[:at]), None, b""
    event[at] ^= 1 << chance.randrange(8)
    return "flipped bit", bytes(event), None, b""


def _in_another_encoding(chance: random.Random, number: int) -> Body:
    name = chance.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-7", "cp500", "latin-1"))
    text = _written(_event(number) | {"properties": _text("Zoë")}).decode()
    return name, text.encode(name), None, b""


def _several(chance: random.Random, number: int) -> Body:
    events = [
        _written(
            _event(number) | {"id": b'"h-%d-%d"' % (number, at), "properties": b'{"a":%s}' % _value(chance)}
        )
        for at in range(chance.choice((0, 1, 2, 3, 20)))
    ]
    begin, between, end = chance.choice(
        ((b"[", b",", b"]"), (b"", b"\n", b"\n"), (b"[", b",", b""), (b"", b",", b""))
    )
    return "several", begin + between.join(events) + end, None, b""


def _deep(chance: random.Random, _: int) -> Body:
    unit = chance.choice((b"[", b'{"a":', b'[{"a":'))
    return "deep", unit * chance.choice((17, 1_000, 100_000)), None, b""


def _noise(chance: random.Random, _: int) -> Body:
    return "noise", chance.randbytes(chance.choice((0, 1, 16, 1_000))), None, b""


_BODIES: Sequence[Callable[[random.Random, int], Body]] = (
    *(_in_properties,) * 5,
    *(_in_a_member,) * 4,
    *(_in_identities,) * 4,
    *(_cut_or_flipped,) * 3,
    *(_several,) * 2,
    _in_a_time,
    _without_a_member,
    _twice,
    _in_another_encoding,
    _deep,
    _noise,
)


def _packed(chance: random.Random, body: bytes) -> tuple[str, bytes, bytes]:
    """What is made of a body, its bytes and its Content-Encoding."""
    whole = gzip.compress(body, 1, mtime=0)
    at = chance.randrange(len(whole))
    return chance.choice(
        (
            ("gzip", whole, b"gzip"),
            ("gzip cut", whole[:at], b"gzip"),
            ("gzip flipped", whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :], b"gzip"),
            ("gzip twice", gzip.compress(whole, 1, mtime=0), b"gzip, gzip"),
            ("two members", whole + gzip.compress(b" ", 1, mtime=0), b"gzip"),
            ("many members", gzip.compress(b"", 1, mtime=0) * chance.choice((100, 200, 5_000)), b"gzip"),
            ("gzip with a tail", whole + b"\0" * 8, b"gzip"),
            ("bomb", _bomb(), b"gzip"),
            ("deflate", zlib.compress(body), b"gzip"),
            ("unknown encoding", whole, chance.choice((b"br", b"zstd", b"deflate", b"gzip;q=1", b"x" * 300))),
            ("no gzip", body, b"gzip"),
        )
    )


@cache
def _bomb() -> bytes:
    """64 MiB of zeros."""
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    return b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(64)) + packer.flush()
