"""`/v1/touchpoint-types`: the vocabulary that senders and journey definitions share."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from services.api.routes.docs import responses
from services.api.routes.operation import Answer, PathOnlyRoute
from services.api.views.answers import TouchpointTypes
from services.api.views.types import listed_types, types_and_unknown
from shared.store.engine import Pool

_EXAMPLE = {
    "types": [
        {
            "type": "product_viewed",
            "about": "products",
            "meaning": "Looked at a product's details.",
            "channels": ["web", "app", "store"],
            "segment": ["Product Viewed"],
            "ga4": ["view_item"],
            "shopify": ["product_viewed"],
            "content": "hard",
        }
    ],
    "unknown": [{"type": "prodcut_viewed", "count": 12, "last_stored_at": "2026-03-01T12:00:00Z"}],
    "unknown_others": 0,
}


def add_routes(router: APIRouter, pool: Pool) -> None:
    """Attach the operation."""
    types = listed_types()

    async def list_types() -> Response:
        """The catalogue of touchpoint types: what each means, where it usually happens and how it is felt,
        and what Segment, GA4 and Shopify call it. Touchpoints of any other type are kept and counted:
        `unknown` names those types."""
        return Answer(await types_and_unknown(pool, types))

    router.add_api_route(
        "/v1/touchpoint-types",
        list_types,
        route_class_override=PathOnlyRoute,
        responses=responses(TouchpointTypes, _EXAMPLE),
        response_class=Answer,
        tags=["touchpoint types"],
    )
