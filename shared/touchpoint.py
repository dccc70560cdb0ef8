"""The touchpoint: one canonical record for whatever happened, however it came in.

A touchpoint's identities are `kind:value` strings, normalised once at the door and ordered from the
strongest to the weakest. Known kinds are listed in `IDENTITY_KINDS`; any other kind is the namespace of
an external system (`crm:4711`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, get_args

import msgspec

Channel = Literal[
    "web", "app", "store", "phone", "email", "chat", "social", "ads", "mail", "meeting", "partner"
]
CHANNELS: tuple[str, ...] = get_args(Channel)

Owner = Literal["own", "partner", "third_party"]
"""Whose contact point it was: the company's own, a partner's, or somebody else's (a review site)."""

IDENTITY_KINDS = frozenset(("user_id", "loyalty_id", "email", "phone", "account_id", "anonymous_id"))
"""The kinds that Rejse knows by name."""

_STRENGTH = {"user_id": 0, "loyalty_id": 1, "email": 2, "phone": 3, "anonymous_id": 9}
_EXTERNAL_STRENGTH = 4
_GROUP_PREFIXES = ("account_id:",)
_NAMESPACE = re.compile(r"[a-z][a-z0-9_]{0,31}")

IDENTITY_VALUE_BYTES_MAX = 200
CLOCK_SKEW_MIN = timedelta(minutes=5)
"""From here on a sender's clock is wrong; less may as well be the time that a request was on its way."""
_NO_SKEW = timedelta()
EMPTY_OBJECT = msgspec.Raw(b"{}")


class Touchpoint(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What ingest writes to the event log, as JSON, and the stager files under a customer.

    `id` is the sender's and unique per `source` for ever. `occurred_at` is event time and `received_at`
    the time ingest took it. `sent_at` is what the sender's clock said when it sent `occurred_at`, which is
    corrected by how wrong that clock is (`clock_skew`). All are in UTC. `properties`, `traits` and
    `context` stay the bytes that were sent. `sentiment` is −1 (bad) to 1 (good).
    """

    id: str
    type: str
    channel: Channel
    occurred_at: datetime
    received_at: datetime
    source: str
    identities: tuple[str, ...]
    properties: msgspec.Raw = EMPTY_OBJECT
    traits: msgspec.Raw = EMPTY_OBJECT
    context: msgspec.Raw = EMPTY_OBJECT
    owner: Owner = "own"
    sentiment: float | None = None
    consent: msgspec.Raw = EMPTY_OBJECT
    sent_at: datetime | None = None


def clock_skew(sent_at: datetime | None, received_at: datetime) -> timedelta:
    """How far a sender's clock is behind ours (negative: ahead); 0 where it is about right or unknown."""
    if sent_at is None:
        return _NO_SKEW
    skew = received_at - sent_at
    return skew if abs(skew) > CLOCK_SKEW_MIN else _NO_SKEW


def said_occurred_at(touchpoint: Touchpoint) -> datetime | None:
    """When it happened by the sender's own clock, which a retry repeats; None if the sender did not say."""
    if touchpoint.sent_at is not None:
        return touchpoint.occurred_at - clock_skew(touchpoint.sent_at, touchpoint.received_at)
    return None if touchpoint.occurred_at == touchpoint.received_at else touchpoint.occurred_at


def is_identity_kind(kind: str) -> bool:
    """Whether a kind is well formed: a known one, or a namespace of lower-case letters, digits and `_`."""
    return kind in IDENTITY_KINDS or _NAMESPACE.fullmatch(kind) is not None


def identity_kind(identity: str) -> str:
    """The kind of a `kind:value` identity."""
    return identity.partition(":")[0]


def identifies_person(identity: str) -> bool:
    """Whether an identity says who: an account groups customers, it is none."""
    return not identity.startswith(_GROUP_PREFIXES)


def strength(identity: str) -> tuple[int, str]:
    """A sort key: smaller is stronger; equal kinds are ordered by value, so that the order is total."""
    return (_STRENGTH.get(identity.partition(":")[0], _EXTERNAL_STRENGTH), identity)


def strongest_first(identities: Iterable[str]) -> tuple[str, ...]:
    """Identities without repetitions, the strongest first."""
    distinct = set(identities)
    return tuple(distinct) if len(distinct) < 2 else tuple(sorted(distinct, key=strength))
