"""A touchpoint as it stands in a request, in Rejse's own dialect, and the limits of a request."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, get_args

import msgspec

from shared.touchpoint import EMPTY_OBJECT, Channel, Owner

EVENT_BYTES_MAX = 32 * 1024
EVENTS_MAX = 500
WIRE_BYTES_MAX = 1024 * 1024
INFLATED_BYTES_MAX = 4 * 1024 * 1024
BRACKETS_MAX = 200_000
"""Bounds the time that a request takes: each may begin a value that has to be looked at. A request of 500
usual touchpoints has a few thousand."""


class TooMuch(Exception):
    """A request has more in it than it may have."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def too_many_events() -> TooMuch:
    """The request has more touchpoints than one may have."""
    return TooMuch("too_many_events", f"a request has at most {EVENTS_MAX} touchpoints")


class Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A decoded touchpoint of a request. `properties`, `traits`, `context` and `consent` stay bytes."""

    type: str
    channel: Channel
    identities: dict[str, str | list[str] | None]
    id: str | None = None
    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    properties: msgspec.Raw = EMPTY_OBJECT
    traits: msgspec.Raw = EMPTY_OBJECT
    context: msgspec.Raw = EMPTY_OBJECT
    consent: msgspec.Raw = EMPTY_OBJECT
    owner: Owner | None = None
    sentiment: float | None = None
    sent_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


OWNERS: tuple[Owner, ...] = get_args(Owner)
OBJECT_MEMBERS = ("properties", "traits", "context", "consent")
REQUIRED_MEMBERS = ("type", "channel", "identities")
MEMBERS = frozenset(Event.__struct_fields__)
