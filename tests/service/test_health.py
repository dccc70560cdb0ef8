"""A service that takes no more connections, or stands still, still tells how it is."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from shared.health import LOOP_STILL_S, health_listener
from shared.lifecycle import listen
from shared.metrics import Metrics
from tests.service.api_store import serving, status
from tests.support import plain_http
from tests.support.clock import ManualClock
from tests.support.eventually import eventually_async
from tests.support.ingest import event, running_ingest
from tests.support.journeys import EPOCH

PROBES = ("/livez", "/readyz", "/metrics")


async def test_ingest_tells_how_it_is_while_it_refuses_connections(tmp_path: Path) -> None:
    """With every connection taken that an address may have, each probe answers on the port of its own, and
    only there."""
    health = listen("127.0.0.1", 0)
    variables = {"connections_per_address_max": 3}
    async with AsyncExitStack() as parts:
        ingest = await parts.enter_async_context(running_ingest(tmp_path, variables=variables, health=health))
        at = f"http://127.0.0.1:{health.getsockname()[1]}"
        client = await parts.enter_async_context(plain_http.async_client(base_url=at, timeout=20))
        assert [await status(ingest.client, path) for path in PROBES] == [404, 404, 404]
        assert (await ingest.post(event())).status_code == 202
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", ingest.port)
            parts.callback(writer.close)
        async with plain_http.async_client(base_url=str(ingest.client.base_url)) as another:
            await eventually_async(lambda: status(another, "/v1/touchpoints"), until=lambda seen: seen == 429)

        assert [await status(client, path) for path in PROBES] == [200, 200, 200]
        assert "rejse_ingest_touchpoints_accepted_total" in (await client.get("/metrics")).text
        ingest.stop.set()
        answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["checks"]["lifetime"]) == (503, "draining")


async def test_the_api_tells_how_it_is_on_a_port_of_its_own(database_url: str) -> None:
    """Its own port has none of the probes then."""
    health = listen("127.0.0.1", 0)
    async with (
        serving(database_url, health=health) as client,
        plain_http.async_client(base_url=f"http://127.0.0.1:{health.getsockname()[1]}", timeout=20) as probes,
    ):
        await eventually_async(lambda: status(probes, "/readyz"), until=lambda seen: seen == 200)

        assert [await status(probes, path) for path in PROBES] == [200, 200, 200]
        assert [await status(client, path) for path in PROBES] == [404, 404, 404]


async def test_a_loop_that_stands_still_is_not_alive() -> None:
    """While the loop hangs, here in a request that blocks it, `/livez` says for how long; when it turns
    again, it is alive again."""
    clock, listener = ManualClock(EPOCH), listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/livez"
    async with health_listener(listener, dict, Metrics(()), clock), plain_http.async_client() as client:
        await eventually_async(lambda: status(client, url), until=lambda seen: seen == 200)
        clock.advance(LOOP_STILL_S + 1)
        # It blocks the loop, on purpose.
        dead = plain_http.get(url)
        await eventually_async(lambda: status(client, url), until=lambda seen: seen == 200)

    assert (dead.status_code, dead.json()) == (503, {"status": "the loop has not turned for 3.0 s"})
    assert listener.fileno() == -1
