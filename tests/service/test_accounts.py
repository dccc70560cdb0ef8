"""Accounts, their timelines and their members, on a real PostgreSQL: always what the plain rule says."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.store.engine import connection_of
from shared.touchpoint import identifies_person, strongest_first
from tests.service.staging import Staging, staging
from tests.service.test_identity import clear, told_wrongly
from tests.service.test_stager_runs import ACCOUNTS
from tests.service.test_stager_store import NOW, touchpoint

_PEOPLE = [("user_id:1",), ("user_id:2",), ("anonymous_id:1",), ("user_id:1", "anonymous_id:1")]
_OTHERS = [("user_id:2", "anonymous_id:1"), ("email:a@b.dk",), ("user_id:1", "email:a@b.dk")]
_ACCOUNTS = [(), (), ("account_id:a",), ("account_id:b",), ("account_id:a", "account_id:b")]
_TYPES = ["order_completed", "product_viewed", "account_left"]

_said = st.tuples(
    st.one_of(st.sampled_from(_PEOPLE), st.sampled_from(_OTHERS)),
    st.sampled_from(_ACCOUNTS),
    st.integers(0, 10),
    st.sampled_from(_TYPES),
)


@pytest.fixture
async def stager(database_url: str) -> AsyncIterator[Staging]:
    async with staging(database_url, [ACCOUNTS], NOW, tells=True) as running:
        yield running


@given(said=st.lists(_said, min_size=12, max_size=24), data=st.data())
# Not shrunk: through a store that takes longer than reading a large example.
@settings(
    max_examples=25,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_accounts_are_what_the_plain_rule_says_at_any_moment(
    stager: Staging,
    said: list[tuple[tuple[str, ...], tuple[str, ...], int, str]],
    data: st.DataObject,
) -> None:
    """In any order and any batches, sent again or not, with customers who merge and devices that go from hand
    to hand: timelines, members, states, histories and counters, and what consumers are told."""
    await clear(stager)
    sent = [
        touchpoint(str(number), *strongest_first((*who, *accounts)), day=day, type_=type_)
        for number, (who, accounts, day, type_) in enumerate(said)
    ]
    left = list(sent)
    while left:
        size = data.draw(st.integers(1, 5))
        some, left = left[:size], left[size:]
        again = data.draw(st.lists(st.sampled_from(sent[: len(sent) - len(left)]), max_size=2))
        await stager.commit(NOW, *some, *again)
        assert await stager.differences() == []

    assert await told_wrongly(stager) == []
    async with connection_of(stager.pool) as connection:
        marked = await connection.fetchval("SELECT count(*) FROM customers WHERE is_member")
    named = [one for one in sent if not all(map(identifies_person, one.identities))]
    assert bool(marked) == bool(named)


async def test_a_naming_that_comes_late_alters_what_lies_behind_it_up_to_the_next(stager: Staging) -> None:
    """What is about another account now is taken from the one, and told anew of both."""
    await stager.commit(NOW, touchpoint("names a", "user_id:1", "account_id:a", day=1))
    await stager.commit(NOW, touchpoint("buys", "user_id:1", day=3), touchpoint("again", "user_id:1", day=5))
    await stager.commit(NOW, touchpoint("names a again", "user_id:1", "account_id:a", day=4))
    done = await stager.commit(NOW, touchpoint("names b", "user_id:1", "account_id:b", day=2))

    async with connection_of(stager.pool) as connection:
        rows = await connection.fetch(
            "SELECT identity, count(*)::int FROM accounts JOIN account_touchpoints AS a "
            "ON a.account_id = accounts.id GROUP BY 1 ORDER BY 1"
        )
    assert [tuple(row) for row in rows] == [("account_id:a", 3), ("account_id:b", 2)]
    assert len({change.customer_id for change in done.changes if change.late}) == 2
    assert await stager.differences() == []
    assert await told_wrongly(stager) == []
