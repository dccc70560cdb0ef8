"""`/livez`, `/readyz` and `/metrics`, the same in every service."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.metrics import Metrics

Readiness = Callable[[], Mapping[str, str]]
"""The checks of a service by name: `ok`, or `degraded: …`, or why it can't do its work."""


def probe_routes(readiness: Readiness, metrics: Metrics) -> Sequence[Route]:
    """Routes for the process's liveness, its readiness and its metrics.

    `/livez` says that the event loop turns, and nothing else. `/readyz` answers 200 when every check is
    `ok` or `degraded`, and 503 otherwise, with all checks in the body.
    """

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        checks = dict(readiness())
        ready = all(state.startswith(("ok", "degraded")) for state in checks.values())
        return JSONResponse(
            {"status": "ready" if ready else "unready", "checks": checks}, status_code=200 if ready else 503
        )

    async def exposition(_: Request) -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return (Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", exposition))
