"""Erasing beside everything else: batches under way, a stager that ends on the way, accounts, consumers, and
what other people's touchpoints and dead letters say of who was erased."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import msgspec
import pytest

from services.stager.backfill import Backfill
from services.stager.batch import read_batch
from services.stager.definitions import register
from services.stager.erasing import Erasing
from shared.codec import decode, encode
from shared.errors import Contended, Transient
from shared.eventlog.port import Record
from shared.failpoints import Failpoints
from shared.store.engine import connection_of, open_pool
from shared.store.erasures import NotSettled, erase, find_erasure
from shared.store.ids import account_uid
from shared.store.withdrawals import withdraw
from tests.service.staging import Staging, await_waiting, staging
from tests.service.test_erasing import ask, left_of
from tests.service.test_identity import _JOURNEYS as JOURNEYS
from tests.service.test_identity import identities, told_wrongly
from tests.service.test_stager_store import NOW, touchpoint
from tests.support.audit import differences
from tests.support.clock import ManualClock
from tests.support.eventually import eventually_async
from tests.support.installation import Installation

ANN, EMAIL, BO, TABLET = "user_id:ann", "email:ann@b.dk", "user_id:bo", "anonymous_id:tablet"
ACME = "account_id:acme"
_HELD = """
INSERT INTO identities (identity, customer_id, touchpoint_id, linked_at)
VALUES ('user_id:held', gen_random_uuid(), gen_random_uuid(), now())
"""


@pytest.fixture
async def stager(database_url: str) -> AsyncIterator[Staging]:
    async with staging(database_url, JOURNEYS, NOW, tells=True) as running:
        yield running


async def test_a_batch_that_is_under_way_is_waited_for(stager: Staging, database_url: str) -> None:
    """What it writes of the customer goes with them: the identity that it adds, too."""
    await stager.commit(NOW, touchpoint("a", ANN))
    holder = await asyncpg.connect(database_url)
    try:
        held = holder.transaction()
        await held.start()
        await holder.execute(_HELD)
        async with asyncio.TaskGroup() as tasks:
            batch = tasks.create_task(
                stager.commit(NOW, touchpoint("b", ANN, EMAIL), touchpoint("c", "user_id:held"))
            )
            await await_waiting(stager.pool)
            erasing = tasks.create_task(ask(stager, ANN, NOW))
            await await_waiting(stager.pool, 2)
            await held.rollback()
    finally:
        await holder.close()
    await stager.erase(NOW)

    assert batch.result().stored == 2
    assert erasing.result()
    assert await identities(stager) == {frozenset(["user_id:held"])}
    assert await left_of(stager, [ANN, EMAIL]) == []
    assert await stager.differences() == []


async def test_a_batch_that_begins_meanwhile_knows_of_it(stager: Staging) -> None:
    """It waits for the erasure to be kept, and then drops what it would have made them again by."""
    await stager.commit(NOW, touchpoint("a", ANN))
    async with (
        asyncio.TaskGroup() as tasks,
        connection_of(stager.pool) as connection,
        connection.transaction(),
    ):
        assert await erase(connection, ANN, NOW)
        batch = tasks.create_task(stager.commit(NOW, touchpoint("b", ANN, EMAIL)))
        await await_waiting(stager.pool)
    await stager.erase(NOW)

    assert (batch.result().erased, batch.result().stored) == (1, 0)
    assert await left_of(stager, [ANN, EMAIL]) == []


async def test_an_erasure_waits_for_no_lock_of_the_customer(stager: Staging, database_url: str) -> None:
    """Whoever has it may take long, and batches would wait behind: it is to be asked for again."""
    await stager.commit(NOW, touchpoint("a", ANN))
    holder = await asyncpg.connect(database_url)
    try:
        held = holder.transaction()
        await held.start()
        await holder.execute("SELECT FROM customers FOR UPDATE")
        with pytest.raises(Transient):
            await ask(stager, ANN, NOW)
        await held.rollback()
    finally:
        await holder.close()

    assert await identities(stager) == {frozenset([ANN])}


async def test_what_is_being_said_of_a_link_is_heard(stager: Staging, database_url: str) -> None:
    """An erasure waits for it, and is refused until it is carried out: whom it is about is not certain."""
    await stager.commit(NOW, touchpoint("a", ANN, EMAIL))
    speaker = await asyncpg.connect(database_url)
    try:
        said = speaker.transaction()
        await said.start()
        await withdraw(speaker, ANN, EMAIL, NOW)
        async with asyncio.TaskGroup() as tasks:
            erasing = tasks.create_task(_refused(stager))
            await await_waiting(stager.pool)
            await said.commit()
    finally:
        await speaker.close()

    assert erasing.result()
    assert await identities(stager) == {frozenset([ANN, EMAIL])}


async def _refused(stager: Staging) -> bool:
    try:
        await ask(stager, ANN, NOW)
    except NotSettled:
        return True
    return False


async def test_whoever_goes_on_with_it_ends_it(stager: Staging) -> None:
    """A stager that ends on the way leaves nothing that the next one can't go on from; and until the last
    page the erasure isn't carried out."""
    two = [touchpoint(f"{name}{day}", name, day=day) for name in (ANN, BO) for day in range(5)]
    await stager.commit(NOW, *two, touchpoint("hers", ANN, EMAIL, day=6, type_="odd_thing"))
    await stager.commit(NOW, touchpoint("refused", BO, EMAIL, day=6))
    erasure = await ask(stager, ANN, NOW)
    assert erasure
    pages = 0
    while not (stands := await ask(stager, erasure.customer, NOW)) or not stands.carried_out:
        erasing = Erasing(stager.pool, stager.in_force, 4, ManualClock(NOW), Failpoints(), rows=2)
        for _ in range(5):
            page = await erasing.page()
            pages += page is not None

    assert pages > 10
    assert await left_of(stager, [ANN, EMAIL]) == []
    assert await stager.differences() == []


async def test_a_stager_that_is_killed_on_the_way_is_gone_on_from(
    stager: Staging, database_url: str, tmp_path: Path
) -> None:
    """A process dies before it has done anything, another one when the customer is gone and the touchpoints
    are not; the third one ends it."""
    await stager.commit(NOW, touchpoint("a", ANN, EMAIL, ACME), touchpoint("b", BO, ACME))
    erasure = await ask(stager, ANN, NOW)
    assert erasure
    with Installation(tmp_path, {"REJSE_DATABASE_URL": database_url}) as rejse:
        for dies_at in (1, 2):
            dying = rejse.process("stager", REJSE_FAILPOINTS=f"stager.erasing:kill:{dies_at}")
            dying.launch()
            assert await asyncio.to_thread(dying.wait, 60) == -9
        half_way = await left_of(stager, [ANN])
        last = rejse.process("stager")
        last.launch()
        await eventually_async(lambda: carried_out(stager, erasure.customer), 60)

    assert {table for table, _ in half_way} == {"touchpoints"}
    assert await left_of(stager, [ANN, EMAIL]) == []
    assert await stager.differences() == []


async def carried_out(stager: Staging, customer_id: UUID) -> bool:
    async with connection_of(stager.pool) as connection:
        found = await find_erasure(connection, customer_id)
    return found is not None and found.carried_out


async def test_one_that_can_not_be_carried_out_holds_up_no_other(stager: Staging, database_url: str) -> None:
    """Somebody holds the customer for longer than a lock is waited for: that one waits behind the others, and
    is carried out once it can be."""
    await stager.commit(NOW, touchpoint("a", ANN), touchpoint("b", BO))
    ann, bo = await ask(stager, ANN, NOW), await ask(stager, BO, NOW)
    assert ann
    assert bo
    settings = {"lock_timeout": "100ms"}
    holder = await asyncpg.connect(database_url)
    async with await open_pool(
        database_url, connections_max=1, service="test", server_settings=settings
    ) as impatient:
        try:
            held = holder.transaction()
            await held.start()
            await holder.execute("SELECT FROM customers WHERE id = $1 FOR UPDATE", ann.customer)
            clock = ManualClock(NOW + timedelta(seconds=1))
            erasing = Erasing(impatient, stager.in_force, 4, clock, Failpoints())
            with pytest.raises(Transient):
                await erasing.page()
            while not (page := await erasing.page()) or not page.ended:
                pass
            await held.rollback()
        finally:
            await holder.close()

    assert (await carried_out(stager, ann.customer), await carried_out(stager, bo.customer)) == (False, True)
    await stager.erase(NOW)
    assert await carried_out(stager, ann.customer)


async def test_who_comes_back_is_linked_anew(stager: Staging) -> None:
    """A process that remembers a pair of theirs keeps it again, so it can be told and withdrawn."""
    await stager.commit(NOW, touchpoint("a", ANN, EMAIL))
    await ask(stager, ANN, NOW)
    await stager.erase(NOW)
    await stager.commit(NOW, touchpoint("b", ANN, EMAIL, day=365))

    async with connection_of(stager.pool) as connection:
        links = await connection.fetch("SELECT identity, other FROM identity_links")
    assert [tuple(row) for row in links] == [(ANN, EMAIL)]
    assert await identities(stager) == {frozenset([ANN, EMAIL])}


async def test_an_account_is_what_its_other_members_did(stager: Staging) -> None:
    """Its journeys are folded anew without who was erased, and consumers are told; one that nobody acts for
    any more stays, with nothing in it."""
    await stager.commit(NOW, touchpoint("a", ANN, ACME, day=1), touchpoint("b", BO, ACME, day=2))
    await stager.commit(NOW, touchpoint("c", ANN, "account_id:beta", day=3))
    await ask(stager, ANN, NOW)
    await stager.erase(NOW)

    assert await stager.differences() == []
    assert await told_wrongly(stager) == []
    async with connection_of(stager.pool) as connection:
        members = await connection.fetch("SELECT account_id FROM account_members")
        about = await connection.fetch("SELECT account_id FROM account_touchpoints")
    assert [row["account_id"] for row in members] == [account_uid(ACME)]
    assert [row["account_id"] for row in about] == [account_uid(ACME)]


async def test_consumers_are_told_once_and_nothing_that_waited(stager: Staging) -> None:
    """The message has the ids, and neither an identity nor what was done; what was still to be told of the
    customer is not."""
    await stager.commit(NOW, touchpoint("a", ANN, day=1), touchpoint("b", EMAIL, day=2))
    await stager.commit(NOW, touchpoint("c", ANN, EMAIL, day=3))
    erasure = await ask(stager, ANN, NOW)
    await stager.erase(NOW)

    assert erasure
    async with connection_of(stager.pool) as connection:
        rows = await connection.fetch("SELECT key, value FROM outbox WHERE NOT to_all")
        aliases = await connection.fetch("SELECT id FROM erased_aliases")
    told = [(row["key"], msgspec.json.decode(row["value"])) for row in rows]
    assert told == [
        (
            str(erasure.customer).encode(),
            {
                "kind": "customer_erased",
                "customer": str(erasure.customer),
                "aliases": [str(row["id"]) for row in aliases],
                "known_at": "2026-06-01T00:00:00Z",
            },
        )
    ]
    assert len(aliases) == 1


async def test_a_family_tablet_stays_with_the_others(stager: Staging) -> None:
    """What Ann did on it is gone, and what comes late of that is dropped. Bo's use of it stays Bo's, before
    and after her; from then on it is Bo's again."""
    await stager.commit(NOW, touchpoint("bo", BO, TABLET, day=1), touchpoint("bo1", TABLET, day=2))
    await stager.commit(NOW, touchpoint("ann", ANN, TABLET, day=3), touchpoint("ann1", TABLET, day=4))
    await ask(stager, ANN, NOW)
    await stager.erase(NOW)
    hers = await stager.commit(NOW, touchpoint("ann2", TABLET, day=5))
    his = await stager.commit(NOW, touchpoint("bo2", TABLET, day=1.5), touchpoint("bo3", TABLET, day=400))

    assert (hers.erased, hers.stored) == (1, 0)
    assert (his.erased, his.stored) == (0, 2)
    assert await identities(stager) == {frozenset([BO, TABLET])}
    async with connection_of(stager.pool) as connection:
        bodies = [row["body"] for row in await connection.fetch("SELECT body FROM touchpoints")]
    assert {decode(body).id for body in bodies} == {"bo", "bo1", "bo2", "bo3"}
    assert await stager.differences() == []


async def test_a_link_between_what_went_on_to_several_goes(stager: Staging) -> None:
    """Ann's number and her tablet are Bo's and Cleo's by now. That both were together only she told."""
    number, cleo = "phone:+4533123456", "user_id:cleo"
    await stager.commit(NOW, touchpoint("a", ANN, number, TABLET), touchpoint("b", number, TABLET, day=1))
    await stager.commit(NOW, touchpoint("c", BO, number, day=2), touchpoint("d", cleo, TABLET, day=2))
    await ask(stager, ANN, NOW)

    async with connection_of(stager.pool) as connection:
        links = await connection.fetch("SELECT identity, other FROM identity_links")
    assert {tuple(row) for row in links} == {(BO, number), (cleo, TABLET)}


async def test_a_name_in_the_hands_of_others_goes(stager: Staging) -> None:
    """Bo's orders stay, though one of them named Ann's address, to which he was refused a link; the name in
    it goes, and the refusal. A record that nobody could process goes too, if it names her."""
    await stager.commit(NOW, touchpoint("ann", ANN, EMAIL, day=1))
    await stager.commit(NOW, touchpoint("bo", BO, EMAIL, day=2, body=b'{"order_id":"17"}'))
    odd = [b'{"identities":["%b"],"type":1}' % one.encode() for one in (EMAIL, BO)]
    records = [Record(0, stager.stands.next_offset + number, value) for number, value in enumerate(odd)]
    await stager.store.commit(read_batch(records), {0: stager.stands}, NOW)
    await ask(stager, ANN, NOW)
    await stager.erase(NOW)

    assert await left_of(stager, [ANN, EMAIL]) == []
    async with connection_of(stager.pool) as connection:
        (bo,) = [row["body"] for row in await connection.fetch("SELECT body FROM touchpoints")]
        dead = [row["value"] for row in await connection.fetch("SELECT value FROM dead_letters")]
    was = touchpoint("bo", BO, EMAIL, day=2, body=b'{"order_id":"17"}')
    assert bo == encode(msgspec.structs.replace(was, identities=(BO,)))
    assert dead == odd[1:]
    assert await stager.differences() == []


async def test_a_version_on_its_way_meets_nobody_who_is_gone(database_url: str) -> None:
    """A page of a backfill that has read a customer, and waited while they went, is run again without
    them."""
    async with staging(database_url, JOURNEYS[:1], NOW) as stager:
        await stager.commit(NOW, touchpoint("a", ANN), touchpoint("b", BO))
        async with connection_of(stager.pool) as connection:
            await register(connection, [one.definition for one in JOURNEYS[:2]], NOW)
        await stager.in_force.follow()
        assert await ask(stager, ANN, NOW)
        backfill = Backfill(stager.pool, stager.in_force, 2, ManualClock(NOW), Failpoints())
        erasing = Erasing(stager.pool, stager.in_force, 4, ManualClock(NOW), Failpoints())
        holder = await asyncpg.connect(database_url)
        try:
            held = holder.transaction()
            await held.start()
            await holder.execute("SELECT FROM customers WHERE erased_at IS NOT NULL FOR UPDATE")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(erasing.page())
                await await_waiting(stager.pool)
                page = tasks.create_task(met_others(backfill))
                await await_waiting(stager.pool, 2)
                await held.rollback()
        finally:
            await holder.close()
        await stager.backfill(NOW)
        await stager.in_force.follow()
        await stager.erase(NOW)

        assert page.result()
        async with connection_of(stager.pool) as connection:
            assert await differences(connection, JOURNEYS[:2]) == []


async def met_others(backfill: Backfill) -> bool:
    """Whether a page of a backfill has met another transaction and wrote nothing."""
    try:
        await backfill.page()
    except Contended:
        return True
    return False
