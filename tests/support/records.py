"""Records of the event log as anybody could write them there: fit ones, and what ingest would never write."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from shared.eventlog.port import RECORD_BYTES_MAX

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_TIME = NOW.isoformat().replace("+00:00", "Z")


def record(**change: Any) -> bytes:
    """A record of the log, as anybody could write it there."""
    fit = {
        "id": "1",
        "type": "order_placed",
        "channel": "web",
        "occurred_at": _TIME,
        "received_at": _TIME,
        "source": "shop",
        "identities": ["user_id:1"],
    }
    return json.dumps(fit | change).encode()


def with_properties(text: bytes) -> bytes:
    """A record whose properties are these very bytes."""
    return record(properties="@").replace(b'"@"', text)


UNFIT: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"\x00",
    "no object": b"[]",
    "too large": record(properties={"a": "x" * RECORD_BYTES_MAX}),
    "empty id": record(id=""),
    "long id": record(id="x" * 201),
    "NUL in an id": record(id="a\0"),
    "NUL in the source": record(source="a\0b"),
    "NUL in the type": record(type="a\0"),
    "type that is no name": record(type="Order placed"),
    "long type": record(type="a" * 201),
    "unknown channel": record(channel="fax"),
    "year 1": record(occurred_at="0001-01-01T00:00:00Z"),
    "year 9999": record(occurred_at="9999-12-31T23:59:59.999999Z"),
    "everything in the year 9999": record(
        occurred_at="9999-12-31T23:59:59.999999Z", received_at="9999-12-31T23:59:59.999999Z"
    ),
    "everything in the year 1": record(
        occurred_at="0001-01-01T00:00:00Z", received_at="0001-01-01T00:00:00Z"
    ),
    "time ahead": record(occurred_at="2026-03-02T12:00:01Z"),
    "time of sending before clocks": record(sent_at="1969-12-31T23:59:59Z"),
    "time of sending without a zone": record(sent_at="2026-03-01T12:00:00"),
    "time of sending in no UTC": record(sent_at="2026-03-01T13:00:00+01:00"),
    "time without a zone": record(occurred_at="2026-03-01T12:00:00"),
    "no identity": record(identities=[]),
    "an account alone": record(identities=["account_id:1"]),
    "identity without a kind": record(identities=["user_id:1", "nobody"]),
    "identity of an odd kind": record(identities=["user_id:1", "Ünïcode kind:1"]),
    "empty identity": record(identities=["user_id:"]),
    "long identity": record(identities=["user_id:" + "é" * 101]),
    "NUL in an identity": record(identities=["user_id:\0"]),
    "too many identities": record(identities=[f"crm:{n}" for n in range(51)]),
    "sentiment": record(sentiment=1.5),
    "sentiment beyond all": record(sentiment=0).replace(b'"sentiment": 0', b'"sentiment": 1e999'),
    "properties that are a text": with_properties(b'"x"'),
    "properties that are null": with_properties(b"null"),
    "NaN": with_properties(b'{"a":NaN}'),
    "NUL": with_properties(rb'{"a":"\u0000"}'),
    "NUL in a name": with_properties(rb'{"\u0000":1}'),
    "lone surrogate": with_properties(rb'{"a":"\ud800"}'),
    "invalid UTF-8": with_properties(b'{"a":"\xff"}'),
    "overlong UTF-8": with_properties(b'{"a":"\xc0\xaf"}'),
    "surrogate in UTF-8": with_properties(b'{"a":"\xed\xa0\x80"}'),
    "2^63": with_properties(b'{"a":9223372036854775808}'),
    "5,000 digits": with_properties(b'{"a":%s}' % (b"9" * 5_000)),
    "1e400": with_properties(b'{"a":1e400}'),
    "1e131071": with_properties(b'{"a":1e131071}'),
    "deep": with_properties(b'{"a":' * 16 + b"1" + b"}" * 16),
    "deeper than a parser goes": with_properties(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "long name": with_properties(b'{"%s":1}' % (b"n" * 201)),
    "byte order mark": b"\xef\xbb\xbf" + record(),
    "UTF-16": record().decode().encode("utf-16"),
}

FIT: dict[str, bytes] = {
    "usual": record(),
    "−0": with_properties(b'{"a":-0}'),
    "2^63 - 1": with_properties(b'{"a":9223372036854775807}'),
    "emoji in halves": with_properties(rb'{"a":"\ud83d\ude00"}'),
    "one name twice": with_properties(b'{"a":1,"a":2}'),
    "time of receipt in 1970": record(occurred_at="1970-01-01T00:00:00Z", received_at="1970-01-01T00:00:00Z"),
    "corrected by a clock that was never set": record(sent_at="1970-01-01T00:00:00Z"),
    "members of a later version": record(later=1),
    "escaped quotation marks": with_properties(rb'{"a":"\""}'),
}
