"""`/v1/customers/{ref}/journeys/{key}/history`: what was true when, as Rejse knew it when."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from services.api.routes.docs import customer_responses
from services.api.routes.operation import Answer
from services.api.routes.parameters import (
    LIMIT_MAX,
    JourneyKey,
    Parameters,
    Ref,
    Time,
    active_journey,
    at_cursor,
    customer_ref,
    no_customer,
    past,
)
from services.api.views.answers import History
from services.api.views.histories import AsOf, find_history, from_cursor
from services.api.views.reference import Reference
from shared.clock import Clock
from shared.journey.fold import RUN_NAME_BYTES_MAX
from shared.store.engine import Pool

# FastAPI drops every null of the document, so the example has none.
_EXAMPLE = {
    "customer": "019a3c1e-7a51-7cc0-9d0c-1f2e3d4c5b6a",
    "journey": "purchase-lifecycle",
    "version": 2,
    "at": "2026-01-31T00:00:00Z",
    "known_at": "2026-02-01T00:00:00Z",
    "stage": "repeat",
    "stage_labels": {"en": "Repeat purchases", "da": "Gentagne køb", "sv": "Återkommande köp"},
    "paused": False,
    "changes": [
        {
            "at": "2026-01-12T09:29:58Z",
            "change": "enter",
            "from": "first",
            "to": "repeat",
            "from_paused": False,
            "to_paused": False,
            "cause": {"touchpoint": "5f0c3b1a-2d4e-4f60-8a7b-9c0d1e2f3a4b", "rule": "repeat.enter"},
            "revision": 0,
            "recorded_at": "2026-01-12T09:30:01Z",
            "superseded_at": "2026-02-14T06:00:12Z",
        }
    ],
    "next_cursor": "k9b_aX3mAAAAANb_aX43gAAAAAAB",
}


class HistoryParameters(Parameters):
    """Which history of a customer is asked for."""

    at: Time | None = Field(
        default=None, description="when it was true: event time, that instant included; absent: until now"
    )
    known_at: Time | None = Field(
        default=None, description="when Rejse knew it, that instant included; absent: as it is known now"
    )
    run: Annotated[str, Field(max_length=RUN_NAME_BYTES_MAX, pattern="^[^\\x00]*$")] = Field(
        default="",
        description="of a journey about things the thing's name, of one about accounts the account, such as "
        "`account_id:acme`; else absent",
    )
    limit: int = Field(default=50, ge=1, le=LIMIT_MAX, description="changes of a page")
    cursor: str | None = Field(
        default=None,
        max_length=400,
        description="`next_cursor` of the page before; opaque; stands for `at` and `known_at` too",
    )


def add_routes(router: APIRouter, pool: Pool, reference: Reference, clock: Clock) -> None:
    """Attach the operation."""

    async def get_history(
        ref: Ref,
        key: JourneyKey,
        wanted: Annotated[HistoryParameters, Query()],
    ) -> Response:
        """A customer's stage at a past time and the changes that led there, as they are known now or as they
        were known at another past time. A late touchpoint corrects history and erases nothing of it.

        It is told by the active version of the journey: nothing was known by it before it was activated.
        """
        active, as_of, now = active_journey(reference, key), _as_of(wanted, clock), clock.now()
        asked = customer_ref(ref)
        found = await find_history(pool, active, asked, as_of, now, wanted.limit, wanted.run)
        if found is None:
            raise await no_customer(pool, asked)
        return Answer(found)

    router.add_api_route(
        "/v1/customers/{ref}/journeys/{key}/history",
        get_history,
        responses=customer_responses(History, _EXAMPLE),
        response_class=Answer,
        tags=["customers"],
    )


def _as_of(wanted: HistoryParameters, clock: Clock) -> AsOf:
    asked = AsOf(
        None if wanted.at is None else past("at", wanted.at, clock),
        None if wanted.known_at is None else past("known_at", wanted.known_at, clock),
    )
    return at_cursor(wanted.cursor, from_cursor, asked)
