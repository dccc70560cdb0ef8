"""Checkpoints on a real PostgreSQL: a refold that begins at one gives what a whole one gives, for less."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.stager.assign import CHECKPOINT_EVERY
from shared.codec import decode
from shared.journey.fold import Journey, fold
from shared.journey.language import parse
from shared.journey.state import NEVER, decode_state
from shared.journey.touch import Lens
from shared.store.engine import connection_of
from shared.store.ids import touchpoint_uid
from shared.touchpoint import Channel, Touchpoint
from tests.service.staging import Staging, staging
from tests.support.journeys import EPOCH, EVERYTHING

JOURNEY = Journey(parse(EVERYTHING, "everything.yaml"))
TYPES = ("order_completed", "product_viewed", "call_ended", "offer_declined")
LIVE = EPOCH + timedelta(days=200)
SOURCE = "till"
_numbers = count()

Wanted = tuple[bool, str, int, str, Channel]
"""Whether a checkpoint follows, whose, its day, type and channel."""

_batches: st.SearchStrategy[list[list[Wanted]]] = st.lists(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from(["a", "b"]),
            st.integers(0, 60),
            st.sampled_from(TYPES),
            st.sampled_from(get_args(Channel)[:4]),
        ),
        min_size=1,
        max_size=6,
    ),
    min_size=2,
    max_size=6,
)


@pytest.fixture
async def stager(database_url: str) -> AsyncIterator[Staging]:
    async with staging(database_url, [JOURNEY], EPOCH) as staging_:
        yield staging_


def touchpoint(
    who: str, at: datetime, type_: str, channel: Channel = "web", *, marked: bool = False
) -> Touchpoint:
    """A touchpoint; `marked`: a checkpoint follows it."""
    names = (f"{who}-{next(_numbers)}" for _ in count())
    id_ = next(one for one in names if not marked or not touchpoint_uid(SOURCE, one).int % CHECKPOINT_EVERY)
    return Touchpoint(
        id=id_,
        type=type_,
        channel=channel,
        occurred_at=at,
        received_at=LIVE,
        source=SOURCE,
        identities=(f"user_id:{who}",),
    )


async def wrong_checkpoints(stager: Staging) -> Sequence[str]:
    """The stored checkpoints that aren't the fold of the timeline up to there."""
    lens, found = Lens([JOURNEY.asks]), []
    async with connection_of(stager.pool) as connection:
        for row in await connection.fetch("SELECT customer_id, at, id, state FROM checkpoints"):
            touches = await connection.fetch(
                "SELECT id, body FROM touchpoints WHERE customer_id = $1 AND (occurred_at, id) <= ($2, $3) "
                "ORDER BY occurred_at, id",
                *row[:3],
            )
            timeline = [lens.touch(one["id"], decode(one["body"])) for one in touches]
            if fold(JOURNEY, timeline, NEVER)[0] != decode_state(row["state"]):
                found.append(str(row["id"]))
    return found


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=_batches)
async def test_beginning_at_a_checkpoint_gives_what_the_whole_timeline_gives(
    stager: Staging, batches: list[list[Wanted]]
) -> None:
    """Whatever comes late, and whatever time does between: states, histories and counts are the fold's, and
    so is every checkpoint that is left."""
    customer = next(_numbers)
    for number, batch in enumerate(batches):
        await stager.commit(
            LIVE + timedelta(hours=number),
            *(
                touchpoint(f"{who}-{customer}", EPOCH + timedelta(days=day), type_, channel, marked=marked)
                for marked, who, day, type_, channel in batch
            ),
        )
        await stager.sweep(LIVE + timedelta(hours=number, minutes=1))

    assert await stager.differences() == []
    assert await wrong_checkpoints(stager) == []


async def test_a_late_touchpoint_costs_what_lies_behind_its_checkpoint(stager: Staging) -> None:
    """For a customer with 20,000 touchpoints, one that comes a day late costs a small part of the CPU that
    one from before all others costs."""
    first = LIVE - timedelta(hours=20_000)
    for begin in range(0, 20_000, 4_000):
        hours = range(begin, begin + 4_000)
        await stager.commit(
            LIVE, *(touchpoint("busy", first + timedelta(hours=hour), "page_viewed") for hour in hours)
        )
    yesterday = LIVE - timedelta(days=1)
    await stager.commit(LIVE, touchpoint("busy", yesterday, "order_completed", marked=True))

    async def cpu_s(at: datetime) -> float:
        begin_s = time.process_time()
        done = await stager.commit(LIVE, touchpoint("busy", at, "product_viewed"))
        assert (done.stored, len(done.changes)) == (1, 1)
        return time.process_time() - begin_s

    near_s = await cpu_s(yesterday + timedelta(minutes=30))
    far_s = await cpu_s(first - timedelta(hours=1))
    assert near_s < far_s / 4
    assert await stager.differences() == []
