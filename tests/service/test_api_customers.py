"""`GET /v1/customers/{ref}` on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
from msgspec import structs

from shared.journey.fold import Journey
from shared.journey.language import parse
from shared.journey.state import decode_states, encode_states
from tests.service.api_store import ApiStore, serving, store_of, touchpoint
from tests.support.journeys import EPOCH, WHOLE, all_journeys


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[ApiStore]:
    async with store_of(database_url, all_journeys()) as store:
        yield store


async def test_a_customer_is_found_by_every_identifier(store: ApiStore, database_url: str) -> None:
    """Each linked identity, written as people write it, and the customer's own id name one customer."""
    id_ = await store.add_customer(
        "email:ann@example.com",
        "phone:+4533123456",
        "user_id:ann",
        "loyalty_id:77",
        "anonymous_id:c/d?e#f",
        "crm:47/11",
    )
    async with serving(database_url, await store.add_key()) as client:
        for ref in (
            "email:ann@example.com",
            "email:%20Ann%40EXAMPLE.com",
            "phone:%2B45%2033%2012%2034%2056",
            "user_id:ann",
            "loyalty_id:77",
            "anonymous_id:c%2Fd%3Fe%23f",
            "crm:47%2F11",
            str(id_),
        ):
            answer = await client.get(f"/v1/customers/{ref}")

            assert answer.status_code == 200, ref
            assert answer.json()["id"] == str(id_)
            assert answer.headers["cache-control"] == "no-store"


async def test_the_answer_tells_stage_and_what_comes_next(store: ApiStore, database_url: str) -> None:
    """Identities by link time, every active journey with labels, and what time alone will do next."""
    touchpoints = [touchpoint("a", hours=1), touchpoint("b", hours=2)]
    await store.add_customer("user_id:ann", touchpoints=touchpoints, until=EPOCH + timedelta(hours=3))
    async with serving(database_url, await store.add_key()) as client:
        answer = (await client.get("/v1/customers/user_id:ann")).json()

    journeys = {journey["journey"]: journey for journey in answer["journeys"]}
    assert list(journeys) == sorted(journeys)
    assert answer["identities"] == [{"kind": "user_id", "value": "ann", "linked_at": "2026-01-01T00:00:00Z"}]
    assert answer["created_at"] == "2026-01-01T00:00:00Z"
    assert journeys["purchase-lifecycle"] == {
        "journey": "purchase-lifecycle",
        "version": 2,
        "labels": {"en": "Purchase lifecycle", "da": "Købslivscyklus", "sv": "Köplivscykel"},
        "stage": "first",
        "stage_labels": {"en": "First purchase", "da": "Første køb", "sv": "Första köpet"},
        "paused": False,
        "entered_at": "2026-01-01T01:00:00Z",
        "furthest_stage": "first",
        "lap": 1,
        "observed": ["first"],
        "inferred": [],
        "overlays": [],
        "signals": [],
        "tallies": [],
        "substage": None,
        "persona": None,
        "about": {"kind": "customer"},
        "next": {
            "at": "2026-06-30T02:00:00Z",
            "change": "exit",
            "to": "dormant",
            "to_paused": False,
            "rule": "dormant.enter",
        },
    }
    assert journeys["everything"]["next"] == {
        "at": "2026-01-01T14:00:00Z",
        "change": "pause",
        "to": "buying",
        "to_paused": True,
        "rule": "buying.pause",
    }


async def test_of_two_clocks_the_one_that_runs_out_first_is_next(store: ApiStore, database_url: str) -> None:
    """A paused stage's exit clock is told with the instant from which it really runs."""
    touchpoints = [touchpoint("a", hours=0), touchpoint("b", "page_viewed", hours=11)]
    await store.add_customer("user_id:ann", touchpoints=touchpoints, until=EPOCH + timedelta(hours=24))
    async with serving(database_url, await store.add_key()) as client:
        answer = (await client.get("/v1/customers/user_id:ann")).json()

    (journey,) = [one for one in answer["journeys"] if one["journey"] == "everything"]
    assert journey["paused"] is True
    assert (journey["next"]["at"], journey["next"]["to"]) == ("2026-01-03T00:00:00Z", "lost")


async def test_a_customer_without_a_touchpoint_of_a_journey_has_no_stage_in_it(
    store: ApiStore, database_url: str
) -> None:
    """Before a journey begins its stage, entry and what comes next are null."""
    await store.add_customer("user_id:ann", touchpoints=[touchpoint("a", "page_viewed")])
    async with serving(database_url, await store.add_key()) as client:
        answer = (await client.get("/v1/customers/user_id:ann")).json()

    (journey,) = [one for one in answer["journeys"] if one["journey"] == "purchase-lifecycle"]
    assert [journey[name] for name in ("stage", "stage_labels", "entered_at", "furthest_stage", "next")] == [
        None
    ] * 5


async def test_what_stands_beside_the_stage_is_told_with_it(database_url: str) -> None:
    """Lap, substage, persona, what was observed and inferred, open overlays, signals and tallies."""
    said = [
        touchpoint("a", "page_viewed", more={"traits": {"compares": True}}),
        touchpoint("b", "page_viewed", hours=1, channel="store", more={"sentiment": 0.5}),
        touchpoint("c", "page_viewed", hours=2, channel="phone", more={"sentiment": -0.5}),
        touchpoint("d", "call_ended", hours=3, channel="phone"),
        touchpoint("e", "call_ended", hours=4, channel="phone"),
    ]
    async with store_of(database_url, [Journey(parse(WHOLE, "whole.yaml"))]) as store:
        await store.add_customer("user_id:ann", touchpoints=said)
        async with serving(database_url, await store.add_key()) as client:
            (journey,) = (await client.get("/v1/customers/user_id:ann")).json()["journeys"]

    assert (journey["stage"], journey["substage"], journey["lap"]) == ("comparing", "general", 1)
    assert (journey["persona"], journey["observed"], journey["inferred"]) == (
        "careful",
        ["aware", "comparing"],
        [],
    )
    showroom, complaint = journey["overlays"][1], journey["overlays"][0]
    assert (complaint["key"], complaint["since"]) == ("complaint", "2026-01-01T02:00:00Z")
    assert (complaint["kind"], complaint["blocks"]) == ("interruption", ["bought", "loyal"])
    assert (showroom["key"], showroom["labels"]["sv"]) == ("showroom", "Showroom")
    (signal,) = journey["signals"]
    assert (signal["key"], signal["since"]) == ("sales_ready", "2026-01-01T04:00:00Z")
    (tally,) = journey["tallies"]
    assert (tally["key"], tally["count"], tally["final"]) == ("touches_before", 5, False)


async def test_only_the_active_version_of_a_journey_is_told(store: ApiStore, database_url: str) -> None:
    """States of a version that isn't the highest are left out."""
    await store.add_customer("user_id:ann", touchpoints=[touchpoint("a")])
    kept = decode_states(await store.connection.fetchval("SELECT states FROM journey_states"))
    states = [structs.replace(one, version=7) if one.journey_key == "everything" else one for one in kept]
    await store.connection.execute("UPDATE journey_states SET states = $1", encode_states(states))
    async with serving(database_url, await store.add_key()) as client:
        answer = (await client.get("/v1/customers/user_id:ann")).json()

    assert [journey["journey"] for journey in answer["journeys"]] == ["purchase-lifecycle"]


async def test_a_customer_with_nothing_but_an_id_is_a_customer(store: ApiStore, database_url: str) -> None:
    """No identities and no states make an answer with two empty lists."""
    store.journeys = []
    id_ = await store.add_customer()
    async with serving(database_url, await store.add_key()) as client:
        answer = (await client.get(f"/v1/customers/{id_}")).json()

    assert (answer["identities"], answer["journeys"]) == ([], [])


async def test_an_unknown_reference_is_a_404_that_does_not_repeat_it(
    store: ApiStore, database_url: str
) -> None:
    """A reference that no customer has, identity or id, is answered with a problem without the value."""
    async with serving(database_url, await store.add_key()) as client:
        for ref in ("email:secret@example.com", "secret:secret", str(UUID(int=7))):
            answer = await client.get(f"/v1/customers/{ref}")

            assert_problem(answer, 404, "customer_not_found")
            assert "secret" not in answer.text


async def test_a_hostile_reference_is_only_ever_a_value(store: ApiStore, database_url: str) -> None:
    """Text that means something to SQL, a path or a shell is looked up or refused, and changes nothing."""
    await store.add_customer("user_id:ann")
    async with serving(database_url, await store.add_key()) as client:
        for text in (
            "user_id:' OR '1'='1",
            "user_id:ann'; DROP TABLE customers; --",
            "user_id:%",
            "user_id:ann\\",
            "user_id:$1",
            "user_id:ann/timeline",
            "user_id:../../v1/journeys",
            "user_id:{ann}",
            "user_id:ann\r\nX-Evil: 1",
            "user_id:\u202eann",
            "user_id:ann\0",
        ):
            answer = await client.get(f"/v1/customers/{quote(text, safe='')}")

            assert answer.status_code == (422 if "\0" in text else 404), text
            assert answer.headers["content-type"] == "application/problem+json"

        assert (await client.get("/v1/customers/user_id:ann")).status_code == 200


@pytest.mark.parametrize("ref", ["ann", "email:ann", "user_id:%ff", "Email:a@b", "user_id:", ":"])
async def test_what_can_name_no_customer_is_a_422(store: ApiStore, database_url: str, ref: str) -> None:
    """A malformed reference is the parameter `ref`'s error."""
    async with serving(database_url, await store.add_key()) as client:
        answer = await client.get(f"/v1/customers/{ref}")

    assert_problem(answer, 422, "invalid_parameters")
    assert [error["parameter"] for error in answer.json()["errors"]] == ["ref"]


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (status, status, code)
