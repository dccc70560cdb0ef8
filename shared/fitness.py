"""Which touchpoints are fit to be kept. Ingest holds senders to it, and the stager holds the log to it.

Whoever can write to the log isn't ingest for that. So a record is looked at again before it is stored, by
the same rules, which depend on the record alone: a replay gives each the same fate.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from shared.content import NAME_CHARACTERS_MAX, read_content
from shared.refusals import Refused, pointer
from shared.suspicion import may_nest_deep, suspicious
from shared.touchpoint import (
    EMPTY_OBJECT,
    IDENTITY_VALUE_BYTES_MAX,
    Touchpoint,
    identifies_person,
    is_identity_kind,
)

IDENTITIES_MAX = 50
"""Bounds the record: every value is repeated with its kind there."""
OCCURRED_AT_MIN = datetime(1990, 1, 1, tzinfo=UTC)
OCCURRED_AT_AHEAD_MAX = timedelta(hours=24)

_CLOCK_MIN = datetime(1970, 1, 1, tzinfo=UTC)
"""Where a clock begins that was never set."""
_CLOCK_MAX = datetime(2200, 1, 1, tzinfo=UTC)
"""Leaves room after it for every clock of a journey."""
_SNAKE_CASE = re.compile(r"[a-z][a-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_OPENING_BRACE = ord("{")


def check_type(type_: str) -> None:
    """Refuse a type that is no snake_case name.

    Raises:
        Refused: as every function here, with the place.
    """
    if len(type_) > NAME_CHARACTERS_MAX:
        raise Refused("name_too_long", "/type")
    if not _is_snake_case(type_):
        raise Refused("invalid_name", "/type")


@lru_cache(maxsize=1_000)
def _is_snake_case(name: str) -> bool:
    return _SNAKE_CASE.fullmatch(name) is not None


def check_id(id_: str) -> None:
    """Refuse an id that is empty, long or holds what can't be seen."""
    if not id_:
        raise Refused("invalid_id", "/id")
    if len(id_) > NAME_CHARACTERS_MAX:
        raise Refused("name_too_long", "/id")
    if has_control(id_):
        raise Refused("control_character", "/id")


def check_occurred_at(occurred_at: datetime, received_at: datetime) -> None:
    """Refuse a time that lies long ago or, seen from when it was received, far ahead."""
    if not OCCURRED_AT_MIN <= occurred_at <= received_at + OCCURRED_AT_AHEAD_MAX:
        raise Refused("time_out_of_bounds", "/occurred_at")


def check_sent_at(sent_at: datetime) -> None:
    """Refuse a time of sending that no clock shows, however wrong it is."""
    if not _CLOCK_MIN <= sent_at < _CLOCK_MAX:
        raise Refused("time_out_of_bounds", "/sent_at")


def check_sentiment(sentiment: float | None) -> None:
    """Refuse a sentiment beyond its scale."""
    if sentiment is not None and not -1 <= sentiment <= 1:
        raise Refused("sentiment_out_of_range", "/sentiment")


def has_control(text: str) -> bool:
    """Whether a text holds a control character."""
    return not text.isprintable() and _CONTROL.search(text) is not None


def are_objects(*members: msgspec.Raw) -> bool:
    """Whether every member that is still its bytes is an object."""
    for one in members:  # noqa: SIM110 - twice as fast as `all` over a generator, and run for every record
        if one is not EMPTY_OBJECT and memoryview(one)[0] != _OPENING_BRACE:
            return False
    return True


def check_record(touchpoint: Touchpoint, value: bytes, *, clean: bool = False) -> None:
    """Refuse a record of the log that ingest would not have written. `clean` says that its bytes are known
    not to be `suspicious`.

    Raises:
        Malformed: it is not JSON, seen closely.
        Refused: something in it can't be kept.
    """
    if may_nest_deep(value) or not (clean or not suspicious(value)):
        read_content(value)
    if not are_objects(touchpoint.properties, touchpoint.traits, touchpoint.context, touchpoint.consent):
        raise Refused("wrong_type")
    check_id(touchpoint.id)
    check_type(touchpoint.type)
    check_sentiment(touchpoint.sentiment)
    _check_times(touchpoint)
    _check_identities(touchpoint.identities)
    if "\0" in touchpoint.source:
        raise Refused("nul_character", "/source")


def _check_times(touchpoint: Touchpoint) -> None:
    if not _CLOCK_MIN <= touchpoint.received_at < _CLOCK_MAX:
        raise Refused("time_out_of_bounds", "/received_at")
    if touchpoint.sent_at is not None:
        check_sent_at(touchpoint.sent_at)
    # Where the sender gave none it is the time of receipt, whatever ingest's clock said.
    if touchpoint.sent_at is not None or touchpoint.occurred_at != touchpoint.received_at:
        check_occurred_at(touchpoint.occurred_at, touchpoint.received_at)


def _check_identities(identities: tuple[str, ...]) -> None:
    if len(identities) > IDENTITIES_MAX:
        raise Refused("too_many_identities", "/identities")
    says_who = False
    for place, identity in enumerate(identities):
        kind, _, value = identity.partition(":")
        if not is_identity_kind(kind):
            raise Refused("invalid_identity_kind", pointer("identities", place))
        if not value or len(value.encode()) > IDENTITY_VALUE_BYTES_MAX:
            raise Refused("invalid_identity", pointer("identities", place))
        if has_control(identity):
            raise Refused("control_character", pointer("identities", place))
        says_who = says_who or identifies_person(identity)
    if not says_who:
        raise Refused("no_identity", "/identities")
