"""Who is who, as a store manager would tell it: each story through the real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from shared.codec import decode
from shared.store.engine import connection_of
from shared.store.withdrawals import take_back, withdraw
from shared.touchpoint import Touchpoint, strongest_first
from tests.service.staging import Staging, staging
from tests.service.test_stager_store import NOW
from tests.support.journeys import EPOCH, all_journeys

MUM, SON, ANN, BOB = "user_id:mum", "user_id:son", "user_id:ann", "user_id:bob"
TABLET, PHONE, CARD = "anonymous_id:tablet", "phone:+4533123456", "loyalty_id:staff"


class Shop:
    """What happens at a shop, hour by hour, and what it knows of whom afterwards."""

    def __init__(self, stager: Staging) -> None:
        self._stager = stager
        self._hour = 0

    async def sees(self, what: str, *identities: str, hour: int | None = None) -> None:
        """Something happens, an hour after the last; or a file tells of an earlier hour."""
        if hour is None:
            self._hour += 1
            hour = self._hour
        at = EPOCH + timedelta(hours=hour)
        await self._stager.commit(
            NOW, Touchpoint(what, "product_viewed", "web", at, NOW, "shop", strongest_first(identities))
        )

    async def knows(self, identity: str) -> list[str]:
        """What is on the timeline of whoever has this identity now."""
        async with connection_of(self._stager.pool) as connection:
            rows = await connection.fetch(
                "SELECT body FROM touchpoints WHERE customer_id = "
                "(SELECT customer_id FROM identities WHERE identity = $1) ORDER BY occurred_at",
                identity,
            )
        return [decode(row["body"]).id for row in rows]

    async def unlinks(self, identity: str, other: str | None = None) -> None:
        """Somebody at the shop says that two identities are not one customer's."""
        async with connection_of(self._stager.pool) as connection:
            assert await withdraw(connection, identity, other, NOW)
        await self._stager.settle(NOW)

    async def relinks(self, identity: str, other: str | None = None) -> None:
        """Somebody takes that back."""
        async with connection_of(self._stager.pool) as connection:
            assert await take_back(connection, identity, other, NOW)
        await self._stager.settle(NOW)

    async def refused(self) -> list[str]:
        """The identities that were not linked to whom they came with, in the order of the first time."""
        async with connection_of(self._stager.pool) as connection:
            rows = await connection.fetch(
                "SELECT identity FROM identity_conflicts ORDER BY first_at, identity"
            )
        return [row["identity"] for row in rows]


@pytest.fixture
async def shop(database_url: str) -> AsyncIterator[Shop]:
    async with staging(database_url, all_journeys()[:1], NOW) as stager:
        yield Shop(stager)
        assert await stager.differences() == []


async def test_one_customer_whichever_way_they_came(shop: Shop) -> None:
    """She looks around on the web, calls, shows her card in the store, and logs in at last: one timeline."""
    await shop.sees("looks at sofas", "anonymous_id:laptop")
    await shop.sees("calls about one", "phone:+4520202020")
    await shop.sees("buys it with her card", "loyalty_id:1234", "phone:+4520202020")
    await shop.sees("logs in at home", ANN, "anonymous_id:laptop")
    await shop.sees("adds her card to the account", ANN, "loyalty_id:1234")

    everything = [
        "looks at sofas",
        "calls about one",
        "buys it with her card",
        "logs in at home",
        "adds her card to the account",
    ]
    for identity in (ANN, "anonymous_id:laptop", "phone:+4520202020", "loyalty_id:1234"):
        assert await shop.knows(identity) == everything


async def test_the_family_tablet(shop: Shop) -> None:
    """Mum and son log in on one tablet: two customers. What happens on it between two logins is of whoever
    logged in last, and what happened before the first login is mum's, who was first."""
    await shop.sees("somebody browses", TABLET)
    await shop.sees("mum logs in", MUM, TABLET)
    await shop.sees("a recipe", TABLET)
    await shop.sees("the son logs in", SON, TABLET)
    await shop.sees("a game", TABLET)
    await shop.sees("mum logs in again", MUM, TABLET)
    await shop.sees("another recipe", TABLET)

    assert await shop.knows(MUM) == [
        *("somebody browses", "mum logs in", "a recipe", "mum logs in again", "another recipe")
    ]
    assert await shop.knows(SON) == ["the son logs in", "a game"]


async def test_the_family_tablet_told_late(shop: Shop) -> None:
    """The tablet was offline for an hour: what it then tells of goes to whoever was logged in at that hour,
    and so does what had been told of before the login was known."""
    await shop.sees("mum logs in", MUM, TABLET)
    await shop.sees("a recipe", TABLET, hour=20)
    await shop.sees("a game", TABLET, hour=40)
    await shop.sees("the son logs in", SON, TABLET, hour=30)
    await shop.sees("a second recipe", TABLET, hour=25)

    assert await shop.knows(MUM) == ["mum logs in", "a recipe", "a second recipe"]
    assert await shop.knows(SON) == ["the son logs in", "a game"]


async def test_the_shared_phone_at_work(shop: Shop) -> None:
    """Two colleagues call from one number and say who they are: two customers, however often they call."""
    await shop.sees("ann orders", ANN, PHONE)
    await shop.sees("bob orders", BOB, PHONE)
    await shop.sees("somebody asks where it is", PHONE)
    await shop.sees("ann orders again", ANN, PHONE)

    assert await shop.knows(ANN) == ["ann orders", "ann orders again"]
    assert await shop.knows(BOB) == ["bob orders", "somebody asks where it is"]


async def test_the_reused_prepaid_number(shop: Shop) -> None:
    """Ann gives up her number, and months later Bob gets it: his calls are his, and hers stay hers."""
    await shop.sees("ann signs up", ANN, PHONE)
    await shop.sees("ann calls", PHONE)
    await shop.sees("bob signs up", BOB, PHONE, hour=3_000)
    await shop.sees("bob calls", PHONE, hour=3_001)

    assert await shop.knows(ANN) == ["ann signs up", "ann calls"]
    assert await shop.knows(PHONE) == ["bob signs up", "bob calls"]


async def test_the_typo_in_an_e_mail(shop: Shop) -> None:
    """Bob mistypes his address, and it is Ann's: neither becomes the other, and somebody can see it."""
    await shop.sees("ann signs up", ANN, "email:ann@example.com")
    await shop.sees("bob signs up", BOB, "email:ann@example.com")
    await shop.sees("ann reads a letter", "email:ann@example.com")

    assert await shop.knows(ANN) == ["ann signs up", "ann reads a letter"]
    assert await shop.knows(BOB) == ["bob signs up"]
    assert await shop.refused() == ["email:ann@example.com"]


async def test_the_employee_who_scans_their_own_card(shop: Shop) -> None:
    """For customers who have none with them: those who are logged in stay who they are, and somebody can see
    how often it happened."""
    await shop.sees("the employee buys", "user_id:employee", CARD)
    for number in range(8):
        await shop.sees(f"customer {number} buys", f"user_id:{number}", CARD)

    assert await shop.knows(CARD) == ["the employee buys"]
    for number in range(8):
        assert await shop.knows(f"user_id:{number}") == [f"customer {number} buys"]
    assert await shop.refused() == [CARD] * 8


async def test_the_employee_and_customers_without_a_login(shop: Shop) -> None:
    """Of customers who gave an address alone it takes the limit of addresses until it is noticed."""
    await shop.sees("the employee buys", "user_id:employee", CARD)
    for number in range(8):
        await shop.sees(f"customer {number} buys", CARD, f"email:{number}@example.com")

    assert len(await shop.refused()) == 3


async def test_the_typo_that_made_two_one(shop: Shop) -> None:
    """Ann has no login yet when Bob mistypes his address, and it is hers: they become one customer. The shop
    withdraws that; Bob mistypes it again, and it links them no more. When the shop takes it back, they are
    one again."""
    await shop.sees("ann reads a letter", "email:ann@example.com")
    await shop.sees("ann calls", "email:ann@example.com", PHONE)
    await shop.sees("bob signs up", BOB, "email:ann@example.com")
    everything = ["ann reads a letter", "ann calls", "bob signs up"]
    assert await shop.knows(BOB) == everything

    await shop.unlinks(BOB, "email:ann@example.com")
    await shop.sees("bob buys", BOB)
    await shop.sees("bob mistypes it again", BOB, "email:ann@example.com")
    await shop.sees("ann reads another", "email:ann@example.com")

    anns = ["ann reads a letter", "ann calls", "ann reads another"]
    assert await shop.knows(PHONE) == await shop.knows("email:ann@example.com") == anns
    assert await shop.knows(BOB) == ["bob signs up", "bob buys", "bob mistypes it again"]
    assert await shop.refused() == []

    await shop.relinks(BOB, "email:ann@example.com")
    united = [*everything, "bob buys", "bob mistypes it again", "ann reads another"]
    assert await shop.knows(PHONE) == await shop.knows(BOB) == united


async def test_the_shared_phone_at_work_was_taken_for_somebodys(shop: Shop) -> None:
    """The number is the whole office's: it was Ann's until Bob called, and Bob's since. The shop says that it
    is neither's, and what was said on it without a name is nobody's of whom a name is known. Both go on
    calling, and it stays so."""
    await shop.sees("ann orders", ANN, PHONE)
    await shop.sees("somebody asks", PHONE)
    await shop.sees("bob orders", BOB, PHONE)
    await shop.sees("somebody asks again", PHONE)
    assert await shop.knows(BOB) == ["bob orders", "somebody asks again"]

    await shop.unlinks(PHONE)
    await shop.sees("ann calls", ANN, PHONE)
    await shop.sees("bob calls", BOB, PHONE)
    await shop.sees("somebody calls", PHONE)

    assert await shop.knows(ANN) == ["ann orders", "ann calls"]
    assert await shop.knows(BOB) == ["bob orders", "bob calls"]
    assert await shop.knows(PHONE) == ["somebody asks again", "somebody calls"]

    await shop.relinks(PHONE)
    assert await shop.knows(ANN) == ["ann orders", "somebody asks", "ann calls"]
    assert await shop.knows(BOB) == ["bob orders", "somebody asks again", "bob calls", "somebody calls"]


async def test_the_employees_card_is_everybodys(shop: Shop) -> None:
    """Customers who gave an address alone became one with the employee by the card. The shop unlinks the
    card: each is one again, and the employee's card links nobody any more."""
    for number in range(3):
        await shop.sees(f"customer {number} buys", CARD, f"email:{number}@example.com")
        await shop.sees(f"customer {number} reads", f"email:{number}@example.com")
    assert len(await shop.knows("email:0@example.com")) == 6

    await shop.unlinks(CARD)
    await shop.sees("customer 0 buys again", CARD, "email:0@example.com")

    for number in range(3):
        assert await shop.knows(f"email:{number}@example.com") == [f"customer {number} reads"]
    assert await shop.knows(CARD) == [
        *(f"customer {number} buys" for number in range(3)),
        "customer 0 buys again",
    ]
