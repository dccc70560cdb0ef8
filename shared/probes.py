"""`/livez`, `/readyz` and `/metrics`, the same in every service."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.metrics import Metrics

Readiness = Callable[[], Mapping[str, str]]
"""The checks of a service by name: `ok`, or `degraded: …`, or why it can't do its work. Called from another
thread than the service's where the probes have a listener of their own, so it only reads."""

Still = Callable[[], str | None]
"""Why the service's loop counts as dead; None while it turns."""


def _turns() -> None:
    """What a loop that answers says of itself."""


def probe_routes(readiness: Readiness, metrics: Metrics, still: Still = _turns) -> Sequence[Route]:
    """Routes for the process's liveness, its readiness and its metrics.

    `/livez` says whether the event loop turns, and nothing else: 200, or 503. `/readyz` answers 200 when
    every check is `ok` or `degraded`, and 503 otherwise, with all checks in the body.
    """

    async def livez(_: Request) -> Response:
        dead = still()
        return JSONResponse({"status": dead or "ok"}, status_code=503 if dead else 200)

    async def readyz(_: Request) -> Response:
        checks = dict(readiness())
        ready = all(state.startswith(("ok", "degraded")) for state in checks.values())
        return JSONResponse(
            {"status": "ready" if ready else "unready", "checks": checks}, status_code=200 if ready else 503
        )

    async def exposition(_: Request) -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return (Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", exposition))
