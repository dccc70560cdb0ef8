"""Reads one touchpoint of a request the thorough way: sees everything and says where it stands.

The quick way (`msgspec`, straight into an `Event`) is only taken for bytes on which both agree, which a
property test holds them to.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from services.ingest import event
from services.ingest.event import Event
from shared.content import read_content
from shared.refusals import Refused, pointer
from shared.suspicion import may_nest_deep
from shared.touchpoint import CHANNELS, Owner

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()


def read_event(raw: bytes, *, is_clean: bool) -> Event:
    """The touchpoint that the bytes are. `is_clean` says that they are known not to be `suspicious`: then
    only their form is looked at.

    Raises:
        Malformed: they are not JSON.
        Refused: they are, and something in them can't be accepted.
    """
    if len(raw) > event.EVENT_BYTES_MAX:
        raise Refused("event_too_large")
    value = _read_clean(raw) if is_clean and not may_nest_deep(raw) else read_content(raw)
    _check_members(value)
    return _event(value, _MEMBERS.decode(raw))


def _read_clean(raw: bytes) -> dict[str, Any]:
    try:
        value = _ANY.decode(raw)
    except msgspec.DecodeError:
        return read_content(raw)
    if not isinstance(value, dict):
        raise Refused("not_an_object")
    return value


def _check_members(value: dict[str, Any]) -> None:
    """Refuse what has another form than a touchpoint's."""
    for name in value:
        if name not in event.MEMBERS:
            raise Refused("unknown_member", pointer(name))
    for name in event.REQUIRED_MEMBERS:
        if name not in value:
            raise Refused("missing_member", pointer(name), f"{name} is missing")
    for name in event.OBJECT_MEMBERS:
        _expect(value, name, dict, "an object")
    for name in ("id", "owner", "occurred_at", "sent_at"):
        _expect(value, name, str, "a text")
    _expect(value, "sentiment", (int, float), "a number")
    for name in ("type", "channel"):
        if not isinstance(value[name], str):
            raise Refused("wrong_type", pointer(name), f"{name} must be a text")
    _check_identities(value["identities"])


def _expect(value: dict[str, Any], name: str, kind: type | tuple[type, ...], words: str) -> None:
    """Refuse a member of another type; null counts as left out."""
    member = value.get(name)
    if member is None or (isinstance(member, kind) and not isinstance(member, bool)):
        return
    raise Refused("wrong_type", pointer(name), f"{name} must be {words}")


def _check_identities(value: Any) -> None:
    if not isinstance(value, dict):
        raise Refused("wrong_type", "/identities", "identities must be an object")
    for kind, given in value.items():
        texts = given if isinstance(given, list) else [given]
        if given is not None and not all(isinstance(text, str) for text in texts):
            raise Refused("wrong_type", pointer("identities", kind), "an identity is a text or several")


def _event(value: dict[str, Any], raws: dict[str, msgspec.Raw]) -> Event:
    if value["channel"] not in CHANNELS:
        raise Refused("unknown_value", "/channel", f"channel must be one of {', '.join(CHANNELS)}")
    objects = {name: raws[name] for name in event.OBJECT_MEMBERS if value.get(name) is not None}
    return Event(
        type=value["type"],
        channel=value["channel"],
        identities=value["identities"],
        id=value.get("id"),
        occurred_at=_time(value, "occurred_at"),
        owner=_owner(value.get("owner")),
        sentiment=None if value.get("sentiment") is None else float(value["sentiment"]),
        sent_at=_time(value, "sent_at"),
        **objects,
    )


def _owner(text: str | None) -> Owner | None:
    """The very object that the touchpoint has as its default: what is the default is not written."""
    for owner in event.OWNERS:
        if owner == text:
            return owner
    if text is not None:
        raise Refused("unknown_value", "/owner", f"owner must be one of {', '.join(event.OWNERS)}")
    return None


def _time(value: dict[str, Any], name: str) -> datetime | None:
    text = value.get(name)
    if text is None:
        return None
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise Refused("invalid_time", pointer(name)) from None
    if moment.tzinfo is None:
        raise Refused("invalid_time", pointer(name))
    return moment
