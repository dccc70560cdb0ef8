"""`/v1/customers/{ref}`: one customer by any identifier."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from services.api.routes.docs import responses
from services.api.routes.operation import Answer, PathOnlyRoute
from services.api.routes.parameters import Ref, customer_ref, no_customer
from services.api.views.answers import Customer
from services.api.views.customers import find_customer
from services.api.views.reference import Reference
from shared.clock import Clock
from shared.store.engine import Pool

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


def add_routes(router: APIRouter, pool: Pool, reference: Reference, clock: Clock) -> None:
    """Attach the operation."""

    async def get_customer(ref: Ref) -> Response:
        """A customer by any identifier: identities, the stage in every active journey, and what comes
        next if nothing happens."""
        found = await find_customer(pool, reference.journeys, customer_ref(ref), clock.now())
        if found is None:
            raise no_customer()
        return Answer(found)

    router.add_api_route(
        "/v1/customers/{ref}",
        get_customer,
        route_class_override=PathOnlyRoute,
        responses=responses(Customer, _EXAMPLE),
        response_class=Answer,
        tags=["customers"],
    )
