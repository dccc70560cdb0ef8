"""From a request's body to touchpoints and refusals: a pure function of the bytes, the source and now.

Two ways lead from bytes to an `Event`. The quick one is msgspec alone and taken for bytes that hold
nothing suspicious; the thorough one looks at everything and is the only one that refuses, so that every
refusal says where. What follows is the same for both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

from services.ingest.event import EVENT_BYTES_MAX, Event
from services.ingest.frames import Framing, frames
from services.ingest.thorough import read_event
from shared import codec
from shared.content import Malformed
from shared.eventlog.port import NewRecord
from shared.fitness import (
    IDENTITIES_MAX,
    are_objects,
    check_id,
    check_occurred_at,
    check_sent_at,
    check_sentiment,
    check_type,
    has_control,
)
from shared.ids import NewId
from shared.refusals import Refusal, Refused, pointer
from shared.suspicion import may_nest_deep, suspicious
from shared.touchpoint import (
    Touchpoint,
    clock_skew,
    identifies_person,
    is_identity_kind,
    normalise_identity,
    said_occurred_at,
    strongest_first,
)

_EVENT = msgspec.json.Decoder(Event)


@dataclass(slots=True)
class Accepted:
    """What a request's touchpoints came to.

    `records` go to the event log, and `indexes` are their places in the request; `duplicates` counts ids
    that an earlier touchpoint of the request has.
    """

    records: list[NewRecord] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    duplicates: int = 0
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def received(self) -> int:
        """How many touchpoints the request has."""
        return len(self.records) + self.duplicates + len(self.refusals)


def accept(
    body: bytes,
    framing: Framing,
    source: str,
    now: datetime,
    new_id: NewId,
    *,
    sent_at: datetime | None = None,
    quick: bool = True,
) -> Accepted:
    """The touchpoints of a body as records of the event log, and what is refused of it.

    `sent_at` is when the request was sent by the sender's clock, for touchpoints that don't say it
    themselves. With `quick=False` every touchpoint is read the thorough way; the answer is the same.

    Raises:
        Malformed: the body is not JSON. A line of NDJSON that is not is only refused.
        TooMuch: the body has too many touchpoints or brackets.
    """
    accepted = Accepted()
    seen: set[str] = set()
    items = frames(body, framing)
    clean = quick and not suspicious(body)
    for index, raw in enumerate(items):
        try:
            is_clean = clean or (quick and len(items) > 1 and not suspicious(raw))
            event = (_read_quickly(raw) if is_clean else None) or read_event(raw)
            touchpoint = _touchpoint(event, sent_at, source, now, new_id)
            key = _key(touchpoint)
        except Refused as refused:
            accepted.refusals.append(refused.at(index))
            continue
        except Malformed as error:
            if framing == "json":
                raise
            accepted.refusals.append(Refusal(index, "malformed_json", f"the line is not JSON: {error}", ""))
            continue
        if touchpoint.id in seen:
            accepted.duplicates += 1
            continue
        seen.add(touchpoint.id)
        accepted.records.append(NewRecord(key, codec.encode(touchpoint)))
        accepted.indexes.append(index)
    return accepted


def _read_quickly(raw: bytes) -> Event | None:
    """The touchpoint of bytes that hold nothing suspicious, or None if they need a closer look."""
    if len(raw) > EVENT_BYTES_MAX or may_nest_deep(raw):
        return None
    try:
        event = _EVENT.decode(raw)
    except msgspec.DecodeError:
        return None
    return event if are_objects(event.properties, event.traits, event.context, event.consent) else None


def _touchpoint(
    event: Event, sent_at: datetime | None, source: str, now: datetime, new_id: NewId
) -> Touchpoint:
    check_type(event.type)
    check_sentiment(event.sentiment)
    if event.sent_at is not None:
        sent_at = event.sent_at
    if sent_at is not None:
        check_sent_at(sent_at)
        # One that has our time needs no correction.
        sent_at = None if event.occurred_at is None else _in_utc(sent_at)
    touchpoint = Touchpoint(
        id=_checked_id(event.id),
        type=event.type,
        channel=event.channel,
        occurred_at=_occurred_at(event.occurred_at, sent_at, now),
        received_at=now,
        source=source,
        identities=_identities(event.identities),
        properties=event.properties,
        traits=event.traits,
        context=event.context,
        owner=event.owner or "own",
        sentiment=event.sentiment,
        consent=event.consent,
        sent_at=sent_at,
    )
    if event.id is not None:
        return touchpoint
    id_ = str(new_id()) if event.occurred_at is None else _content_id(touchpoint)
    return msgspec.structs.replace(touchpoint, id=id_)


def _checked_id(id_: str | None) -> str:
    """The sender's id, or an empty text for one that is still to be made."""
    if id_ is None:
        return ""
    check_id(id_)
    return id_


def _occurred_at(given: datetime | None, sent_at: datetime | None, now: datetime) -> datetime:
    if given is None:
        return now
    if sent_at is not None:
        try:
            given += clock_skew(sent_at, now)
        except OverflowError:
            raise Refused("time_out_of_bounds", "/occurred_at") from None
    check_occurred_at(given, now)
    return _in_utc(given)


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def _identities(given: dict[str, str | list[str] | None]) -> tuple[str, ...]:
    found: list[str] = []
    for kind, values in given.items():
        if not is_identity_kind(kind):
            raise Refused("invalid_identity_kind", pointer("identities", kind))
        if isinstance(values, str):
            found.append(_identity(kind, values))
        elif values is not None:
            found += [_identity(kind, value, at) for at, value in enumerate(values[: IDENTITIES_MAX + 1])]
    if len(found) > IDENTITIES_MAX:
        raise Refused("too_many_identities", "/identities")
    return (found[0],) if len(found) == 1 else strongest_first(found)


def _identity(kind: str, value: str, *at: int) -> str:
    try:
        identity = normalise_identity(kind, value)
    except ValueError as error:
        raise Refused("invalid_identity", pointer("identities", kind, *at), f"an identity {error}") from None
    if has_control(identity):
        raise Refused("control_character", pointer("identities", kind, *at))
    return identity


def _content_id(touchpoint: Touchpoint) -> str:
    """An id made of what was sent, and by whom: sent again, the touchpoint has it again."""
    said = said_occurred_at(touchpoint) or touchpoint.occurred_at
    content = msgspec.structs.replace(touchpoint, occurred_at=said, received_at=said, sent_at=None)
    return f"content-{blake2b(codec.encode(content), digest_size=16).hexdigest()}"


def _key(touchpoint: Touchpoint) -> bytes:
    """The strongest identity that says who: a customer's touchpoints come to one partition, mostly."""
    for identity in touchpoint.identities:
        if identifies_person(identity):
            return identity.encode()
    raise Refused("no_identity", "/identities")
