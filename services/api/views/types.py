"""The catalogue of touchpoint types, as the API tells it."""

from __future__ import annotations

from collections.abc import Sequence

from services.api.views.answers import TypeItem
from shared.touchpoint_types import catalogue


def listed_types() -> Sequence[TypeItem]:
    """Every type of the catalogue, in its order."""
    return [
        TypeItem(
            name,
            about,
            one.meaning,
            one.channels,
            one.segment,
            one.ga4,
            one.shopify,
            one.sentiment,
            one.content,
        )
        for about, types in catalogue().items()
        for name, one in types.items()
    ]
