"""Another transaction alters a customer's identities after a batch has read them and before it locks them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import pytest

from services.api.views.conflicts import NEWEST, find_conflicts
from services.stager.batch import read_batch
from services.stager.store import Done
from shared.codec import encode
from shared.errors import Contended
from shared.store.engine import Connection, connection_of, open_pool
from shared.store.withdrawals import take_back, withdraw
from shared.touchpoint import Touchpoint
from tests.service.staging import await_waiting
from tests.service.test_stager_store import NOW, World, Writer, touchpoint
from tests.support.journeys import all_journeys
from tests.support.people import Pair

_HELD = """
INSERT INTO identities (identity, customer_id, touchpoint_id, linked_at)
VALUES ('user_id:held', gen_random_uuid(), gen_random_uuid(), now())
"""
_ANN: Pair = ("user_id:ann", "email:a@b.dk")

Word = Callable[[Connection, str, str | None, datetime], Awaitable[int]]


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with await open_pool(database_url, connections_max=6, service="test") as pool:
        yield World(pool, all_journeys())


async def committed_late(
    world: World,
    database_url: str,
    batch: Sequence[Touchpoint],
    meanwhile: Touchpoint | Pair,
) -> Done:
    """Commit a batch that is held up by an identity of somebody's, while another stager commits one more
    touchpoint, or settles a link that is withdrawn."""
    ours, other = await world.writer(1), await world.writer(2)
    holder = await asyncpg.connect(database_url)
    try:
        held = holder.transaction()
        await held.start()
        await holder.execute(_HELD)
        records = read_batch(ours.records([encode(one) for one in (*batch, touchpoint("h", "user_id:held"))]))
        async with asyncio.TaskGroup() as tasks:
            late = tasks.create_task(ours.store.commit(records, {1: ours.stands}, NOW))
            await await_waiting(world.pool)
            if isinstance(meanwhile, Touchpoint):
                await other.commit(meanwhile)
            else:
                await settle(world, other, meanwhile, withdraw)
            await held.rollback()
        return late.result()
    finally:
        await holder.close()


async def settle(world: World, writer: Writer, pair: Pair, word: Word) -> None:
    """Say something of a link, and carry it out."""
    async with connection_of(world.pool) as connection:
        assert await word(connection, *pair, NOW) == 1
    assert await writer.store.settle(NOW) is not None


async def test_what_alters_no_decision_costs_no_second_run(world: World, database_url: str) -> None:
    """A customer has got one more identity meanwhile: that is nothing to a touchpoint of theirs, nor to one
    that links them to somebody else."""
    writer = await world.writer()
    await writer.commit(touchpoint("a"), touchpoint("b", "anonymous_id:b"))
    batch = [touchpoint("c"), touchpoint("d", "user_id:1", "anonymous_id:b", day=1)]
    done = await committed_late(world, database_url, batch, touchpoint("e", "user_id:1", "email:a@b.dk"))

    assert done.merged == 1
    async with connection_of(world.pool) as connection:
        numbers = await connection.fetch("SELECT count(*) FROM identities GROUP BY customer_id ORDER BY 1")
    assert [number for (number,) in numbers] == [1, 3]
    assert await world.differences() == []


async def test_what_alters_a_decision_runs_the_batch_again(world: World, database_url: str) -> None:
    """Whom the batch would merge with somebody has become another login's meanwhile."""
    writer = await world.writer()
    await writer.commit(touchpoint("a"), touchpoint("b", "anonymous_id:b"))
    batch = [touchpoint("d", "user_id:1", "anonymous_id:b", day=1)]
    with pytest.raises(ExceptionGroup) as raised:
        await committed_late(world, database_url, batch, touchpoint("e", "user_id:2", "anonymous_id:b"))

    assert raised.group_contains(Contended)
    async with connection_of(world.pool) as connection:
        assert await connection.fetchval("SELECT count(*) FROM customers") == 2


async def test_a_batch_whose_customer_is_parted_meanwhile_files_by_the_parts(
    world: World, database_url: str
) -> None:
    """It has read that address and number are one customer's, and would link the number's card to it."""
    writer = await world.writer()
    await writer.commit(touchpoint("a", *_ANN), touchpoint("b", "email:a@b.dk", "phone:+4533123456"))
    batch = [touchpoint("d", "loyalty_id:7", "phone:+4533123456", day=1)]
    with pytest.raises(ExceptionGroup) as raised:
        await committed_late(world, database_url, batch, ("email:a@b.dk", "phone:+4533123456"))
    assert raised.group_contains(Contended)
    await writer.commit(*batch)

    assert await identities(world) == {frozenset(_ANN), frozenset(batch[0].identities)}
    assert await world.differences() == []


async def test_a_customer_who_is_merged_before_they_are_parted_is_parted_nevertheless(
    world: World, database_url: str
) -> None:
    """Settling waits for a customer whom a batch lets become another one, and finds both under that one's id
    then. The batch is held up behind that, by an account."""
    writer, other = await world.writer(1), await world.writer(2)
    await writer.commit(touchpoint("c", "loyalty_id:7"), touchpoint("a", *_ANN))
    await writer.commit(touchpoint("b", "user_id:bo", "account_id:acme"))
    meeting = touchpoint("m", "user_id:ann", "loyalty_id:7", "account_id:acme")
    async with connection_of(world.pool) as connection:
        assert await withdraw(connection, *_ANN, NOW) == 1
    await settle_behind_a_batch(world, database_url, writer, other, meeting)

    assert await identities(world) == {
        frozenset(meeting.identities[:2]),
        frozenset(_ANN[1:]),
        frozenset(["user_id:bo"]),
    }
    assert await world.differences() == []


async def settle_behind_a_batch(
    world: World,
    database_url: str,
    writer: Writer,
    other: Writer,
    meeting: Touchpoint,
    *,
    withdrawn_meanwhile: tuple[str, str] | None = None,
) -> None:
    """Let a batch that unites two by a touchpoint, which names an account, wait while another stager settles
    a link that concerns them; then let both go on, and settle it again."""
    holder = await asyncpg.connect(database_url)
    try:
        held = holder.transaction()
        await held.start()
        await holder.execute("SELECT FROM accounts FOR UPDATE")
        async with asyncio.TaskGroup() as tasks:
            batch = tasks.create_task(writer.commit(meeting))
            await await_waiting(world.pool)
            if withdrawn_meanwhile:
                async with connection_of(world.pool) as connection:
                    assert await withdraw(connection, *withdrawn_meanwhile, NOW) == 1
            settling = tasks.create_task(_contended(other))
            await await_waiting(world.pool, 2)
            await held.rollback()
    finally:
        await holder.close()
    assert batch.result().merged == 1
    assert settling.result()
    assert await other.store.settle(NOW)


async def _contended(writer: Writer) -> bool:
    """Whether a link could not be settled because another transaction came first."""
    try:
        await writer.store.settle(NOW)
    except Contended:
        return True
    return False


async def two_with_a_link_that_stands(world: World) -> Writer:
    """Taken back, Ann's link was refused, for the address was Bo's login's by then. It isn't any more."""
    writer, bo = await world.writer(3), ("user_id:bo", "email:a@b.dk")
    await writer.commit(touchpoint("a", *_ANN))
    await settle(world, writer, _ANN, withdraw)
    await writer.commit(touchpoint("b", *bo))
    await settle(world, writer, _ANN, take_back)
    await settle(world, writer, bo, withdraw)
    assert await identities(world) == {frozenset([name]) for name in (*_ANN, bo[0])}
    return writer


async def test_a_batch_that_knew_of_no_withdrawal_unites_nobody_after_it(
    world: World, database_url: str
) -> None:
    """There is nobody to be parted when the link is withdrawn again; the batch that would unite both by it
    hears of that all the same."""
    await two_with_a_link_that_stands(world)
    with pytest.raises(ExceptionGroup) as raised:
        await committed_late(world, database_url, [touchpoint("m", *_ANN, day=1)], _ANN)
    assert raised.group_contains(Contended)
    done = await (await world.writer(1)).commit(touchpoint("m", *_ANN, day=1))

    assert (done.withheld, done.merged) == (1, 0)
    assert await identities(world) == {frozenset([name]) for name in (*_ANN, "user_id:bo")}
    assert await world.differences() == []


async def test_whom_a_batch_unites_before_a_withdrawal_is_carried_out_is_parted_by_it(
    world: World, database_url: str
) -> None:
    """Settling waits for a batch that is uniting both by the link, and finds one customer then."""
    writer = await two_with_a_link_that_stands(world)
    other = await world.writer(2)
    await writer.commit(touchpoint("c", "user_id:bo", "account_id:acme"))
    meeting = touchpoint("m", *_ANN, "account_id:acme", day=1)
    await settle_behind_a_batch(world, database_url, writer, other, meeting, withdrawn_meanwhile=_ANN)

    assert await identities(world) == {frozenset([name]) for name in (*_ANN, "user_id:bo")}
    assert await world.differences() == []


@pytest.mark.parametrize("first", ["login", "address"])
async def test_refusals_name_whose_the_identity_is_by_now(
    world: World, database_url: str, first: str
) -> None:
    """Bo names an address that is Ann's, before her link to it is withdrawn and while it is; afterwards it
    is the address's own customer's, by an id of before or a new one; taken back, Ann's again."""
    writer = await world.writer()
    if first == "address":
        await writer.commit(touchpoint("letter", "email:a@b.dk"))
    await writer.commit(touchpoint("a", *_ANN), touchpoint("b", "user_id:bo"))
    bo = ("user_id:bo", "email:a@b.dk")
    await writer.commit(touchpoint("c", *bo), touchpoint("d", "user_id:cai", "email:a@b.dk"))
    before = await refused(world)
    await committed_late(world, database_url, [touchpoint("e", *bo, day=1)], _ANN)
    parted = await refused(world)
    await settle(world, writer, _ANN, take_back)
    united = await refused(world)

    assert before == united == {"user_id:bo": {*_ANN}, "user_id:cai": {*_ANN}}
    assert parted == {"user_id:bo": {"email:a@b.dk"}, "user_id:cai": {"email:a@b.dk"}}


async def identities(world: World) -> set[frozenset[str]]:
    """What everybody is known by."""
    return {frozenset(names) for names in (await names_of(world)).values()}


async def names_of(world: World) -> dict[UUID, set[str]]:
    """The identities of each customer."""
    async with connection_of(world.pool) as connection:
        rows = await connection.fetch("SELECT customer_id, array_agg(identity) FROM identities GROUP BY 1")
    return {customer_id: set(names) for customer_id, names in rows}


async def refused(world: World) -> dict[str, set[str]]:
    """What whom refusals name is known by, by whose they are, as the API tells."""
    found = (await find_conflicts(world.pool, NEWEST, 10)).conflicts
    names = await names_of(world)
    return {min(names[one.customer]): names[one.other] for one in found if one.other}
