"""Who is who, as the API and the command tell it, on a real PostgreSQL that the stager has filled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from services.api.views.conflicts import NEWEST, Refused, from_cursor
from services.api.views.cursor import to_text
from services.supervisor.identity_cli import explain
from shared.errors import ConfigError
from shared.ids import uuid7
from shared.journey.fold import Journey
from shared.journey.language import parse
from shared.store.engine import connection_of
from shared.store.identities import HOLDERS_MAX, LISTED_MAX, IdentityProof, prove_identity
from shared.store.ids import touchpoint_uid
from shared.store.keys import create_key
from shared.touchpoint import Touchpoint
from tests.service.api_store import serving
from tests.service.identity_command import rejse_identity
from tests.service.staging import Staging, staging
from tests.service.test_stager_store import NOW, touchpoint
from tests.support.journeys import EPOCH, EVERYTHING, all_journeys

_DAY = timedelta(days=1)
_KEY = "purchase-lifecycle"


@pytest.fixture
async def stager(database_url: str) -> AsyncIterator[Staging]:
    journeys = [one for one in all_journeys() if one.definition.key == _KEY]
    async with staging(database_url, journeys, NOW) as running:
        yield running


async def read_key(stager: Staging) -> str:
    async with connection_of(stager.pool) as connection:
        return await create_key(connection, "read", "test", EPOCH)


async def stage(stager: Staging, *touchpoints: Touchpoint) -> None:
    """Stage touchpoints one by one, a second apart."""
    for number, one in enumerate(touchpoints):
        await stager.commit(NOW + timedelta(seconds=number), one)


async def answered(client: httpx.AsyncClient, path: str, **query: str | int) -> Mapping[str, Any]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    found: Mapping[str, Any] = answer.json()
    return found


def at(seconds: int) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def evidence(id_: str, day: int) -> dict[str, str]:
    """The touchpoint of the till with this id, as an answer tells it."""
    when = (EPOCH + day * _DAY).isoformat().replace("+00:00", "Z")
    return {"id": str(touchpoint_uid("till", id_)), "at": when, "type": "order_completed", "channel": "store"}


FAMILY = (
    touchpoint("looked", "anonymous_id:tablet", day=1),
    touchpoint("ann", "user_id:ann", "anonymous_id:tablet", day=2),
    touchpoint("bo", "user_id:bo", "anonymous_id:tablet", day=5),
    touchpoint("card", "user_id:ann", "loyalty_id:7", day=6),
    touchpoint("wrong-card", "user_id:bo", "loyalty_id:7", day=7),
    touchpoint("wrong-again", "user_id:bo", "loyalty_id:7", day=8),
)
"""Ann and Bo share a tablet, and Bo once takes Ann's card along."""


async def test_an_id_that_was_merged_away_answers_for_ever(stager: Staging, database_url: str) -> None:
    """Every call that takes a reference answers to it as to the one that stayed, after two merges in a row
    too; the customer's answer lists the ids, newest first."""
    await stage(stager, touchpoint("a", "anonymous_id:1", day=1), touchpoint("b", "email:ann@b.dk", day=2))
    await stage(stager, touchpoint("c", "user_id:ann", day=3))
    async with connection_of(stager.pool) as connection:
        rows = await connection.fetch("SELECT id FROM customers ORDER BY id")
    oldest, older, youngest = (str(row["id"]) for row in rows)
    await stager.commit(NOW + timedelta(seconds=1), touchpoint("d", "user_id:ann", "email:ann@b.dk", day=4))
    await stager.commit(NOW + timedelta(seconds=2), touchpoint("e", "user_id:ann", "anonymous_id:1", day=5))
    async with serving(database_url, await read_key(stager)) as client:
        document = (await client.get("/openapi.json")).json()
        paths = [path.replace("{key}", _KEY) for path in document["paths"] if "{ref}" in path]
        told: dict[str, list[Mapping[str, Any]]] = {}
        for path in paths:
            for ref in (oldest, older, youngest, youngest.upper(), "email:ann@b.dk"):
                answer = dict(await answered(client, path.replace("{ref}", ref)))
                for clock in ("as_of", "at", "known_at"):
                    answer.pop(clock, None)
                told.setdefault(path, []).append(answer)
        nobody = await client.get(f"/v1/customers/{uuid7()}/identity")

    assert len(paths) >= 5
    for path, answers in told.items():
        assert [one for one in answers if one != answers[0]] == [], path
        assert answers[0].get("id", answers[0].get("customer")) == oldest
    assert told["/v1/customers/{ref}"][0]["aliases"] == [older, youngest]
    assert len(told["/v1/customers/{ref}/timeline"][0]["items"]) > 5
    assert told["/v1/customers/{ref}/identity"][0]["aliases"] == [
        {"id": older, "merged_at": at(2), "evidence": evidence("e", 5)},
        {"id": youngest, "merged_at": at(1), "evidence": evidence("d", 4)},
    ]
    assert (nobody.status_code, nobody.json()["code"]) == (404, "customer_not_found")


async def test_each_identity_is_told_with_its_evidence(stager: Staging, database_url: str) -> None:
    """The family tablet: what was linked by what, who had the tablet when, told of both of them, and the card
    that was refused."""
    await stage(stager, *FAMILY)
    async with serving(database_url, await read_key(stager)) as client:
        ann, bo = [await answered(client, f"/v1/customers/user_id:{who}/identity") for who in ("ann", "bo")]
        conflicts = await answered(client, "/v1/identity/conflicts")

    tablet = {"kind": "anonymous_id", "value": "tablet", "linked_at": at(0)}
    holders = [
        {"customer": bo["customer"], "since": evidence("bo", 5)["at"], "evidence": evidence("bo", 5)},
        {
            "customer": ann["customer"],
            "since": evidence("looked", 1)["at"],
            "evidence": evidence("looked", 1),
        },
    ]
    assert ann["identities"] == [
        {
            "kind": "loyalty_id",
            "value": "7",
            "since": evidence("card", 6)["at"],
            "linked_at": at(3),
            "evidence": evidence("card", 6),
            "holders": [],
        },
        {
            "kind": "user_id",
            "value": "ann",
            "since": evidence("ann", 2)["at"],
            "linked_at": at(1),
            "evidence": evidence("ann", 2),
            "holders": [],
        },
    ]
    assert ann["former"] == [
        tablet | {"since": evidence("looked", 1)["at"], "evidence": evidence("looked", 1), "holders": holders}
    ]
    assert ann["links"] == [
        {
            "identity": "user_id:ann",
            "other": "loyalty_id:7",
            "linked_at": at(3),
            "evidence": evidence("card", 6),
        },
        {
            "identity": "user_id:ann",
            "other": "anonymous_id:tablet",
            "linked_at": at(1),
            "evidence": evidence("ann", 2),
        },
    ]
    assert bo["identities"][-1] == tablet | {
        "since": evidence("bo", 5)["at"],
        "evidence": evidence("bo", 5),
        "holders": holders,
    }
    assert (bo["former"], bo["aliases"]) == ([], [])
    assert [(link["identity"], link["other"], link["evidence"]) for link in bo["links"]] == [
        ("user_id:bo", "anonymous_id:tablet", evidence("bo", 5))
    ]
    refused = {
        "customer": bo["customer"],
        "identity": "loyalty_id:7",
        "too_many": "user_id",
        "other": ann["customer"],
        "count": 2,
        "first_at": at(4),
        "last_at": at(5),
        "touchpoint": str(touchpoint_uid("till", "wrong-again")),
    }
    assert (ann["refused"], bo["refused"]) == ([], [refused])
    assert conflicts == {"conflicts": [refused], "next_cursor": None}
    assert ann["cut"] == bo["cut"] == []


async def test_a_thing_whose_touchpoints_moved_away_is_not_told(database_url: str) -> None:
    """A login that comes late takes what the tablet did since: then an order is the new login's, and the
    other customer's answer and proof have no run about it."""
    things = Journey(
        parse(EVERYTHING.replace("key: everything", "key: things") + "subject: {property: order_id}\n", "j")
    )
    order = touchpoint("order", "anonymous_id:tablet", day=6, body=b'{"order_id":"1"}')
    told: dict[str, tuple[list[str], list[str]]] = {}
    async with staging(database_url, [things], NOW) as stager:
        await stage(stager, FAMILY[0], FAMILY[1], order, FAMILY[2])
        async with serving(database_url, await read_key(stager)) as client:
            for who in ("ann", "bo"):
                answer = await answered(client, f"/v1/customers/user_id:{who}")
                proof = await answered(client, f"/v1/customers/user_id:{who}/journeys/things")
                told[who] = (
                    [one["about"]["value"] for one in answer["journeys"]],
                    [one["about"]["value"] for one in proof["runs"]],
                )

    assert told == {"ann": ([], []), "bo": (["1"], ["1"])}


async def test_whose_a_refused_identity_is_stays_true_after_a_merge(stager: Staging) -> None:
    """The other customer of a refused link is told by the id that it has now."""
    await stage(stager, touchpoint("old", "anonymous_id:laptop"), *FAMILY)
    await stage(stager, touchpoint("home", "user_id:ann", "anonymous_id:laptop", day=9))
    async with connection_of(stager.pool) as connection:
        ann, bo = [await prove_identity(connection, f"user_id:{who}") for who in ("ann", "bo")]

    assert ann
    assert bo
    assert [one.other for one in bo.refused] == [ann.customer]
    assert len(ann.aliases) == 1


async def test_refused_links_are_paged_in_one_order(stager: Staging, database_url: str) -> None:
    """Newest first, each once whatever the size of a page, also those of one instant; and what is no cursor
    is refused."""
    cards = [touchpoint(f"ann-{n}", "user_id:ann", f"loyalty_id:{n}", f"email:{n}@b.dk") for n in range(3)]
    await stage(stager, *cards)
    for seconds, who in ((10, "bo"), (20, "cy")):
        taken = [
            touchpoint(f"{who}-{n}", f"user_id:{who}", f"loyalty_id:{n}", f"email:{n}@b.dk") for n in range(3)
        ]
        await stager.commit(NOW + timedelta(seconds=seconds), *taken[:2])
        await stager.commit(NOW + timedelta(seconds=30), taken[2])
    path = "/v1/identity/conflicts"
    async with serving(database_url, await read_key(stager)) as client:
        whole = (await answered(client, path))["conflicts"]
        for limit in (1, 5, 12):
            pages: list[Mapping[str, Any]] = []
            cursor: dict[str, str] = {}
            while True:
                page = await answered(client, path, limit=limit, **cursor)
                pages += page["conflicts"]
                if page["next_cursor"] is None:
                    break
                assert len(page["conflicts"]) == limit
                cursor = {"cursor": page["next_cursor"]}
            assert pages == whole
        for wrong in ({"cursor": "x"}, {"limit": 0}, {"limit": 501}, {"cursor": "a" * 1001}):
            refused = await client.get(path, params=wrong)
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameters")

    assert [one["first_at"] for one in whole] == [at(30)] * 4 + [at(20)] * 4 + [at(10)] * 4
    assert len({(one["customer"], one["identity"]) for one in whole}) == 12


@pytest.mark.parametrize(
    "place",
    [
        Refused(NEWEST.first_at, UUID(int=0), "a\0", ""),
        Refused(NEWEST.first_at, UUID(int=0), "", "\0"),
        Refused(NEWEST.first_at, UUID(int=0), "x" * 301, ""),
        Refused(NEWEST.first_at.replace(tzinfo=None), UUID(int=0), "", ""),
    ],
)
def test_a_cursor_holds_what_the_store_can_hold(place: Refused) -> None:
    """One that was made by somebody else is refused before the store is asked."""
    with pytest.raises(ValueError, match="is no cursor of ours"):
        from_cursor(to_text(place))


async def test_of_very_much_the_latest_is_told(stager: Staging) -> None:
    """An answer stays small, and says of what there is more."""
    await stage(stager, touchpoint("a", "user_id:ann", "anonymous_id:tablet"))
    async with connection_of(stager.pool) as connection:
        await connection.execute(f"""
            INSERT INTO identities SELECT 'crm:' || n, id, id, created_at - n * interval '1 s'
            FROM customers, generate_series(1, {LISTED_MAX}) AS n
        """)
        await connection.execute(f"""
            INSERT INTO customer_aliases SELECT gen_random_uuid(), id, id, created_at + n * interval '1 s'
            FROM customers, generate_series(1, {LISTED_MAX + 1}) AS n
        """)
        await connection.execute(f"""
            INSERT INTO identity_holders
            SELECT 'anonymous_id:tablet', created_at + n * interval '1 s', id, id
            FROM customers, generate_series(1, {HOLDERS_MAX + 1}) AS n
        """)
        await connection.execute("UPDATE identities SET handed_over = true WHERE identity ~ 'tablet'")
        found = await prove_identity(connection, "user_id:ann")

    assert found
    assert len(found.identities) == len(found.aliases) == LISTED_MAX
    assert found.aliases[0].merged_at == NOW + timedelta(seconds=LISTED_MAX + 1)
    tablet = found.identities[0]
    assert (tablet.value, len(tablet.holders)) == ("tablet", HOLDERS_MAX)
    assert tablet.since == tablet.holders[0].since == NOW + timedelta(seconds=HOLDERS_MAX + 1)
    assert found.cut == ["identities", "aliases", "holders"]


async def test_the_command_tells_the_same(stager: Staging, database_url: str) -> None:
    """`rejse identity explain` shows it to people, and to programs as the API has it; who is nobody, and what
    can be nobody, is told without repeating it."""
    await stage(stager, *FAMILY)
    async with connection_of(stager.pool) as connection:
        bo = await prove_identity(connection, "user_id:bo")
    assert bo
    shown, as_json, nobody = await asyncio.gather(
        asyncio.to_thread(rejse_identity, database_url, "explain", "anonymous_id: tablet"),
        asyncio.to_thread(rejse_identity, database_url, "explain", str(bo.customer), "--json"),
        asyncio.to_thread(rejse_identity, database_url, "explain", "user_id:eve"),
    )

    assert f"Customer {bo.customer}" in shown.stdout
    for row in (
        ["user_id:bo", "2026-01-06 00:00:00Z", "order_completed, store:", str(touchpoint_uid("till", "bo"))],
        ["anonymous_id:tablet", "2026-01-02 00:00:00Z", str(bo.refused[0].other)],
        ["loyalty_id:7", "too many of user_id", str(bo.refused[0].other), " 2 "],
    ):
        assert any(all(cell in line for cell in row) for line in shown.stdout.splitlines()), row
    assert msgspec.json.decode(as_json.stdout, type=IdentityProof) == bo
    assert (nobody.returncode, nobody.stdout) == (2, "")
    assert nobody.stderr == "rejse: no customer is known by this reference\n"
    with pytest.raises(ConfigError, match="REF is neither kind:value nor a UUID"):
        explain("eve")
