"""What an admin does with definitions by the API: the same as by command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from services.stager.backfill import Backfill
from services.stager.in_force import InForce
from shared.clock import SystemClock
from shared.failpoints import Failpoints
from shared.journey.fold import Journey
from shared.store.engine import open_pool
from shared.strict_yaml import BYTES_MAX
from tests.service.api_store import ApiStore, serving, store_of, touchpoint
from tests.service.test_takeover import FIRST
from tests.support.eventually import eventually_async
from tests.support.journeys import EPOCH, EVERYTHING

SECOND = EVERYTHING.replace("version: 1", "version: 2").replace("after: 2d, since", "after: 9000d, since")
POSTS = ("validate", "what-if", "activate", "everything/deactivate")


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[ApiStore]:
    async with store_of(database_url, [Journey(FIRST)]) as store:
        for number in range(4):
            await store.add_customer(
                f"user_id:{number}", touchpoints=[touchpoint(str(number))], until=EPOCH.replace(month=2)
            )
        yield store


@pytest.fixture
async def admin(store: ApiStore, database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(database_url, await store.add_key("admin")) as client:
        yield client


async def staged(database_url: str) -> None:
    """Let a stager do what it has to, until nothing is on its way."""
    pool = await open_pool(database_url, connections_max=3, service="test")
    in_force = InForce(pool)
    await in_force.follow()
    backfill = Backfill(pool, in_force, 0, SystemClock(), Failpoints())
    while await backfill.page():
        pass
    await pool.close()


async def stages(client: httpx.AsyncClient) -> dict[str, int]:
    counts = (await client.get("/v1/journeys/everything/counts")).json()
    return {one["stage"]: one["count"] for one in counts["stages"] if one["count"]}


async def test_a_definition_is_tried_activated_and_taken_back(
    admin: httpx.AsyncClient, database_url: str
) -> None:
    """Valid; who would be where; on its way, and until then the old counts; then the new ones; and back."""
    valid = await admin.post("/v1/journeys/validate", content=SECOND)
    tried = (await admin.post("/v1/journeys/what-if?sample=1", content=SECOND)).json()
    asked = (await admin.post("/v1/journeys/activate", content=SECOND)).json()
    old = await stages(admin)
    await staged(database_url)
    new = await eventually_async(lambda: stages(admin), until=lambda found: found != old)
    known = (await admin.get("/v1/journeys/everything/versions")).json()["versions"]
    again = (await admin.post("/v1/journeys/activate", content=SECOND)).json()
    back = (await admin.post("/v1/journeys/activate", content=EVERYTHING)).json()

    assert (valid.status_code, valid.json()["version"]) == (200, 2)
    assert (tried["active_version"], tried["customers"], tried["moved"]) == (1, 4, 4)
    assert tried["moves"] == [{"from": "lost", "to": "buying", "count": 4}]
    assert len(tried["samples"]) == 1
    assert (asked["state"], again["state"], back["state"]) == ("on_its_way", "active", "on_its_way")
    assert (old, new) == ({"lost": 4}, {"buying": 4})
    assert [(one["version"], one["state"]) for one in known] == [(1, "retired"), (2, "active")]
    assert (known[1]["customers_done"], known[1]["customers_total"]) == (4, 4)


async def test_a_journey_is_let_go(admin: httpx.AsyncClient) -> None:
    """It is listed no more, and its versions are still known; a journey that isn't there is told."""
    gone = await admin.post("/v1/journeys/everything/deactivate")
    again = await admin.post("/v1/journeys/everything/deactivate")
    unknown = await admin.get("/v1/journeys/nothing/versions")
    await eventually_async(lambda: admin.get("/v1/journeys"), until=lambda seen: not seen.json()["journeys"])

    assert [one["state"] for one in gone.json()["versions"]] == ["retired"]
    assert [(one.status_code, one.json()["code"]) for one in (again, unknown)] == [
        (404, "journey_not_found")
    ] * 2


async def test_every_error_of_a_definition_is_told_with_its_line(admin: httpx.AsyncClient) -> None:
    """By each operation that takes one; what is too large or no text is refused as such."""
    wrong = EVERYTHING.replace("version: 1", "version: one").replace("after: 3d", "after: three days")
    for path in ("validate", "what-if", "activate"):
        refused = await admin.post(f"/v1/journeys/{path}", content=wrong)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_definition")
        assert [one["line"] for one in refused.json()["errors"]] == [3, 9]
        assert "stages[0].pause.after" in refused.json()["errors"][1]["detail"]
        large = await admin.post(f"/v1/journeys/{path}", content=b"#" * (BYTES_MAX + 1))
        assert (large.status_code, large.json()["code"]) == (413, "too_large")
        binary = await admin.post(f"/v1/journeys/{path}", content=b"\xff")
        assert (binary.status_code, binary.json()["code"]) == (422, "invalid_definition")


async def test_another_text_of_a_version_is_a_conflict(admin: httpx.AsyncClient) -> None:
    """It has to be another version."""
    changed = await admin.post("/v1/journeys/activate", content=EVERYTHING + "# changed\n")

    assert (changed.status_code, changed.json()["code"]) == (409, "version_exists")
    assert "raise it" in changed.json()["detail"]


async def test_only_an_admin_may(store: ApiStore, admin: httpx.AsyncClient) -> None:
    """A read key is told so; no key is none; and parameters are checked as everywhere."""
    read = {"Authorization": f"Bearer {await store.add_key('read')}"}
    await eventually_async(
        lambda: admin.get("/v1/journeys", headers=read), until=lambda seen: seen.status_code == 200
    )
    for path in POSTS:
        refused = await admin.post(f"/v1/journeys/{path}", content=SECOND, headers=read)
        assert (refused.status_code, refused.json()["code"]) == (403, "wrong_scope")
        nobody = await admin.post(f"/v1/journeys/{path}", content=SECOND, headers={"Authorization": ""})
        assert nobody.status_code == 401
        surprised = await admin.post(f"/v1/journeys/{path}?surprise=1", content=SECOND)
        assert surprised.status_code == 422
    assert (await admin.get("/v1/journeys/everything/versions", headers=read)).status_code == 403


async def test_there_is_one_what_if_at_a_time(store: ApiStore, admin: httpx.AsyncClient) -> None:
    """While the store keeps one waiting, the next is told to come again."""
    async with asyncio.TaskGroup() as tasks, store.connection.transaction():
        await store.connection.execute("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE")
        first = tasks.create_task(admin.post("/v1/journeys/what-if", content=SECOND))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        await eventually_async(lambda: store.connection.fetchval(waiting), until=lambda number: number == 1)
        second = await admin.post("/v1/journeys/what-if", content=SECOND)

    assert (first.result().status_code, second.status_code) == (200, 429)
    assert second.headers["retry-after"]
