"""`GET /v1/journeys` and `/v1/journeys/{key}/counts` and `/flows` on a real PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.api.views.active import activate
from services.api.views.counts import counts_as_of, counts_now
from services.api.views.flows import flows_until
from shared.journey.fold import Journey, fold
from shared.journey.language import parse
from shared.journey.touch import Touch
from shared.store.engine import Pool, open_pool
from tests.service.api_store import ApiStore, serving, store_of, touchpoint
from tests.support.journeys import EPOCH, EVERYTHING, all_journeys, touches
from tests.support.stories import BUILT_IN

JOURNEY = Journey(parse(EVERYTHING, "everything.yaml"))
COUNTS = "/v1/journeys/everything/counts"
Place = tuple[str, bool]


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[ApiStore]:
    async with store_of(database_url, all_journeys()) as store:
        yield store


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_url, connections_max=2, service="api")
    yield pool
    pool.terminate()


async def test_the_active_definitions_are_listed_with_their_labels(
    store: ApiStore, database_url: str
) -> None:
    """Each journey once, at its highest version: stages in order, exits, labels in three languages."""
    newer = EVERYTHING.replace("version: 1", "version: 12").replace("Opmærksom", "Vågen")
    store.journeys = [Journey(parse(newer, "newer.yaml"))]
    await store.register()
    async with serving(database_url, await store.add_key()) as client:
        answer = (await client.get("/v1/journeys")).json()

    everything, lifecycle = answer["journeys"]
    assert (everything["key"], everything["version"]) == ("everything", 12)
    assert [stage["key"] for stage in everything["stages"]] == ["aware", "considering", "buying", "loyal"]
    assert everything["stages"][0]["labels"] == {"en": "Aware", "da": "Vågen", "sv": "Medveten"}
    assert [exit_["key"] for exit_ in everything["exits"]] == ["lost", "refused"]
    assert lifecycle["labels"]["da"] == "Købslivscyklus"


async def test_a_definition_is_told_whole(store: ApiStore, database_url: str) -> None:
    """As the file has it, and as data; whose article it comes from stands in the list."""
    store.journeys = [Journey(BUILT_IN["attention-to-loyalty"])]
    await store.register()
    async with serving(database_url, await store.add_key()) as client:
        listed = (await client.get("/v1/journeys")).json()["journeys"]
        whole = (await client.get("/v1/journeys/attention-to-loyalty")).json()
        unknown = await client.get("/v1/journeys/nothing")

    assert [journey["article"] and journey["article"]["number"] for journey in listed] == ["004", None, None]
    assert whole["source"] == BUILT_IN["attention-to-loyalty"].source
    assert whole["definition"]["stages"][2]["gate"] is True
    assert (unknown.status_code, unknown.json()["code"]) == (404, "journey_not_found")


@pytest.mark.expects_error("rejse.api: definition_unreadable")
async def test_a_definition_that_cannot_be_read_hides_no_other(store: ApiStore, database_url: str) -> None:
    """A stored text that this version can't read is reported in the log; the other journeys are served."""
    await store.connection.execute(
        "INSERT INTO journey_definitions (key, version, hash, source, links, recorded_at, activated_at)"
        "VALUES ('future', 1, 'abc', 'key: future', '[]', $1, $1)",
        EPOCH,
    )
    async with serving(database_url, await store.add_key()) as client:
        answer = (await client.get("/v1/journeys")).json()
        unknown = await client.get("/v1/journeys/future/counts")

    assert [journey["key"] for journey in answer["journeys"]] == ["everything", "purchase-lifecycle"]
    assert (unknown.status_code, unknown.json()["code"]) == (404, "journey_not_found")


async def test_counts_list_every_place_in_the_definitions_order(store: ApiStore, database_url: str) -> None:
    """Stages, then exits, with labels, also those without customers; `paused` is a part of `count`."""
    for number, hours in enumerate((0, 0, 20)):
        await store.add_customer(
            f"user_id:{number}",
            touchpoints=[touchpoint(str(number), hours=hours)],
            until=EPOCH + timedelta(hours=24),
        )
    async with serving(database_url, await store.add_key()) as client:
        now = (await client.get(COUNTS)).json()
        then = (await client.get(COUNTS, params={"at": "2026-01-01T14:00:00+02:00"})).json()
        before = (await client.get(COUNTS, params={"at": "2025-12-31T23:59:59.999999Z"})).json()

    assert [(one["stage"], one["kind"]) for one in now["stages"]] == [
        ("aware", "stage"),
        ("considering", "stage"),
        ("buying", "stage"),
        ("loyal", "stage"),
        ("lost", "exit"),
        ("refused", "exit"),
    ]
    buying = {"stage": "buying", "kind": "stage", "labels": {"en": "Buying", "da": "Køber", "sv": "Köper"}}
    assert now["stages"][2] == {**buying, "count": 3, "paused": 2}
    assert then["stages"][2] == {**buying, "count": 2, "paused": 2}
    assert (then["journey"], then["version"], then["at"]) == ("everything", 1, "2026-01-01T12:00:00Z")
    assert {one["count"] for one in before["stages"]} == {0}


async def test_flows_tell_who_went_from_where_to_where(store: ApiStore, database_url: str) -> None:
    """Moves between places in the definition's order, up to a time; a pause is no move."""
    await store.add_customer(
        "user_id:1",
        touchpoints=[touchpoint("1", hours=0), touchpoint("2", hours=24 * 9)],
        until=EPOCH + timedelta(days=20),
    )
    async with serving(database_url, await store.add_key()) as client:
        now = (await client.get("/v1/journeys/everything/flows")).json()
        then = (await client.get("/v1/journeys/everything/flows", params={"at": EPOCH.isoformat()})).json()
        unknown = await client.get("/v1/journeys/nothing/flows")

    assert then["flows"] == [{"from": None, "to": "buying", "count": 1}]
    assert {"from": "buying", "to": "lost", "count": 1} in now["flows"]
    assert all(flow["from"] != flow["to"] for flow in now["flows"])
    assert unknown.json()["code"] == "journey_not_found"


async def test_the_future_has_no_counts(store: ApiStore, database_url: str) -> None:
    """A time after now is refused by name, whatever its offset; the present second is not."""
    async with serving(database_url, await store.add_key()) as client:
        soon = datetime.now(UTC) + timedelta(minutes=5)  # noqa: TID251 (the service runs on the real clock)
        future = await client.get(COUNTS, params={"at": soon.isoformat()})
        present = await client.get(COUNTS, params={"at": (soon - timedelta(minutes=5)).isoformat()})
        malformed = await client.get(f"{COUNTS}?at=now&until=then")

    assert (future.status_code, present.status_code, malformed.status_code) == (422, 200, 422)
    assert future.json()["errors"] == [{"parameter": "at", "detail": "lies in the future"}]
    assert {error["parameter"] for error in malformed.json()["errors"]} == {"at", "until"}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    histories=st.lists(st.lists(touches(size_max=6), min_size=1, max_size=3), min_size=1, max_size=4),
    shift_min=st.integers(0, 59),
    around=st.lists(
        st.tuples(st.integers(0, 99), st.sampled_from([-3600, -60, -1, 0, 1, 60, 3600])),
        min_size=1,
        max_size=8,
    ),
)
async def test_counts_as_of_any_instant_are_those_of_the_standing_transitions(
    store: ApiStore,
    pool: Pool,
    histories: list[list[list[Touch]]],
    shift_min: int,
    around: list[tuple[int, int]],
) -> None:
    """Around every change the counts are what counting each customer's last standing transition gives, also
    after refolds that superseded histories; and at the end they equal the now-counts."""
    await store.clear()
    shift = timedelta(minutes=shift_min)
    end = EPOCH + timedelta(days=200)
    for number, refolds in enumerate(histories):
        id_ = await store.add_customer(f"user_id:{number}")
        for timeline in refolds:
            shifted = [msgspec.structs.replace(touch, at=touch.at + shift) for touch in timeline]
            await store.write_history(id_, JOURNEY, *fold(JOURNEY, shifted, end))

    active = activate(JOURNEY.definition)
    moments = [row["at"] for row in await store.connection.fetch("SELECT at FROM stage_transitions")]
    for number, seconds in around:
        at = (moments or [end])[number % len(moments or [end])] + timedelta(seconds=seconds)
        counts = await counts_as_of(pool, active, at, None, end)
        recount = await _recount(store, at)
        assert {one.stage: (one.count, one.paused) for one in counts.stages} == recount
        flows = await flows_until(pool, active, at, None, end)
        assert {(one.origin, one.to): one.count for one in flows.flows} == await _recount_flows(store, at)
    assert (await counts_as_of(pool, active, end, None, end)).stages == (
        await counts_now(pool, active, end)
    ).stages


async def _recount(store: ApiStore, at: datetime) -> dict[str, tuple[int, int]]:
    rows = await store.connection.fetch(
        "SELECT customer_id, to_stage, to_paused FROM stage_transitions WHERE superseded_at IS NULL "
        "AND journey_key = 'everything' AND at <= $1 ORDER BY customer_id, seq",
        at,
    )
    last: dict[UUID, Place] = {row["customer_id"]: (row["to_stage"], row["to_paused"]) for row in rows}
    return {place: _count(list(last.values()), place) for place in JOURNEY.definition.places}


async def _recount_flows(store: ApiStore, at: datetime) -> Counter[tuple[str | None, str]]:
    rows = await store.connection.fetch(
        "SELECT from_stage, to_stage FROM stage_transitions WHERE superseded_at IS NULL "
        "AND journey_key = 'everything' AND at <= $1 AND from_stage IS DISTINCT FROM to_stage",
        at,
    )
    return Counter((row["from_stage"], row["to_stage"]) for row in rows)


def _count(found: Sequence[Place], place: str) -> tuple[int, int]:
    counter = Counter(found)
    return counter[place, False] + counter[place, True], counter[place, True]
