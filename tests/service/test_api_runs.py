"""Journeys about accounts and things, from touchpoints through the stager to the query API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest

from services.stager.definitions import register
from shared.codec import decode
from shared.journey.fold import Journey
from shared.journey.language import parse
from shared.store.engine import connection_of, open_pool
from shared.store.keys import create_key
from shared.touchpoint import Touchpoint
from tests.service.api_store import serving
from tests.service.test_stager_store import NOW, World
from tests.support.clock import ManualClock
from tests.support.journeys import EPOCH
from tests.support.stories import BUILT_IN, Happening, on

CAR, SERVICE, B2B = "decision-to-delivery", "service", "b2b-loyalty-loop"
MINE, OTHER = {"vehicle_id": "AB 12 345"}, {"vehicle_id": "CD 67 890"}
FORGOTTEN = ({"vehicle_id": "EF 1"}, {"vehicle_id": 2})


def said(number: int, happening: Happening, *identities: str) -> Touchpoint:
    when, type_, channel, more = happening
    at = EPOCH + timedelta(days=when)
    values = {"id": str(number), "type": type_, "channel": channel, "occurred_at": at, "received_at": at}
    return decode(msgspec.json.encode(values | {"source": "story", "identities": identities, **more}))


def _on_day(day: float) -> str:
    return (EPOCH + timedelta(days=day)).isoformat().replace("+00:00", "Z")


@asynccontextmanager
async def told(
    database_url: str, journeys: Sequence[Journey], story: Sequence[Touchpoint], until: float
) -> AsyncIterator[httpx.AsyncClient]:
    """The API over a store in which the stager has staged a story, its end first, up to a day."""
    pool = await open_pool(database_url, connections_max=3, service="test")
    try:
        world = World(pool, journeys)
        async with connection_of(pool) as connection:
            await register(connection, [journey.definition for journey in journeys], EPOCH)
            key = await create_key(connection, "read", "test", EPOCH)
        writer = await world.writer()
        for one in reversed(story):
            await writer.commit(one)
        clock = ManualClock(max(NOW + timedelta(seconds=5), EPOCH + timedelta(days=until)))
        await world.sweep(clock)
        assert await world.differences() == []
        async with serving(database_url, key) as client:
            yield client
    finally:
        await pool.close()


async def answered(client: httpx.AsyncClient, path: str, **query: str) -> Mapping[str, Any]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    found: Mapping[str, Any] = answer.json()
    return found


async def test_an_owner_of_two_cars_has_two_runs_of_the_service_journey(database_url: str) -> None:
    """Article 001: each delivered car has a run of its own, which begins when it is due, is told with the car
    that it is about, and counts as one; a touchpoint that names no car moves none. Two that pause at one
    instant are both on the pages of the timeline."""
    story = [
        on(0, "test_drive", "store"),
        on(40, "order_completed", "store"),
        on(100, "order_delivered", "store", properties=MINE),
        on(100, "order_delivered", "store", properties=OTHER),
        on(465, "service_due", "email", properties=MINE),
        on(465, "service_due", "email", properties=OTHER),
        on(466, "service_booked", "phone"),
        on(470, "service_booked", "phone", properties=MINE),
        on(471, "complaint", "store", properties=OTHER),
        *(on(number, "order_delivered", properties=car) for number, car in enumerate(FORGOTTEN, 200)),
        *(on(465, "service_due", properties=car) for car in FORGOTTEN),
    ]
    journeys = [Journey(BUILT_IN[CAR]), Journey(BUILT_IN[SERVICE])]
    touchpoints = [said(number, one, "user_id:ann") for number, one in enumerate(story)]
    async with told(database_url, journeys, touchpoints, 530) as client:
        customer = await answered(client, "/v1/customers/user_id:ann")
        counts = await answered(client, f"/v1/journeys/{SERVICE}/counts")
        listed = (await answered(client, "/v1/journeys"))["journeys"]
        whole = await answered(client, "/v1/customers/user_id:ann/timeline", kind="stage_change")
        proof = await answered(client, f"/v1/customers/user_id:ann/journeys/{SERVICE}")
        pages: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = await answered(client, "/v1/customers/user_id:ann/timeline", limit="1", **cursor)
            pages += [item for item in page["items"] if item["kind"] == "stage_change"]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}

    (car,) = [one for one in customer["journeys"] if one["journey"] == CAR]
    assert (car["stage"], car["about"]) == ("delivered", {"kind": "customer"})
    runs = {one["about"]["value"]: one for one in customer["journeys"] if one["journey"] == SERVICE}
    assert {car: (run["stage"], run["paused"]) for car, run in runs.items()} == {
        "AB 12 345": ("booked", False),
        "CD 67 890": ("due", False),
        "EF 1": ("due", True),
        "2": ("due", True),
    }
    assert runs["AB 12 345"]["about"] == {"kind": "thing", "name": "vehicle_id", "value": "AB 12 345"}
    assert [one["key"] for one in runs["CD 67 890"]["overlays"]] == ["complaint"]
    assert {one["stage"]: one["count"] for one in counts["stages"]} == {
        "due": 3,
        "booked": 1,
        "in_service": 0,
        "done": 0,
    }
    assert {one["key"]: one["subject"] for one in listed} == {CAR: "customer", SERVICE: "vehicle_id"}
    assert pages == whole["items"]
    proved = {one["about"]["value"]: one for one in proof["runs"]}
    assert {car: one["stage"] for car, one in proved.items()} == {
        car: one["stage"] for car, one in runs.items()
    }
    assert [one["to"] for one in proved["AB 12 345"]["transitions"]] == ["due", "booked"]
    assert [one["touchpoints_seen"] for one in proved.values()] == [3, 2, 3, 2]
    paused = [one["about"] for one in pages if one["journey"] == SERVICE and one["change"] == "pause"]
    assert [one["value"] for one in paused] == ["EF 1", "2"]


async def test_three_people_of_one_company_make_one_journey(database_url: str) -> None:
    """Article 000: a user reads, a colleague calls, the decision maker meets and buys; the account is asked
    for by its name and told with each of them who hasn't left; what the user does who has is their own."""
    people = {"user": "user_id:uma", "buyer": "email:bo@acme.example", "boss": "phone:+4533123456"}
    story = [
        ("user", on(0, "whitepaper_downloaded", properties={"role": "user"})),
        ("buyer", on(120, "call_ended", "phone", properties={"role": "buyer"})),
        ("boss", on(150, "meeting_held", "meeting", properties={"role": "decision_maker"})),
        ("boss", on(200, "order_completed", "meeting")),
        ("user", on(205, "account_left", "partner")),
    ]
    touchpoints = [
        said(number, happening, people[who], "account_id:acme")
        for number, (who, happening) in enumerate(story)
    ]
    touchpoints.append(said(9, on(210, "review_written", "web", sentiment=0.9), people["user"]))
    async with told(database_url, [Journey(BUILT_IN[B2B])], touchpoints, 220) as client:
        account = await answered(client, "/v1/accounts/acme")
        customers = [
            await answered(client, f"/v1/customers/{ref.replace('+', '%2B')}") for ref in people.values()
        ]
        counts = await answered(client, f"/v1/journeys/{B2B}/counts")
        proof = await answered(client, f"/v1/customers/{people['buyer']}/journeys/{B2B}")
        members = (await answered(client, "/v1/accounts/acme/members"))["members"]
        unknown = await client.get("/v1/accounts/beta")
        wrong = await client.get("/v1/accounts/%20")

    (run,) = account["journeys"]
    assert account["account_id"] == "acme"
    assert (run["stage"], run["observed"]) == ("retention", ["consideration", "decision", "retention"])
    assert [one["key"] for one in run["signals"]] == ["several_stakeholders"]
    assert [one["count"] for one in run["tallies"]] == [2]
    assert run["about"] == {"kind": "account", "name": "account_id", "value": "acme"}
    (proved,) = proof["runs"]
    assert (proved["about"], proved["stage"]) == (run["about"], run["stage"])
    moves = [one for one in proved["transitions"] if one["change"] == "enter"]
    assert [one["cause"]["touchpoint"]["type"] for one in moves] == [
        "whitepaper_downloaded",
        "meeting_held",
        "order_completed",
    ]
    assert len({one["id"] for one in customers}) == 3
    assert [one["journeys"] for one in customers] == [[], [run], [run]]
    between = {one["customer"]: (one["since"], one["until"]) for one in members}
    assert [between[one["id"]] for one in customers] == [
        (_on_day(0), _on_day(205)),
        (_on_day(120), None),
        (_on_day(150), None),
    ]
    assert sum(one["count"] for one in counts["stages"]) == 1
    assert (unknown.status_code, unknown.json()["code"]) == (404, "account_not_found")
    assert (wrong.status_code, wrong.json()["errors"][0]["parameter"]) == (422, "account_id")


async def test_the_members_of_an_account_are_listed_page_by_page(database_url: str) -> None:
    """Everybody who has acted for it, once, in the order of their ids, each with the first of the touchpoints
    that name it; not those of other accounts. A page goes on behind the one before."""
    touchpoints = [
        said(number, on(number, "meeting_held", "meeting"), f"user_id:{number % 5}", "account_id:acme")
        for number in range(10)
    ]
    touchpoints.append(said(10, on(10, "meeting_held", "meeting"), "user_id:other", "account_id:beta"))
    async with told(database_url, [], touchpoints, 11) as client:
        refs = [f"/v1/customers/user_id:{number}" for number in range(5)]
        customers = [(await answered(client, ref))["id"] for ref in refs]
        whole = await answered(client, "/v1/accounts/acme/members")
        other = await answered(client, "/v1/accounts/beta/members", limit="1")
        pages = [await answered(client, "/v1/accounts/acme/members", limit="2")]
        while (cursor := pages[-1]["next_cursor"]) is not None:
            pages.append(await answered(client, "/v1/accounts/acme/members", limit="2", cursor=cursor))
        timelines = [await answered(client, f"{ref}/timeline", kind="touchpoint") for ref in refs]
        account = await answered(client, "/v1/accounts/acme")
        wrong = {
            path: await client.get(f"/v1/accounts/{path}")
            for path in ("gamma/members", "acme/members?cursor=x", "acme/members?limit=501", "%20/members")
        }

    assert (whole["id"], whole["account_id"], whole["next_cursor"]) == (account["id"], "acme", None)
    assert [one["customer"] for one in whole["members"]] == sorted(customers)
    assert [len(page["members"]) for page in pages] == [2, 2, 1]
    assert [one for page in pages for one in page["members"]] == whole["members"]
    assert (len(other["members"]), other["next_cursor"]) == (1, None)
    earliest = {one["customer"]: one["items"][-1] for one in timelines}
    assert {one["customer"]: (one["touchpoint"], one["since"]) for one in whole["members"]} == {
        customer: (item["id"], item["at"]) for customer, item in earliest.items()
    }
    assert all(one["linked_at"] for one in whole["members"])
    codes = {path: (answer.status_code, answer.json()["code"]) for path, answer in wrong.items()}
    assert codes.pop("gamma/members") == (404, "account_not_found")
    assert set(codes.values()) == {(422, "invalid_parameters")}


async def test_of_very_many_things_the_latest_are_told(database_url: str) -> None:
    """An answer stays small: of a customer's orders the hundred that entered a stage last."""
    text = BUILT_IN[SERVICE].source.replace("key: service", "key: services")
    touchpoints = [
        said(number, on(number, "service_booked", properties={"vehicle_id": number}), "user_id:ann")
        for number in range(105)
    ]
    async with told(database_url, [Journey(parse(text, "services.yaml"))], touchpoints, 0) as client:
        customer = await answered(client, "/v1/customers/user_id:ann")

    assert [one["about"]["value"] for one in customer["journeys"]] == [str(n) for n in range(104, 4, -1)]


@pytest.mark.parametrize("path", ["/v1/accounts/a/b", "/v1/accounts/"])
async def test_an_account_has_one_address(database_url: str, path: str) -> None:
    """A path that goes on is none."""
    async with told(database_url, [], [], 0) as client:
        assert (await client.get(path)).status_code == 404
