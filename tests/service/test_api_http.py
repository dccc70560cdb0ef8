"""What holds for every route of the query API: keys, problems, probes, and the OpenAPI document."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from services.api.metrics import CATALOGUE
from services.api.views import answers, versions
from shared.keys import key_id, new_key
from shared.store import erasures, identities, what_if, withdrawals
from shared.store.keys import revoke_key
from tests.service.api_store import ApiStore, serving, status, store_of, touchpoint
from tests.support.eventually import eventually_async
from tests.support.journeys import EPOCH, all_journeys

PATHS = (
    "/v1/customers/user_id:ann",
    "/v1/customers/user_id:ann/identity",
    "/v1/customers/user_id:ann/timeline",
    "/v1/customers/user_id:ann/journeys/everything",
    "/v1/customers/user_id:ann/journeys/everything/history",
    "/v1/identity/conflicts",
    "/v1/journeys",
    "/v1/journeys/everything/counts",
    "/v1/touchpoint-types",
)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[ApiStore]:
    async with store_of(database_url, all_journeys()) as store:
        await store.add_customer("user_id:ann", touchpoints=[touchpoint("a")])
        yield store


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = msgspec.json.decode(answer.content, type=answers.ProblemAnswer)
    assert (answer.status_code, problem.status, problem.code) == (status, status, code)
    assert problem.type == f"urn:rejse:problem:{code}"


async def test_only_a_key_that_may_read_opens_a_route(store: ApiStore, database_url: str) -> None:
    """No key, an unknown one and another scheme are 401, a write key is 403, read and admin keys get in."""
    read, write, admin = [await store.add_key(scope) for scope in ("read", "write", "admin")]
    async with serving(database_url, read) as client:
        for path in PATHS:
            for authorization in (
                "",
                "Bearer",
                f"Bearer {new_key('read')}",
                f"Basic {read}",
                read,
                "Bearer \xff",
            ):
                raw = [(b"Authorization", authorization.encode("latin-1"))]
                answer = await client.get(path, headers=raw)

                assert_problem(answer, 401, "unauthorized")
                assert answer.headers["www-authenticate"] == "Bearer"
            refused = await client.get(path, headers={"Authorization": f"Bearer {write}"})
            assert_problem(refused, 403, "wrong_scope")
            for key in (read, admin):
                admitted = await client.get(path, headers={"Authorization": f"bearer {key}"})
                assert admitted.status_code == 200


async def test_a_new_key_works_and_a_revoked_one_stops_within_seconds(
    store: ApiStore, database_url: str
) -> None:
    """Keys follow the store without a restart."""
    key = await store.add_key()
    async with serving(database_url, await store.add_key("admin")) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        assert await status(client, "/v1/journeys") == 200

        await revoke_key(store.connection, key_id(key), EPOCH)
        await eventually_async(lambda: status(client, "/v1/journeys"), 5, until=lambda seen: seen == 401)

        client.headers["Authorization"] = f"Bearer {await store.add_key()}"
        await eventually_async(lambda: status(client, "/v1/journeys"), 5, until=lambda seen: seen == 200)


async def test_the_key_guards_every_path_below_v1(store: ApiStore, database_url: str) -> None:
    """Without a key a path that isn't there looks like any other, and no spelling of a path gets round it."""
    async with serving(database_url, await store.add_key()) as client:
        del client.headers["Authorization"]
        for path in ("/v1", "/v1/", "/v1/nothing", "/v1/journeys/", "/v1/../v1/journeys"):
            assert_problem(await client.get(path), 401, "unauthorized")
        for path in ("/%761/journeys", "//v1/journeys", "/V1/journeys", "/v1%2Fjourneys", "/", "/docs"):
            assert_problem(await client.get(path), 404, "not_found")


async def test_what_is_not_there_is_a_problem_too(store: ApiStore, database_url: str) -> None:
    """Unknown paths are 404, other methods 405 with `Allow`, unknown query parameters 422, on every route."""
    async with serving(database_url, await store.add_key()) as client:
        for path in ("/v1", "/v1/nothing", "/v1/customers", "/v1/customers/", "/v1/customers/a/b"):
            assert_problem(await client.get(path), 404, "not_found")
        assert_problem(await client.get("/v1/journeys/nothing/counts"), 404, "journey_not_found")
        for path in PATHS:
            allowed = ("DELETE", "GET") if path == PATHS[0] else ("GET",)
            for method in {"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}.difference(allowed):
                answer = await client.request(method, path)
                assert_problem(answer, 405, "method_not_allowed")
                assert answer.headers["allow"] == ", ".join(allowed)
            for query in ("surprise=1", "surprise", "x=%ff", "%00=1"):
                assert_problem(await client.get(f"{path}?{query}"), 422, "invalid_parameters")


@pytest.mark.expects_error("rejse.api: request_failed")
async def test_a_fault_of_ours_is_a_500_without_its_text(store: ApiStore, database_url: str) -> None:
    """What the store should never hold is answered with an id that finds the line in the log, no more."""
    await store.connection.execute("UPDATE journey_states SET states = 'secret'")
    async with serving(database_url, await store.add_key()) as client:
        answer = await client.get(PATHS[0])

        assert_problem(answer, 500, "internal_error")
        assert UUID(answer.json()["request_id"]).version == 7
        assert "secret" not in answer.text
        assert "Error" not in answer.text
        assert (await client.get(PATHS[1])).status_code == 200


async def test_probes_need_no_key_and_metrics_are_the_catalogue(store: ApiStore, database_url: str) -> None:
    """Live and ready without a key; the catalogue is all there, by route template and never by value."""
    async with serving(database_url, await store.add_key()) as client:
        await client.get("/v1/customers/email:ann@example.com")
        await client.get("/v1/secret")
        del client.headers["Authorization"]
        live = await client.get("/livez")
        ready = await client.get("/readyz")
        metrics = (await client.get("/metrics")).text

    assert (live.status_code, ready.status_code) == (200, 200)
    assert ready.json()["checks"] == {"store": "ok", "lifecycle": "ok"}
    for metric in CATALOGUE:
        assert f"# HELP {metric.name} {metric.meaning}" in metrics
    assert 'rejse_api_requests_total{route="/v1/customers/{ref}",status="404"} 1.0' in metrics
    assert 'rejse_api_request_seconds_count{route="/v1/customers/{ref}"} 1.0' in metrics
    assert "ann@" not in metrics
    assert "secret" not in metrics


async def test_the_openapi_document_is_complete(store: ApiStore, database_url: str) -> None:
    """Every route is there with its parameters, its key, an answer with an example and every problem; every
    reference resolves, and every example is an answer of the documented type."""
    async with serving(database_url) as client:
        document = (await client.get("/openapi.json")).json()

    assert set(document["paths"]) == {
        "/v1/accounts/{account_id}",
        "/v1/accounts/{account_id}/members",
        "/v1/customers/{ref}",
        "/v1/customers/{ref}/identity",
        "/v1/customers/{ref}/timeline",
        "/v1/customers/{ref}/journeys/{key}",
        "/v1/customers/{ref}/journeys/{key}/history",
        "/v1/journeys",
        "/v1/journeys/{key}",
        "/v1/journeys/{key}/counts",
        "/v1/journeys/{key}/flows",
        "/v1/journeys/{key}/versions",
        "/v1/journeys/{key}/deactivate",
        "/v1/identity/conflicts",
        "/v1/identity/relink",
        "/v1/identity/unlink",
        "/v1/journeys/validate",
        "/v1/journeys/what-if",
        "/v1/journeys/activate",
        "/v1/touchpoint-types",
    }
    assert document["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    schemas = document["components"]["schemas"]
    for name in _references(document):
        assert name in schemas
    for path, method, operation in [
        (path, method, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]:
        assert operation["description"], path
        assert all("description" in _described(one) for one in operation.get("parameters", [])), path
        of_admins = {"409", "413", "429"} if operation["tags"] == ["definitions"] else set()
        of_one = {"410"} if method == "get" and path.startswith("/v1/customers/") else set()
        of_all = {"200", "401", "403", "404", "405", "422", "500", "503"}
        if method == "delete":
            of_all = of_all - {"200"} | {"202", "409"}
        assert set(operation["responses"]) == of_all | of_admins | of_one
        for described in operation["responses"].values():
            ((media_type, content),) = described["content"].items()
            name = content["schema"]["$ref"].rpartition("/")[2]
            assert (media_type == "application/problem+json") == (name == "ProblemAnswer")
            msgspec.json.decode(msgspec.json.encode(content["example"]), type=_type(name))
    timeline = document["paths"]["/v1/customers/{ref}/timeline"]["get"]["parameters"]
    assert [one["name"] for one in timeline] == [
        "ref", "limit", "cursor", "from", "to", "channel", "type", "kind", "known_at",
    ]  # fmt: skip


def _type(name: str) -> Any:
    modules = (answers, versions, what_if, identities, withdrawals, erasures)
    return next(vars(module)[name] for module in modules if name in vars(module))


def _described(parameter: dict[str, Any]) -> dict[str, Any]:
    return {**parameter["schema"], **parameter}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value.rpartition("/")[2]
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
