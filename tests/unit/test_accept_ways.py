"""The quick way and the thorough way to read a touchpoint are one, and what passes is fit to be stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.ingest.accept import Accepted
from services.ingest.event import TooMuch
from services.ingest.frames import Framing
from shared import codec
from shared.content import Malformed
from tests.support.accepting import accept

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

NASTY = (
    b"0",
    b"-0",
    b"1.5",
    b"1e5",
    b"1e99",
    b"1e100",
    b"1e308",
    b"1E309",
    b"1e+400",
    b"1e-400",
    b"0.5e0000400",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"123456789012345678",
    b"1234567890123456789",
    b"0." + b"3" * 410,
    b"9" * 400 + b".5",
    b"NaN",
    b"-Infinity",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b'"\\u0000"',
    b'"\\\\u0000"',
    b'"\\ud800"',
    b'"\\ud83d\\ude00"',
    b'"\\udc80"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    '"æ😀"'.encode(),
    b'"\\""',
    b'"[[[[[[[[[[[[[[[[[["',
    b'"' + b"x" * 300 + b'"',
    b'"0e123,1e400"',
    b'"a\x01b"',
    b"[" * 13 + b"]" * 13,
    b"[" * 14 + b"]" * 14,
    b"[" * 15 + b"]" * 15,
    b'{"a":' * 15 + b"1" + b"}" * 15,
    b"[" * 1200 + b"]" * 1200,
    b'{"' + b"k" * 200 + b'":1}',
    b'{"' + b"k" * 201 + b'":1}',
    b'{"' + b"k" * 150 + b'\\"' + b"k" * 60 + b'" :1}',
    b'{"\\u0000":1}',
    b'{"\\ud800":1}',
    b'{"a":1,"a":2}',
    b"01",
    b"1.",
    b"+1",
    b"'a'",
    b"{a:1}",
    b"[1,]",
    b"",
    b"\x00",
)

digits = st.text("0123456789", min_size=1, max_size=24)
number_texts = st.builds(
    lambda sign, whole, part, exponent: f"{sign}{whole}{part}{exponent}".encode(),
    st.sampled_from(["", "-"]),
    digits.map(lambda text: text.lstrip("0") or "0"),
    digits.map(".".__add__) | st.just(""),
    st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), digits) | st.just(""),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())
values = st.sampled_from(NASTY) | number_texts | json_values | st.text().map(lambda t: json.dumps(t).encode())

GOOD = {
    "type": b'"order_placed"',
    "channel": b'"web"',
    "identities": b'{"user_id":"u-1"}',
    "id": b'"1"',
    "occurred_at": b'"2026-03-01T10:00:00Z"',
    "properties": b'{"a":1}',
    "traits": b"{}",
    "context": b'{ "page" : "/x" }',
    "consent": b"null",
    "owner": b'"own"',
    "sentiment": b"-0.5",
    "sent_at": b'"2026-03-01T11:00:00+01:00"',
}
names = st.sampled_from([*GOOD, "extra", "\\u0074ype", "\\ud800"])
places = st.sampled_from([b"%s", b'{"a":%s}', b'{"a":[1, %s ]}', b'{"user_id":%s}', b'{"email":[%s]}'])


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """A touchpoint, most of it good, members repeated, missing, or filled with something nasty."""
    members = [(name, GOOD[name]) for name in ("type", "channel", "identities")]
    members += draw(st.lists(st.sampled_from(list(GOOD.items())), max_size=4))
    for _ in range(draw(st.integers(0, 2))):
        members.append((draw(names), draw(places) % draw(values)))
    if draw(st.booleans()):
        members = draw(st.permutations(members))
    space = draw(st.sampled_from([b"", b"", b" ", b"\n\t"]))
    written = (b'"%s"%s:%s%s' % (name.encode(), space, space, value) for name, value in members)
    return b"{" + (b"," + space).join(written) + b"}"


items = events() | st.sampled_from(NASTY)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, Framing]:
    """A request's body, now and then with bytes cut out or overwritten."""
    parts = draw(st.lists(items, max_size=4))
    framings: list[tuple[bytes, Framing]] = [
        (b"[" + b",".join(parts) + b"]", "json"),
        (b"\n".join(parts), "ndjson"),
        (parts[0] if parts else b"", "json"),
    ]
    body, framed = draw(st.sampled_from(framings))
    if body and draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(body) - 1))
        body = body[:at] + draw(st.binary(max_size=3)) + body[at + draw(st.integers(0, 3)) :]
    return body, framed


def ids() -> Iterator[UUID]:
    """Ids that repeat from run to run."""
    return (UUID(int=number) for number in range(1, 10_000))


def verdict(body: bytes, framed: Framing, *, quick: bool) -> Accepted | tuple[str, int] | str:
    """What a body comes to, errors included."""
    try:
        return accept(body, framed, "shop", NOW, ids().__next__, quick=quick)
    except Malformed as error:
        return error.reason, error.byte
    except TooMuch:
        return "too much"


@settings(max_examples=1_500)
@given(bodies())
@example((b'[{"type":"t","channel":"web","identities":{"user_id":"1"},"properties":{"a":1e400}}]', "json"))
def test_both_ways_give_the_same_verdict(body_and_framing: tuple[bytes, Framing]) -> None:
    """For every body: the same records byte for byte, the same refusals and errors at the same places."""
    body, framed = body_and_framing

    assert verdict(body, framed, quick=True) == verdict(body, framed, quick=False)


@settings(max_examples=500)
@given(bodies())
def test_what_passes_can_be_stored(body_and_framing: tuple[bytes, Framing]) -> None:
    """Every record decodes, and holds no name, text, number or nesting beyond the limits."""
    found = verdict(*body_and_framing, quick=True)
    if not isinstance(found, Accepted):
        return
    for record in found.records:
        touchpoint = codec.decode(record.value)
        assert record.key.decode() in touchpoint.identities
        for raw in (touchpoint.properties, touchpoint.traits, touchpoint.context, touchpoint.consent):
            value = json.loads(bytes(raw).decode(), parse_constant=_no_constant)
            assert isinstance(value, dict)
            _check(value, depth=2)


def _no_constant(name: str) -> float:
    raise AssertionError(f"{name} has passed")


def _check(value: Any, depth: int) -> None:
    """An oracle of its own, as simple as can be."""
    if isinstance(value, (dict, list)):
        assert depth <= 16
    if isinstance(value, dict):
        for name, member in value.items():
            assert len(name) <= 200
            _check(name, depth)
            _check(member, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, str):
        assert "\0" not in value
        value.encode()
    elif isinstance(value, int):
        assert -(2**63) <= value < 2**63
    elif isinstance(value, float):
        assert abs(value) != float("inf")
