"""`/v1/journeys`: the active definitions, and how many customers are in each of their stages."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from services.api.routes.docs import responses
from services.api.routes.operation import Answer, PathOnlyRoute
from services.api.routes.parameters import JourneyKey, Parameters, Time, active_journey, past
from services.api.views.answers import Counts, Flows, JourneyDefinition, Journeys
from services.api.views.counts import counts_as_of, counts_now
from services.api.views.flows import flows_until
from services.api.views.reference import Reference
from shared.clock import Clock
from shared.store.engine import Pool

_LABELS = {"en": "Purchase lifecycle", "da": "Købslivscyklus", "sv": "Köplivscykel"}
_FIRST = {"en": "First purchase", "da": "Første køb", "sv": "Första köpet"}
_DORMANT = {"en": "Dormant", "da": "Hvilende", "sv": "Vilande"}
_JOURNEYS_EXAMPLE = {
    "journeys": [
        {
            "key": "purchase-lifecycle",
            "version": 2,
            "labels": _LABELS,
            "stages": [{"key": "first", "labels": _FIRST}],
            "exits": [{"key": "dormant", "labels": _DORMANT}],
        }
    ]
}
_DEFINITION_EXAMPLE = {
    "key": "purchase-lifecycle",
    "version": 2,
    "hash": "0f343b0931126a20f133d67c2b018a3b",
    "source": "key: purchase-lifecycle\nversion: 2\n...",
    "definition": {"key": "purchase-lifecycle", "version": 2, "labels": _LABELS},
}
_COUNTS_EXAMPLE = {
    "journey": "purchase-lifecycle",
    "version": 2,
    "at": "2026-03-01T12:00:00Z",
    "known_at": "2026-03-02T06:00:00Z",
    "stages": [
        {"stage": "first", "kind": "stage", "labels": _FIRST, "count": 1204, "paused": 17},
        {"stage": "dormant", "kind": "exit", "labels": _DORMANT, "count": 88, "paused": 0},
    ],
}


_FLOWS_EXAMPLE = {
    "journey": "purchase-lifecycle",
    "version": 2,
    "at": "2026-03-01T12:00:00Z",
    "known_at": "2026-03-02T06:00:00Z",
    "flows": [
        {"from": "first", "to": "repeat", "count": 1310},
        {"from": "first", "to": "dormant", "count": 88},
    ],
}


class AsOfParameters(Parameters):
    """As of when the answer is asked for, and as known when."""

    at: Time | None = Field(default=None, description="event time, not in the future; absent: now")
    known_at: Time | None = Field(
        default=None, description="when Rejse knew it, that instant included; absent: as it is known now"
    )

    def times(self, clock: Clock) -> tuple[datetime | None, datetime | None]:
        """Both times.

        Raises:
            Problem: 422, one lies in the future.
        """
        return (
            None if self.at is None else past("at", self.at, clock),
            None if self.known_at is None else past("known_at", self.known_at, clock),
        )


def add_routes(router: APIRouter, pool: Pool, reference: Reference, clock: Clock) -> None:
    """Attach the operations."""

    async def list_journeys() -> Response:
        """The active journey definitions: labels, stages in order, exits."""
        by_key = reference.journeys
        return Answer(Journeys([by_key[key].described() for key in sorted(by_key)]))

    async def get_journey(key: JourneyKey) -> Response:
        """A journey's whole definition: what `rejse journeys show` prints, and the same as data."""
        return Answer(active_journey(reference, key).whole)

    async def get_counts(
        key: JourneyKey,
        wanted: Annotated[AsOfParameters, Query()],
    ) -> Response:
        """How many runs are in each stage and exit, now or as of a past time, as it is known now or was known
        at another past time: customers, unless the journey is about accounts or things. `paused` says how
        many of `count` are paused; places without any are listed too.

        With `known_at` it takes the longer, the more was recorded late since then.
        """
        active, now = active_journey(reference, key), clock.now()
        at, known_at = wanted.times(clock)
        if at is None and known_at is None:
            return Answer(await counts_now(pool, active, now))
        return Answer(await counts_as_of(pool, active, at or now, known_at, now))

    async def get_flows(
        key: JourneyKey,
        wanted: Annotated[AsOfParameters, Query()],
    ) -> Response:
        """How often runs have gone from one stage or exit to another, up to now or to a past time, as it is
        known now or was known at another past time."""
        active, now = active_journey(reference, key), clock.now()
        at, known_at = wanted.times(clock)
        return Answer(await flows_until(pool, active, at or now, known_at, now))

    router.add_api_route(
        "/v1/journeys",
        list_journeys,
        route_class_override=PathOnlyRoute,
        responses=responses(Journeys, _JOURNEYS_EXAMPLE),
        response_class=Answer,
        tags=["journeys"],
    )
    router.add_api_route(
        "/v1/journeys/{key}",
        get_journey,
        route_class_override=PathOnlyRoute,
        responses=responses(JourneyDefinition, _DEFINITION_EXAMPLE),
        response_class=Answer,
        tags=["journeys"],
    )
    router.add_api_route(
        "/v1/journeys/{key}/counts",
        get_counts,
        responses=responses(Counts, _COUNTS_EXAMPLE),
        response_class=Answer,
        tags=["journeys"],
    )
    router.add_api_route(
        "/v1/journeys/{key}/flows",
        get_flows,
        responses=responses(Flows, _FLOWS_EXAMPLE),
        response_class=Answer,
        tags=["journeys"],
    )
