"""`GET /v1/customers/{ref}/journeys/{key}` on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from services.api.views.proofs import TOUCHPOINTS_READ_MAX
from shared.clock import SystemClock
from shared.journey.fold import Journey
from shared.journey.language import linked, parse
from shared.touchpoint import CHANNELS, Touchpoint
from tests.service.api_store import ApiStore, serving, store_of, touchpoint
from tests.support.journeys import EPOCH, EVERYTHING, WHOLE, all_journeys
from tests.support.near_checker import check_near
from tests.support.proof_checker import at, check
from tests.support.stories import BUILT_IN

GYM = Journey(parse((Path(__file__).parents[2] / "docs/examples/gym.yaml").read_text(), "gym.yaml"))
PROOF = "/v1/customers/user_id:ann/journeys/gym"
CHECKED = [
    Journey(one)
    for one in (*BUILT_IN.values(), parse(WHOLE, "whole.yaml"), parse(EVERYTHING, "everything.yaml"))
    if one.subject.kind == "customer" and not one.started_by
]


@pytest.fixture
async def gym(database_url: str) -> AsyncIterator[ApiStore]:
    async with store_of(database_url, [GYM]) as store:
        yield store


def at_the_gym(begin: datetime = EPOCH) -> Sequence[Touchpoint]:
    """A member who has come on seven days, and who has complained."""
    first = (begin - EPOCH) / timedelta(hours=1)
    days = [first + 24 * number for number in range(10)]
    visits = [touchpoint(f"visit-{day}", "store_visited", hours=day, channel="store") for day in days[2:9]]
    return [
        touchpoint("trial", "trial_started", hours=days[0]),
        touchpoint("member", "subscription_started", hours=days[1], channel="phone"),
        *visits,
        touchpoint("complaint", "complaint", hours=days[8] + 1, channel="phone"),
    ]


async def test_a_proof_tells_why_what_was_close_and_what_comes_next(gym: ApiStore, database_url: str) -> None:
    """The whole answer, to be read by a CRM: each change with its cause, each rule with what it lacks."""
    now = SystemClock().now().replace(microsecond=0)
    begin = now - timedelta(days=9)
    id_ = await gym.add_customer("user_id:ann", touchpoints=at_the_gym(begin), until=now)
    async with serving(database_url, await gym.add_key()) as client:
        answer = (await client.get(PROOF)).json()

    assert (answer["customer"], answer["journey"], answer["version"]) == (str(id_), "gym", 1)
    assert answer["labels"] == {"en": "Gym membership", "da": "Medlemskab", "sv": "Medlemskap"}
    assert [one["key"] for one in answer["stages"] + answer["exits"]] == [
        "trial",
        "member",
        "regular",
        "left",
    ]
    assert answer["stages"][2]["labels"] == {"en": "Regular", "da": "Fast", "sv": "Stammis"}
    (run,) = answer["runs"]
    assert (run["about"], run["stage"], run["furthest_stage"], run["lap"]) == (
        ({"kind": "customer"}, "member", "member", 1)
    )
    assert [one["key"] for one in run["overlays"]] == ["complaint"]
    assert [one["key"] for one in run["signals"]] == ["at_risk"]
    joined = run["transitions"][1]
    assert (joined["seq"], joined["change"], joined["from"], joined["to"]) == (1, "enter", "trial", "member")
    assert joined["cause"]["rule"] == "member.enter"
    assert joined["cause"]["says"] == "subscription_started"
    cause = joined["cause"]["touchpoint"]
    assert (cause["type"], cause["channel"], cause["at"]) == (
        ("subscription_started", "phone", rfc3339(begin + timedelta(days=1)))
    )
    nearest = run["near"][0]
    assert (nearest["to"], nearest["says"]) == ("regular", "store_visited on 8 days within 30 d")
    assert [reason["code"] for reason in nearest["reasons"]] == ["blocked", "count"]
    assert [one["to"] for one in run["near"]] == ["regular", "left"]
    beside = {one["rule"]: [reason["says"] for reason in one["reasons"]] for one in run["near_beside"]}
    complained = f"{begin + timedelta(days=8, hours=1):%Y-%m-%d %H:%M:%S}Z"
    assert beside["complaint.open"][0] == f"the interruption complaint is open already, since {complained}"
    assert beside["complaint.close"] == ["waits for complaint_resolved"]
    assert beside["at_risk.on"][0] == f"the signal at_risk is on already, since {complained}"
    assert beside["at_risk.off"][0].startswith("2 of 2 store_visited within 7 d, and waits for the next one")
    (pause,) = [one for one in run["clocks"] if one["kind"] == "pause"]
    assert (pause["since"], pause["restarts_on"]) == (rfc3339(begin + timedelta(days=8)), "store_visited")
    assert (run["next"]["at"], run["next"]["rule"]) == (pause["at"], "member.pause")
    assert [one["rule"] for one in run["then"]] == ["at_risk.off_after"]


def rfc3339(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


async def test_the_stage_follows_from_the_proof_and_the_timeline_alone(database_url: str) -> None:
    """A checker that shares no code with the fold re-derives all that a proof says of where a customer is:
    for the built-in journeys about customers, and one that says all that the language can say."""
    chance = Random(7)
    async with store_of(database_url, CHECKED) as store:
        for number in range(8):
            said = [random_touchpoint(chance, f"{number}-{one}") for one in range(chance.randint(0, 30))]
            until = max((one.occurred_at for one in said), default=EPOCH) + timedelta(
                days=chance.randint(0, 40)
            )
            await store.add_customer(f"user_id:{number}", touchpoints=said, until=until)
        moved = 0
        async with serving(database_url, await store.add_key()) as client:
            for journey in CHECKED:
                key = journey.definition.key
                definition = (await client.get(f"/v1/journeys/{key}")).json()["definition"]
                for number in range(8):
                    timeline = await whole_timeline(client, f"user_id:{number}")
                    proof = (await client.get(f"/v1/customers/user_id:{number}/journeys/{key}")).json()
                    moved += len(proof["runs"][0]["transitions"])

                    check_all(proof, timeline, definition)
                    for spoiled in spoil(proof, chance):
                        with pytest.raises(AssertionError):
                            check_all(spoiled, timeline, definition)
    assert moved > 300


def check_all(proof: Any, timeline: Sequence[Any], definition: Any) -> None:
    derived = check(proof, timeline, definition)
    check_near(proof["runs"][0], derived, max([datetime.fromisoformat(proof["as_of"]), *map(at, timeline)]))


def spoil(proof: Any, chance: Random) -> Iterator[Any]:
    """Proofs that say something else: a change less, another cause, another stage, another time, a rule less
    that came near, and another number that it has counted."""
    run = proof["runs"][0]
    changes = run["transitions"]
    for name in ("near", "near_beside"):
        if run[name]:
            yield {**proof, "runs": [{**run, name: spoiled_reasons(run[name][0]) + run[name][1:]}]}
        for number, one in enumerate(run[name]):
            if not any(reason["code"] == "from" for reason in one["reasons"]):
                others = run[name][:number] + run[name][number + 1 :]
                yield {**proof, "runs": [{**run, name: others}]}
                yield from (
                    {
                        **proof,
                        "runs": [{**run, name: [*others, {**one, "reasons": [{**reason, "have": 99}]}]}],
                    }
                    for reason in one["reasons"]
                    if reason["code"] == "count"
                )
    if not changes:
        return
    number = chance.randrange(len(changes))
    one = changes[number]
    for transitions in (
        changes[:number] + changes[number + 1 :],
        [
            *changes[:number],
            {**one, "cause": {**one["cause"], "rule": "nothing.enter"}},
            *changes[number + 1 :],
        ],
    ):
        yield {**proof, "runs": [{**run, "transitions": transitions}]}
    yield {**proof, "runs": [{**run, "stage": "nowhere"}]}
    yield {**proof, "runs": [{**run, "entered_at": "2020-01-01T00:00:00Z"}]}


def spoiled_reasons(near: Any) -> list[Any]:
    """One that is blocked by what isn't open, or that is on already since the year 2000."""
    reason = {"code": "stands", "says": "", "since": "2000-01-01T00:00:00Z"}
    if "to" in near:
        reason |= {"code": "blocked", "overlay": "nothing"}
    return [{**near, "reasons": [*near["reasons"], reason]}]


def random_touchpoint(chance: Random, id_: str) -> Touchpoint:
    """Of any type that one of the journeys asks for, and with much of what they ask."""
    types = sorted({type_ for journey in CHECKED for type_ in journey.asks if type_} | {"never_heard_of"})
    more: dict[str, Any] = {
        "owner": chance.choice(["own", "own", "partner", "third_party"]),
        "sentiment": chance.choice([None, -0.5, 0.0, 0.8]),
        "properties": {
            "total": chance.choice([10, 75.5, 300, "300"]),
            "page": chance.choice(["returns", ["news", "prices"]]),
            "rating": chance.randint(1, 5),
            "specific": chance.choice([True, False]),
        },
        "context": {
            "search": {"term": chance.choice(["Tesla", "sofa"])},
            "search_term": "køb vs. privatleasing",
        },
        "traits": chance.choice([{}, {}, {"compares": True}, {"employees": 12}, {"employees": 1}]),
    }
    type_, hours = chance.choice(types), chance.randrange(60 * 24)
    return touchpoint(id_, type_, hours=hours, channel=chance.choice(CHANNELS), more=more)


async def whole_timeline(client: httpx.AsyncClient, ref: str) -> list[Any]:
    found: list[Any] = []
    cursor = None
    while True:
        page = (
            await client.get(
                f"/v1/customers/{ref}/timeline",
                params={"limit": 500, "kind": "touchpoint", **({"cursor": cursor} if cursor else {})},
            )
        ).json()
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def test_a_long_history_is_told_in_pages(gym: ApiStore, database_url: str) -> None:
    """The last transitions first asked for, the earlier ones by `before`; near misses are looked for among
    the newest touchpoints only."""
    said = [touchpoint("trial", "trial_started"), touchpoint("member", "subscription_started", hours=1)]
    for number in range(150):
        said.append(touchpoint(f"{number}-c", "complaint", hours=2 * number + 2))
        said.append(touchpoint(f"{number}-r", "complaint_resolved", hours=2 * number + 3))
    await gym.add_customer("user_id:ann", touchpoints=said, until=EPOCH + timedelta(hours=303))
    async with serving(database_url, await gym.add_key()) as client:
        (whole,) = (await client.get(PROOF)).json()["runs"]
        (last,) = (await client.get(PROOF, params={"limit": 100})).json()["runs"]
        before = {"limit": 500, "before": last["transitions"][0]["seq"]}
        (rest,) = (await client.get(PROOF, params=before)).json()["runs"]

    assert whole["earlier_transitions"] == 0
    assert whole["touchpoints_seen"] == TOUCHPOINTS_READ_MAX
    assert last["earlier_transitions"] == len(rest["transitions"]) == len(whole["transitions"]) - 100
    assert rest["transitions"] + last["transitions"] == whole["transitions"]
    assert last["near"] == whole["near"]


async def test_a_proof_is_of_one_instant_of_the_store(gym: ApiStore, database_url: str) -> None:
    """While a history is rewritten over and over, its last transition always leads to the stage."""
    id_ = await gym.add_customer("user_id:ann")
    stop = asyncio.Event()

    async def rewrite() -> None:
        said, more = at_the_gym()[:1], at_the_gym()[1:2]
        await gym.add_touchpoints(id_, said)
        while not stop.is_set():
            async with gym.connection.transaction():
                await gym.add_touchpoints(id_, more)
                await gym.fold(id_, EPOCH + timedelta(days=2))
            async with gym.connection.transaction():
                await gym.connection.execute(
                    "DELETE FROM touchpoints WHERE type = 'subscription_started' AND customer_id = $1", id_
                )
                await gym.fold(id_, EPOCH + timedelta(days=2))

    stages = set()
    async with serving(database_url, await gym.add_key()) as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(rewrite())
        for _ in range(60):
            (run,) = (await client.get(PROOF)).json()["runs"]
            stages.add(run["stage"])
            assert run["stage"] == (run["transitions"][-1]["to"] if run["transitions"] else None)
            assert run["observed"] == [one["to"] for one in run["transitions"]]
            assert len(run["observed"]) in (0, run["touchpoints_seen"])
        stop.set()
    assert {"trial", "member"} <= stages


async def test_nobody_and_nothing_are_problems(gym: ApiStore, database_url: str) -> None:
    """An unknown customer, an unknown journey, a reference that names nobody, and wrong parameters."""
    await gym.add_customer("user_id:ann")
    async with serving(database_url, await gym.add_key()) as client:
        for path, status, code in (
            ("/v1/customers/user_id:bob/journeys/gym", 404, "customer_not_found"),
            ("/v1/customers/user_id:ann/journeys/nothing", 404, "journey_not_found"),
            ("/v1/customers/ann/journeys/gym", 422, "invalid_parameters"),
            (f"{PROOF}?limit=0", 422, "invalid_parameters"),
            (f"{PROOF}?limit=1001", 422, "invalid_parameters"),
            (f"{PROOF}?before=-1", 422, "invalid_parameters"),
            (f"{PROOF}?before=x", 422, "invalid_parameters"),
        ):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (status, code), path
            assert answer.headers["content-type"] == "application/problem+json"


async def test_a_journey_that_has_not_begun_is_explained(gym: ApiStore, database_url: str) -> None:
    """Everybody is staged by the version that is read: who has no state in it has not begun."""
    await gym.connection.execute("INSERT INTO customers VALUES (gen_random_uuid(), $1)", EPOCH)
    id_ = await gym.connection.fetchval("SELECT id FROM customers")
    async with serving(database_url, await gym.add_key()) as client:
        staged = (await client.get(f"/v1/customers/{id_}/journeys/gym")).json()

    (run,) = staged["runs"]
    assert (run["stage"], run["transitions"], run["next"]) == (None, [], None)
    assert "waits for trial_started" in [reason["says"] for one in run["near"] for reason in one["reasons"]]


async def test_a_journey_that_another_one_starts_names_that_rule(database_url: str) -> None:
    """What others say of it counts among its rules, as it did when the stager folded it."""
    starting = EVERYTHING + "starts: [{journey: gym, on: {type: call_ended, at_least: 2}}]\n"
    definitions = linked([parse(starting, "everything.yaml"), GYM.definition])
    async with store_of(database_url, [Journey(one) for one in definitions]) as store:
        said = [touchpoint("call", "call_ended", channel="phone")]
        assert definitions[1].started_by
        await store.add_customer("user_id:ann", touchpoints=said)
        async with serving(database_url, await store.add_key()) as client:
            (run,) = (await client.get(PROOF)).json()["runs"]

    (started,) = [one for one in run["near"] if one["rule"] == "everything.starts[0]"]
    assert [reason["says"] for reason in started["reasons"]] == ["1 of 2 call_ended"]


def test_everything_that_the_checker_checks_is_about_customers() -> None:
    """Most built-in journeys are among them."""
    assert len(CHECKED) >= 7
    assert {one.definition.key for one in all_journeys()} <= {one.definition.key for one in CHECKED}
