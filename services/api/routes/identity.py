"""`/v1/customers/{ref}/identity` and `/v1/identity`: why identities are one customer, or not, and what people
say of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.responses import Response

from services.api.routes.docs import admin_responses, customer_responses, responses
from services.api.routes.operation import Answer, PathOnlyRoute, invalid_parameters, require_admin
from services.api.routes.parameters import (
    LIMIT_MAX,
    Parameters,
    Ref,
    at_cursor,
    customer_ref,
    no_customer,
)
from services.api.views.answers import IdentityConflicts
from services.api.views.conflicts import NEWEST, find_conflicts, from_cursor
from services.api.views.customers import QUERY_TIMEOUT_S
from shared.clock import Clock
from shared.problem import Problem
from shared.refs import parse_ref
from shared.store.engine import Connection, Pool, connection_of
from shared.store.identities import IdentityProof, prove_identity
from shared.store.withdrawals import Links, links_of, take_back, withdraw

REF_CHARACTERS_MAX = 1_000

Word = Callable[[Connection, str, str | None, datetime], Awaitable[int]]

_ANN = "019a3c1e-7a51-7cc0-9d0c-1f2e3d4c5b6a"
_BO = "019a3c20-1b2c-7a10-8e5f-6a7b8c9d0e1f"
_VIEWED = {
    "id": "3b9d2c7e-1f40-4e8a-9c55-7d6e5f4a3b2c",
    "at": "2026-01-10T19:04:12Z",
    "type": "product_viewed",
    "channel": "web",
}
_LOGGED_IN = {
    "id": "5f0c3b1a-2d4e-4f60-8a7b-9c0d1e2f3a4b",
    "at": "2026-01-12T09:29:58Z",
    "type": "logged_in",
    "channel": "web",
}
_LOGGED_IN_BY_BO = {
    "id": "8c1e4a52-6b7d-4d3f-b0a9-1e2d3c4b5a69",
    "at": "2026-02-14T18:00:00Z",
    "type": "logged_in",
    "channel": "web",
}
_REFUSED = {
    "customer": _ANN,
    "identity": "email:info@example.com",
    "too_many": "email",
    "other": _BO,
    "count": 3,
    "first_at": "2026-02-01T08:00:01Z",
    "last_at": "2026-02-20T08:00:01Z",
    "touchpoint": "c2d3e4f5-0617-4829-a3b4-c5d6e7f80912",
}
_PROOF_EXAMPLE = {
    "customer": _ANN,
    "identities": [
        {
            "kind": "user_id",
            "value": "ann",
            "since": "2026-01-12T09:29:58Z",
            "linked_at": "2026-01-12T09:30:00Z",
            "evidence": _LOGGED_IN,
            "holders": [],
        }
    ],
    "former": [
        {
            "kind": "anonymous_id",
            "value": "tab-7",
            "since": "2026-01-10T19:04:12Z",
            "linked_at": "2026-01-10T19:04:13Z",
            "evidence": _VIEWED,
            "holders": [
                {"customer": _BO, "since": "2026-02-14T18:00:00Z", "evidence": _LOGGED_IN_BY_BO},
                {"customer": _ANN, "since": "2026-01-10T19:04:12Z", "evidence": _VIEWED},
            ],
        }
    ],
    "links": [
        {
            "identity": "user_id:ann",
            "other": "anonymous_id:tab-7",
            "linked_at": "2026-01-12T09:30:00Z",
            "evidence": _LOGGED_IN,
        }
    ],
    "aliases": [
        {
            "id": "019a3c1e-9b10-7d21-8f4a-2b3c4d5e6f70",
            "merged_at": "2026-01-12T09:30:00Z",
            "evidence": _LOGGED_IN,
        }
    ],
    "refused": [_REFUSED],
    "withdrawn": [],
    "cut": [],
}
_LINKS_EXAMPLE = {
    "links": [
        {
            "identity": "user_id:ann",
            "other": "email:bo@example.com",
            "linked_at": "2026-01-12T09:30:00Z",
            "withdrawn_at": "2026-03-01T12:00:00Z",
            "carried_out": True,
            "together": True,
        }
    ],
    "held_together_by": ["user_id:ann", "loyalty_id:17", "email:bo@example.com"],
}
# FastAPI drops every null of the document, so the example has none.
_CONFLICTS_EXAMPLE = {"conflicts": [_REFUSED], "next_cursor": "lNb_aX43gAAAAMQQAZo8HnpRfMCdDB8uPUxbag"}


class ConflictParameters(Parameters):
    """Which page of the refused links is asked for."""

    limit: int = Field(default=50, ge=1, le=LIMIT_MAX, description="links of a page")
    cursor: str | None = Field(
        default=None, max_length=1_000, description="`next_cursor` of the page before; opaque"
    )


class LinkParameters(Parameters):
    """Which link is meant."""

    identity: str = Field(max_length=REF_CHARACTERS_MAX, description="`kind:value`")
    other: str | None = Field(
        default=None,
        max_length=REF_CHARACTERS_MAX,
        description="`kind:value` of the other one; absent: every link of the first",
    )


def add_routes(router: APIRouter, pool: Pool, clock: Clock) -> None:
    """Attach the operations."""

    async def get_identity(ref: Ref) -> Response:
        """Why the identities of a customer are theirs: which touchpoint linked what, and when; which
        customers were merged, which devices and numbers were handed over, and which links were refused."""
        asked = customer_ref(ref)
        async with connection_of(pool) as connection:
            found = await prove_identity(connection, asked, QUERY_TIMEOUT_S)
        if found is None:
            raise await no_customer(pool, asked)
        return Answer(found)

    async def list_conflicts(wanted: Annotated[ConflictParameters, Query()]) -> Response:
        """The links that a limit held back, of all customers, newest first: a family's shared address, a
        typo, a card that everybody uses."""
        after = at_cursor(wanted.cursor, from_cursor, NEWEST)
        return Answer(await find_conflicts(pool, after, wanted.limit))

    async def say(wanted: LinkParameters, word: Word) -> Response:
        one = _identity("identity", wanted.identity)
        other = None if wanted.other is None else _identity("other", wanted.other)
        async with connection_of(pool) as connection, connection.transaction():
            await word(connection, one, other, clock.now())
            found = await links_of(connection, one, other)
        if not found.links:
            raise Problem(404, "link_not_found", "no touchpoint told of these identities together")
        return Answer(found)

    async def unlink(wanted: Annotated[LinkParameters, Query()]) -> Response:
        """Withdraw the link between two identities, or every link of one: a typo that was somebody else's
        address, a phone that two share. Customers that are held together by nothing else are two again, with
        the timelines, stages and histories that each would have had; a stager sees to it within seconds. No
        touchpoint links the two again. Asked again, it tells how that stands. Another one may hold both
        together: `held_together_by` names the way."""
        return await say(wanted, withdraw)

    async def relink(wanted: Annotated[LinkParameters, Query()]) -> Response:
        """Let withdrawn links count again: all is as if they had never been withdrawn. Limits hold for them
        as for touchpoints: one that a limit forbids by now is refused, and listed by
        `/v1/identity/conflicts`. It is carried out then, and both are not `together`; the next touchpoint
        that tells of both links them, if there is room by then."""
        return await say(wanted, take_back)

    for path, operation in (("/v1/identity/unlink", unlink), ("/v1/identity/relink", relink)):
        router.add_api_route(
            path,
            operation,
            methods=["POST"],
            dependencies=[Depends(require_admin)],
            responses=admin_responses(Links, _LINKS_EXAMPLE),
            response_class=Answer,
            tags=["identity"],
        )
    router.add_api_route(
        "/v1/customers/{ref}/identity",
        get_identity,
        route_class_override=PathOnlyRoute,
        responses=customer_responses(IdentityProof, _PROOF_EXAMPLE),
        response_class=Answer,
        tags=["identity"],
    )
    router.add_api_route(
        "/v1/identity/conflicts",
        list_conflicts,
        responses=responses(IdentityConflicts, _CONFLICTS_EXAMPLE),
        response_class=Answer,
        tags=["identity"],
    )


def _identity(name: str, text: str) -> str:
    try:
        found = parse_ref(text)
    except ValueError as error:
        raise invalid_parameters([(name, str(error))]) from None
    if isinstance(found, UUID):
        raise invalid_parameters([(name, "is no kind:value")])
    return found
