"""`/v1/accounts/{account_id}`: one account, the journeys of which its people make together."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Path
from starlette.responses import Response

from services.api.routes.docs import responses
from services.api.routes.operation import Answer, PathOnlyRoute, invalid_parameters
from services.api.views.accounts import find_account
from services.api.views.answers import Account
from services.api.views.reference import Reference
from shared.clock import Clock
from shared.problem import Problem
from shared.store.engine import Pool
from shared.touchpoint import normalise_identity

_EXAMPLE = {
    "id": "5f0c3b1a-2d4e-4f60-8a7b-9c0d1e2f3a4b",
    "account_id": "acme",
    "created_at": "2026-01-12T09:30:00Z",
    "as_of": "2026-03-01T12:00:00Z",
    "journeys": [
        {
            "journey": "b2b-loyalty-loop",
            "version": 1,
            "labels": {
                "en": "Companies' loyalty loop",
                "da": "Virksomhedernes loyalitetskredsløb",
                "sv": "Företagens lojalitetskretslopp",
            },
            "stage": "decision",
            "stage_labels": {"en": "Decision", "da": "Beslutning", "sv": "Beslut"},
            "paused": False,
            "entered_at": "2026-02-03T10:00:00Z",
            "furthest_stage": "decision",
            "lap": 1,
            "observed": ["consideration", "decision"],
            "inferred": ["awareness"],
            "overlays": [],
            "signals": [],
            "tallies": [],
            "next": {
                "at": "2026-05-04T10:00:00Z",
                "change": "pause",
                "to": "decision",
                "to_paused": True,
                "rule": "decision.pause",
            },
            "about": {"kind": "account", "name": "account_id", "value": "acme"},
        }
    ],
}


def add_routes(router: APIRouter, pool: Pool, reference: Reference, clock: Clock) -> None:
    """Attach the operation."""

    async def get_account(
        account_id: Annotated[
            str, Path(description="as touchpoints name it, percent-encoded", examples=["acme"])
        ],
    ) -> Response:
        """An account: the stage that the touchpoints of all its people give together, in every active journey
        about accounts."""
        found = await find_account(pool, reference.journeys, _identity(account_id), clock.now())
        if found is None:
            raise Problem(404, "account_not_found", "no touchpoint has named this account")
        return Answer(found)

    router.add_api_route(
        "/v1/accounts/{account_id}",
        get_account,
        route_class_override=PathOnlyRoute,
        responses=responses(Account, _EXAMPLE),
        response_class=Answer,
        tags=["accounts"],
    )


def _identity(segment: str) -> str:
    try:
        value = unquote_to_bytes(segment).decode()
        if "\0" in value:
            raise ValueError("holds a NUL")
        return normalise_identity("account_id", value)
    except UnicodeDecodeError:
        raise invalid_parameters([("account_id", "is not UTF-8")]) from None
    except ValueError as error:
        raise invalid_parameters([("account_id", str(error))]) from None
