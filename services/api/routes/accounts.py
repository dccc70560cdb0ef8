"""`/v1/accounts/{account_id}`: one account, the journeys that its people make together, and its members."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import Response

from services.api.routes.docs import responses
from services.api.routes.operation import Answer, PathOnlyRoute, invalid_parameters
from services.api.routes.parameters import LIMIT_MAX, Parameters, at_cursor
from services.api.views.accounts import BEFORE_ALL, find_account, find_members, from_cursor
from services.api.views.answers import Account, Members
from services.api.views.reference import Reference
from shared.clock import Clock
from shared.identities import normalise_identity
from shared.problem import Problem
from shared.store.engine import Pool

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

_MEMBERS_EXAMPLE = {
    "id": "5f0c3b1a-2d4e-4f60-8a7b-9c0d1e2f3a4b",
    "account_id": "acme",
    "members": [
        {
            "customer": "019a3c1e-7a51-7cc0-9d0c-1f2e3d4c5b6a",
            "linked_at": "2026-01-12T09:30:00Z",
            "touchpoint": "7c2d9e04-51f6-4b8a-9e3d-0a1b2c3d4e5f",
            "since": "2026-01-12T09:29:58Z",
            "until": "2026-02-27T16:00:00Z",
        }
    ],
    "next_cursor": "kcQQAZo8HnpRfMCdDB8uPUxbag",
}

_AccountId = Annotated[str, Path(description="as touchpoints name it, percent-encoded", examples=["acme"])]


class MembersParameters(Parameters):
    """Which page of the members is asked for."""

    limit: int = Field(default=50, ge=1, le=LIMIT_MAX, description="members of a page")
    cursor: str | None = Field(
        default=None, max_length=100, description="`next_cursor` of the page before; opaque"
    )


def add_routes(router: APIRouter, pool: Pool, reference: Reference, clock: Clock) -> None:
    """Attach the operation."""

    async def get_account(account_id: _AccountId) -> Response:
        """An account: the stage that the touchpoints of all its people give together, in every active journey
        about accounts."""
        found = await find_account(pool, reference.journeys, _identity(account_id), clock.now())
        if found is None:
            raise _no_account()
        return Answer(found)

    async def get_members(account_id: _AccountId, wanted: Annotated[MembersParameters, Query()]) -> Response:
        """The customers who act for an account or did, page by page in the order of their ids: since when and
        until when each does, from when on Rejse has known it, and the id of the touchpoint that is the
        evidence. Who comes to it between two pages is on a later one, or on none."""
        after = at_cursor(wanted.cursor, from_cursor, BEFORE_ALL)
        found = await find_members(pool, _identity(account_id), after, wanted.limit)
        if found is None:
            raise _no_account()
        return Answer(found)

    router.add_api_route(
        "/v1/accounts/{account_id}",
        get_account,
        route_class_override=PathOnlyRoute,
        responses=responses(Account, _EXAMPLE),
        response_class=Answer,
        tags=["accounts"],
    )
    router.add_api_route(
        "/v1/accounts/{account_id}/members",
        get_members,
        responses=responses(Members, _MEMBERS_EXAMPLE),
        response_class=Answer,
        tags=["accounts"],
    )


def _no_account() -> Problem:
    return Problem(404, "account_not_found", "no touchpoint has named this account")


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
