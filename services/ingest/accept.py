"""From a request's body to touchpoints and refusals: a pure function of the bytes, the source and now.

Two ways lead from bytes to an `Event`. The quick one is msgspec alone and taken for bytes that hold
nothing suspicious; the thorough one looks at everything and is the only one that refuses, so that every
refusal says where. What follows is the same for both.

A large body takes its time, and others would wait for it. So it can be done in steps, of a few milliseconds
at most whatever it holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

from services.ingest.apart import take_apart
from services.ingest.event import EVENT_BYTES_MAX, Event
from services.ingest.frames import Framing, check_brackets, frames
from services.ingest.steps import PIECE_BYTES, Steps
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
from shared.identities import canonical, trimmed
from shared.ids import NewId
from shared.refusals import Refusal, Refused, pointer
from shared.suspicion import may_nest_deep, suspicious
from shared.touchpoint import (
    IDENTITY_KINDS,
    Touchpoint,
    clock_skew,
    identifies_person,
    is_identity_kind,
    said_occurred_at,
    strongest_first,
)
from shared.worthless import NOTHING, WORTHLESS, Worthless

PHONES_MAX = 10
"""Bounds, as the next one does, the time that a request takes: a new number costs as much as four
touchpoints."""
INTERNATIONAL_EMAILS_MAX = 3
"""The domain of an address beyond ASCII may cost as much as 40 touchpoints."""

_QUICK_A_STEP = 16
"""Each may have `INTERNATIONAL_EMAILS_MAX`."""
_SCREENED_BYTES_MAX = 256 * 1024
"""A larger body is screened touchpoint by touchpoint. Those of a usual batch are small, and cost less
together."""
_EVENT = msgspec.json.Decoder(Event)


@dataclass(slots=True)
class Accepted:
    """What a request's touchpoints came to.

    `records` go to the event log, and `indexes` are their places in the request; `duplicates` counts ids
    that an earlier touchpoint of the request has. `worthless` has the kind of each identity that stands for
    nobody and was left out. `unrepeatable` counts records whose id is of this try alone: sent again, they
    are others.
    """

    records: list[NewRecord] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    duplicates: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    worthless: list[str] = field(default_factory=list)
    unrepeatable: int = 0

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
    request_key: bytes | None = None,
    region: str | None = None,
    worthless: Worthless = WORTHLESS,
    quick: bool = True,
) -> Steps[Accepted]:
    """The touchpoints of a body as records of the event log, and what is refused of it.

    `sent_at` is when the request was sent by the sender's clock, for touchpoints that don't say it
    themselves. A touchpoint without an id gets one from the `request_key` and its place in the request; if
    there is none, from its content, which must have a time then. A phone number without a country code is of
    the `region`. Identities that are `worthless` are left out. With `quick=False` every touchpoint is read
    the thorough way; the answer is the same.

    Raises:
        Malformed: the body is not JSON. A line of NDJSON that is not is only refused.
        TooMuch: the body has too many touchpoints or brackets.
    """
    accepted = Accepted()
    seen: set[str] = set()
    if len(body) > PIECE_BYTES:
        check_brackets(body)
        yield
    items = frames(body, framing)
    if items is None:
        items = yield from take_apart(body)
    clean = quick and len(body) <= _SCREENED_BYTES_MAX and not suspicious(body)
    for index, raw in enumerate(items):
        if index % _QUICK_A_STEP == _QUICK_A_STEP - 1:
            yield
        try:
            is_clean = clean or (
                quick and len(items) > 1 and len(raw) <= EVENT_BYTES_MAX and not suspicious(raw)
            )
            event = _read_quickly(raw) if is_clean else None
            if event is None:
                yield
                event = read_event(raw, is_clean=is_clean)
            identities = _identities(event.identities, region, worthless, accepted.worthless)
            touchpoint = _touchpoint(event, identities, sent_at, source, now)
            key = _key(identities)
            if key is None:
                raise Refused(_why_nobody(event.identities), "/identities")
            if event.id is None:
                id_ = _id_without(touchpoint, event, request_key, index)
                accepted.unrepeatable += id_ is None
                touchpoint = msgspec.structs.replace(touchpoint, id=id_ or str(new_id()))
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
    event: Event,
    identities: tuple[str, ...],
    sent_at: datetime | None,
    source: str,
    now: datetime,
) -> Touchpoint:
    """The touchpoint, whose id is empty where none is given."""
    check_type(event.type)
    if event.sentiment is not None:
        check_sentiment(event.sentiment)
    if event.id is not None:
        check_id(event.id)
    if event.sent_at is not None:
        sent_at = event.sent_at
    if sent_at is not None:
        check_sent_at(sent_at)
        # One that has our time needs no correction.
        sent_at = None if event.occurred_at is None else _in_utc(sent_at)
    return Touchpoint(
        id=event.id or "",
        type=event.type,
        channel=event.channel,
        occurred_at=_occurred_at(event.occurred_at, sent_at, now),
        received_at=now,
        source=source,
        identities=identities,
        properties=event.properties,
        traits=event.traits,
        context=event.context,
        owner=event.owner or "own",
        sentiment=event.sentiment,
        consent=event.consent,
        sent_at=sent_at,
    )


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


def _identities(
    given: dict[str, str | list[str] | None], region: str | None, worthless: Worthless, left_out: list[str]
) -> tuple[str, ...]:
    """What says who it was; the kinds of worthless ones join `left_out`."""
    found: list[str] = []
    for kind, values in given.items():
        if kind not in IDENTITY_KINDS and not is_identity_kind(kind):
            raise Refused("invalid_identity_kind", pointer("identities", kind))
        if isinstance(values, str):
            identity = _identity(kind, values, region, worthless)
            found.append(identity) if identity else left_out.append(kind)
        elif values is not None:
            _check_number(kind, values)
            for at, value in enumerate(values):
                identity = _identity(kind, value, region, worthless, at)
                found.append(identity) if identity else left_out.append(kind)
    if len(found) > IDENTITIES_MAX:
        raise Refused("too_many_identities", "/identities")
    return (found[0],) if len(found) == 1 else strongest_first(found)


def _check_number(kind: str, values: list[str]) -> None:
    """Refuse more values of a kind than there is time for."""
    if len(values) > IDENTITIES_MAX:
        raise Refused("too_many_identities", "/identities")
    if kind == "phone" and len(values) > PHONES_MAX:
        detail = f"a touchpoint has more than {PHONES_MAX} phone numbers"
        raise Refused("too_many_identities", pointer("identities", kind), detail)
    if kind == "email" and sum(not value.isascii() for value in values) > INTERNATIONAL_EMAILS_MAX:
        detail = f"a touchpoint has more than {INTERNATIONAL_EMAILS_MAX} e-mail addresses beyond ASCII"
        raise Refused("too_many_identities", pointer("identities", kind), detail)


def _identity(kind: str, value: str, region: str | None, worthless: Worthless, *at: int) -> str | None:
    """The canonical identity, or None for one that stands for nobody."""
    text = value.strip() if value.isascii() else trimmed(value)
    if text.lower() in worthless.values or not text.strip(NOTHING):
        return None
    try:
        identity = canonical(kind, text, region)
    except ValueError as error:
        raise Refused("invalid_identity", pointer("identities", kind, *at), f"an identity {error}") from None
    if not identity.isprintable() and has_control(identity):
        raise Refused("control_character", pointer("identities", kind, *at))
    return None if worthless.identities and identity in worthless.identities else identity


def _why_nobody(given: dict[str, str | list[str] | None]) -> str:
    """The code for identities of which none that says who is left."""
    is_given = any(kind != "account_id" and values not in (None, []) for kind, values in given.items())
    return "worthless_identity" if is_given else "no_identity"


def _id_without(touchpoint: Touchpoint, event: Event, request_key: bytes | None, index: int) -> str | None:
    """An id that a touchpoint without one has again when it is sent again; None: there is nothing to make it
    of."""
    if request_key is not None:
        return f"request-{blake2b(request_key, digest_size=16).hexdigest()}-{index}"
    return None if event.occurred_at is None else _content_id(touchpoint)


def _content_id(touchpoint: Touchpoint) -> str:
    """An id made of what was sent, and by whom: sent again, the touchpoint has it again."""
    said = said_occurred_at(touchpoint) or touchpoint.occurred_at
    content = msgspec.structs.replace(touchpoint, occurred_at=said, received_at=said, sent_at=None)
    return f"content-{blake2b(codec.encode(content), digest_size=16).hexdigest()}"


def _key(identities: tuple[str, ...]) -> bytes | None:
    """The strongest identity that says who: a customer's touchpoints come to one partition, mostly. None: an
    account at most is left."""
    for identity in identities:
        if identifies_person(identity):
            return identity.encode()
    return None
