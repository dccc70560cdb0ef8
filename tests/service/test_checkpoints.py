"""Checkpoints on a real PostgreSQL: a refold that begins at one gives what a whole one gives, for less."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import get_args
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.stager.announce import with_id
from services.stager.assign import CHECKPOINT_EVERY, is_marked, position_of
from shared.codec import decode
from shared.journey.catalog import load_definitions
from shared.journey.fold import Journey
from shared.journey.language import parse
from shared.journey.state import NOWHERE, decode_state
from shared.journey.touch import Lens, Touch
from shared.store.engine import connection_of
from shared.store.ids import touchpoint_uid
from shared.touchpoint import Channel, Touchpoint
from tests.service.staging import Staging, staging
from tests.support.journeys import EPOCH, EVERYTHING
from tests.support.told import TRANSITIONS, listen

JOURNEY = Journey(parse(EVERYTHING, "everything.yaml"))
PURCHASES = Journey(load_definitions(None, ["purchase-lifecycle"])[0])
OF_ACCOUNTS = Journey(
    parse(EVERYTHING.replace("key: everything", "key: accounts\nsubject: account", 1), "accounts.yaml")
)
JOURNEYS = {one.version: one for one in (JOURNEY, PURCHASES, OF_ACCOUNTS)}
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
    async with staging(database_url, [*JOURNEYS.values()], EPOCH, tells=True) as staging_:
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
        identities=(f"user_id:{who}", f"account_id:of-{who.partition('-')[2]}"),
    )


async def wrong_checkpoints(stager: Staging) -> Sequence[str]:
    """The stored checkpoints that aren't the fold of the timeline up to there, and those that are missing."""
    lens, found = Lens(journey.asks for journey in JOURNEYS.values()), []
    timelines: dict[UUID, list[Touch]] = defaultdict(list)
    async with connection_of(stager.pool) as connection:
        for owner_id, id_, body in await connection.fetch(
            "SELECT customer_id, id, body FROM touchpoints UNION ALL SELECT a.account_id, id, body "
            "FROM account_touchpoints AS a JOIN touchpoints USING (customer_id, occurred_at, id)"
        ):
            timelines[owner_id].append(lens.touch(id_, decode(body)))
        accounts = {row["id"] for row in await connection.fetch("SELECT id FROM accounts")}
        rows = await connection.fetch("SELECT customer_id, journey_key, version, id, state FROM checkpoints")
    stored = {tuple(row)[:4]: decode_state(row["state"]) for row in rows}
    for owner_id, timeline in timelines.items():
        timeline.sort(key=position_of)
        for journey in JOURNEYS.values():
            if (owner_id in accounts) != (journey is OF_ACCOUNTS):
                continue
            state = NOWHERE
            for touch in timeline:
                state, _ = journey.step(state, touch)
                if is_marked(touch) and journey.concerns(touch.type):
                    kept = stored.pop((owner_id, *journey.version, touch.id), None)
                    if kept != state:
                        found.append(f"{journey.version} {touch.id} is {kept}, the fold says {state}")
    return found + [f"{one} is of no timeline" for one in stored]


async def told(stager: Staging) -> Sequence[str]:
    """What a consumer would have been told wrongly."""
    async with connection_of(stager.pool) as connection:
        messages = await connection.fetch("SELECT id, value FROM outbox ORDER BY id")
        rows = await connection.fetch(TRANSITIONS)
    consumer = listen(with_id(row["value"], row["id"]) for row in messages)
    return consumer.differences([dict(row) for row in rows])


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
    assert await told(stager) == []


async def test_a_late_touchpoint_costs_little_wherever_it_falls(stager: Staging) -> None:
    """For a customer with 20,000 touchpoints one that comes late costs a small part of what these cost,
    whatever lies behind it. A view of a product is remembered for ever, as the first of three: everything
    behind it is folded, and as right."""
    first = LIVE - timedelta(hours=20_000)
    timeline = [
        touchpoint("busy", first + timedelta(hours=hour), "page_viewed", marked=not hour % 1_000)
        for hour in range(1, 20_000)
    ]
    began_s = time.process_time()
    for begin in range(0, 20_000, 4_000):
        await stager.commit(LIVE, *timeline[begin : begin + 4_000])
    all_s = time.process_time() - began_s

    async def cpu_s(at: datetime, type_: str) -> float:
        # The least of several: a pass of the garbage collector over all that pytest has costs more.
        took_s = []
        for minute in range(3):
            begin_s = time.process_time()
            done = await stager.commit(LIVE, touchpoint("busy", at + timedelta(minutes=minute), type_))
            assert done.stored == 1
            took_s.append(time.process_time() - begin_s)
        return min(took_s)

    for hour in (0, 10_000, 19_900):
        assert await cpu_s(first + timedelta(hours=hour, minutes=30), "page_viewed") < all_s / 4
    await cpu_s(first - timedelta(days=1), "product_viewed")
    assert await stager.differences() == []
    assert await wrong_checkpoints(stager) == []
