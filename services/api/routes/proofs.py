"""`/v1/customers/{ref}/journeys/{key}`: why a customer is where they are, and what happens next."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from services.api.routes.docs import customer_responses
from services.api.routes.operation import Answer
from services.api.routes.parameters import (
    JourneyKey,
    Parameters,
    Ref,
    active_journey,
    customer_ref,
    no_customer,
)
from services.api.views.answers import Proof
from services.api.views.proofs import find_proof
from services.api.views.reference import Reference
from shared.clock import Clock
from shared.store.engine import Pool

LIMIT_MAX = 1_000
_SEQ_MAX = 2**31 - 1

_SUBSCRIBED = {
    "id": "5f0c3b1a-2d4e-4f60-8a7b-9c0d1e2f3a4b",
    "at": "2026-01-12T09:29:58Z",
    "type": "subscription_started",
    "channel": "store",
}
_COMPLAINT = {"en": "Open complaint", "da": "Åben klage", "sv": "Öppet klagomål"}
_AT_RISK = {"en": "At risk", "da": "På vej væk", "sv": "På väg bort"}
_MEMBER = {"en": "Member", "da": "Medlem", "sv": "Medlem"}
RUN_EXAMPLE: dict[str, Any] = {
    "about": {"kind": "customer"},
    "stage": "member",
    "paused": False,
    "entered_at": "2026-01-12T09:29:58Z",
    "furthest_stage": "member",
    "lap": 1,
    "substage": "new",
    "persona": "private",
    "observed": ["trial", "member"],
    "inferred": [],
    "overlays": [
        {
            "key": "complaint",
            "kind": "interruption",
            "labels": _COMPLAINT,
            "since": "2026-02-01T18:00:00Z",
            "blocks": ["regular"],
        }
    ],
    "signals": [{"key": "at_risk", "labels": _AT_RISK, "since": "2026-02-01T18:00:00Z"}],
    "tallies": [
        {
            "key": "visits",
            "labels": {"en": "Visits", "da": "Besøg", "sv": "Besök"},
            "count": 7,
            "final": False,
        }
    ],
    "transitions": [
        {
            "seq": 1,
            "at": "2026-01-12T09:29:58Z",
            "change": "enter",
            "from": "trial",
            "to": "member",
            "from_paused": False,
            "to_paused": False,
            "cause": {"touchpoint": _SUBSCRIBED, "rule": "member.enter", "says": "subscription_started"},
        }
    ],
    "earlier_transitions": 1,
    "near": [
        {
            "change": "enter",
            "to": "regular",
            "rule": "regular.enter",
            "says": "store_visited on 8 days within 30 d",
            "rank": 1,
            "progress": 0.875,
            "reasons": [
                {
                    "code": "blocked",
                    "says": "blocked by the open interruption complaint, since 2026-02-01 18:00:00Z",
                    "overlay": "complaint",
                    "since": "2026-02-01T18:00:00Z",
                },
                {
                    "code": "count",
                    "says": "7 of 8 days with store_visited within 30 d; the oldest counts until "
                    "2026-02-13 17:30:00Z",
                    "what": "store_visited",
                    "have": 7,
                    "need": 8,
                    "more": 1,
                    "unit": "days",
                    "within": "30 d",
                    "in_stage": False,
                    "counted_until": "2026-02-13T17:30:00Z",
                },
            ],
        }
    ],
    "near_beside": [
        {
            "change": "signal_off",
            "about": "at_risk",
            "rule": "at_risk.off",
            "says": "2 × store_visited within 7 d",
            "progress": 0.5,
            "reasons": [
                {
                    "code": "count",
                    "says": "1 of 2 store_visited within 7 d; the oldest counts until 2026-02-07 17:00:00Z",
                    "what": "store_visited",
                    "have": 1,
                    "need": 2,
                    "more": 1,
                    "unit": "touchpoints",
                    "within": "7 d",
                    "in_stage": False,
                    "counted_until": "2026-02-07T17:00:00Z",
                }
            ],
        }
    ],
    "touchpoints_seen": 10,
    "clocks": [
        {
            "kind": "pause",
            "about": "member",
            "at": "2026-02-21T17:00:00Z",
            "since": "2026-01-31T17:00:00Z",
            "rule": "member.pause",
            "says": "21 d in the stage without store_visited",
            "restarts_on": "store_visited",
            "patience": False,
        },
        {
            "kind": "signal_off",
            "about": "at_risk",
            "at": "2026-04-02T18:00:00Z",
            "since": "2026-02-01T18:00:00Z",
            "rule": "at_risk.off_after",
            "says": "60 d after it went on",
        },
    ],
    "windows": [
        {
            "kind": "ends",
            "at": "2026-02-07T17:00:00Z",
            "rule": "at_risk.off",
            "says": "the store_visited at 2026-01-31 17:00:00Z falls out of the 7 d of at_risk.off",
        },
        {
            "kind": "ends",
            "at": "2026-02-13T17:30:00Z",
            "rule": "regular.enter",
            "says": "the store_visited at 2026-01-14 17:30:00Z falls out of the 30 d of regular.enter",
        },
    ],
    "next": {
        "at": "2026-02-21T17:00:00Z",
        "change": "pause",
        "to": "member",
        "to_paused": True,
        "rule": "member.pause",
    },
    "then": [
        {
            "at": "2026-04-02T18:00:00Z",
            "change": "signal_off",
            "to": "member",
            "to_paused": True,
            "rule": "at_risk.off_after",
        }
    ],
}
# FastAPI drops every null of the document, so the examples have none.
_EXAMPLE = {
    "customer": "019a3c1e-7a51-7cc0-9d0c-1f2e3d4c5b6a",
    "as_of": "2026-02-02T12:00:00Z",
    "journey": "gym",
    "version": 1,
    "labels": {"en": "Gym membership", "da": "Medlemskab", "sv": "Medlemskap"},
    "stages": [{"key": "member", "labels": _MEMBER}],
    "exits": [{"key": "left", "labels": {"en": "Left", "da": "Stoppet", "sv": "Slutat"}}],
    "runs": [RUN_EXAMPLE],
}


class ProofParameters(Parameters):
    """How much of the history is asked for."""

    limit: int = Field(default=LIMIT_MAX, ge=1, le=LIMIT_MAX, description="transitions, the last of them")
    before: int = Field(
        default=_SEQ_MAX,
        ge=0,
        le=_SEQ_MAX,
        description="only transitions with a `seq` below this; `earlier_transitions` says whether there are",
    )


def add_routes(router: APIRouter, pool: Pool, reference: Reference, clock: Clock) -> None:
    """Attach the operation."""

    async def get_proof(ref: Ref, key: JourneyKey, wanted: Annotated[ProofParameters, Query()]) -> Response:
        """Why a customer is where they are in a journey: every transition with its cause, the rules that came
        close, of stages and of what stands beside them, and what each of them lacks, the running clocks, and
        what happens next and when if nothing else does."""
        active, asked = active_journey(reference, key), customer_ref(ref)
        found = await find_proof(pool, active, asked, wanted.before, wanted.limit, clock.now())
        if found is None:
            raise await no_customer(pool, asked)
        return Answer(found)

    router.add_api_route(
        "/v1/customers/{ref}/journeys/{key}",
        get_proof,
        responses=customer_responses(Proof, _EXAMPLE),
        response_class=Answer,
        tags=["customers"],
    )
