"""What is left of retired versions is removed, on a real PostgreSQL, and they can still be taken back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.stager.backfill import Backfill, Page
from services.stager.clearing import Clearing
from services.stager.sweeper import SETTLE, Sweeper
from shared.errors import Contended
from shared.failpoints import Failpoints
from shared.journey.definition import Definition
from shared.journey.fold import Journey
from shared.journey.language import parse
from shared.journey.state import decode_states
from shared.store.definitions import Version, fetch_active, fetch_version, retire, want
from shared.store.engine import connection_of
from shared.touchpoint import Touchpoint
from tests.service.staging import Staging, staging
from tests.service.test_stager_store import NOW, touchpoint
from tests.support.audit import differences
from tests.support.clock import ManualClock
from tests.support.journeys import EVERYTHING

_SECOND = (
    EVERYTHING.replace("version: 1", "version: 2")
    .replace("at_least: 3, distinct: days", "at_least: 2, distinct: days")
    .replace("pause: {after: 3d}", "pause: {after: 9d}")
)
_TABLES = """
customers, customer_aliases, identities, identity_links, parted_ends, identity_holders, identity_conflicts,
named_pairs, touchpoints, touchpoint_ids, accounts, account_members, account_touchpoints, journey_definitions,
journey_states, stage_transitions, checkpoints, stage_counts, stage_flows, unknown_types, outbox
"""
_COUNTS = """
SELECT version, stage, paused, sum(count)::int AS count FROM stage_counts
GROUP BY 1, 2, 3 HAVING sum(count) <> 0
"""
_FLOWS = """
SELECT version, from_stage, from_paused, to_stage, to_paused, sum(count)::int AS count FROM stage_flows
WHERE span = 'hour' GROUP BY 1, 2, 3, 4, 5 HAVING sum(count) <> 0
"""
_MOVES = """
SELECT version, coalesce(from_stage, ''), from_paused, to_stage, to_paused, count(*)::int AS count
FROM stage_transitions WHERE superseded_at IS NULL
    AND (coalesce(from_stage, ''), from_paused) <> (to_stage, to_paused)
GROUP BY 1, 2, 3, 4, 5
"""
_KNOWN = """
SELECT version, customer_id, run, seq, at, kind, from_stage, from_paused, to_stage, to_paused, rule
FROM stage_transitions WHERE recorded_at <= $1 AND (superseded_at IS NULL OR superseded_at > $1)
ORDER BY version, customer_id, run, seq
"""
_NAMES = [
    ["user_id:1", "account_id:acme"],
    ["user_id:2"],
    ["anonymous_id:a", "account_id:acme"],
    ["anonymous_id:a", "user_id:1"],
    ["anonymous_id:a", "user_id:2"],
    ["email:a@b.dk"],
    ["email:a@b.dk", "user_id:1"],
    ["email:a@b.dk", "anonymous_id:b", "account_id:bolt"],
]
"""Some make two customers one, and some hand a device over."""
_TYPES = ["order_completed", "product_viewed", "offer_declined", "call_ended"]

_steps = st.lists(
    st.one_of(
        st.tuples(st.just("touch"), st.sampled_from(_NAMES), st.integers(0, 40), st.sampled_from(_TYPES)),
        st.tuples(st.sampled_from(["want", "page", "clear", "clear", "clear"]), st.integers(1, 2)),
        st.tuples(st.just("sweep"), st.sampled_from([3_600, 86_400 * 20])),
    ),
    min_size=10,
    max_size=30,
)


def _about(subject: str) -> dict[int, Definition]:
    return {
        number: parse(f"{text}subject: {subject}\n", "about.yaml")
        for number, text in enumerate((EVERYTHING, _SECOND), 1)
    }


class Rig:
    """A stager, versions 1 and 2 of one journey, and a clock of which no two steps have one instant."""

    def __init__(self, stager: Staging, definitions: dict[int, Definition]) -> None:
        self.stager = stager
        self.clock = ManualClock(NOW + SETTLE)
        self._definitions = definitions
        self._numbers = 0

    async def touch(self, names: Sequence[str], day: float = 0, type_: str = _TYPES[0]) -> None:
        self._numbers += 1
        order = b'{"order_id": %d}' % (day % 3)
        one = touchpoint(str(self._numbers), *names, day=day, type_=type_, body=order)
        await self.commit(one)

    async def commit(self, *touchpoints: Touchpoint) -> None:
        while True:
            try:
                await self.stager.commit(self.clock.now(), *touchpoints)
                return
            except Contended:
                pass

    async def want(self, number: int) -> Version:
        async with connection_of(self.stager.pool) as connection:
            return await want(connection, self._definitions[number], self.clock.now())

    async def retire(self) -> None:
        async with connection_of(self.stager.pool) as connection:
            assert await retire(connection, "everything", self.clock.now())

    async def page(self, customers: int = 1) -> Page | None:
        await self.stager.in_force.follow()
        backfill = Backfill(
            self.stager.pool, self.stager.in_force, 5, self.clock, Failpoints(), customers=customers
        )
        return await backfill.page()

    async def backfill(self) -> None:
        while await self.page(20):
            pass

    async def clear(self, customers: int = 1, keep: timedelta = timedelta(0)) -> Page | None:
        """A page, by a stager that has cleared nothing before."""
        return await Clearing(self.stager.pool, keep, 3, self.clock, customers=customers).page()

    async def sweep(self, seconds: float) -> None:
        self.clock.advance(seconds)
        sweeper = Sweeper(self.stager.pool, self.stager.in_force, 7, self.clock)
        await self.stager.in_force.follow()
        while await sweeper.sweep():
            pass

    async def active(self) -> int | None:
        async with connection_of(self.stager.pool) as connection:
            return next((one.version for one in await fetch_active(connection)), None)

    async def version(self, number: int) -> Version:
        async with connection_of(self.stager.pool) as connection:
            found = await fetch_version(connection, "everything", number)
        assert found is not None
        return found

    async def wrong(self) -> list[str]:
        """What is wrong of the active version, and of the books of any."""
        active = await self.active()
        journeys = [] if active is None else [Journey(self._definitions[active])]
        async with connection_of(self.stager.pool) as connection:
            found = await differences(connection, journeys)
            counts = {tuple(row)[:-1]: row["count"] for row in await connection.fetch(_COUNTS)}
            flows, moves = await connection.fetch(_FLOWS), await connection.fetch(_MOVES)
        states = Counter(
            (one.version, one.state.place, one.state.paused)
            for one in await self.kept()
            if one.state.place is not None
        )
        found += [] if counts == states else [f"counts {counts} are not those of the states, {states}"]
        return found + [f"flow and moves {one}" for one in set(map(tuple, flows)) ^ set(map(tuple, moves))]

    async def kept(self) -> list[Any]:
        async with connection_of(self.stager.pool) as connection:
            rows = await connection.fetch("SELECT states FROM journey_states")
        return [one for row in rows for one in decode_states(row["states"])]

    async def known(self, at: datetime) -> list[Any]:
        """All histories of both versions, as they were known at a time."""
        async with connection_of(self.stager.pool) as connection:
            return await connection.fetch(_KNOWN, at)

    async def left(self, number: int) -> tuple[int, int]:
        """How many states and checkpoints there are of a version."""
        async with connection_of(self.stager.pool) as connection:
            checkpoints = await connection.fetchval(
                "SELECT count(*) FROM checkpoints WHERE version = $1", number
            )
        return sum(one.version == number for one in await self.kept()), checkpoints


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    definitions = _about("customer")
    async with staging(database_url, [Journey(definitions[1])], NOW) as stager:
        yield Rig(stager, definitions)


async def retired(rig: Rig, customers: int = 5) -> None:
    """Let version 2 take over from version 1, which has states of some customers."""
    await rig.commit(*(touchpoint(f"c{one}", f"user_id:c{one}") for one in range(customers)))
    await rig.want(2)
    await rig.backfill()


@pytest.mark.parametrize("subject", ["customer", "account", "{property: order_id}"])
@given(steps=_steps)
# Not shrunk: through a store that takes longer than reading a large example.
@settings(
    max_examples=10,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_a_version_that_was_cleared_comes_back_as_if_it_had_always_been_there(
    rig: Rig, subject: str, steps: list[tuple[Any, ...]]
) -> None:
    """Versions are asked for, given up, taken back and cleared, in pages between batches in which customers
    merge and devices are handed over: whichever version is read is the fold; every count is that of the
    states that are there, every flow that of the history that stands; and what was known of a history at any
    time is told for ever, whatever was cleared since."""
    async with connection_of(rig.stager.pool) as connection:
        await connection.execute(f"TRUNCATE {_TABLES}")
        await connection.execute("UPDATE journeys_in_force SET revision = revision + 1")
    rig = Rig(rig.stager, _about(subject))
    await rig.want(1)
    known = {}
    for what, *how in steps:
        rig.clock.advance(1)
        if what == "touch":
            await rig.touch(*how)
        elif what == "want":
            await rig.want(how[0])
        elif what == "sweep":
            await rig.sweep(how[0])
        else:
            await (rig.page() if what == "page" else rig.clear())
        assert await rig.wrong() == []
        known[rig.clock.now()] = await rig.known(rig.clock.now())
    for number in (2, 1, 2):
        rig.clock.advance(1)
        while await rig.clear(20):
            pass
        await rig.want(number)
        await rig.backfill()
        assert await rig.active() == number
        assert await rig.wrong() == []
    for at, was in known.items():
        assert await rig.known(at) == was


async def test_states_are_kept_for_a_while(rig: Rig) -> None:
    """Whoever thinks better of a new version within it finds the former one's counts as they were."""
    await retired(rig)
    rig.clock.advance(86_400 * 7 - 1)
    before = await rig.clear(keep=timedelta(days=7))
    rig.clock.advance(1)
    after = await rig.clear(keep=timedelta(days=7))

    assert before is None
    assert after is not None
    assert after.version.version == 1


async def test_nothing_is_left_but_the_history(rig: Rig) -> None:
    """States, checkpoints and counts are gone; the other version's are as they were."""
    # Every checkpoint of 1,000 touchpoints, as likely as not.
    await rig.commit(*(touchpoint(f"t{one}", "user_id:much", day=one / 100) for one in range(4_000)))
    await retired(rig)
    left = [await rig.left(1), await rig.left(2)]
    history = [row for row in await rig.known(rig.clock.now()) if row["version"] == 1]
    while await rig.clear(20):
        pass
    async with connection_of(rig.stager.pool) as connection:
        counts = await connection.fetch("SELECT DISTINCT version FROM stage_counts")

    assert left[0] == left[1]
    assert left[0][1] > 0
    assert [await rig.left(1), await rig.left(2)] == [(0, 0), left[1]]
    assert [row["version"] for row in counts] == [2]
    assert [row for row in await rig.known(rig.clock.now()) if row["version"] == 1] == history
    assert (await rig.version(1)).cleared_at == rig.clock.now()


async def test_a_journey_that_was_let_go_leaves_no_row(rig: Rig) -> None:
    """The row of a customer without any other journey goes, too; and it can be asked for again."""
    await retired(rig)
    await rig.retire()
    while await rig.clear(20):
        pass
    async with connection_of(rig.stager.pool) as connection:
        rows = await connection.fetchval("SELECT count(*) FROM journey_states")
    await rig.want(1)
    await rig.backfill()

    assert rows == 0
    assert await rig.wrong() == []


async def test_a_clearing_goes_on_where_it_stood(rig: Rig) -> None:
    """What a page did is in the store: another stager goes on behind it, and meets everybody once."""
    await retired(rig)
    pages = []
    while page := await rig.clear():
        pages.append(page)

    assert [page.customers for page in pages] == [1, 1, 1, 1, 1, 0]
    assert [page.ended for page in pages] == [False] * 5 + [True]


async def test_two_stagers_are_never_at_the_same_version(rig: Rig) -> None:
    """One has it locked; the other finds nothing to do, and doesn't wait."""
    await retired(rig)
    async with connection_of(rig.stager.pool) as connection, connection.transaction():
        await connection.execute("SELECT FROM journey_definitions FOR UPDATE")
        async with asyncio.timeout(5):
            assert await rig.clear() is None
    assert await rig.clear()


async def test_who_asks_for_a_version_waits_for_the_page_that_clears_it(rig: Rig) -> None:
    """And a page that finds it asked for leaves it alone. Nobody meets half a page."""
    await retired(rig)
    pool = rig.stager.pool
    async with asyncio.TaskGroup() as tasks, connection_of(pool) as connection:
        async with connection.transaction():
            # A batch is at the first customer, for whom the page waits; it has the version by then.
            await connection.execute("SELECT FROM customers FOR UPDATE")
            clearing = tasks.create_task(rig.clear(20))
            done, _ = await asyncio.wait([clearing], timeout=0.3)
            assert not done
            asking = tasks.create_task(rig.want(1))
            asked_already, _ = await asyncio.wait([asking], timeout=0.3)
            assert not asked_already
        page = await clearing
        asked = await asking

    assert page is not None
    assert page.customers == 5
    assert asked.is_wanted
    assert await rig.clear() is None
    await rig.backfill()
    assert await rig.wrong() == []


async def test_a_batch_that_merges_meanwhile_is_waited_for(rig: Rig) -> None:
    """It holds the customers whose states it ends; the page that waits for them then finds what it left."""
    for name in ("user_id:c1", "email:c@d.dk"):
        await rig.touch([name])
    await retired(rig, 3)
    pool = rig.stager.pool
    async with asyncio.TaskGroup() as tasks, connection_of(pool) as connection:
        async with connection.transaction():
            await connection.execute("SELECT FROM customers ORDER BY id LIMIT 1 FOR UPDATE")
            merging = tasks.create_task(rig.touch(["user_id:c1", "email:c@d.dk"]))
            clearing = tasks.create_task(rig.clear(20))
            done, _ = await asyncio.wait([merging], timeout=0.3)
            assert not done
            assert not clearing.done()
        await merging
        await clearing
    while await rig.clear(20):
        pass

    assert await rig.left(1) == (0, 0)
    assert await rig.wrong() == []
