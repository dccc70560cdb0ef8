"""`/v1/customers/{ref}/timeline`: touchpoints and stage changes together."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from services.api.routes.docs import customer_responses
from services.api.routes.operation import Answer
from services.api.routes.parameters import (
    LIMIT_MAX,
    Parameters,
    Ref,
    Time,
    at_cursor,
    customer_ref,
    no_customer,
    past,
)
from services.api.views.answers import Timeline
from services.api.views.position import END, from_cursor
from services.api.views.reference import Reference
from services.api.views.timelines import BEGIN, Filter, find_timeline
from shared.clock import Clock
from shared.store.engine import Pool
from shared.touchpoint import Channel

_TouchpointType = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,199}$")]
_TOUCHPOINTS_ONLY = "; repeatable; leaves touchpoints only, no stage changes"

# FastAPI drops every null of the document, so the examples have none.
_EXAMPLE = {
    "customer": "019a3c1e-7a51-7cc0-9d0c-1f2e3d4c5b6a",
    "items": [
        {
            "kind": "stage_change",
            "at": "2026-01-12T09:29:58Z",
            "journey": "purchase-lifecycle",
            "version": 2,
            "change": "enter",
            "from": "first",
            "to": "repeat",
            "from_paused": False,
            "to_paused": False,
            "cause": {"touchpoint": "5f0c3b1a-2d4e-4f60-8a7b-9c0d1e2f3a4b", "rule": "repeat.enter"},
        },
        {
            "kind": "touchpoint",
            "at": "2026-01-12T09:29:58Z",
            "id": "5f0c3b1a-2d4e-4f60-8a7b-9c0d1e2f3a4b",
            "source_id": "till-7-000123",
            "type": "order_completed",
            "channel": "store",
            "source": "till",
            "owner": "own",
            "sentiment": 0.4,
            "identities": ["email:ann@example.com"],
            "received_at": "2026-01-12T09:30:00Z",
            "sent_at": "2026-01-12T09:29:59Z",
            "properties": {"total": 249.5},
            "traits": {},
            "context": {},
            "consent": {},
        },
    ],
    "next_cursor": "ltb_aWS_FsQQXww7Gi1OT2CKe5wNHi86SwGgAAA",
}


class TimelineParameters(Parameters):
    """What of a timeline is asked for."""

    limit: int = Field(default=50, ge=1, le=LIMIT_MAX, description="items of a page")
    cursor: str | None = Field(
        default=None, max_length=800, description="`next_cursor` of the page before; opaque"
    )
    begin: Time | None = Field(default=None, alias="from", description="event time from here on, inclusive")
    end: Time | None = Field(default=None, alias="to", description="event time before here, exclusive")
    channel: list[Channel] = Field(
        default_factory=list, max_length=50, description="channel of the touchpoints" + _TOUCHPOINTS_ONLY
    )
    type: list[_TouchpointType] = Field(
        default_factory=list, max_length=50, description="type of the touchpoints" + _TOUCHPOINTS_ONLY
    )
    kind: Literal["touchpoint", "stage_change"] | None = Field(default=None, description="only these items")

    known_at: Time | None = Field(
        default=None,
        description="only what Rejse knew then: touchpoints received by then, and stage changes recorded by "
        "then and superseded, if at all, only later; absent: as it is known now",
    )

    def filter(self, clock: Clock) -> Filter:
        """The same, as the view wants it."""
        return Filter(
            begin=self.begin or BEGIN,
            end=self.end or END.at,
            touchpoints=self.kind != "stage_change",
            stage_changes=self.kind != "touchpoint" and not self.channel and not self.type,
            channels=self.channel or None,
            types=self.type or None,
            known_at=None if self.known_at is None else past("known_at", self.known_at, clock),
        )


def add_routes(router: APIRouter, pool: Pool, reference: Reference, clock: Clock) -> None:
    """Attach the operation."""

    async def get_timeline(ref: Ref, wanted: Annotated[TimelineParameters, Query()]) -> Response:
        """A customer's touchpoints and stage changes together, newest first, page by page.

        At one instant a touchpoint is older than the changes it caused, and newer than a change that time
        made. A page goes on exactly where the one before ended, whatever was added meanwhile; with `known_at`
        corrections change nothing either.
        """
        asked = customer_ref(ref)
        found = await find_timeline(
            pool,
            reference.journeys,
            asked,
            wanted.filter(clock),
            at_cursor(wanted.cursor, from_cursor, END),
            wanted.limit,
        )
        if found is None:
            raise await no_customer(pool, asked)
        return Answer(found)

    router.add_api_route(
        "/v1/customers/{ref}/timeline",
        get_timeline,
        responses=customer_responses(Timeline, _EXAMPLE),
        response_class=Answer,
        tags=["customers"],
    )
