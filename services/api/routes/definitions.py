"""`/v1/journeys`, for admins: try a definition, let it take over, and see how far it is.

A definition is the body, as its YAML file has it.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from services.api.routes.docs import definition_responses
from services.api.routes.operation import Answer, require_admin
from services.api.routes.parameters import NoParameters, Parameters, Time
from services.api.routes.proofs import RUN_EXAMPLE
from services.api.views.versions import (
    JourneyVersion,
    JourneyVersions,
    ValidJourney,
    activate,
    deactivate,
    read_definition,
    try_out,
    valid,
    versions,
)
from shared.clock import Clock
from shared.problem import Problem
from shared.store.engine import Pool
from shared.store.what_if import WhatIf
from shared.strict_yaml import BYTES_MAX

WHAT_IF_TIMEOUT_S = 20.0
"""How long a what-if may take; then it tells of those whom it has met."""
SAMPLES_MAX = 100

_VERSION_EXAMPLE = {
    "key": "gym",
    "version": 2,
    "state": "on_its_way",
    "customers_done": 1204,
    "customers_total": 9310,
    "wanted_at": "2026-03-01T12:00:00Z",
}
_VALID_EXAMPLE = {
    "key": "gym",
    "version": 2,
    "stages": ["trial", "member"],
    "exits": ["left"],
}
_WHAT_IF_EXAMPLE = {
    "journey": "gym",
    "version": 2,
    "active_version": 1,
    "at": "2026-03-01T12:00:00Z",
    "complete": True,
    "customers": 9310,
    "touchpoints": 81_022,
    "moved": 1,
    "stages": [{"stage": "member", "before": 2, "before_paused": 2, "after": 1, "after_paused": 1}],
    "moves": [{"from": "member", "to": "regular", "count": 1}],
    "samples": [
        {
            "customer": "019a0000-0000-7000-8000-000000000000",
            "before": RUN_EXAMPLE,
            "after": {**RUN_EXAMPLE, "stage": "regular"},
        }
    ],
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "description": "a definition, as its YAML file has it",
        "required": True,
        "content": {
            "application/yaml": {"schema": {"type": "string"}, "example": "key: gym\nversion: 2\n..."}
        },
    }
}
_Key = Annotated[str, Path(description="the journey's key", examples=["gym"])]


class WhatIfParameters(Parameters):
    """As of when, and how much is told."""

    at: Time | None = Field(default=None, description="event time; absent: now")
    sample: int = Field(
        default=10, ge=0, le=SAMPLES_MAX, description="customers to show who would be elsewhere"
    )


def add_routes(router: APIRouter, pool: Pool, clock: Clock) -> None:
    """Attach the operations."""
    one_at_a_time = asyncio.Semaphore(1)

    async def validate_journey(request: Request, _: Annotated[NoParameters, Query()]) -> Response:
        """Check a definition and tell all that is wrong with it, each with its line."""
        return Answer(valid(read_definition(await _text(request))))

    async def try_journey(request: Request, wanted: Annotated[WhatIfParameters, Query()]) -> Response:
        """Fold the customers by a definition and tell who would be where. Nothing is written. One at a time;
        in a large store only as many customers as fit into 20 seconds: `rejse journeys what-if` takes
        all."""
        definition = read_definition(await _text(request))
        if one_at_a_time.locked():
            raise Problem(429, "what_if_running", "another what-if is at work", retry_after_s=5)
        async with one_at_a_time:
            return Answer(await try_out(pool, definition, wanted.at, wanted.sample, WHAT_IF_TIMEOUT_S, clock))

    async def activate_journey(request: Request, _: Annotated[NoParameters, Query()]) -> Response:
        """Let a definition take over, once all customers are staged by it; until then the active version
        stays. Asked again, it tells how far it is. To go back, send the former version; with it, one that is
        on its way is given up."""
        return Answer(await activate(pool, read_definition(await _text(request)), clock.now()))

    async def deactivate_journey(key: _Key, _: Annotated[NoParameters, Query()]) -> Response:
        """Let nobody be staged in a journey any more. Its history stays."""
        return Answer(await deactivate(pool, key, clock.now()))

    async def list_versions(key: _Key, _: Annotated[NoParameters, Query()]) -> Response:
        """The versions of a journey, which is active, and how far the one is that takes over."""
        return Answer(await versions(pool, key))

    for path, method, endpoint, answer, example, extra in (
        ("/v1/journeys/validate", "POST", validate_journey, ValidJourney, _VALID_EXAMPLE, _BODY),
        ("/v1/journeys/what-if", "POST", try_journey, WhatIf, _WHAT_IF_EXAMPLE, _BODY),
        ("/v1/journeys/activate", "POST", activate_journey, JourneyVersion, _VERSION_EXAMPLE, _BODY),
        (
            "/v1/journeys/{key}/deactivate",
            "POST",
            deactivate_journey,
            JourneyVersions,
            {"versions": [_VERSION_EXAMPLE]},
            None,
        ),
        (
            "/v1/journeys/{key}/versions",
            "GET",
            list_versions,
            JourneyVersions,
            {"versions": [_VERSION_EXAMPLE]},
            None,
        ),
    ):
        router.add_api_route(
            path,
            endpoint,
            methods=[method],
            dependencies=[Depends(require_admin)],
            responses=definition_responses(answer, example),
            response_class=Answer,
            openapi_extra=extra,
            tags=["definitions"],
        )


async def _text(request: Request) -> str:
    """The body, as text.

    Raises:
        Problem: 413, it is larger than a definition can be; 422, it is no UTF-8.
    """
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > BYTES_MAX:
            raise Problem(413, "too_large", f"a definition has at most {BYTES_MAX} bytes")
    try:
        return found.decode()
    except UnicodeDecodeError:
        raise Problem(422, "invalid_definition", "the body is no UTF-8 text") from None
