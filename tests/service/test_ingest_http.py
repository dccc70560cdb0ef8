"""What senders see of ingest: answers, errors, limits; on a real socket, with the local log."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.ingest.metrics import CATALOGUE
from shared.clock import SystemClock
from shared.eventlog.choose import LOCAL_FOLDER
from shared.eventlog.local.file import LocalLog
from shared.eventlog.local.progress import write_progress
from shared.ids import uuid7
from shared.refusals import CODES
from tests.support.accepting import accept
from tests.support.eventually import eventually_async
from tests.support.ingest import (
    KEY,
    OTHER_KEY,
    PATH,
    READ_KEY,
    Ingest,
    KeyStore,
    event,
    kept_in_local_log,
    running_ingest,
)

ALL_ACCEPTED = {"accepted": 1, "duplicate_in_request": 0, "refused": []}


@pytest.fixture
async def ingest(tmp_path: Path) -> AsyncIterator[Ingest]:
    """Ingest as it comes."""
    async with running_ingest(tmp_path) as running:
        yield running


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem, with what every problem has checked on the way."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["access-control-allow-origin"] == "*"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["detail"]
    return answer.status_code, body["code"]


async def test_what_is_answered_202_is_in_the_log(ingest: Ingest) -> None:
    """At the moment of the answer the record is durable, with source and time of receipt."""
    answer = await ingest.post(event(id="1"))

    assert (answer.status_code, answer.json()) == (202, ALL_ACCEPTED)
    (touchpoint,) = await kept_in_local_log(ingest.data_dir)
    assert (touchpoint.id, touchpoint.source, touchpoint.type) == ("1", "shop", "order_placed")


@pytest.mark.parametrize(
    ("body", "media_type", "accepted"),
    [
        (json.dumps(event()).encode(), "application/json", 1),
        (json.dumps([event(), event()]).encode(), "application/json; charset=utf-8", 2),
        (b"%s\n%s\n" % ((json.dumps(event()).encode(),) * 2), "application/x-ndjson", 2),
        (b"%s\n%s" % ((json.dumps(event()).encode(),) * 2), "text/plain;charset=UTF-8", 2),
        (json.dumps(event(), indent=1).encode(), "Text/Plain", 1),
    ],
)
async def test_every_framing_is_taken_plain_and_compressed(
    ingest: Ingest, body: bytes, media_type: str, accepted: int
) -> None:
    """Object, array and lines, named or sniffed, gzip or not."""
    plain = await ingest.post(body, media_type)
    zipped = await ingest.post(gzip.compress(body), media_type, Content_Encoding="gzip")

    assert [answer.status_code for answer in (plain, zipped)] == [202, 202]
    assert plain.json() == zipped.json() == ALL_ACCEPTED | {"accepted": accepted, "unrepeatable": accepted}


@pytest.mark.parametrize("media_type", ["application/xml", "multipart/form-data", "", "application/jsonx"])
async def test_another_media_type_is_415(ingest: Ingest, media_type: str) -> None:
    """What can't be read is said before it is read."""
    assert problem(await ingest.post(event(), media_type)) == (415, "unsupported_media_type")


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "x"])
async def test_another_encoding_is_415(ingest: Ingest, encoding: str) -> None:
    """Only gzip is inflated."""
    answer = await ingest.post(event(), Content_Encoding=encoding)

    assert problem(answer) == (415, "unsupported_encoding")


async def test_a_batch_is_taken_in_part(ingest: Ingest) -> None:
    """The answer counts what is kept and names what is refused by index, code, message and pointer."""
    events = [event(id="1"), event(type="No"), event(id="1"), event(id="2")]
    answer = await ingest.post(events)

    assert answer.status_code == 202
    assert answer.json() == {
        "accepted": 2,
        "duplicate_in_request": 1,
        "refused": [
            {"index": 1, "code": "invalid_name", "message": CODES["invalid_name"], "pointer": "/type"}
        ],
    }
    assert [touchpoint.id for touchpoint in await kept_in_local_log(ingest.data_dir)] == ["1", "2"]


@pytest.mark.parametrize("body", [event(type="No"), [], [1, 2]])
async def test_nothing_acceptable_is_422_that_says_why(ingest: Ingest, body: Any) -> None:
    """The members of a 202 stand in the problem too."""
    answer = await ingest.post(body)

    assert problem(answer) == (422, "nothing_accepted")
    assert answer.json()["accepted"] == 0
    assert len(answer.json()["refused"]) == (len(body) if isinstance(body, list) else 1)


async def test_malformed_json_is_400_with_the_byte(ingest: Ingest) -> None:
    """The sender is told where its serialiser went wrong."""
    answer = await ingest.post(b'{"type": oops}')

    assert problem(answer) == (400, "malformed_json")
    assert "byte 9" in answer.json()["detail"]


async def test_a_key_may_stand_in_the_query_where_no_header_can(ingest: Ingest) -> None:
    """sendBeacon can't set a header."""
    answer = await ingest.client.post(
        f"{PATH}?v=1&key=rejse_write_of-the-tests",
        content=json.dumps(event()),
        headers={"Content-Type": "text/plain"},
    )

    assert answer.status_code == 202


async def test_a_time_of_sending_in_the_query_serves_all_of_a_request(ingest: Ingest) -> None:
    """A clock a year behind is put right; a time that can't be read is told before anything is taken."""
    behind = SystemClock().now() - timedelta(days=365)
    query = f"{PATH}?key={KEY}&sent_at="
    body = json.dumps([event(id=f"{n}", occurred_at=behind.isoformat()) for n in range(2)])
    sent_at = behind.isoformat().replace("+00:00", "Z")

    answer = await ingest.client.post(query + sent_at, content=body, headers={"Content-Type": "text/plain"})
    wrong = await ingest.client.post(query + "now", content=body, headers={"Content-Type": "text/plain"})

    assert answer.json()["accepted"] == 2
    for touchpoint in await kept_in_local_log(ingest.data_dir):
        assert touchpoint.occurred_at == touchpoint.received_at
        assert touchpoint.sent_at == behind
    assert problem(wrong) == (400, "invalid_time")


async def test_no_valid_write_key_is_401_whatever_is_wrong_with_it(ingest: Ingest) -> None:
    """Missing, unknown and of another scope are answered alike."""
    answers = [
        await ingest.client.post(PATH, content="{}"),
        await ingest.post(event(), key="rejse_write_unknown"),
        await ingest.post(event(), key=READ_KEY),
        await ingest.post(event(), key="rejse write"),
        await ingest.post(event(), Authorization="Basic cmVqc2U6"),
    ]

    assert {problem(answer) for answer in answers} == {(401, "unauthorized")}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].headers["www-authenticate"] == "Bearer"


async def test_a_request_has_one_mebibyte_on_the_wire(ingest: Ingest) -> None:
    """More is 413, announced or sent in chunks without announcement."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 65_536

    fits = json.dumps(event()).encode()
    exact = fits + b" " * (1024 * 1024 - len(fits))
    announced = await ingest.post(exact + b" ")
    headers = {"Authorization": "Bearer rejse_write_of-the-tests", "Content-Type": "application/json"}
    chunked = await ingest.client.post(PATH, content=chunks(), headers=headers)

    assert (await ingest.post(exact)).status_code == 202
    assert problem(announced) == problem(chunked) == (413, "body_too_large")


async def test_a_request_has_500_events(ingest: Ingest) -> None:
    """One more is 413, and none of them is kept."""
    assert (await ingest.post([event()] * 500)).json()["accepted"] == 500
    assert problem(await ingest.post([event()] * 501)) == (413, "too_many_events")
    assert len(await kept_in_local_log(ingest.data_dir)) == 500


async def test_inflating_stops_at_four_mebibytes(ingest: Ingest) -> None:
    """Up to the bound a body is taken, beyond it is 413, however little came over the wire."""
    fits = json.dumps(event()).encode()
    exact = gzip.compress(fits + b" " * (4 * 1024 * 1024 - len(fits)))
    bomb = gzip.compress(b" " * 64 * 1024 * 1024)

    assert (await ingest.post(exact, Content_Encoding="gzip")).status_code == 202
    for body in (gzip.compress(fits + b" " * (4 * 1024 * 1024)), bomb, bomb + bomb):
        answer = await ingest.post(body, Content_Encoding="gzip")
        assert problem(answer) == (413, "inflated_too_large")


async def test_several_gzip_members_are_one_body(ingest: Ingest) -> None:
    """As RFC 1952 has it."""
    body = json.dumps(event()).encode()
    answer = await ingest.post(gzip.compress(body[:20]) + gzip.compress(body[20:]), Content_Encoding="gzip")

    assert answer.json() == ALL_ACCEPTED | {"unrepeatable": 1}


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body[:-1],
        lambda body: body[:12],
        lambda body: body + b"x",
        lambda body: body[:-8] + b"\0" * 8,
        lambda _: b"",
        lambda _: b"{}",
        lambda _: gzip.compress(b"") * 200,
    ],
    ids=["cut", "head", "rest", "checksum", "empty", "plain", "members"],
)
async def test_a_damaged_gzip_is_400(ingest: Ingest, damage: Any) -> None:
    """Cut short, followed by something else, wrong in its checksum, or none at all."""
    answer = await ingest.post(damage(gzip.compress(json.dumps(event()).encode())), Content_Encoding="gzip")

    assert problem(answer) == (400, "malformed_gzip")


async def test_a_key_that_sends_more_than_its_rate_is_429(tmp_path: Path) -> None:
    """The key over its rate waits, the others don't."""
    async with running_ingest(tmp_path, variables={"rate_events_s": 10}) as ingest:
        assert (await ingest.post([event()] * 100)).status_code == 202
        answer = await ingest.post(event())

        assert problem(answer) == (429, "rate_exceeded")
        assert 9 <= int(answer.headers["retry-after"]) <= 17
        assert (await ingest.post(event(), key=OTHER_KEY)).status_code == 202


async def test_more_bytes_than_the_budget_are_503(tmp_path: Path) -> None:
    """Neither announced nor inflated bytes may take more room than there is, and all is given back."""
    async with running_ingest(tmp_path, variables={"in_flight_bytes_max": 1_000}) as ingest:
        large = json.dumps(event(properties={"a": "x" * 2_000})).encode()
        for answer in (
            await ingest.post(large),
            await ingest.post(gzip.compress(large), Content_Encoding="gzip"),
        ):
            assert problem(answer) == (503, "overloaded")
            assert 1 <= int(answer.headers["retry-after"]) <= 7
        assert (await ingest.metrics())["rejse_ingest_in_flight_bytes"] == 0
        assert (await ingest.post(event())).status_code == 202


BOMB = gzip.compress(b" " * 8_000_000)
LONG = b"[" + b" " * 1_100_000


@pytest.mark.parametrize(
    ("told", "key", "rate", "media_type", "body", "room"),
    [
        ((401, "unauthorized"), "nobody", "spent", "image/png", LONG, 1_000),
        ((429, "rate_exceeded"), KEY, "spent", "image/png", LONG, 1_000),
        ((415, "unsupported_media_type"), KEY, "free", "image/png", LONG, 1_000),
        ((413, "body_too_large"), KEY, "free", "application/json", LONG, 1_000),
        ((503, "overloaded"), KEY, "free", "application/json", BOMB, 1_000),
        ((413, "inflated_too_large"), KEY, "free", "application/json", BOMB, 64 << 20),
        ((400, "malformed_json"), KEY, "free", "application/json", gzip.compress(b"{"), 64 << 20),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
async def test_load_is_shed_in_the_order_of_what_it_costs(
    tmp_path: Path, told: tuple[int, str], key: str, rate: str, media_type: str, body: bytes, room: int
) -> None:
    """Key, rate, what is announced, room in flight, the body, its inflation, its meaning: of a request that
    fails at several the cheapest is told, and nothing dearer was done for it."""
    variables = {"rate_events_s": 1, "in_flight_bytes_max": room}
    async with running_ingest(tmp_path, variables=variables) as ingest:
        if rate == "spent":
            assert (await ingest.post([event()] * 12)).status_code == 202
        answer = await ingest.post(body, media_type, key, Content_Encoding="gzip")

        assert problem(answer) == told


async def test_a_disk_that_is_nearly_full_is_503_and_unready(tmp_path: Path) -> None:
    """Without Kafka there is no other place: the sender tries again, and ops are told why."""
    async with running_ingest(tmp_path, variables={"disk_free_bytes_min": 1 << 44}) as ingest:
        answer = await ingest.post(event())

        assert problem(answer) == (503, "not_durable")
        assert 1 <= int(answer.headers["retry-after"]) <= 7
        status, checks = await ingest.checks()
        assert (status, checks["durable"]) == (503, "the log's disk is nearly full")


async def test_the_local_log_is_trimmed_behind_the_stager_alone(tmp_path: Path) -> None:
    """Told to keep nothing of what was staged, ingest forgets it as it goes on, and keeps the rest."""
    async with running_ingest(tmp_path) as ingest:
        assert (await ingest.post([event(id=str(number)) for number in range(50)])).status_code == 202
    log = await LocalLog.open(tmp_path / LOCAL_FOLDER)
    write_progress(tmp_path / LOCAL_FOLDER, log.log_id, {0: 40})

    async with running_ingest(tmp_path, variables={"local_log_keep_bytes": 0}) as ingest:
        assert (await ingest.post(event(id="50"))).status_code == 202
        bounds = await eventually_async(lambda: log.bounds(0), until=lambda found: found.begin > 0)
    await log.close(1)

    assert (bounds.begin, bounds.end) == (39, 51)


async def test_a_website_may_post(ingest: Ingest) -> None:
    """The preflight allows what a sender needs, without cookies; answers expose Retry-After."""
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    preflight = await ingest.client.options(PATH, headers=asked)
    answer = await ingest.post(event(), Origin="https://shop.example")

    assert preflight.status_code == 204
    allowed = preflight.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "content-type", "content-encoding", "idempotency-key"} <= set(allowed)
    assert "access-control-allow-credentials" not in preflight.headers
    for headers in (preflight.headers, answer.headers):
        assert headers["access-control-allow-origin"] == "*"
    refused = await ingest.post(event(), key="nobody", Origin="https://shop.example")
    assert refused.headers["access-control-expose-headers"] == "Retry-After"


async def test_a_request_without_ids_may_be_sent_again_under_its_key(ingest: Ingest) -> None:
    """The header, in quotation marks or not, makes the ids of each try the same; without it the answer says
    what would count again."""
    ids = []
    for header in ('"order 4711"', "order 4711", '"order 4712"'):
        answer = await ingest.post([event(), event()], Idempotency_Key=header)
        assert answer.json() == {"accepted": 2, "duplicate_in_request": 0, "refused": []}
        ids.append([touchpoint.id for touchpoint in await kept_in_local_log(ingest.data_dir)][-2:])
    assert ids[0] == ids[1]
    assert not {*ids[0]} & {*ids[2]}

    answer = await ingest.post([event(), event(id="1"), event()])
    assert answer.json()["unrepeatable"] == 2


@pytest.mark.parametrize("header", ['""', "", "k" * 256])
async def test_a_requests_key_says_something_and_is_short(ingest: Ingest, header: str) -> None:
    """Else the sender learns so, and nothing of the request is taken."""
    answer = await ingest.post(event(), Idempotency_Key=header)

    assert problem(answer) == (400, "invalid_idempotency_key")
    assert await kept_in_local_log(ingest.data_dir) == []


async def test_other_methods_and_paths_are_problems_too(ingest: Ingest) -> None:
    """405 and 404 are of the same form as every error."""
    assert (await ingest.client.get(PATH)).json()["code"] == "method_not_allowed"
    assert (await ingest.client.post("/v1/nothing")).json()["code"] == "not_found"


async def test_openapi_describes_the_door(ingest: Ingest) -> None:
    """Body, answers and codes are all there, and the examples are touchpoints that pass."""
    document = (await ingest.client.get("/openapi.json")).json()
    operation = document["paths"][PATH]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]

    assert set(operation["requestBody"]["content"]) == {
        "application/json",
        "application/x-ndjson",
        "text/plain",
    }
    assert set(operation["responses"]) == {"202", "400", "401", "408", "413", "415", "422", "429", "503"}
    assert json.dumps(document).count('"lone_surrogate"') >= 1
    for example in examples.values():
        body = json.dumps(example["value"]).encode()
        assert accept(body, "json", "docs", SystemClock().now(), uuid7).refusals == []


async def test_the_ledger_balances(ingest: Ingest) -> None:
    """Received = accepted + duplicate + refused + set aside, for each source, whatever came."""
    await ingest.post([event(id="1"), event(id="1"), event(type="No"), event()])
    await ingest.post([event(type="No")])
    await ingest.post(event(), key=OTHER_KEY)
    await ingest.post(b"oops")
    metrics = await ingest.metrics()

    def total(column: str, source: str) -> float:
        name = f"rejse_ingest_touchpoints_{column}_total"
        return sum(
            value
            for sample, value in metrics.items()
            if sample.startswith(name) and f'source="{source}"' in sample
        )

    assert [total(column, "shop") for column in ("received", "accepted", "duplicate", "refused")] == [
        5,
        2,
        1,
        2,
    ]
    for source in ("shop", "till"):
        parts = sum(total(column, source) for column in ("accepted", "duplicate", "refused", "set_aside"))
        assert total("received", source) == parts


async def test_the_catalogue_is_what_is_exposed(ingest: Ingest) -> None:
    """Every metric of ours on `/metrics` stands in the catalogue and the other way round."""
    await ingest.post([event(), event(type="No")])
    text = (await ingest.client.get("/metrics")).text
    exposed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE rejse_")}

    assert {name for name in exposed if not name.endswith("_created")} == {
        metric.name for metric in CATALOGUE
    }


async def test_keys_that_were_never_read_are_503_not_401(tmp_path: Path) -> None:
    """A sender that is told 401 drops its events; while nobody can tell, it shall come again."""
    keys = KeyStore()
    keys.away = True
    async with running_ingest(tmp_path, keys=keys) as ingest:
        answer = await ingest.post(event())

        assert problem(answer) == (503, "keys_unknown")
        assert "retry-after" in answer.headers
        assert (await ingest.checks())[0] == 503


async def test_keys_are_known_without_the_store_across_a_restart(tmp_path: Path) -> None:
    """The file holds digests for this user alone, and is enough."""
    keys = KeyStore()
    async with running_ingest(tmp_path, keys=keys):
        pass
    file = tmp_path / "ingest" / "keys.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"of-the-tests" not in file.read_bytes()

    keys.away = True
    async with running_ingest(tmp_path, keys=keys) as ingest:
        assert (await ingest.post(event())).status_code == 202
        status, checks = await ingest.checks()
        assert (status, checks["keys"].partition(":")[0]) == (200, "degraded")


async def test_a_key_that_is_made_or_withdrawn_counts_soon(tmp_path: Path) -> None:
    """The store is asked again every few seconds."""
    keys = KeyStore(())
    async with running_ingest(tmp_path, keys=keys) as ingest:
        assert problem(await ingest.post(event())) == (401, "unauthorized")
        keys.keys = KeyStore().keys
        await eventually_async(lambda: ingest.post(event()), until=lambda answer: answer.status_code == 202)
        keys.keys = ()
        await eventually_async(lambda: ingest.post(event()), until=lambda answer: answer.status_code == 401)
