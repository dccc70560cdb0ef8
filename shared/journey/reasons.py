"""Why a rule has not moved a customer: exact reasons as data, each with a sentence.

Every reason has a `code` that is stable, fields that say what is missing, and `says`, the same in English.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

from shared.journey.rules import Operator, Scalar, Source
from shared.journey.state import Kind
from shared.journey.touch import Value

Tested: TypeAlias = Source | Literal["channel", "owner"]


class TouchRef(msgspec.Struct, frozen=True):
    """A touchpoint, as much of it as names it."""

    id: UUID
    at: datetime
    type: str
    channel: str


class TooFew(msgspec.Struct, frozen=True, kw_only=True, tag_field="code", tag="count"):
    """There are `have` of the `need` touchpoints, or days with one, and it takes `more`, of which the last is
    the one that makes the rule hold. `counted_until` is the last instant at which the oldest of them still
    counts."""

    says: str
    what: str
    have: int
    need: int
    more: int
    unit: Literal["touchpoints", "days"]
    within: str | None
    in_stage: bool
    counted_until: datetime | None


class OtherValue(msgspec.Struct, frozen=True, kw_only=True, tag_field="code", tag="value"):
    """A value is another one than the rule asks for: what `touchpoint` carries, the latest that came near, or
    what is known of the customer (a trait). `value` is absent where it was not read."""

    says: str
    source: Tested
    name: str
    operator: Operator
    operands: Sequence[Scalar]
    value: Value | msgspec.UnsetType = msgspec.UNSET
    touchpoint: TouchRef | None = None


class Passed(msgspec.Struct, frozen=True, kw_only=True, tag_field="code", tag="passed"):
    """`touchpoint` was what the rule asks for, and something stood in the way: it has to happen again."""

    says: str
    touchpoint: TouchRef


class Awaited(msgspec.Struct, frozen=True, kw_only=True, tag_field="code", tag="awaited"):
    """What has to have been met has been: one more touchpoint of these has to come."""

    says: str
    what: str


class Forbidden(msgspec.Struct, frozen=True, kw_only=True, tag_field="code", tag="forbidden"):
    """What must not have been has been. `until` is the last instant at which that is so if nothing happens in
    between; null: time alone doesn't end it."""

    says: str
    what: str
    until: datetime | None


class TooSoon(msgspec.Struct, frozen=True, kw_only=True, tag_field="code", tag="too_soon"):
    """It has to lie longer back: `first_at` is when it happened first (null: never), `holds_from` when it
    lies long enough back."""

    says: str
    what: str
    first_at: datetime | None
    holds_from: datetime | None


class NoWay(msgspec.Struct, frozen=True, kw_only=True, tag_field="code", tag="any"):
    """None of the alternatives holds: each with its own reasons."""

    says: str
    ways: Sequence[Alternative]


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """One of several ways in which a rule could hold."""

    rule: str
    progress: float
    reasons: Sequence[Reason]


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True, tag_field="code", tag="from"):
    """The rule starts from other places than the one where the customer is."""

    says: str
    places: Sequence[str]


class Blocked(msgspec.Struct, frozen=True, kw_only=True, tag_field="code", tag="blocked"):
    """An open interruption or detour blocks the stage."""

    says: str
    overlay: str
    since: datetime


class Stands(msgspec.Struct, frozen=True, kw_only=True, tag_field="code", tag="stands"):
    """What the rule would open or turn on is so already, since then."""

    says: str
    since: datetime


class NotForThem(msgspec.Struct, frozen=True, kw_only=True, tag_field="code", tag="audience"):
    """The journey begins only for others: `personas` that the customer's isn't among, or the `reasons` why
    they are not whom it is for."""

    says: str
    persona: str | None
    personas: Sequence[str]
    reasons: Sequence[Reason]


Reason: TypeAlias = (
    TooFew
    | OtherValue
    | Passed
    | Awaited
    | Forbidden
    | TooSoon
    | NoWay
    | Elsewhere
    | Blocked
    | Stands
    | NotForThem
)
BesideKind: TypeAlias = Literal["substage", "open", "close", "signal_on", "signal_off"]


class NearRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that could move the customer from where they are, and why it hasn't.

    `rank` is the order in which rules win where several hold at one touchpoint, from 0. `progress`, from 0 to
    1, is how much of what the rule asks for is there; what stands in its way is no part of it.
    """

    change: Kind
    to: str
    rule: str
    says: str
    rank: int
    progress: float
    reasons: Sequence[Reason]


class NearBeside(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that could change what stands beside the stage, the substage, overlay or signal `about`, and why
    it hasn't. Such rules don't compete. `progress` is as for the rules that move the customer."""

    change: BesideKind
    about: str
    rule: str
    says: str
    progress: float
    reasons: Sequence[Reason]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What time alone changes in what a rule has seen, while the customer stays: the oldest of those that it
    counts does so until `at` and no longer (`ends`), or what had to lie far enough back does (`ripens`)."""

    kind: Literal["ends", "ripens"]
    at: datetime
    rule: str
    says: str
