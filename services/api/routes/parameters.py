"""Parameters that several operations take, and what they name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
from fastapi import Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from services.api.routes.operation import invalid_parameters
from services.api.views.active import ActiveJourney
from services.api.views.customers import QUERY_TIMEOUT_S
from services.api.views.reference import Reference
from services.api.views.refs import parse_ref
from shared.clock import Clock
from shared.problem import Problem
from shared.refs import CustomerRef
from shared.store.engine import Pool, connection_of
from shared.store.erasures import find_erasure

T = TypeVar("T")

LIMIT_MAX = 500
"""Items of a page."""

_AwareTime = Annotated[datetime, msgspec.Meta(tz=True)]


def _rfc3339(text: Any) -> datetime:
    try:
        return msgspec.convert(text, _AwareTime).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise ValueError(
            "is no RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z; a + is written %2B"
        ) from None


Time = Annotated[
    datetime, BeforeValidator(_rfc3339), WithJsonSchema({"type": "string", "format": "date-time"})
]
"""An RFC 3339 time with its offset, in UTC from here on."""

Ref = Annotated[
    str,
    Path(
        description=(
            "`kind:value` of any identity of the customer (`email:`, `phone:`, `user_id:`, `loyalty_id:`, "
            "`anonymous_id:`, or an external namespace such as `crm:`), percent-encoded, "
            "or the customer's UUID, also one that was merged into another"
        ),
        examples=["email:ann@example.com"],
    ),
]

JourneyKey = Annotated[str, Path(description="the journey's key", examples=["purchase-lifecycle"])]


class Parameters(BaseModel):
    """The query parameters of an operation; any other is refused."""

    model_config = ConfigDict(extra="forbid")


class NoParameters(Parameters):
    """None."""


def at_cursor(text: str | None, read: Callable[[str], T], beginning: T) -> T:
    """Where a page goes on: what a cursor says, or the beginning where there is none.

    Raises:
        Problem: 422, it is no cursor of this operation.
    """
    if text is None:
        return beginning
    try:
        return read(text)
    except ValueError as error:
        raise invalid_parameters([("cursor", str(error))]) from None


def customer_ref(segment: str) -> CustomerRef:
    """The customer that a path segment names.

    Raises:
        Problem: 422, it can't name a customer.
    """
    try:
        return parse_ref(segment)
    except ValueError as error:
        raise invalid_parameters([("ref", str(error))]) from None


def past(name: str, time: datetime, clock: Clock) -> datetime:
    """The time of a parameter that can't ask for the future.

    Raises:
        Problem: 422, it does.
    """
    if time > clock.now():
        raise invalid_parameters([(name, "lies in the future")])
    return time


async def no_customer(pool: Pool, ref: CustomerRef) -> Problem:
    """The problem of a reference that no customer has: nobody ever had, or who had it was erased."""
    if isinstance(ref, UUID):
        async with connection_of(pool) as connection:
            erasure = await find_erasure(connection, ref, QUERY_TIMEOUT_S)
        if erasure is not None:
            return Problem(410, "customer_erased", "the customer of this id was erased")
    return Problem(404, "customer_not_found", "no customer is known by this reference")


def active_journey(reference: Reference, key: str) -> ActiveJourney:
    """The active journey of a key.

    Raises:
        Problem: 404, there is none.
    """
    active = reference.journeys.get(key)
    if active is None:
        raise Problem(404, "journey_not_found", "no active journey has this key")
    return active
