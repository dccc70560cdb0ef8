"""`/v1/customers/{ref}`: one customer by any identifier, to be told of or erased."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from services.api.routes.docs import customer_responses, erasure_responses
from services.api.routes.operation import Answer, PathOnlyRoute, require_admin
from services.api.routes.parameters import NoParameters, Ref, customer_ref, no_customer
from services.api.views.answers import Customer
from services.api.views.customers import find_customer
from services.api.views.reference import Reference
from shared.clock import Clock
from shared.problem import Problem
from shared.store.engine import Pool, connection_of
from shared.store.erasures import Erasure, NotSettled, erase

_LABELS = {"en": "Purchase lifecycle", "da": "Købslivscyklus", "sv": "Köplivscykel"}
_EXAMPLE = {
    "id": "019a3c1e-7a51-7cc0-9d0c-1f2e3d4c5b6a",
    "created_at": "2026-01-12T09:30:00Z",
    "as_of": "2026-03-01T12:00:00Z",
    "identities": [
        {"kind": "email", "value": "ann@example.com", "linked_at": "2026-01-12T09:30:00Z"},
        {"kind": "crm", "value": "4711", "linked_at": "2026-02-01T08:00:00Z"},
    ],
    "journeys": [
        {
            "journey": "purchase-lifecycle",
            "version": 2,
            "labels": _LABELS,
            "stage": "first",
            "stage_labels": {"en": "First purchase", "da": "Første køb", "sv": "Första köpet"},
            "paused": False,
            "entered_at": "2026-01-12T09:29:58Z",
            "furthest_stage": "first",
            "lap": 1,
            "observed": ["first"],
            "inferred": [],
            "overlays": [],
            "signals": [],
            "tallies": [],
            "next": {
                "at": "2026-07-11T09:29:58Z",
                "change": "exit",
                "to": "dormant",
                "to_paused": False,
                "rule": "dormant.enter",
            },
        }
    ],
    "aliases": ["019a3c1e-9b10-7d21-8f4a-2b3c4d5e6f70"],
}
_ERASURE_EXAMPLE = {
    "customer": "019a3c1e-7a51-7cc0-9d0c-1f2e3d4c5b6a",
    "erased_at": "2026-03-01T12:00:00Z",
    "carried_out": False,
}
_RETRY_AFTER_S = 2


def add_routes(router: APIRouter, pool: Pool, reference: Reference, clock: Clock) -> None:
    """Attach the operations."""

    async def get_customer(ref: Ref) -> Response:
        """A customer by any identifier: identities, the stage in every active journey, and what comes
        next if nothing happens."""
        asked = customer_ref(ref)
        found = await find_customer(pool, reference.journeys, asked, clock.now())
        if found is None:
            raise await no_customer(pool, asked)
        return Answer(found)

    async def erase_customer(ref: Ref, _: Annotated[NoParameters, Query()]) -> Response:
        """Erase a customer. From now on nobody finds them, by their id it is 410; within seconds a stager has
        removed all that is kept of them. No touchpoint that happened until now brings them back; what they
        do later is about somebody new. Asked again by their id, it tells how that stands. It can't be
        undone."""
        asked = customer_ref(ref)
        try:
            async with connection_of(pool) as connection, connection.transaction():
                found = await erase(connection, asked, clock.now())
        except NotSettled as error:
            raise Problem(409, "not_settled", str(error), retry_after_s=_RETRY_AFTER_S) from None
        if found is None:
            raise await no_customer(pool, asked)
        return Answer(found, status_code=202)

    router.add_api_route(
        "/v1/customers/{ref}",
        get_customer,
        route_class_override=PathOnlyRoute,
        responses=customer_responses(Customer, _EXAMPLE),
        response_class=Answer,
        tags=["customers"],
    )
    router.add_api_route(
        "/v1/customers/{ref}",
        erase_customer,
        methods=["DELETE"],
        status_code=202,
        dependencies=[Depends(require_admin)],
        responses=erasure_responses(Erasure, _ERASURE_EXAMPLE),
        response_class=Answer,
        tags=["customers"],
    )
