"""Links that people withdraw and take back, by the API and by command, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from shared.store.ids import touchpoint_uid
from tests.service.api_store import allowed
from tests.service.identity_command import rejse_identity
from tests.service.staging import Staging, staging
from tests.service.test_stager_store import NOW, touchpoint
from tests.support.eventually import eventually_async
from tests.support.journeys import all_journeys

ANN, BO, TYPO = "user_id:ann", "email:bo@b.dk", {"identity": "user_id:ann", "other": "email:bo@b.dk"}


@pytest.fixture
async def stager(database_url: str) -> AsyncIterator[Staging]:
    """Ann types Bo's address, and buys; Bo bought before."""
    async with staging(database_url, all_journeys()[:1], NOW) as running:
        await running.commit(NOW, touchpoint("bo", BO, day=1))
        await running.commit(NOW, touchpoint("ann", ANN, day=2))
        await running.commit(NOW, touchpoint("typo", ANN, BO, day=3))
        yield running


@pytest.fixture
async def admin(stager: Staging, database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with allowed(database_url, "admin") as client:
        yield client


async def timeline(client: httpx.AsyncClient, ref: str) -> set[str]:
    answer = (await client.get(f"/v1/customers/{ref}/timeline")).json()
    return {one["id"] for one in answer["items"] if one["kind"] == "touchpoint"}


def ids(*names: str) -> set[str]:
    return {str(touchpoint_uid("till", name)) for name in names}


async def identity(client: httpx.AsyncClient, ref: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/customers/{ref}/identity")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_typo_is_withdrawn_and_taken_back(stager: Staging, admin: httpx.AsyncClient) -> None:
    """Two people are two again, under the ids that each had; asked again, the answer tells how it stands; the
    link is shown to both. Taken back, everything is as before."""
    before = await identity(admin, ANN)
    asked = await admin.post("/v1/identity/unlink", params=TYPO)
    await stager.settle(NOW + timedelta(seconds=9))
    carried_out = (await admin.post("/v1/identity/unlink", params=TYPO)).json()
    ann, bo = await identity(admin, ANN), await identity(admin, BO)
    timelines = [await timeline(admin, ref) for ref in (ANN, BO, ann["customer"], bo["customer"])]

    assert asked.status_code == 200
    (link,) = asked.json()["links"]
    assert (link["identity"], link["other"], link["carried_out"]) == (ANN, BO, False)
    assert link["withdrawn_at"]
    assert link["together"]
    assert carried_out == {
        "links": [link | {"carried_out": True, "together": False}],
        "held_together_by": None,
    }
    assert timelines == [ids("ann", "typo"), ids("bo"), ids("ann", "typo"), ids("bo")]
    assert {ann["customer"], bo["customer"]} == {before["customer"], before["aliases"][0]["id"]}
    for one in (ann, bo):
        assert [(link["identity"], link["other"], link["carried_out"]) for link in one["withdrawn"]] == [
            (ANN, BO, True)
        ]
        assert (one["aliases"], one["links"]) == ([], [])

    back = (await admin.post("/v1/identity/relink", params=TYPO)).json()
    await stager.settle(NOW)
    after = await identity(admin, BO)
    assert [(one["withdrawn_at"], one["carried_out"]) for one in back["links"]] == [(None, False)]
    assert after == before
    assert await timeline(admin, BO) == ids("ann", "typo", "bo")


async def test_a_link_that_a_limit_refuses_says_so(
    stager: Staging, admin: httpx.AsyncClient, database_url: str
) -> None:
    """The address is another login's by then: taken back, the link is carried out, and both are apart, as the
    refusal tells. Once there is room it can be withdrawn and taken back again, and then it holds."""
    await admin.post("/v1/identity/unlink", params=TYPO)
    await stager.settle(NOW)
    await stager.commit(NOW, touchpoint("bob", "user_id:bob", BO, day=4))
    await admin.post("/v1/identity/relink", params=TYPO)
    await stager.settle(NOW)
    refused = (await admin.post("/v1/identity/relink", params=TYPO)).json()
    told = await asyncio.to_thread(rejse_identity, database_url, "relink", ANN, BO)
    conflicts = (await admin.get("/v1/identity/conflicts")).json()["conflicts"]
    apart = [await timeline(admin, ref) for ref in (ANN, BO)]

    (link,) = refused["links"]
    assert (link["withdrawn_at"], link["carried_out"], link["together"]) == (None, True, False)
    assert told.stdout.startswith(f"{ANN} and {BO}: not one customer: a limit forbids it")
    assert [(one["identity"], one["too_many"]) for one in conflicts] == [(BO, "user_id")]
    assert apart == [ids("ann", "typo"), ids("bo", "bob")]

    words = [("unlink", {"identity": "user_id:bob", "other": BO}), ("unlink", TYPO), ("relink", TYPO)]
    for word, params in words:
        await admin.post(f"/v1/identity/{word}", params=params)
        await stager.settle(NOW)
    (link,) = (await admin.post("/v1/identity/relink", params=TYPO)).json()["links"]
    assert (link["withdrawn_at"], link["carried_out"], link["together"]) == (None, True, True)
    assert await timeline(admin, BO) == ids("ann", "typo", "bo")
    assert await stager.differences() == []


async def test_what_else_holds_two_together_is_told(stager: Staging, admin: httpx.AsyncClient) -> None:
    """They stay one customer, and the answer names the way; every link of an identity can be withdrawn at
    once."""
    await stager.commit(NOW, touchpoint("card", ANN, "loyalty_id:7"), touchpoint("bo7", "loyalty_id:7", BO))
    answer = (await admin.post("/v1/identity/unlink", params=TYPO)).json()
    await stager.settle(NOW)
    one = await identity(admin, ANN)

    assert answer["held_together_by"] == [ANN, "loyalty_id:7", BO]
    assert await timeline(admin, BO) == ids("ann", "typo", "bo", "card", "bo7")
    assert one["customer"] == (await identity(admin, BO))["customer"]

    card = {"identity": "loyalty_id:7"}
    links = (await admin.post("/v1/identity/unlink", params=card)).json()["links"]
    await stager.settle(NOW)
    assert {(link["identity"], link["other"]) for link in links} == {
        (ANN, "loyalty_id:7"),
        ("loyalty_id:7", BO),
    }
    assert await timeline(admin, BO) == ids("bo")
    assert await timeline(admin, "loyalty_id:7") == ids("bo7")
    assert await stager.differences() == []


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({"identity": ANN, "other": "email:eve@b.dk"}, 404, "link_not_found"),
        ({"identity": "nobody"}, 422, "invalid_parameters"),
        ({"identity": "019a3c1e-7a51-7cc0-9d0c-1f2e3d4c5b6a"}, 422, "invalid_parameters"),
        ({"identity": ANN, "other": "phone:12"}, 422, "invalid_parameters"),
        ({}, 422, "invalid_parameters"),
        ({"identity": ANN, "others": BO}, 422, "invalid_parameters"),
    ],
)
async def test_what_names_no_link_is_told(
    admin: httpx.AsyncClient, params: dict[str, str], status: int, code: str
) -> None:
    """Which parameter it is and why, without repeating it."""
    for word in ("unlink", "relink"):
        answer = await admin.post(f"/v1/identity/{word}", params=params)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert not any(value in answer.text for value in params.values())


async def test_only_an_admin_says_who_is_who(stager: Staging, database_url: str) -> None:
    """A key that reads may not."""
    async with allowed(database_url, "read") as client:
        answer = await client.post("/v1/identity/unlink", params=TYPO)

    assert (answer.status_code, answer.json()["code"]) == (403, "wrong_scope")


async def test_the_command_waits_for_the_stager(stager: Staging, database_url: str) -> None:
    """It tells when the two are two again, as `explain` does then; and who is nobody."""
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(
            asyncio.to_thread(rejse_identity, database_url, "unlink", ANN, "email: BO@b.dk")
        )
        await eventually_async(lambda: stager.settle(NOW), 60)
    unlinked = running.result()
    shown = await asyncio.to_thread(rejse_identity, database_url, "explain", ANN)
    asked, nobody = await asyncio.gather(
        asyncio.to_thread(rejse_identity, database_url, "relink", ANN, "--detach"),
        asyncio.to_thread(rejse_identity, database_url, "unlink", ANN, "email:eve@b.dk"),
    )

    assert (unlinked.returncode, unlinked.stderr) == (0, "")
    assert unlinked.stdout.startswith(f"{ANN} and {BO}: withdrawn 2")
    assert "not carried out" not in unlinked.stdout
    assert any(ANN in line and BO in line for line in shown.stdout.splitlines())
    assert asked.stdout == f"{ANN} and {BO}: linked, not carried out yet: a stager has to run\n"
    assert (nobody.returncode, nobody.stdout) == (2, "")
    assert nobody.stderr == "rejse: no touchpoint told of these identities together\n"
