"""The query API as a process, and while its store is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from shared.store.migrate import upgrade_async
from tests.service.api_store import serving, status, store_of, touchpoint
from tests.support import plain_http
from tests.support.eventually import eventually_async
from tests.support.journeys import all_journeys
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.process import RejseProcess

PATHS = (
    "/v1/customers/user_id:ann",
    "/v1/customers/user_id:ann/timeline",
    "/v1/journeys/everything/counts",
    "/v1/journeys/everything/counts?at=2026-01-01T00:00:00Z",
)
ANSWER_WITHIN_S = 8.0


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    with Postgres(fsync=False) as running:
        yield running
        if running.running:
            running.resume()


@pytest.fixture
async def key(own_postgres: Postgres) -> str:
    await upgrade_async(own_postgres.url())
    async with store_of(own_postgres.url(), all_journeys()) as store:
        await store.add_customer("user_id:ann", touchpoints=[touchpoint("a")])
        return await store.add_key()


async def assert_unavailable(client: httpx.AsyncClient) -> None:
    for path in PATHS:
        began_s = time.monotonic()
        answer = await client.get(path)
        assert time.monotonic() - began_s < ANSWER_WITHIN_S
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), path
        assert int(answer.headers["retry-after"]) > 0
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/v1/journeys", headers={"Authorization": "Bearer x"})).status_code == 401


async def assert_back(client: httpx.AsyncClient) -> None:
    for path in (*PATHS, "/readyz"):
        await eventually_async(partial(status, client, path), 20, until=lambda seen: seen == 200)


async def test_a_frozen_store_is_answered_in_time_and_forgotten_once_it_thaws(
    own_postgres: Postgres, key: str
) -> None:
    """Every route says 503 with Retry-After within a bounded time, keys stay known, readiness goes; all of it
    comes back with the store."""
    async with serving(own_postgres.url(), key) as client:
        own_postgres.pause()
        await assert_unavailable(client)
        await eventually_async(lambda: status(client, "/readyz"), 30, until=lambda seen: seen == 503)
        own_postgres.resume()

        await assert_back(client)


async def test_a_stopped_store_is_answered_at_once_and_used_again_after_its_start(
    own_postgres: Postgres, key: str
) -> None:
    """Connections that the store's end has cut are replaced without a restart of the service."""
    async with serving(own_postgres.url(), key) as client:
        assert await status(client, PATHS[0]) == 200
        await asyncio.to_thread(own_postgres.stop)
        await assert_unavailable(client)
        await asyncio.to_thread(own_postgres.start)

        await assert_back(client)


async def test_it_starts_before_its_store_has_tables(own_postgres: Postgres) -> None:
    """Without tables it is live, unready, and answers 503 instead of calling a key wrong; then they come."""
    async with serving(own_postgres.url()) as client:
        answer = await client.get("/v1/journeys", headers={"Authorization": "Bearer x"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert (await client.get("/livez")).status_code == 200
        assert await status(client, "/readyz") == 503

        await upgrade_async(own_postgres.url())
        await eventually_async(lambda: status(client, "/readyz"), until=lambda seen: seen == 200)


def test_the_process_brings_a_store_of_its_own_and_ends_in_order(tmp_path: Path) -> None:
    """Without a database URL it runs an embedded PostgreSQL, migrated; SIGTERM ends both with exit code 0."""
    port = free_port()
    environ = {"REJSE_DATA_DIR": str(tmp_path / "data"), "REJSE_API_PORT": str(port)}
    process = RejseProcess([], env=environ, log_file=tmp_path / "log", ready_port=port, module="services.api")
    with process:
        assert plain_http.get(f"http://127.0.0.1:{port}/v1/journeys").status_code == 401
        assert process.terminate() == 0
        assert process.survivors() == []
    assert "Traceback" not in process.log


def test_wrong_settings_are_told_together_and_end_it_with_code_2(tmp_path: Path) -> None:
    """Every wrong variable is named on standard error before anything is started."""
    environ = {"REJSE_API_PORT": "many", "REJSE_DATABASE_URL": "mysql://x", "REJSE_NOTHING": "1"}
    process = RejseProcess([], env=environ, log_file=tmp_path / "log", module="services.api")
    process.launch()

    assert process.wait() == 2
    for name in environ:
        assert name in process.log
