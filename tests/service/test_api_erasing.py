"""Customers who are erased, by the API and by command, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from shared.clock import SystemClock
from tests.service.api_store import allowed
from tests.service.identity_command import rejse
from tests.service.staging import Staging, staging
from tests.service.test_stager_store import NOW, touchpoint
from tests.support.eventually import eventually_async
from tests.support.journeys import EPOCH, all_journeys

ANN, PHONE, BO = "user_id:ann", "phone:+4533123456", "email:bo@b.dk"
LINK = {"identity": ANN, "other": PHONE}
PATHS = ("", "/identity", "/timeline", "/journeys/everything", "/journeys/everything/history")


@pytest.fixture
async def stager(database_url: str) -> AsyncIterator[Staging]:
    """Ann, who was two customers once, and Bo."""
    async with staging(database_url, all_journeys()[-1:], NOW) as running:
        await running.commit(NOW, touchpoint("a", ANN, day=1), touchpoint("b", PHONE, day=2))
        await running.commit(NOW, touchpoint("c", ANN, PHONE, day=3), touchpoint("d", BO, day=3))
        yield running


@pytest.fixture
async def admin(stager: Staging, database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with allowed(database_url, "admin") as client:
        yield client


async def test_who_was_erased_is_gone(stager: Staging, admin: httpx.AsyncClient) -> None:
    """At once, by the id and by each alias; the identities are nobody's, until something new names one. Asked
    again, the answer tells how it stands; and the counts are without them once it is carried out."""
    ann = (await admin.get(f"/v1/customers/{ANN}")).json()
    ids = [ann["id"], *ann["aliases"]]
    asked = await admin.delete(f"/v1/customers/{PHONE}")
    gone = [await admin.get(f"/v1/customers/{id_}{path}") for id_ in ids for path in PATHS]
    nobody = [await admin.get(f"/v1/customers/{name}") for name in (ANN, PHONE)]
    waiting = await admin.delete(f"/v1/customers/{ids[0]}")
    await stager.erase(NOW)
    carried_out = [await admin.delete(f"/v1/customers/{id_}") for id_ in ids]
    counts = (await admin.get("/v1/journeys/everything/counts")).json()

    assert len(ids) == 2
    assert (asked.status_code, asked.json()["customer"]) == (202, ids[0])
    assert not asked.json()["carried_out"]
    assert [(one.status_code, one.json()["code"]) for one in gone] == [(410, "customer_erased")] * len(gone)
    assert [one.status_code for one in nobody] == [404, 404]
    assert waiting.json() == asked.json()
    assert [one.json() for one in carried_out] == [asked.json() | {"carried_out": True}] * 2
    assert sum(one["count"] for one in counts["stages"]) == 1
    assert (await admin.get(f"/v1/customers/{BO}")).status_code == 200

    late = await stager.commit(NOW, touchpoint("late", "crm:7", PHONE, day=2))
    after = SystemClock().now() - EPOCH + timedelta(days=1)
    await stager.commit(NOW, touchpoint("new", PHONE, day=after.days + 1))
    found = (await admin.get(f"/v1/customers/{PHONE}")).json()
    timeline = (await admin.get(f"/v1/customers/{PHONE}/timeline?kind=touchpoint")).json()
    assert (late.erased, late.stored) == (1, 0)
    assert (await admin.get("/v1/customers/crm:7")).status_code == 404
    assert found["id"] not in ids
    assert [one["source_id"] for one in timeline["items"]] == ["new"]
    assert await stager.differences() == []


async def test_a_link_is_settled_first(stager: Staging, admin: httpx.AsyncClient) -> None:
    """Whom an erasure is about must be certain: until a withdrawn link is carried out it is refused."""
    await admin.post("/v1/identity/unlink", params=LINK)
    refused = await admin.delete(f"/v1/customers/{ANN}")
    await stager.settle(NOW)
    erased = await admin.delete(f"/v1/customers/{ANN}")

    assert (refused.status_code, refused.json()["code"]) == (409, "not_settled")
    assert "retry-after" in refused.headers
    assert erased.status_code == 202
    assert (await admin.get(f"/v1/customers/{PHONE}")).status_code == 200


async def test_only_an_admin_erases_somebody_who_is_there(
    stager: Staging, admin: httpx.AsyncClient, database_url: str
) -> None:
    """A key that reads may not; nobody is 404, and what can name nobody 422."""
    async with allowed(database_url, "read") as client:
        reader = await client.delete(f"/v1/customers/{ANN}")
    nobody = await admin.delete("/v1/customers/email:eve@b.dk")
    no_ref = await admin.delete("/v1/customers/eve")
    more = await admin.delete(f"/v1/customers/{ANN}?now=1")

    assert (reader.status_code, reader.json()["code"]) == (403, "wrong_scope")
    assert (nobody.status_code, nobody.json()["code"]) == (404, "customer_not_found")
    assert (no_ref.status_code, more.status_code) == (422, 422)
    assert (await admin.get(f"/v1/customers/{ANN}")).status_code == 200


async def test_the_command_asks_first_and_waits_for_the_stager(stager: Staging, database_url: str) -> None:
    """Without a terminal there is nobody to ask; told that it is meant, it tells when nothing is left."""
    unsure = await asyncio.to_thread(rejse, database_url, "customers", "erase", ANN)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(
            asyncio.to_thread(rejse, database_url, "customers", "erase", ANN, "--yes")
        )
        await eventually_async(lambda: stager.erase(NOW), 60)
    erased = running.result()
    again, detached = await asyncio.gather(
        asyncio.to_thread(rejse, database_url, "customers", "erase", ANN, "--yes"),
        asyncio.to_thread(rejse, database_url, "customers", "erase", BO, "--yes", "--detach"),
    )

    assert (unsure.returncode, unsure.stdout) == (2, "")
    assert "--yes" in unsure.stderr
    assert (erased.returncode, erased.stderr) == (0, "")
    assert ": erased 2" in erased.stdout
    assert "not carried out" not in erased.stdout
    assert (again.returncode, again.stderr) == (2, "rejse: no customer is known by this reference\n")
    assert detached.stdout.endswith("not carried out yet: a stager has to run\n")
    # What the command has written the stagers read.
    late = await stager.commit(NOW, touchpoint("late", ANN, day=2))
    assert (late.erased, late.stored) == (1, 0)
