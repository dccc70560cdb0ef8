"""What ingest makes of identities by its settings and by who sends them."""

from __future__ import annotations

from pathlib import Path

from shared.keys import KeyRecord, digest
from tests.support.eventually import eventually_async
from tests.support.ingest import KEY, OTHER_KEY, KeyStore, event, kept_in_local_log, running_ingest

DANISH = KeyRecord("shop", digest(KEY), "write", "shop", "DK")
SWEDISH = KeyRecord("till", digest(OTHER_KEY), "write", "till", "SE")
NATIONAL = event(identities={"phone": "33 12 34 56"})


async def test_a_national_number_is_of_its_sources_region(tmp_path: Path) -> None:
    """Also after a restart while the store is away, as the region is kept on disk with the key; and another
    region counts within seconds."""
    keys = KeyStore((DANISH, SWEDISH))
    async with running_ingest(tmp_path, keys=keys) as ingest:
        assert (await ingest.post(NATIONAL)).status_code == 202
        assert (await ingest.post(NATIONAL, key=OTHER_KEY)).status_code == 202
    keys.away = True
    async with running_ingest(tmp_path, keys=keys) as ingest:
        assert (await ingest.post(NATIONAL)).status_code == 202
        keys.keys, keys.away = (KeyRecord("shop", digest(KEY), "write", "shop"),), False
        told = await eventually_async(
            lambda: ingest.post(NATIONAL), until=lambda answer: answer.status_code == 422
        )
        assert "without its country code, and there is no default region" in told.text

    found = [touchpoint.identities for touchpoint in await kept_in_local_log(tmp_path)]
    assert found[:3] == [("phone:+4533123456",), ("phone:+4633123456",), ("phone:+4533123456",)]


async def test_worthless_identities_are_told_and_counted(tmp_path: Path) -> None:
    """By kind, in the answer and in the metrics, where every namespace is one kind."""
    sent = [
        event(id="1", identities={"user_id": "null", "email": "ida@example.com", "crm": "0"}),
        event(id="2", identities={"user_id": "void", "anonymous_id": "a-1"}),
        event(id="3", identities={"user_id": "undefined"}),
    ]
    async with running_ingest(tmp_path, variables={"worthless_identities": "void"}) as ingest:
        answer = (await ingest.post(sent)).json()
        plain = (await ingest.post(event(id="4"))).json()
        metrics = await ingest.metrics()

    assert answer["accepted"] == 2
    assert [(one["index"], one["code"]) for one in answer["refused"]] == [(2, "worthless_identity")]
    assert answer["worthless_identities"] == {"user_id": 3, "crm": 1}
    assert "worthless_identities" not in plain
    counted = {name: value for name, value in metrics.items() if "identities_worthless_total" in name}
    assert counted == {
        'rejse_ingest_identities_worthless_total{kind="user_id",source="shop"}': 3,
        'rejse_ingest_identities_worthless_total{kind="external",source="shop"}': 1,
    }
    found = [touchpoint.identities for touchpoint in await kept_in_local_log(tmp_path)]
    assert found == [("email:ida@example.com",), ("anonymous_id:a-1",), ("user_id:u-1",)]
