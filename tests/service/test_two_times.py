"""History in two times on a real PostgreSQL: when it was true, and when Rejse knew it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Literal, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.api.views.active import ActiveJourney, activate
from services.api.views.answers import History, HistoryItem, StageChangeItem
from services.api.views.histories import AsOf, find_history, from_cursor
from services.api.views.position import END
from services.api.views.timelines import Filter, find_timeline
from services.stager.sweeper import SETTLE
from shared.journey.fold import Journey, fold
from shared.journey.language import parse
from shared.journey.state import NOWHERE, State, Transition
from shared.journey.touch import Touch
from shared.store.engine import connection_of
from shared.store.ids import touchpoint_uid
from shared.store.keys import create_key
from shared.touchpoint import Channel, Touchpoint
from tests.service.api_store import serving
from tests.service.staging import Staging, staging
from tests.support.journeys import EPOCH, EVERYTHING

JOURNEY = Journey(parse(EVERYTHING, "everything.yaml"))
ACTIVE: ActiveJourney = activate(JOURNEY.definition)
TICK = timedelta(microseconds=1)
TYPES = ("order_completed", "product_viewed", "call_ended", "offer_declined")
LIVE = EPOCH + timedelta(days=100)
"""The clock's begin: everything that happens to customers lies before it."""

Step = tuple[Literal["batch", "sweep"], int, list[tuple[int, str, Channel]]]
"""What the stager does, the clock's hour then, and a batch's touchpoints: their day, type and channel."""

_touchpoints = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(TYPES), st.sampled_from(get_args(Channel)[:4])),
    min_size=1,
    max_size=4,
)
_steps: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(st.just("batch"), st.integers(0, 6), _touchpoints)
    | st.tuples(st.just("sweep"), st.integers(0, 6), st.just([])),
    min_size=1,
    max_size=8,
)
_numbers = count()


@pytest.fixture
async def stager(database_url: str) -> AsyncIterator[Staging]:
    async with staging(database_url, [JOURNEY], EPOCH) as staging_:
        yield staging_


class Model:
    """What is known of one customer: a list of (known time, the fold of all that was known then)."""

    def __init__(self) -> None:
        self.touches: list[Touch] = []
        self.state: State = NOWHERE
        self.log: list[tuple[datetime, Sequence[Transition]]] = [(datetime.min.replace(tzinfo=UTC), [])]

    def receive(self, now: datetime, touches: Sequence[Touch]) -> None:
        self.touches = sorted([*self.touches, *touches], key=lambda one: (one.at, one.id))
        self._learn(now, self.state.at)

    def sweep(self, now: datetime) -> None:
        """As the sweeper: not what was written a moment ago, unless the clock has gone back since."""
        due, known_at = JOURNEY.due_at(self.state), self.log[-1][0]
        if due is not None and due <= now and (known_at <= now - SETTLE or known_at > now):
            self._learn(now, now)

    def _learn(self, now: datetime, until: datetime) -> None:
        self.state, history = fold(JOURNEY, self.touches, until)
        self.log.append((max(now, self.log[-1][0]), history))

    def history(self, at: datetime, known_at: datetime) -> list[Transition]:
        known = [history for since, history in self.log if since <= known_at][-1]
        return [one for one in known if one.at <= at]


def touchpoint(who: str, day: int, type_: str, channel: Channel, received_at: datetime) -> Touchpoint:
    return Touchpoint(
        id=f"{who}-{next(_numbers)}",
        type=type_,
        channel=channel,
        occurred_at=EPOCH + timedelta(days=day),
        received_at=received_at,
        source="till",
        identities=(f"user_id:{who}",),
    )


def touch_of(one: Touchpoint) -> Touch:
    return Touch(one.occurred_at, touchpoint_uid(one.source, one.id), one.type, one.channel)


def told(history: History) -> list[object]:
    """The changes, oldest first, as a model's transition tells them."""
    return [
        (
            *(one.at, one.change, one.from_, one.from_paused, one.to, one.to_paused),
            *(one.cause.touchpoint, one.cause.rule),
        )
        for one in reversed(history.changes)
    ]


def expected(history: Sequence[Transition]) -> list[object]:
    return [msgspec.structs.astuple(one)[1:] for one in history]


async def look(stager: Staging, who: str, as_of: AsOf, changes_max: int = 500) -> History:
    found = await find_history(stager.pool, ACTIVE, f"user_id:{who}", as_of, LIVE, changes_max)
    assert found is not None
    return found


# The sweeper looks at a run that time does nothing to, and the clock goes back after that.
_LOOKED_AT: list[Step] = [
    ("batch", 5, [(10, "order_completed", "web"), (37, "offer_declined", "phone")]),
    ("batch", 0, [(1, "call_ended", "app"), (12, "call_ended", "app"), (10, "product_viewed", "phone")]),
    ("batch", 5, [(10, "order_completed", "web"), (37, "offer_declined", "phone")]),
    ("sweep", 5, []),
    ("batch", 0, [(1, "call_ended", "app"), (12, "call_ended", "app"), (10, "product_viewed", "phone")]),
    ("sweep", 6, []),
    ("batch", 0, [(0, "call_ended", "app")]),
]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(steps=_LOOKED_AT)
@given(steps=_steps)
async def test_the_history_at_a_time_as_known_at_another_is_the_fold_of_what_was_known(
    stager: Staging, steps: list[Step]
) -> None:
    """For every pair of times, however late touchpoints came, whatever time did by itself, at equal known
    times and with a clock that goes back: a customer's history is the fold of all that was known then, up to
    when it is asked for; and its stage is where that leads."""
    who, model = f"c{next(_numbers)}", Model()
    for kind, hour, wanted in steps:
        now = LIVE + timedelta(hours=hour)
        if kind == "batch":
            batch = [touchpoint(who, *one, received_at=now) for one in wanted]
            await stager.commit(now, *batch)
            model.receive(now, [touch_of(one) for one in batch])
        else:
            await stager.sweep(now)
            model.sweep(now)

    if not model.touches:
        return
    assert told(await look(stager, who, AsOf())) == expected(model.log[-1][1])
    moments = {one.at for _, history in model.log for one in history}
    for known_at in {since + tick for since, _ in model.log[1:] for tick in (-TICK, 0 * TICK)}:
        for at in sorted({moment + tick for moment in moments for tick in (-TICK, 0 * TICK)})[::3] or [LIVE]:
            history = await look(stager, who, AsOf(at, known_at))
            right = model.history(at, known_at)
            assert told(history) == expected(right)
            stands = (right[-1].to_place, right[-1].to_paused) if right else (None, False)
            assert (history.stage, history.paused) == stands


async def test_a_late_file_answers_both_questions(stager: Staging) -> None:
    """An order of day 3 that arrives with a file on day 103: asked for day 5, the customer had bought; as
    Rejse knew it before the file, the customer was aware, and paused."""
    await stager.commit(LIVE, touchpoint("ida", 1, "page_viewed", "web", LIVE))
    await stager.sweep(LIVE + timedelta(minutes=1))
    file_at = LIVE + timedelta(days=3)
    await stager.commit(file_at, touchpoint("ida", 3, "order_completed", "store", file_at))
    at = EPOCH + timedelta(days=3, hours=1)

    now = await look(stager, "ida", AsOf(at))
    then = await look(stager, "ida", AsOf(at, file_at - TICK))
    before = await look(stager, "ida", AsOf(at + timedelta(days=3), file_at - TICK))
    assert (now.stage, then.stage, before.stage, before.paused) == ("buying", "aware", "aware", True)
    assert before.changes[0].superseded_at == file_at
    assert (before.changes[0].recorded_at, before.changes[0].revision) == (LIVE + timedelta(minutes=1), 0)


async def test_what_time_did_is_known_from_when_it_was_applied(stager: Staging) -> None:
    """A pause that was due before T and swept after T was not known at T: that is what was answered then. Its
    own time is exact all the same."""
    await stager.commit(LIVE, touchpoint("bo", 96, "page_viewed", "web", LIVE))
    due = EPOCH + timedelta(days=99)
    swept_at = LIVE + timedelta(hours=7)
    await stager.sweep(swept_at)

    early = await look(stager, "bo", AsOf(LIVE, swept_at - TICK))
    late = await look(stager, "bo", AsOf(LIVE, swept_at))
    assert (early.paused, late.paused, late.changes[0].at) == (False, True, due)


async def test_a_timeline_can_be_read_as_it_was_known(stager: Staging) -> None:
    """With a known time neither the late touchpoint nor what it corrected is there, and what it superseded
    is."""
    await stager.commit(LIVE, touchpoint("una", 1, "page_viewed", "web", LIVE))
    file_at = LIVE + timedelta(days=3)
    await stager.commit(file_at, touchpoint("una", 0, "order_completed", "store", file_at))

    async def kinds(known_at: datetime | None) -> list[str]:
        found = await find_timeline(stager.pool, {}, "user_id:una", Filter(known_at=known_at), END, 50)
        assert found is not None
        return [one.to if isinstance(one, StageChangeItem) else one.type for one in found.items]

    assert (await kinds(None))[-2:] == ["buying", "order_completed"]
    assert await kinds(file_at) == await kinds(None)
    assert await kinds(file_at - TICK) == ["aware", "page_viewed"]
    assert await kinds(LIVE - TICK) == []


async def test_pages_of_a_history_are_of_one_known_time(stager: Staging) -> None:
    """A correction that comes between two pages is not in the second, and no change is told twice."""
    first = [touchpoint("kim", day, "page_viewed", "store", LIVE) for day in range(1, 20, 4)]
    await stager.commit(LIVE, *first)
    whole = await look(stager, "kim", AsOf(known_at=LIVE))
    as_of = AsOf()
    changes: list[HistoryItem] = []
    for turn in range(100):
        page = await look(stager, "kim", as_of, 3)
        changes += page.changes
        assert page.stage == whole.stage
        if page.next_cursor is None:
            break
        as_of = from_cursor(page.next_cursor)
        late = touchpoint("kim", 0, "offer_declined", "store", LIVE)
        await stager.commit(LIVE + timedelta(days=1 + turn), late)

    assert [one.at for one in changes] == [one.at for one in whole.changes]
    assert len(changes) > 3


async def test_the_route_tells_a_history(stager: Staging, database_url: str) -> None:
    """By any identifier; times of the future, foreign cursors and unknown journeys are refused by name."""
    await stager.commit(LIVE, touchpoint("eva", 1, "order_completed", "store", LIVE))
    path = "/v1/customers/user_id:eva/journeys/everything/history"
    async with connection_of(stager.pool) as connection:
        key = await create_key(connection, "read", "desk", EPOCH)
    async with serving(database_url, key) as client:
        found = (await client.get(path, params={"known_at": LIVE.isoformat()})).json()
        nobody = await client.get(path.replace("eva", "nobody"))
        nothing = await client.get(path.replace("everything", "nothing"))
        wrong = await client.get(path, params={"at": "2999-01-01T00:00:00Z"})
        future = await client.get(path, params={"known_at": "2999-01-01T00:00:00Z"})
        forged = await client.get(path, params={"cursor": "AAAA"})

    assert (found["stage"], found["changes"][0]["from"], found["known_at"]) == (
        "buying",
        None,
        "2026-04-11T00:00:00Z",
    )
    assert found["changes"][0]["recorded_at"] == "2026-04-11T00:00:00Z"
    assert (nobody.status_code, nothing.json()["code"]) == (404, "journey_not_found")
    refused = [answer.json()["errors"][0]["parameter"] for answer in (wrong, future, forged)]
    assert refused == ["at", "known_at", "cursor"]
