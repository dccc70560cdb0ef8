"""A clock that is clearly wrong is put right by what it said at sending, whichever try comes first."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.ingest.accept import Accepted
from shared import codec
from shared.fitness import check_record
from shared.touchpoint import CLOCK_SKEW_MIN, Touchpoint
from tests.support.accepting import accept

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVENT: dict[str, Any] = {"type": "order_placed", "channel": "web", "identities": {"user_id": "u-1"}}
SECOND = timedelta(seconds=1)

near = st.timedeltas(-timedelta(hours=30), timedelta(hours=30)).map(NOW.__add__)
clocks = near | st.timedeltas(-timedelta(days=57 * 365), timedelta(days=174 * 365)).map(NOW.__add__)


def verdict(event: dict[str, Any], received_at: datetime = NOW, sent_at: datetime | None = None) -> Accepted:
    """What ingest makes of one event, whichever way it is read."""
    body = json.dumps(event, default=datetime.isoformat).encode()
    quick, thorough = (
        accept(body, "json", "shop", received_at, lambda: UUID(int=1), sent_at=sent_at, quick=quick)
        for quick in (True, False)
    )
    assert quick == thorough
    return quick


def taken(event: dict[str, Any], received_at: datetime = NOW, sent_at: datetime | None = None) -> Touchpoint:
    """The touchpoint of an event that is accepted, as the stager reads it."""
    (record,) = verdict(event, received_at, sent_at).records
    touchpoint = codec.decode(record.value)
    check_record(touchpoint, record.value)
    return touchpoint


@pytest.mark.parametrize(
    "behind", [timedelta(minutes=6), timedelta(days=-3), NOW - datetime(1970, 1, 1, tzinfo=UTC)]
)
def test_a_clock_that_is_clearly_wrong_is_put_right(behind: timedelta) -> None:
    """What happened an hour before it was sent happened an hour before it was received; all is kept."""
    clock = NOW - behind
    touchpoint = taken(EVENT | {"occurred_at": clock - 3_600 * SECOND, "sent_at": clock})

    assert touchpoint.occurred_at == NOW - 3_600 * SECOND
    assert (touchpoint.sent_at, touchpoint.received_at) == (clock, NOW)


@pytest.mark.parametrize("behind", [timedelta(), CLOCK_SKEW_MIN, -CLOCK_SKEW_MIN])
def test_what_may_be_the_time_on_the_way_corrects_nothing(behind: timedelta) -> None:
    """Up to five minutes the sender's time stands."""
    touchpoint = taken(EVENT | {"occurred_at": NOW - 3_600 * SECOND, "sent_at": NOW - behind})

    assert touchpoint.occurred_at == NOW - 3_600 * SECOND


def test_the_corrected_time_is_held_to_the_bounds() -> None:
    """A clock that was never set is no reason to refuse; a time far ahead of its own clock is one."""
    unset = datetime(1970, 1, 1, tzinfo=UTC)

    assert taken(EVENT | {"occurred_at": unset, "sent_at": unset + SECOND}).occurred_at == NOW - SECOND
    for ahead in (timedelta(hours=25), timedelta(days=365 * 7_000)):
        (refusal,) = verdict(EVENT | {"occurred_at": unset + ahead, "sent_at": unset}).refusals
        assert (refusal.code, refusal.pointer) == ("time_out_of_bounds", "/occurred_at")


def test_one_time_of_sending_serves_all_that_say_none() -> None:
    """What a touchpoint says itself goes before what its request says."""
    clock = NOW - timedelta(days=1)
    event = EVENT | {"occurred_at": clock}

    assert taken(event, sent_at=clock) == taken(event | {"sent_at": clock})
    assert taken(event | {"sent_at": NOW}, sent_at=clock) == taken(event | {"sent_at": NOW})


def test_without_a_time_of_its_own_a_touchpoint_has_the_time_of_receipt() -> None:
    """There is nothing to correct, so the time of sending is not kept."""
    touchpoint = taken(EVENT | {"sent_at": NOW - timedelta(days=1)})

    assert (touchpoint.occurred_at, touchpoint.sent_at) == (NOW, None)


@given(clocks, st.lists(st.tuples(st.none() | clocks, near), min_size=2, max_size=4))
@example(NOW, [(NOW - timedelta(days=1), NOW), (NOW, NOW + timedelta(days=1))])
@example(NOW, [(NOW, NOW), (NOW + timedelta(hours=1), NOW + timedelta(hours=1))])
def test_every_try_is_the_same_touchpoint(
    said: datetime, tries: list[tuple[datetime | None, datetime]]
) -> None:
    """Whenever a try is sent and received: what passes ingest passes the stager, with the same derived id
    and the same digest of its body as every other try, and a corrected time that lies as long before the
    receipt as the sender's lay before the sending."""
    found = []
    for sent_at, received_at in tries:
        outcome = verdict(EVENT | {"occurred_at": said, "sent_at": sent_at}, received_at)
        for record in outcome.records:
            touchpoint = codec.decode(record.value)
            check_record(touchpoint, record.value)
            if sent_at is None or abs(received_at - sent_at) <= CLOCK_SKEW_MIN:
                assert touchpoint.occurred_at == said
            else:
                assert received_at - touchpoint.occurred_at == sent_at - said
            if touchpoint.sent_at is not None or said != received_at:
                found.append((touchpoint.id, codec.body_hash(touchpoint)))

    assert len(set(found)) <= 1
