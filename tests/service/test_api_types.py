"""`GET /v1/touchpoint-types` on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from shared.touchpoint_types import UNKNOWN_TYPES_MAX, catalogue
from tests.service.api_store import ApiStore, serving, store_of
from tests.support.journeys import EPOCH, all_journeys

_ADD = "INSERT INTO unknown_types VALUES ($1, $2, $3, $4)"
PATH = "/v1/touchpoint-types"


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[ApiStore]:
    async with store_of(database_url, all_journeys()) as store:
        yield store


async def test_the_catalogue_is_served_whole_and_in_order(store: ApiStore, database_url: str) -> None:
    """Each type with what it is about; what it has no value for is absent."""
    async with serving(database_url, await store.add_key()) as client:
        types = (await client.get(PATH)).json()["types"]

    assert [(one["about"], one["type"]) for one in types] == [
        (about, name) for about, types in catalogue().items() for name in types
    ]
    of = {one["type"]: one for one in types}
    assert of["complaint"] == {
        "type": "complaint",
        "about": "help",
        "meaning": "Complained.",
        "channels": ["phone", "email", "store", "social"],
        "segment": [],
        "ga4": [],
        "shopify": [],
        "sentiment": -0.8,
    }
    assert of["product_viewed"]["content"] == "hard"


async def test_unknown_types_are_told_with_their_sums(store: ApiStore, database_url: str) -> None:
    """Over all shards, the most frequent first; one that is in the catalogue by now is unknown no more."""
    later = EPOCH + timedelta(hours=1)
    rows = [
        (0, "gym_visited", 2, later),
        (1, "gym_visited", 3, EPOCH),
        (0, "gym_left", 1, EPOCH),
        (3, "trial_begun", 1, EPOCH),
        (3, "order_completed", 9, EPOCH),
        (3, "", 7, EPOCH),
    ]
    await store.connection.executemany(_ADD, rows)
    async with serving(database_url, await store.add_key()) as client:
        answer = (await client.get(PATH)).json()

    assert answer["unknown"] == [
        {"type": "gym_visited", "count": 5, "last_stored_at": "2026-01-01T01:00:00Z"},
        {"type": "gym_left", "count": 1, "last_stored_at": "2026-01-01T00:00:00Z"},
        {"type": "trial_begun", "count": 1, "last_stored_at": "2026-01-01T00:00:00Z"},
    ]
    assert answer["unknown_others"] == 7


async def test_an_answer_names_so_many_unknown_types_and_sums_up_the_others(
    store: ApiStore, database_url: str
) -> None:
    """Whatever the shards hold, an answer is bounded, and no touchpoint is missing in it."""
    rows = [(one % 2, f"made_up_{one:04}", 1 + (one == 7), EPOCH) for one in range(UNKNOWN_TYPES_MAX + 5)]
    await store.connection.executemany(_ADD, rows)
    async with serving(database_url, await store.add_key()) as client:
        answer = (await client.get(PATH)).json()

    assert len(answer["unknown"]) == UNKNOWN_TYPES_MAX
    assert (answer["unknown"][0]["type"], answer["unknown_others"]) == ("made_up_0007", 5)
