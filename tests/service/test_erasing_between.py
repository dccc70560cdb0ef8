"""Who is who changes before somebody is erased, or until all is removed: what others' touchpoints say of them
is found wherever these touchpoints are by then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from services.stager.erasing import Erasing
from shared.codec import decode
from shared.errors import Contended
from shared.store.engine import connection_of
from tests.service.staging import Staging, await_waiting, staging
from tests.service.test_erasing import ask, left_of
from tests.service.test_identity import _JOURNEYS as JOURNEYS
from tests.service.test_identity import identities, told_wrongly
from tests.service.test_stager_store import NOW, touchpoint
from tests.service.test_unlinking import say

ANN, CRM, EMAIL = "user_id:ann", "crm:ann", "email:ann@b.dk"
BO, CARD, EVE = "user_id:bo", "loyalty_id:bo", "email:eve@b.dk"
DAN, PHONE, CLEO = "user_id:dan", "phone:+4533123456", "user_id:cleo"

Change = Callable[[Staging], Awaitable[None]]


@pytest.fixture
async def stager(database_url: str) -> AsyncIterator[Staging]:
    """Touchpoints of others name what is Ann's, and were refused it: by Bo's login, by his card, and by Dan's
    number. Eve is older than all."""
    async with staging(database_url, JOURNEYS, NOW, tells=True) as running:
        await running.commit(
            NOW,
            touchpoint("eve", EVE),
            touchpoint("ann", ANN, EMAIL, CRM, day=1),
            touchpoint("bo", BO, CARD, day=1),
            touchpoint("dan", DAN, PHONE, day=1),
            touchpoint("named by him", BO, EMAIL, day=1.5),
            touchpoint("named by his card", CARD, EMAIL, day=4),
            touchpoint("named by a number", PHONE, CRM, day=4),
        )
        yield running


async def part(stager: Staging) -> None:
    """Bo's card is nobody's that has a name any more."""
    await say(stager, (BO, CARD), withdrawn=True)
    await stager.settle(NOW)


async def hand_over(stager: Staging) -> None:
    """Dan's number turns out to have been Cleo's by then."""
    await stager.commit(NOW, touchpoint("cleo", CLEO, PHONE, day=2))


async def unite(stager: Staging) -> None:
    """Bo is one with somebody who was known before him."""
    await stager.commit(NOW, touchpoint("both", BO, EVE, day=5))


async def unite_and_part(stager: Staging) -> None:
    """Of two who were one for a while one keeps what was the other's: Bo's card stays with Eve, by an order
    of theirs."""
    await unite(stager)
    await stager.commit(NOW, touchpoint("theirs", CARD, EVE, day=6))
    for pair in ((BO, CARD), (BO, EVE)):
        await say(stager, pair, withdrawn=True)
    await stager.settle(NOW)


CHANGES: tuple[Change, ...] = (part, hand_over, unite, unite_and_part)


async def assert_gone(stager: Staging) -> None:
    assert await left_of(stager, [ANN, EMAIL, CRM]) == []
    assert await stager.differences() == []
    assert await told_wrongly(stager) == []


@pytest.mark.parametrize("change", CHANGES)
async def test_what_others_said_is_found_where_it_went_to_before(stager: Staging, change: Change) -> None:
    """A refusal is told of one customer, and the touchpoints that were refused may be several customers' by
    then."""
    await change(stager)
    assert await ask(stager, ANN, NOW)
    await stager.erase(NOW)

    await assert_gone(stager)


@pytest.mark.parametrize("change", CHANGES)
async def test_what_others_said_is_found_where_it_went_to_meanwhile(stager: Staging, change: Change) -> None:
    """Between the moment at which Ann was erased and that at which all is removed Bo's touchpoints become
    others'."""
    assert await ask(stager, ANN, NOW)
    await change(stager)
    await stager.erase(NOW)

    await assert_gone(stager)


@pytest.mark.parametrize("change", CHANGES)
async def test_what_others_said_is_found_half_way(stager: Staging, change: Change) -> None:
    """The same when one of Bo's touchpoints is looked through, and another one isn't."""
    assert await ask(stager, ANN, NOW)
    erasing = stager.erasing(NOW, 1)
    while len(await naming(stager, EMAIL)) > 1:
        await erasing.page()
    await change(stager)
    while await erasing.page():
        pass

    await assert_gone(stager)


@asynccontextmanager
async def states_held(database_url: str) -> AsyncIterator[None]:
    """Whoever folds anew waits, with everything moved that was to be."""
    holder = await asyncpg.connect(database_url)
    try:
        held = holder.transaction()
        await held.start()
        await holder.execute("SELECT FROM journey_states FOR UPDATE")
        yield
        await held.rollback()
    finally:
        await holder.close()


async def test_a_link_that_is_being_settled_is_waited_for(stager: Staging, database_url: str) -> None:
    """An erasure that is asked for meanwhile knows whose everything is then."""
    await say(stager, (BO, CARD), withdrawn=True)
    async with asyncio.TaskGroup() as tasks, states_held(database_url):
        settling = tasks.create_task(stager.store.settle(NOW))
        await await_waiting(stager.pool)
        erasing = tasks.create_task(ask(stager, ANN, NOW))
        await await_waiting(stager.pool, 2)
    assert settling.result()
    assert erasing.result()
    await stager.erase(NOW)

    await assert_gone(stager)


async def test_a_merge_that_is_under_way_is_followed(stager: Staging, database_url: str) -> None:
    """A page that waits for a customer who is another one's then is run again for that one."""
    assert await ask(stager, ANN, NOW)
    erasing = stager.erasing(NOW, 1)
    while not (page := await erasing.page()) or page.touchpoints == 0:
        pass
    async with asyncio.TaskGroup() as tasks, states_held(database_url):
        tasks.create_task(unite(stager))
        await await_waiting(stager.pool)
        page_task = tasks.create_task(met_others(erasing))
        await await_waiting(stager.pool, 2)
    assert page_task.result()
    await stager.erase(NOW)

    await assert_gone(stager)


async def met_others(erasing: Erasing) -> bool:
    """Whether a page has met another transaction and wrote nothing."""
    try:
        while await erasing.page():
            pass
    except Contended:
        return True
    return False


async def test_a_link_of_the_erased_unites_nobody_who_is_left(stager: Staging) -> None:
    """Gil's number is Dan's since. The device that Gil was seen with by it was parted from them, and taken
    back it is not Dan's: of whom it was taken there is nothing left."""
    gil, number, device = "user_id:gil", "phone:+4533000000", "anonymous_id:gil"
    await stager.commit(NOW, touchpoint("gil", gil, number), touchpoint("on it", number, device, day=1))
    await stager.commit(NOW, touchpoint("dan now", DAN, number, day=2))
    await say(stager, (number, device), withdrawn=True)
    await stager.settle(NOW)
    assert await ask(stager, gil, NOW)
    await stager.erase(NOW)
    before = await identities(stager)
    for withdrawn in (False, True, False):
        await say(stager, (number, device), withdrawn=withdrawn)
        await stager.settle(NOW)
        assert await identities(stager) == before

    assert frozenset([device]) in before
    assert await stager.differences() == []


async def test_a_link_unites_who_was_parted_from_the_erased_since(stager: Staging) -> None:
    """Hal's card, address and tablet were one customer. The tablet was parted from them, then the address
    from the card, whose id that had been; the card is erased. Taken back, the link of address and tablet
    finds them."""
    card, address, tablet = "crm:hal", "email:hal@b.dk", "anonymous_id:hal"
    await stager.commit(NOW, touchpoint("card", card))
    await stager.commit(NOW, touchpoint("all", address, card, tablet, day=1))
    for other in (tablet, card):
        await say(stager, (address, other), withdrawn=True)
        await stager.settle(NOW)
    assert await ask(stager, card, NOW)
    await say(stager, (address, tablet), withdrawn=False)
    await stager.settle(NOW)
    await stager.erase(NOW)

    assert frozenset([address, tablet]) in await identities(stager)
    assert await stager.differences() == []


async def test_stagers_that_take_turns_miss_nothing(stager: Staging) -> None:
    """One process has looked through half of what is Eve's when another one ends that. What a merge brings
    her then lies before the place from which the first one would go on."""
    await stager.commit(NOW, touchpoint("named by her", EVE, CRM, day=2), touchpoint("eve 5", EVE, day=5))
    await say(stager, (EVE, CRM), withdrawn=True)
    await stager.settle(NOW)
    assert await ask(stager, ANN, NOW)
    one, other = stager.erasing(NOW, 1), stager.erasing(NOW, 1)
    while "named by her" in await naming(stager, CRM):
        await one.page()
    others = await to_look_through(stager)
    while await to_look_through(stager) == others:
        await other.page()
    await unite(stager)
    while await one.page():
        pass

    assert others == 3
    await assert_gone(stager)


async def naming(stager: Staging, name: str) -> set[str]:
    """The touchpoints that name somebody."""
    async with connection_of(stager.pool) as connection:
        rows = await connection.fetch("SELECT body FROM touchpoints")
    return {one.id for one in (decode(body) for (body,) in rows) if name in one.identities}


async def to_look_through(stager: Staging) -> int:
    """How many customers may have touchpoints that name who is erased."""
    async with connection_of(stager.pool) as connection:
        return int(await connection.fetchval("SELECT sum(cardinality(named_by)) FROM erasures"))
