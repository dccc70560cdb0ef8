"""What becomes a touchpoint, what is refused, and where the refusal points."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.ingest.accept import Accepted
from services.ingest.event import TooMuch
from services.ingest.frames import framing
from shared import codec
from shared.content import Malformed
from shared.refusals import CODES
from shared.touchpoint import CHANNELS, Touchpoint
from tests.support.accepting import accept

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVENT: dict[str, Any] = {"type": "order_placed", "channel": "web", "identities": {"user_id": "u-1"}}


def ids() -> Iterator[UUID]:
    """Ids that repeat from run to run."""
    return (UUID(int=number) for number in range(1, 10_000))


def accepted(body: bytes, media_type: str = "application/json") -> Accepted:
    """The verdict on a body, the same whichever way it is read."""
    framed = framing(media_type, body)
    verdict = accept(body, framed, "shop", NOW, ids().__next__)
    assert accept(body, framed, "shop", NOW, ids().__next__, quick=False) == verdict
    return verdict


def taken(event: Any) -> Touchpoint:
    """The one touchpoint of a body that is accepted."""
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    verdict = accepted(body)
    assert verdict.refusals == []
    return codec.decode(verdict.records[0].value)


def refused(event: Any) -> tuple[str, str]:
    """Code and pointer of the one refusal of a body."""
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    verdict = accepted(body)
    assert verdict.records == []
    (refusal,) = verdict.refusals
    assert refusal.code in CODES
    return refusal.code, refusal.pointer


def with_raw(value: bytes) -> bytes:
    """A touchpoint in whose properties the JSON text stands under `a`."""
    return b'{"type":"t","channel":"web","identities":{"user_id":"1"},"properties":{"a":' + value + b"}}"


def test_every_member_of_a_touchpoint_is_kept() -> None:
    """A full event becomes the same touchpoint, its objects byte for byte, its time in UTC."""
    touchpoint = taken(
        b'{"id":"4711","type":"order_placed","channel":"store","occurred_at":"2026-03-01T10:00:00+02:00",'
        b'"identities":{"anonymous_id":"x","email":" Ane@Example.com "},"properties":{"total": 1.50},'
        b'"traits":{"t":1},"context":{"c":"\\u00e6"},"owner":"partner","sentiment":-0.5,"consent":{"m":true}}'
    )

    assert touchpoint.id == "4711"
    assert (touchpoint.type, touchpoint.channel, touchpoint.owner) == ("order_placed", "store", "partner")
    assert touchpoint.occurred_at == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert (touchpoint.received_at, touchpoint.source) == (NOW, "shop")
    assert touchpoint.identities == ("email:ane@example.com", "anonymous_id:x")
    assert bytes(touchpoint.properties) == b'{"total": 1.50}'
    assert bytes(touchpoint.traits) == b'{"t":1}'
    assert bytes(touchpoint.context) == b'{"c":"\\u00e6"}'
    assert (touchpoint.sentiment, bytes(touchpoint.consent)) == (-0.5, b'{"m":true}')


def test_a_null_member_counts_as_left_out() -> None:
    """Senders that write null for what they don't know are understood."""
    optional = (
        "id",
        "occurred_at",
        "properties",
        "traits",
        "context",
        "consent",
        "owner",
        "sentiment",
        "sent_at",
    )

    assert taken(EVENT | dict.fromkeys(optional)) == taken(EVENT)
    assert taken(EVENT | {"identities": {"user_id": "u-1", "email": None}}) == taken(EVENT)


def test_the_key_is_the_strongest_identity_that_says_who() -> None:
    """An account never becomes the partition key, however strong."""
    event = EVENT | {"identities": {"account_id": "acme", "anonymous_id": "x"}}

    assert accepted(json.dumps(event).encode()).records[0].key == b"anonymous_id:x"


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_channel_is_taken(channel: str) -> None:
    """The channels of the touchpoint are the channels of the door."""
    assert taken(EVENT | {"channel": channel}).channel == channel


def test_an_id_is_made_of_the_content_where_the_sender_gave_a_time() -> None:
    """A retry of the same content gets the same id, another source or content another one."""
    event = EVENT | {"occurred_at": "2026-03-01T10:00:00Z"}
    body = json.dumps(event).encode()
    later = accept(body, "json", "shop", NOW + timedelta(hours=1), ids().__next__)
    elsewhere = accept(body, "json", "till", NOW, ids().__next__)

    first = taken(event).id
    assert codec.decode(later.records[0].value).id == first
    assert codec.decode(elsewhere.records[0].value).id != first
    assert taken(event | {"properties": {"a": 1}}).id != first
    assert taken(dict(reversed(event.items()))).id == first


def test_without_id_and_time_every_touchpoint_is_its_own() -> None:
    """Two equal events that say no time get two ids and the time of receipt."""
    verdict = accepted(json.dumps([EVENT, EVENT]).encode())
    touchpoints = [codec.decode(record.value) for record in verdict.records]

    assert [touchpoint.id for touchpoint in touchpoints] == [str(UUID(int=1)), str(UUID(int=2))]
    assert {touchpoint.occurred_at for touchpoint in touchpoints} == {NOW}
    assert verdict.unrepeatable == 2


def test_a_requests_key_and_the_place_in_it_make_an_id() -> None:
    """Every try of a request has the same ids, whenever it comes; another key, another place and another
    source have others. An id that is given stays, and nothing is left that a retry would count again."""
    body = json.dumps([EVENT, EVENT, EVENT | {"occurred_at": "2026-03-01T10:00:00Z"}, EVENT | {"id": "1"}])

    def touchpoints(key: bytes, now: datetime) -> list[Touchpoint]:
        verdict = accept(body.encode(), "json", "shop", now, ids().__next__, request_key=key)
        assert verdict.unrepeatable == 0
        return [codec.decode(record.value) for record in verdict.records]

    first, again = touchpoints(b"a", NOW), touchpoints(b"a", NOW + timedelta(hours=1))
    other = touchpoints(b"b", NOW)

    assert [one.id for one in first] == [one.id for one in again]
    assert [codec.body_hash(one) for one in first] == [codec.body_hash(one) for one in again]
    assert len({one.id for one in first + other}) == 7
    assert first[3].id == other[3].id == "1"


def test_the_first_of_several_with_one_id_is_kept() -> None:
    """Later ones are counted, whatever they say; one that is refused takes no id."""
    events = [EVENT | {"id": "1", "type": type_} for type_ in ("Bad", "first", "second")]
    verdict = accepted(json.dumps(events).encode())

    assert codec.decode(verdict.records[0].value).type == "first"
    assert (len(verdict.records), verdict.indexes, verdict.duplicates) == (1, [1], 1)
    assert [refusal.index for refusal in verdict.refusals] == [0]
    assert verdict.received == 3


def test_a_batch_is_taken_in_part() -> None:
    """A refusal names its place in the request and leaves the neighbours alone."""
    verdict = accepted(json.dumps([EVENT, {"type": 1}, EVENT, 5]).encode())

    assert verdict.indexes == [0, 2]
    assert [(refusal.index, refusal.code) for refusal in verdict.refusals] == [
        (1, "missing_member"),
        (3, "not_an_object"),
    ]


def test_a_malformed_line_is_that_lines_refusal() -> None:
    """NDJSON is read line by line; blank lines count for nothing."""
    line = json.dumps(EVENT).encode()
    verdict = accepted(b"\n".join([line, b"", b"{oops", line + b"\r", b"[1]"]), "application/x-ndjson")

    assert verdict.indexes == [0, 2]
    assert [(refusal.index, refusal.code) for refusal in verdict.refusals] == [
        (1, "malformed_json"),
        (3, "not_an_object"),
    ]
    assert "byte 1" in verdict.refusals[0].message


@pytest.mark.parametrize(
    ("body", "byte"),
    [
        (b"", 0),
        (b'{"type":', 8),
        (b"[{},", 4),
        (b"[{}]x", 4),
        (b'[{"a":NaN},', 11),
        (b'[{"a":NaN},{]', 12),
        (b"\xff", 0),
        (b'\xef\xbb\xbf{"type":"a"}', 0),
        ("{}".encode("utf-16"), 0),
        (b'{"a":"\x01"}', 6),
    ],
)
def test_a_body_that_is_not_json_says_where(body: bytes, byte: int) -> None:
    """The byte of the first fault is named, counted from 0."""
    for quick in (True, False):
        with pytest.raises(Malformed) as caught:
            accept(body, "json", "shop", NOW, ids().__next__, quick=quick)
        assert caught.value.byte == byte


@pytest.mark.parametrize(
    ("body", "framed"),
    [
        (b'{"a":1}', "json"),
        (b'{"a":\n1}', "json"),
        (b'[{"a":1},\n{"a":2}]', "json"),
        (b'{"a":1}\n{"a":2}', "ndjson"),
        (b'\n{"a":1}\n{oops\n', "ndjson"),
        (b'{"a":\n1', "json"),
        (b"", "json"),
    ],
)
def test_plain_text_is_read_as_what_it_is(body: bytes, framed: str) -> None:
    """A beacon can't name its type: lines are lines when the first one is a value by itself."""
    assert framing("text/plain", body) == framed


def test_an_empty_array_has_nothing() -> None:
    """No event is no verdict."""
    assert accepted(b" [ ] ").received == 0


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"type": None}, "wrong_type", "/type"),
        ({"type": ""}, "invalid_name", "/type"),
        ({"type": "Order"}, "invalid_name", "/type"),
        ({"type": "order placed"}, "invalid_name", "/type"),
        ({"type": "a" * 201}, "name_too_long", "/type"),
        ({"channel": "fax"}, "unknown_value", "/channel"),
        ({"channel": ["web"]}, "wrong_type", "/channel"),
        ({"owner": "nobody"}, "unknown_value", "/owner"),
        ({"id": ""}, "invalid_id", "/id"),
        ({"id": 5}, "wrong_type", "/id"),
        ({"id": "a" * 201}, "name_too_long", "/id"),
        ({"id": "a\nb"}, "control_character", "/id"),
        ({"identities": []}, "wrong_type", "/identities"),
        ({"identities": {}}, "no_identity", "/identities"),
        ({"identities": {"account_id": "a"}}, "no_identity", "/identities"),
        ({"identities": {"user_id": 5}}, "wrong_type", "/identities/user_id"),
        ({"identities": {"user_id": ["a", None]}}, "wrong_type", "/identities/user_id"),
        ({"identities": {"user_id": "  "}}, "worthless_identity", "/identities"),
        ({"identities": {"user_id": "null", "account_id": "a"}}, "worthless_identity", "/identities"),
        ({"identities": {"user_id": [], "phone": None}}, "no_identity", "/identities"),
        ({"identities": {"email": ["a@b.dk", "oops"]}}, "invalid_identity", "/identities/email/1"),
        ({"identities": {"phone": "112"}}, "invalid_identity", "/identities/phone"),
        ({"identities": {"Crm/x~": "1"}}, "invalid_identity_kind", "/identities/Crm~1x~0"),
        ({"identities": {"user_id": "a\u0085b"}}, "control_character", "/identities/user_id"),
        ({"identities": {"user_id": "x" * 201}}, "invalid_identity", "/identities/user_id"),
        ({"identities": {"user_id": [str(n) for n in range(51)]}}, "too_many_identities", "/identities"),
        ({"identities": {"email": ["a@å.dk"] * 4}}, "too_many_identities", "/identities/email"),
        ({"identities": {"phone": ["+4533123456"] * 11}}, "too_many_identities", "/identities/phone"),
        ({"identities": {"phone": "33 12 34 56"}}, "invalid_identity", "/identities/phone"),
        ({"sentiment": 1.01}, "sentiment_out_of_range", "/sentiment"),
        ({"sentiment": "1"}, "wrong_type", "/sentiment"),
        ({"sentiment": True}, "wrong_type", "/sentiment"),
        ({"properties": []}, "wrong_type", "/properties"),
        ({"consent": "yes"}, "wrong_type", "/consent"),
        ({"extra": 1}, "unknown_member", "/extra"),
        ({"sent_at": 1}, "wrong_type", "/sent_at"),
        ({"sent_at": "now"}, "invalid_time", "/sent_at"),
        ({"sent_at": "2026-03-01T10:00:00"}, "invalid_time", "/sent_at"),
        ({"sent_at": "1969-12-31T23:59:59Z"}, "time_out_of_bounds", "/sent_at"),
        ({"sent_at": "2200-01-01T00:00:00Z"}, "time_out_of_bounds", "/sent_at"),
        ({"occurred_at": 1}, "wrong_type", "/occurred_at"),
        ({"occurred_at": "yesterday"}, "invalid_time", "/occurred_at"),
        ({"occurred_at": "2026-03-01T10:00:00"}, "invalid_time", "/occurred_at"),
        ({"occurred_at": "1989-12-31T23:59:59Z"}, "time_out_of_bounds", "/occurred_at"),
        ({"occurred_at": "2026-03-02T12:00:01Z"}, "time_out_of_bounds", "/occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+23:59"}, "time_out_of_bounds", "/occurred_at"),
        ({"occurred_at": "9999-12-31T23:59:59-23:59"}, "time_out_of_bounds", "/occurred_at"),
    ],
)
def test_a_refusal_says_why_and_where(change: dict[str, Any], code: str, pointer: str) -> None:
    """One wrong member is one refusal with a stable code and a pointer to it."""
    assert refused(EVENT | change) == (code, pointer)


@pytest.mark.parametrize("member", ["type", "channel", "identities"])
def test_what_is_required_must_be_there(member: str) -> None:
    """A missing member is named."""
    event = {name: value for name, value in EVENT.items() if name != member}

    assert refused(event) == ("missing_member", f"/{member}")


@pytest.mark.parametrize("moment", ["1990-01-01T00:00:00Z", "2026-03-02T12:00:00Z"])
def test_the_bounds_of_time_are_inside(moment: str) -> None:
    """From 1990 to 24 hours ahead is taken, ends included."""
    assert taken(EVENT | {"occurred_at": moment}).occurred_at == datetime.fromisoformat(moment)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"9223372036854775807", None),
        (b"-9223372036854775808", None),
        (b"9223372036854775808", "number_out_of_range"),
        (b"-9223372036854775809", "number_out_of_range"),
        (b"18446744073709551616", "number_out_of_range"),
        (b"9" * 5000, "number_out_of_range"),
        (b"1e308", None),
        (b"1E+308", None),
        (b"1e-308", None),
        (b"1e309", "number_out_of_range"),
        (b"1e400", "number_out_of_range"),
        (b"1e-400", "number_out_of_range"),
        (b"-1.5E+0400", "number_out_of_range"),
        (b"1e131071", "number_out_of_range"),
        (b"123456e305", "number_out_of_range"),
        (b"0." + b"0" * 500 + b"1", "number_out_of_range"),
        (b"0." + b"1" * 300, None),
        (b"-0", None),
        (b"-0.0", None),
        (b"12345678901234567890.5", None),
        (b'"0e123 1e400 99999999999999999999"', None),
        (b'"550e8400-e29b-41d4-a716-446655440000"', None),
    ],
)
def test_numbers_that_no_store_holds_are_refused_where_they_stand(text: bytes, code: str | None) -> None:
    """Integers beyond signed 64 bits and numbers beyond a double are refused, texts that look so are not."""
    if code is None:
        assert bytes(taken(with_raw(text)).properties) == b'{"a":' + text + b"}"
    else:
        assert refused(with_raw(text)) == (code, "/properties/a")


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"-Infinity"])
def test_what_is_no_number_of_json_refuses_its_event_alone(text: bytes) -> None:
    """NaN in one event of an array, which many serialisers write, does not cost its neighbours."""
    verdict = accepted(b"[" + with_raw(text) + b"," + with_raw(b"1") + b"]")

    assert verdict.indexes == [1]
    assert (verdict.refusals[0].code, verdict.refusals[0].pointer) == ("not_finite", "/properties/a")
    assert refused(with_raw(text)) == ("not_finite", "/properties/a")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'"\\u0000"', "nul_character"),
        (b'"\\\\u0000"', None),
        (b'"\\ud800"', "lone_surrogate"),
        (b'"\\uDC00\\ud800"', "lone_surrogate"),
        (b'"\\ud83d\\ude00"', None),
        (b'"\\ud83dx\\ude00"', "lone_surrogate"),
        ('"😀"'.encode(), None),
        (b'"\xff"', "invalid_utf8"),
        (b'"\xed\xa0\x80"', "invalid_utf8"),
        (b'"\xc0\x80"', "invalid_utf8"),
        (b'"\x7f"', None),
        (b'"\\n\\t\\u0001"', None),
        (b'"\\""', None),
    ],
)
def test_text_that_no_store_holds_is_refused_where_it_stands(text: bytes, code: str | None) -> None:
    """NUL, half a surrogate pair and what is not UTF-8 are refused, alone and in an array."""
    verdict = accepted(b"[" + with_raw(text) + b"," + with_raw(b"1") + b"]")

    assert verdict.indexes == ([0, 1] if code is None else [1])
    if code is None:
        assert bytes(taken(with_raw(text)).properties) == b'{"a":' + text + b"}"
    else:
        assert refused(with_raw(text)) == (code, "/properties/a")
        assert (verdict.refusals[0].code, verdict.refusals[0].pointer) == (code, "/properties/a")


def test_a_bad_name_points_to_its_object() -> None:
    """A name that can't be kept can't be pointed to either."""
    assert refused(with_raw(b'{"\\u0000":1}')) == ("nul_character", "/properties/a")
    assert refused(with_raw(b'{"\xff":1}')) == ("invalid_utf8", "/properties/a")


def test_depth_16_is_taken_and_17_refused() -> None:
    """The event's own object is the first level."""
    taken(with_raw(b"[" * 14 + b"]" * 14))
    assert refused(with_raw(b"[" * 15 + b"]" * 15)) == ("too_deep", "/properties/a" + "/0" * 14)
    assert refused(with_raw(b'{"b":' * 15 + b"1" + b"}" * 15)) == ("too_deep", "/properties/a" + "/b" * 14)
    taken(with_raw(b'["[[[[[[[[[[[[[[[[[["]'))


def test_very_deep_nesting_refuses_its_event_alone() -> None:
    """Nesting beyond the parser's own limit is no crash and no concern of the neighbours."""
    deep = with_raw(b"[" * 9_000 + b"]" * 9_000)
    verdict = accepted(b"[" + deep + b"," + with_raw(b"1") + b"]")

    assert verdict.indexes == [1]
    assert verdict.refusals[0].code == "too_deep"
    assert refused(deep)[0] == "too_deep"


def test_names_have_200_characters() -> None:
    """Characters count, not bytes, wherever the name stands; values may be longer."""
    taken(EVENT | {"properties": {"æ" * 200: {"b" * 200: "x" * 500}}})
    taken(EVENT | {"type": "a" * 200, "id": "ø" * 200})
    assert refused(EVENT | {"properties": {"æ" * 201: 1}}) == ("name_too_long", "/properties")
    assert refused(EVENT | {"context": {"a": [{"b" * 201: 1}]}}) == ("name_too_long", "/context/a/0")
    hidden = b'{"' + b"a" * 150 + b'\\"' + b"b" * 150 + b'":1}'
    assert refused(with_raw(hidden)) == ("name_too_long", "/properties/a")
    assert refused(with_raw(b'{"' + b"a" * 201 + b'"\n : 1}')) == ("name_too_long", "/properties/a")


def test_an_event_has_32_kib() -> None:
    """One byte more is refused; its neighbours are not."""
    room = 32 * 1024 - len(with_raw(b'""'))
    fits = with_raw(b'"' + b"x" * room + b'"')
    taken(fits)
    assert refused(fits[:-3] + b'x"}}') == ("event_too_large", "")
    assert accepted(b"[" + fits[:-3] + b'x"}},' + with_raw(b"1") + b"]").indexes == [1]


def test_a_request_has_500_events() -> None:
    """One more is a request that is too large, whatever they are."""
    assert accepted(b"[" + b",".join([with_raw(b"1")] * 500) + b"]").received == 500
    for body, framed in (
        (b"[" + b",".join([b"0"] * 501) + b"]", "json"),
        (b"[" + b",".join([b"NaN"] * 501) + b"]", "json"),
        (b"\n".join([b"0"] * 501), "ndjson"),
        (b"\n" * 2_000, "ndjson"),
    ):
        for quick in (True, False):
            with pytest.raises(TooMuch):
                accept(
                    body,
                    framing(f"application/{framed.replace('nd', 'x-nd')}", body),
                    "s",
                    NOW,
                    ids().__next__,
                    quick=quick,
                )


def test_a_request_has_200_000_brackets() -> None:
    """Small bodies that would take seconds to look through are refused as a whole, unread."""
    body = b"[" + b",".join([with_raw(b"[" + b"[]," * 450 + b"1]")] * 450) + b"]"
    for quick in (True, False):
        with pytest.raises(TooMuch) as caught:
            accept(body, "json", "shop", NOW, ids().__next__, quick=quick)
        assert caught.value.code == "too_intricate"


def test_repeated_members_count_once_the_last_one() -> None:
    """As JSON parsers have it, also where the first of them is of the wrong type."""
    touchpoint = taken(b'{"type":5,"channel":"web","identities":{"user_id":"1"},"type":"last"}')

    assert touchpoint.type == "last"


def test_one_name_typed_in_two_ways_is_one_identity() -> None:
    """Composed and decomposed letters are the same person."""
    composed = taken(EVENT | {"identities": {"user_id": "Zoë"}})

    assert taken(EVENT | {"identities": {"user_id": "Zoe\u0308"}}).identities == composed.identities


def test_messages_never_repeat_what_was_sent() -> None:
    """A refusal may end in a log: it holds no value of the event."""
    secret = "canary-4711"
    for change in (
        {"id": secret + "\n"},
        {"identities": {"email": secret}},
        {"channel": secret},
        {"type": secret},
    ):
        (refusal,) = accepted(json.dumps(EVENT | change).encode()).refusals
        assert secret not in refusal.message + refusal.pointer
