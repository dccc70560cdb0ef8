"""The query API, wired by hand: the routes behind the gate, and the order in which it ends."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.types import ASGIApp

from services.api.metrics import CATALOGUE
from services.api.routes import (
    accounts,
    customers,
    definitions,
    docs,
    histories,
    identity,
    journeys,
    proofs,
    timelines,
    types,
)
from services.api.routes.gate import Gate
from services.api.settings import Settings
from services.api.views.reference import Reference
from shared.clock import Clock
from shared.health import health_listener
from shared.ids import uuid7
from shared.lifecycle import serve_http
from shared.logs import fields
from shared.metrics import Metrics
from shared.probes import Readiness, probe_routes
from shared.store.engine import Pool, open_pool

log = logging.getLogger("rejse.api")

CONNECTIONS_MAX = 8


class Api(FastAPI):
    """FastAPI for routing and the OpenAPI document, with our gate in the place of its own error layers:
    together those cost a request half as much again as the query does."""

    def __init__(self, gate: Callable[[ASGIApp], ASGIApp]) -> None:
        super().__init__(
            title="Rejse",
            version="1",
            description="Which stage of which journey a customer is in now, why, and what comes next.",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            telemetry={"tracing": False, "metrics": False, "logs": False},
        )
        self._gate = gate

    def build_middleware_stack(self) -> ASGIApp:
        return self._gate(AsyncExitStackMiddleware(self.router))

    def openapi(self) -> dict[str, Any]:
        """The document, with the answers' schemas and the keys in it."""
        if self.openapi_schema is None:
            document = super().openapi()
            components = document.setdefault("components", {})
            components.setdefault("schemas", {}).update(docs.schemas())
            components["securitySchemes"] = docs.SECURITY_SCHEMES
            document["security"] = docs.SECURITY
        assert self.openapi_schema is not None
        return self.openapi_schema


def create_app(
    pool: Pool, reference: Reference, metrics: Metrics, readiness: Readiness | None, clock: Clock
) -> ASGIApp:
    """The app over a store, with probes if given a readiness. Whoever serves it keeps `reference` fresh."""
    api = Api(lambda app: Gate(app, reference, metrics, clock, uuid7))
    customers.add_routes(api.router, pool, reference, clock)
    accounts.add_routes(api.router, pool, reference, clock)
    identity.add_routes(api.router, pool, clock)
    timelines.add_routes(api.router, pool, reference, clock)
    proofs.add_routes(api.router, pool, reference, clock)
    histories.add_routes(api.router, pool, reference, clock)
    journeys.add_routes(api.router, pool, reference, clock)
    definitions.add_routes(api.router, pool, clock)
    types.add_routes(api.router, pool)
    if readiness is not None:
        api.router.routes.extend(probe_routes(readiness, metrics))
    return api


async def serve(
    settings: Settings,
    database_url: str,
    listener: socket.socket,
    stop: asyncio.Event,
    clock: Clock,
    *,
    health: socket.socket | None = None,
) -> None:
    """Answer until `stop` is set; then answer what is in flight and return. The probes are answered on
    `health`, or without one beside the rest."""
    metrics = Metrics(CATALOGUE)
    async with AsyncExitStack() as parts:
        pool = await open_pool(database_url, connections_max=CONNECTIONS_MAX, service="api")
        parts.callback(pool.terminate)
        parts.callback(listener.close)
        reference = Reference(pool, metrics, clock)
        readiness = partial(_checks, reference, stop)
        if health is not None:
            await parts.enter_async_context(health_listener(health, readiness, metrics, clock))
        app = create_app(pool, reference, metrics, readiness if health is None else None, clock)
        log.info("started", extra=fields(port=listener.getsockname()[1]))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reference.run(stop), name="reference")
            tasks.create_task(
                serve_http(
                    app,
                    listener,
                    stop,
                    settings.drain_timeout_s,
                    drain_wait_s=settings.drain_wait_s,
                    proxy_headers=False,
                ),
                name="serve",
            )
    log.info("stopped")


def _checks(reference: Reference, stop: asyncio.Event) -> Mapping[str, str]:
    """Ready: the keys and definitions were read lately, and it is not ending."""
    return {"store": reference.check(), "lifecycle": "draining" if stop.is_set() else "ok"}
