"""What the oracle sends: every request is a pure function of the seed and its number.

So the ledger notes numbers alone, and the judge knows every event that was ever sent: among them events that
are sent again, other bodies under a known id, late ones, equal instants in different offsets, and times that
no door may take. Some customers are set apart to be erased, the mortals: no word on a link is about them, and
their names can be told from all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from hashlib import blake2b
from typing import Any

import msgspec

SOURCES = ("shop", "till", "desk")
PROBE_SOURCE = "probe"
RETURN_SOURCE = SOURCES[0]
MORTAL_NAME = r"mortal-\d+(?:@people\.example)?|\+459\d{7}"
"""A regular expression for what a mortal's identities have as values, and nobody else's."""
_TYPES = ("order_completed", "product_viewed", "call_ended", "page_viewed", "offer_declined", "gym_visited")
_CHANNELS = ("web", "store", "phone", "app")
_BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
_STEP = timedelta(minutes=20)
_LATE_MINUTES_MAX = 60 * 24 * 12
_NEW_CUSTOMERS = 6
_CUSTOMERS_AT_ONCE = 500
_MORTALS_OF = 20
_COLLEAGUES = 5
_IMPOSSIBLE = ("1969-12-31T23:59:59Z", "9999-01-01T00:00:00Z", "2024-03-31T23:59:60Z")
_FAT = "x" * 12_000


class Face(msgspec.Struct, frozen=True, array_like=True):
    """All that a sender said of an event and that must come back, and nothing that ingest added."""

    source: str
    id: str
    type: str
    channel: str
    micros: int
    identities: tuple[str, ...]
    properties: bytes

    def digest(self) -> int:
        """64 bits that stand for it."""
        return int.from_bytes(blake2b(msgspec.msgpack.encode(self), digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class Event:
    """One event as JSON, and its face; None: no door may take it."""

    id: str
    json: dict[str, Any]
    face: Face | None


@dataclass(frozen=True, slots=True)
class Request:
    """One request: whose key it carries, and its events."""

    number: int
    source: str
    events: Sequence[Event]

    def body(self) -> bytes:
        """What is posted."""
        return msgspec.json.encode([event.json for event in self.events])


class Traffic:
    """The requests of one seed. Every fourth is a single event, the others are batches of `batch`."""

    def __init__(self, seed: int, batch: int = 250) -> None:
        self._seed = seed
        self._batch = batch

    def request(self, number: int) -> Request:
        """The request of a number."""
        return Request(number, SOURCES[number % len(SOURCES)], list(self._events(number)))

    def size(self, number: int) -> int:
        """How many events of its own a request has."""
        return 1 if number % 4 == 0 else self._batch

    def _events(self, number: int) -> Iterator[Event]:
        for index in range(self.size(number)):
            yield self.event(number, index)
            bits = self._bits("again", number, index)
            if bits % 50 == 0 and number >= len(SOURCES):
                yield self._again(number, bits >> 8)

    def _again(self, number: int, bits: int) -> Event:
        """An event of an earlier request of the same source, one time in three with another body."""
        back = 1 + bits % min(40, number // len(SOURCES))
        earlier = number - len(SOURCES) * back
        return self.event(earlier, (bits >> 8) % self.size(earlier), variant=int((bits >> 20) % 3 == 0))

    def event(self, number: int, index: int, variant: int = 0) -> Event:
        """One event; a variant is another body under the same id."""
        bits = self._bits("event", number, index)
        source, id_ = SOURCES[number % len(SOURCES)], f"{number // len(SOURCES)}-{index}"
        identities = _identities(self._customer(number, bits), bits >> 10, bits >> 30)
        at = _occurred_at(number, bits >> 20)
        properties: dict[str, Any] = {"n": bits % 1_000_003, "variant": variant}
        if (bits >> 48) % 300 == 0:
            properties["pad"] = _FAT
        json = {
            "id": id_,
            "type": _TYPES[(bits >> 44) % len(_TYPES)],
            "channel": _CHANNELS[(bits >> 50) % len(_CHANNELS)],
            "occurred_at": at.isoformat(),
            "identities": identities,
            "properties": properties,
        }
        if (bits >> 54) % 500 == 0:
            return Event(id_, {**json, "occurred_at": _IMPOSSIBLE[bits % 3]}, None)
        return Event(id_, json, face_of(source, json, at))

    def customer(self, number: int, index: int) -> int:
        """Whose one event is."""
        return self._customer(number, self._bits("event", number, index))

    def _customer(self, number: int, bits: int) -> int:
        return number * _NEW_CUSTOMERS + bits % _CUSTOMERS_AT_ONCE

    def _bits(self, *what: object) -> int:
        text = "/".join(map(str, (self._seed, *what)))
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def probe_event(number: int) -> Event:
    """A fresh event, by which the oracle sees whether everything works again."""
    id_ = f"probe-{number}"
    json: dict[str, Any] = {
        "id": id_,
        "type": "order_completed",
        "channel": "web",
        "occurred_at": (_BEGIN + number * _STEP).isoformat(),
        "identities": {"user_id": f"probe-{number}"},
        "properties": {"n": number},
    }
    return Event(id_, json, face_of(PROBE_SOURCE, json, _BEGIN + number * _STEP))


def return_event(name: str, micros: int) -> Event:
    """What happened after an erasure, to somebody new who has one of the names."""
    kind, _, value = name.partition(":")
    at = _BEGIN + timedelta(microseconds=micros)
    json: dict[str, Any] = {
        "id": f"return-{micros}",
        "type": "order_completed",
        "channel": "web",
        "occurred_at": at.isoformat(),
        "identities": {kind: value},
        "properties": {"n": micros % 1_000},
    }
    return Event(json["id"], json, face_of(RETURN_SOURCE, json, at))


def face_of(source: str, json: dict[str, Any], at: datetime) -> Face:
    """The face of an event as it is sent."""
    identities = tuple(sorted(f"{kind}:{value}" for kind, value in json["identities"].items()))
    properties = msgspec.json.encode(json["properties"])
    return Face(source, json["id"], json["type"], json["channel"], micros_of(at), identities, properties)


class _Stored(msgspec.Struct):
    source: str
    id: str
    type: str
    channel: str
    occurred_at: datetime
    identities: tuple[str, ...]
    properties: msgspec.Raw = msgspec.Raw(b"{}")


_decode = msgspec.json.Decoder(_Stored).decode


def face_in(record: bytes) -> Face | None:
    """The face in a record of the event log or the store; None: it is no touchpoint."""
    try:
        stored = _decode(record)
        micros = micros_of(stored.occurred_at)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, TypeError):
        return None
    identities = tuple(sorted(stored.identities))
    return Face(
        stored.source, stored.id, stored.type, stored.channel, micros, identities, bytes(stored.properties)
    )


def micros_of(at: datetime) -> int:
    """Microseconds since the traffic's first event could happen."""
    return (at - _BEGIN) // timedelta(microseconds=1)


def _identities(customer: int, bits: int, more_bits: int) -> dict[str, str]:
    """Often one kind alone, so that a customer's events come by several partitions; often two, which link.
    Mortals act for accounts, too."""
    names = names_of(customer)
    chosen = (("user_id",), ("email",), ("user_id", "email"), ("email", "phone"), ("user_id", "phone"))[
        bits % 5
    ]
    identities = {kind: names[kind] for kind in chosen}
    if is_mortal(customer) and more_bits % 4 == 0:
        identities["account_id"] = f"firm-{customer // _MORTALS_OF // _COLLEAGUES}"
    return identities


def is_mortal(customer: int) -> bool:
    """Whether a customer is set apart to be erased."""
    return customer % _MORTALS_OF == 0


def mortal_before(customer: int) -> int:
    """The mortal who is this customer, or comes next before."""
    return customer - customer % _MORTALS_OF


def names_of(customer: int) -> dict[str, str]:
    """All that a customer is known by, the strongest first."""
    if is_mortal(customer):
        return {
            "user_id": f"mortal-{customer}",
            "email": f"mortal-{customer}@people.example",
            "phone": f"+45{90_000_000 + customer}",
        }
    return {
        "user_id": f"u{customer}",
        "email": f"e{customer}@people.example",
        "phone": f"+45{10_000_000 + customer}",
    }


def _occurred_at(number: int, bits: int) -> datetime:
    """Mostly a little after the earlier requests; sometimes days late, on a full hour, in another offset."""
    at = _BEGIN + number * _STEP + timedelta(seconds=bits % 1_200, microseconds=bits % 7 * 111_111)
    if (bits >> 11) % 12 == 0:
        at -= timedelta(minutes=(bits >> 4) % _LATE_MINUTES_MAX)
    if (bits >> 15) % 9 == 0:
        at = at.replace(minute=0, second=0, microsecond=0)
    return at.astimezone(timezone(timedelta(hours=(bits >> 18) % 3)))
