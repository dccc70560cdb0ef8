"""`GET /v1/customers/{ref}/timeline` on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.api.views.position import END, from_cursor
from services.api.views.timelines import Filter, find_timeline
from shared.journey.touch import Touch
from shared.store.engine import Pool, open_pool
from shared.store.ids import touchpoint_uid
from shared.touchpoint import Touchpoint
from tests.service.api_store import SOURCE, ApiStore, serving, store_of, touchpoint
from tests.support.journeys import EPOCH, all_journeys, touches

PATH = "/v1/customers/user_id:ann/timeline"


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[ApiStore]:
    async with store_of(database_url, all_journeys()) as store:
        yield store


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_url, connections_max=2, service="api")
    yield pool
    pool.terminate()


async def pages(client: httpx.AsyncClient, limit: int, **wanted: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        asked = {**wanted, "limit": limit, **({"cursor": cursor} if cursor else {})}
        answer = await client.get(PATH, params=asked)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["items"]) == limit or page["next_cursor"] is None
        items += page["items"]
        cursor = page["next_cursor"]
    return items


def told(items: Sequence[dict[str, Any]]) -> list[str]:
    return [item.get("source_id") or f"{item['journey']} {item['change']} {item['to']}" for item in items]


async def test_touchpoints_and_stage_changes_stand_together_newest_first(
    store: ApiStore, database_url: str
) -> None:
    """A touchpoint is passed through as it was sent; a change tells its cause; a caused change is newer than
    its touchpoint, and a change by time older than a touchpoint of the same instant."""
    first = touchpoint("a", more={"properties": {"total": 249.50, "deep": [{"æ": None}]}, "sentiment": 0.5})
    second = touchpoint("b", "page_viewed", hours=12, channel="store")
    await store.add_customer("user_id:ann", touchpoints=[first, second], until=EPOCH + timedelta(hours=12))
    async with serving(database_url, await store.add_key()) as client:
        items = await pages(client, 50)

    assert told(items) == [
        "everything resume buying",
        "b",
        "everything pause buying",
        "purchase-lifecycle enter first",
        "everything enter buying",
        "a",
    ]
    assert items[-1] == {
        "kind": "touchpoint",
        "at": "2026-01-01T00:00:00Z",
        "id": str(touchpoint_uid(SOURCE, "a")),
        "source_id": "a",
        "type": "order_completed",
        "channel": "web",
        "source": SOURCE,
        "owner": "own",
        "sentiment": 0.5,
        "identities": ["user_id:ann"],
        "received_at": "2026-01-01T00:00:00Z",
        "sent_at": None,
        "properties": {"total": 249.50, "deep": [{"æ": None}]},
        "traits": {},
        "context": {},
        "consent": {},
    }
    assert items[2] == {
        "kind": "stage_change",
        "at": "2026-01-01T12:00:00Z",
        "journey": "everything",
        "version": 1,
        "change": "pause",
        "from": "buying",
        "to": "buying",
        "from_paused": False,
        "to_paused": True,
        "cause": {"touchpoint": None, "rule": "buying.pause"},
        "about": {"kind": "customer"},
    }
    assert items[3]["from"] is None
    assert items[3]["cause"] == {"touchpoint": items[-1]["id"], "rule": "first.enter"}


async def test_filters_leave_what_they_say(store: ApiStore, database_url: str) -> None:
    """`from` is inclusive and `to` exclusive; channel and type leave touchpoints alone; kind leaves one kind;
    and each holds over pages."""
    touchpoints = [
        touchpoint("a", hours=0),
        touchpoint("b", "page_viewed", hours=1, channel="store"),
        touchpoint("c", "call_ended", hours=2, channel="phone"),
    ]
    await store.add_customer("user_id:ann", touchpoints=touchpoints, until=EPOCH + timedelta(hours=2))
    async with serving(database_url, await store.add_key()) as client:
        for limit in (1, 50):
            assert told(await pages(client, limit, kind="touchpoint")) == ["c", "b", "a"]
            assert told(await pages(client, limit, kind="stage_change")) == [
                "purchase-lifecycle enter first",
                "everything enter buying",
            ]
            assert told(await pages(client, limit, channel=["store", "phone"])) == ["c", "b"]
            assert told(await pages(client, limit, type=["order_completed", "call_ended"])) == ["c", "a"]
            assert told(await pages(client, limit, type="page_viewed", channel="web")) == []
            assert told(await pages(client, limit, kind="stage_change", channel="web")) == []
            window = {"from": "2026-01-01T01:00:00Z", "to": "2026-01-01T03:00:00+01:00"}
            assert told(await pages(client, limit, **window)) == ["b"]


async def test_superseded_changes_and_other_versions_are_no_part_of_it(
    store: ApiStore, database_url: str
) -> None:
    """After a refold only the standing history of the active versions is told."""
    id_ = await store.add_customer("user_id:ann", touchpoints=[touchpoint("b", hours=5)])
    await store.connection.execute(
        "INSERT INTO stage_transitions SELECT customer_id, journey_key, 0, seq, revision, at, kind, "
        "from_stage, from_paused, to_stage, to_paused, touchpoint_id, rule, recorded_at, superseded_at, run "
        "FROM stage_transitions"
    )
    await store.add_touchpoints(id_, [touchpoint("a", hours=1)])
    await store.fold(id_, EPOCH + timedelta(hours=5))
    async with serving(database_url, await store.add_key()) as client:
        items = await pages(client, 50)

    assert told(items) == ["b", "purchase-lifecycle enter first", "everything enter buying", "a"]


async def test_a_page_goes_on_where_the_last_one_ended_whatever_comes_in(
    store: ApiStore, database_url: str
) -> None:
    """Touchpoints that arrive while somebody pages change no later page, unless they belong there."""
    id_ = await store.add_customer(
        "user_id:ann", touchpoints=[touchpoint(str(hour), "page_viewed", hours=hour) for hour in range(4)]
    )
    async with serving(database_url, await store.add_key()) as client:
        asked = {"kind": "touchpoint", "limit": "2"}
        first = (await client.get(PATH, params=asked)).json()
        await store.add_touchpoints(
            id_, [touchpoint("new", "page_viewed", hours=9), touchpoint("late", "page_viewed", hours=0.5)]
        )
        asked["cursor"] = first["next_cursor"]
        second = (await client.get(PATH, params=asked)).json()

    assert told(first["items"] + second["items"]) == ["3", "2", "1", "late"]


async def test_an_unknown_customer_has_no_timeline_and_a_new_one_an_empty_one(
    store: ApiStore, database_url: str
) -> None:
    """404 is for a customer that isn't there, an empty page for one without touchpoints."""
    await store.add_customer("user_id:ann")
    async with serving(database_url, await store.add_key()) as client:
        unknown = await client.get("/v1/customers/user_id:bo/timeline")
        empty = await client.get(PATH)

    assert (unknown.status_code, unknown.json()["code"]) == (404, "customer_not_found")
    assert (empty.json()["items"], empty.json()["next_cursor"]) == ([], None)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=ten", "limit"),
        ("cursor=", "cursor"),
        ("cursor=AAAA", "cursor"),
        ("cursor=" + "A" * 401, "cursor"),
        ("from=2026-01-01", "from"),
        ("from=2026-01-01T00:00:00", "from"),
        ("from=1767225600", "from"),
        ("from=0001-01-01T00:00:00%2B14:00", "from"),
        ("to=yesterday", "to"),
        ("channel=pigeon", "channel.0"),
        ("channel=web&channel=", "channel.1"),
        ("type=Order%20Completed", "type.0"),
        ("type=%00", "type.0"),
        ("kind=both", "kind"),
        ("offset=3", "offset"),
        ("Limit=3", "Limit"),
        ("begin=2026-01-01T00:00:00Z", "begin"),
    ],
)
async def test_a_wrong_or_unknown_parameter_is_named_in_a_422(
    store: ApiStore, database_url: str, query: str, parameter: str
) -> None:
    """Nothing is guessed or ignored: the problem names the parameter, and never repeats its value."""
    async with serving(database_url, await store.add_key()) as client:
        answer = await client.get(f"{PATH}?{query}")

    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameters")
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(timeline=touches(size_max=10), limit=st.integers(1, 8))
async def test_paging_gives_exactly_the_whole_list_once(
    store: ApiStore, pool: Pool, timeline: list[Touch], limit: int
) -> None:
    """For any timeline and page size the pages put together are the items that the tables hold, each once,
    in the total order, however many stand at one instant."""
    await store.clear()
    touchpoints = [_touchpoint_of(number, touch) for number, touch in enumerate(timeline)]
    id_ = await store.add_customer("user_id:ann", touchpoints=touchpoints, until=EPOCH + timedelta(days=70))

    found: list[tuple[Any, Any]] = []
    after = END
    while len(found) < 1_000:  # a position that doesn't move on must end too
        page = await find_timeline(pool, {}, id_, Filter(), after, limit)
        assert page is not None
        found += [(item.at, _what(item)) for item in page.items]
        if page.next_cursor is None:
            break
        assert len(page.items) == limit
        after = from_cursor(page.next_cursor)

    assert found == await _in_order(store, id_)


def _touchpoint_of(number: int, touch: Touch) -> Touchpoint:
    hours = (touch.at - EPOCH) / timedelta(hours=1)
    return touchpoint(str(number), touch.type, hours=hours, channel=touch.channel)


def _what(item: Any) -> Any:
    if hasattr(item, "source_id"):
        return item.id
    return (item.journey, item.change, item.to, item.cause.touchpoint)


async def _in_order(store: ApiStore, id_: UUID) -> list[tuple[Any, Any]]:
    """The timeline as the tables hold it, sorted here by the order that the API promises."""
    keyed: list[tuple[Any, ...]] = []
    for row in await store.connection.fetch(
        "SELECT occurred_at, id FROM touchpoints WHERE customer_id = $1", id_
    ):
        keyed.append(((row[0], row[1].int, 1, "", 0), row[1]))
    rows = await store.connection.fetch(
        "SELECT at, touchpoint_id, journey_key, seq, kind, to_stage FROM stage_transitions "
        "WHERE customer_id = $1 AND superseded_at IS NULL",
        id_,
    )
    for at, cause, journey, seq, kind, to in rows:
        rank = (0, 0) if cause is None else (cause.int, 2)
        keyed.append(((at, *rank, journey, seq), (journey, kind, to, cause)))
    return [(key[0], what) for key, what in sorted(keyed, key=lambda one: one[0], reverse=True)]
