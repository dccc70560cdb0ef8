"""Who acts for which company, as an account manager would tell it: each story through the real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from shared.codec import decode
from shared.journey.fold import Journey
from shared.store.engine import connection_of
from shared.store.ids import account_uid
from shared.touchpoint import Touchpoint, strongest_first
from tests.service.staging import Staging, staging
from tests.service.test_stager_store import NOW
from tests.support.journeys import EPOCH
from tests.support.stories import BUILT_IN

ACME, BETA = "account_id:acme", "account_id:beta"
CORA, EVA = "user_id:cora", "user_id:eva"


class Office:
    """What happens day by day, and what each account's timeline tells of it afterwards."""

    def __init__(self, stager: Staging) -> None:
        self._stager = stager
        self._day = 0

    async def hears(
        self, what: str, *identities: str, type_: str = "page_viewed", day: int | None = None
    ) -> None:
        """Something happens, a day after the last; or a file tells of an earlier day."""
        if day is None:
            self._day += 1
            day = self._day
        at = EPOCH + timedelta(days=day)
        await self._stager.commit(
            NOW, Touchpoint(what, type_, "web", at, NOW, "office", strongest_first(identities))
        )

    async def knows_of(self, account: str) -> list[str]:
        """What is on an account's timeline."""
        async with connection_of(self._stager.pool) as connection:
            rows = await connection.fetch(
                "SELECT body FROM account_touchpoints JOIN touchpoints USING (customer_id, occurred_at, id) "
                "WHERE account_id = $1 ORDER BY occurred_at",
                account_uid(account),
            )
        return [decode(row["body"]).id for row in rows]

    async def stage_of(self, account: str) -> str:
        """The stage that all its people have brought it to."""
        async with connection_of(self._stager.pool) as connection:
            stage: str = await connection.fetchval(
                "SELECT to_stage FROM stage_transitions WHERE customer_id = $1 AND superseded_at IS NULL "
                "ORDER BY seq DESC LIMIT 1",
                account_uid(account),
            )
        return stage


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    async with staging(database_url, [Journey(BUILT_IN["b2b-loyalty-loop"])], NOW) as stager:
        yield Office(stager)
        assert await stager.differences() == []


async def test_the_consultant_with_two_clients(office: Office) -> None:
    """What she does is about the client whom she named last; what she does for both she says so."""
    await office.hears("signs in for acme", CORA, ACME)
    await office.hears("reads a case study", CORA)
    await office.hears("signs in for beta", CORA, BETA)
    await office.hears("compares products", CORA)
    await office.hears("a workshop with both", CORA, ACME, BETA)
    await office.hears("asks for papers", CORA)

    for_both = ["a workshop with both", "asks for papers"]
    assert await office.knows_of(ACME) == ["signs in for acme", "reads a case study", *for_both]
    assert await office.knows_of(BETA) == ["signs in for beta", "compares products", *for_both]


async def test_the_employee_who_leaves(office: Office) -> None:
    """From the day that she left on, what she does is her own, until she says for whom she acts now. That it
    is told of late alters nothing; what she did before stays the old employer's."""
    await office.hears("signs in at work", EVA, ACME)
    await office.hears("asks for a quote", EVA, type_="quote_requested")
    await office.hears("buys for herself", EVA, type_="order_completed", day=5)
    bought = await office.stage_of(ACME)
    await office.hears("left acme", EVA, ACME, type_="account_left", day=4)
    await office.hears("signs in at the new job", EVA, BETA, day=9)
    await office.hears("reads on", EVA, day=10)

    assert (bought, await office.stage_of(ACME)) == ("retention", "decision")
    assert await office.knows_of(ACME) == ["signs in at work", "asks for a quote", "left acme"]
    assert await office.knows_of(BETA) == ["signs in at the new job", "reads on"]


async def test_the_buying_committee(office: Office) -> None:
    """Three people make one journey. What one of them read before anybody knew her counts from the day on at
    which she says whom she is from, and only what nobody has said anything of is nobody's."""
    await office.hears("reads a white paper", "anonymous_id:laptop", type_="whitepaper_downloaded")
    await office.hears("another reader", "anonymous_id:tablet", type_="whitepaper_downloaded")
    await office.hears("the buyer calls", "phone:+4520202020", ACME, type_="call_ended")
    await office.hears("the boss meets us", "email:boss@acme.example", ACME, type_="meeting_held")
    await office.hears("signs up", "user_id:uma", "anonymous_id:laptop", type_="lead_submitted")
    assert "reads a white paper" not in await office.knows_of(ACME)
    await office.hears("says where she works", "user_id:uma", ACME)
    await office.hears("the boss buys", "email:boss@acme.example", type_="order_completed")

    assert await office.knows_of(ACME) == [
        "reads a white paper",
        "the buyer calls",
        "the boss meets us",
        "signs up",
        "says where she works",
        "the boss buys",
    ]
    assert await office.stage_of(ACME) == "retention"
