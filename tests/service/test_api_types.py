"""`GET /v1/touchpoint-types` on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.touchpoint_types import catalogue
from tests.service.api_store import ApiStore, serving, store_of
from tests.support.journeys import all_journeys

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
