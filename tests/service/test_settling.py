"""Links that are settled by several stagers: one waits for what it can't have, or dies."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.stager.in_force import InForce
from shared.errors import Transient
from shared.store.engine import connection_of, open_pool
from shared.store.withdrawals import take_back, withdraw
from tests.service.staging import Staging, await_waiting, batch_store, staging
from tests.service.test_identity import identities
from tests.service.test_stager_store import NOW, touchpoint
from tests.support.eventually import eventually_async
from tests.support.journeys import all_journeys
from tests.support.people import Pair
from tests.support.ports import free_port
from tests.support.process import RejseProcess

_HOLD = """
SELECT FROM customers WHERE id IN (SELECT customer_id FROM identities WHERE identity = ANY($1)) FOR UPDATE
"""
_FIRST_HOLDER = """
SELECT FROM customers WHERE id = (
    SELECT customer_id FROM identity_holders WHERE identity = $1 ORDER BY since LIMIT 1
) FOR UPDATE NOWAIT
"""
_UNSETTLED = "SELECT count(*) FROM identity_links WHERE unsettled_at IS NOT NULL"
_WHO = (
    "SELECT id, created_at FROM customers",
    "SELECT identity, customer_id FROM identities",
    "SELECT id, customer_id FROM touchpoints",
)


@pytest.fixture
async def stager(database_url: str) -> AsyncIterator[Staging]:
    """On the journeys that a stager has by default."""
    async with staging(database_url, all_journeys()[:1], NOW) as running:
        yield running


async def link(stager: Staging, number: int) -> list[Pair]:
    """Let as many people be known by a login and an address each."""
    links = [(f"user_id:{one}", f"email:{one}@b.dk") for one in range(number)]
    await stager.commit(NOW, *(touchpoint(both[0], *both) for both in links))
    return links


async def say_in_turn(stager: Staging, links: list[Pair]) -> None:
    """Withdraw links, each a second after the one before."""
    async with connection_of(stager.pool) as connection:
        for number, one in enumerate(links):
            assert await withdraw(connection, *one, NOW + timedelta(seconds=number)) == 1


@asynccontextmanager
async def held(database_url: str, *names: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Somebody else has locked some customers."""
    holder = await asyncpg.connect(database_url)
    try:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute(_HOLD, names)
        yield holder
        await transaction.rollback()
    finally:
        await holder.close()


async def test_a_link_that_can_not_be_settled_now_holds_up_no_other(
    stager: Staging, database_url: str
) -> None:
    """Somebody holds two customers for longer than a lock is waited for. While one stager waits for the
    first, another one gives the second up: that one's link is behind all others then, and is settled once it
    can be."""
    first, second, third = links = await link(stager, 3)
    await say_in_turn(stager, links)
    impatient = {"lock_timeout": "200ms"}
    async with (
        await open_pool(database_url, connections_max=1, service="test", server_settings=impatient) as pool,
        asyncio.TaskGroup() as tasks,
    ):
        async with held(database_url, first[0], second[0]):
            first_to_wait = tasks.create_task(stager.store.settle(NOW))
            await await_waiting(stager.pool)
            other = batch_store(pool, InForce(pool), tells=False)
            with pytest.raises(Transient):
                await other.settle(NOW + timedelta(seconds=9))
            assert await other.settle(NOW)
            meanwhile = await identities(stager)
        assert await first_to_wait

    assert meanwhile == {frozenset(first), frozenset(second), *(frozenset([one]) for one in third)}
    await stager.settle(NOW)
    assert len(await identities(stager)) == 6
    assert await stager.differences() == []


async def who(stager: Staging) -> list[set[Any]]:
    """Customers, whose the identities are, and whose the touchpoints."""
    async with connection_of(stager.pool) as connection:
        return [{tuple(row) for row in await connection.fetch(query)} for query in _WHO]


async def unsettled(stager: Staging) -> int:
    async with connection_of(stager.pool) as connection:
        return int(await connection.fetchval(_UNSETTLED))


async def test_stagers_that_die_while_they_settle_are_gone_on_from(
    stager: Staging, database_url: str, tmp_path: Path
) -> None:
    """Killed before a parted customer is folded, and before what was folded is committed: nothing of that
    link has happened. Another stager carries it out; taken back, with a stager that dies again, all is whose
    it was, by the ids of before."""
    await stager.commit(NOW, *(touchpoint(f"a{one}", f"email:{one}@b.dk") for one in range(0, 6, 2)))
    links = await link(stager, 6)
    before = await who(stager)

    def process(failpoint: str = "") -> RejseProcess:
        data_dir = tmp_path / str(len([*tmp_path.iterdir()]))
        data_dir.mkdir()
        env = {
            "REJSE_DATA_DIR": str(data_dir),
            "REJSE_DATABASE_URL": database_url,
            "REJSE_STAGER_PORT": str(free_port()),
            "REJSE_FAILPOINTS": failpoint,
        }
        return RejseProcess([], env=env, log_file=data_dir / "log", module="services.stager")

    async def die(point: str, *, left: int) -> None:
        with process(f"stager.{point}:kill:2") as dying:
            assert await asyncio.to_thread(dying.wait, 60) == -signal.SIGKILL
        assert await unsettled(stager) == left
        assert await stager.differences() == []

    await say_in_turn(stager, links)
    await die("settling", left=5)
    await die("settled", left=4)
    with process():
        await eventually_async(lambda: unsettled(stager), 60, until=lambda left: left == 0)
    assert await identities(stager) == {frozenset([name]) for both in links for name in both}
    assert await stager.differences() == []

    async with connection_of(stager.pool) as connection:
        for one in links:
            assert await take_back(connection, *one, NOW) == 1
    await die("settling", left=5)
    with process(), process():
        await eventually_async(lambda: unsettled(stager), 60, until=lambda left: left == 0)
    assert await who(stager) == before
    assert await stager.differences() == []


async def test_a_link_that_unites_several_customers_locks_them_in_order(
    stager: Staging, database_url: str
) -> None:
    """A number and a tablet went from Ann's hands to Bo's, and were parted in either's. Taken back, that link
    unites two with two: whoever holds one of them and waits for another is not waited for in a circle."""
    number, tablet = "phone:+4533123456", "anonymous_id:tablet"
    await stager.commit(
        NOW,
        touchpoint("a", "user_id:ann", number, tablet),
        touchpoint("b", number, tablet, day=1),
        touchpoint("c", "user_id:bo", number, tablet, day=2),
    )
    of_both = (number, tablet)
    for withdrawn in (("user_id:ann", tablet), ("user_id:bo", tablet), of_both):
        await say_in_turn(stager, [withdrawn])
        await stager.settle(NOW)
    before = await who(stager)
    async with connection_of(stager.pool) as connection:
        assert await take_back(connection, *of_both, NOW) == 1

    async with asyncio.TaskGroup() as tasks, held(database_url, "user_id:bo") as holder:
        settling = tasks.create_task(stager.store.settle(NOW))
        await await_waiting(stager.pool)
        assert await holder.fetch(_FIRST_HOLDER, tablet)
    assert settling.result()

    assert len(before[0]) == len((await who(stager))[0]) + 2
    assert await stager.differences() == []
