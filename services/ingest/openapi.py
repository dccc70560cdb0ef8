"""What the door takes and answers, for OpenAPI."""

from __future__ import annotations

from typing import Any

from services.ingest.event import (
    EVENT_BYTES_MAX,
    EVENTS_MAX,
    INFLATED_BYTES_MAX,
    OWNERS,
    WIRE_BYTES_MAX,
)
from services.ingest.head import REQUEST_KEY_BYTES_MAX
from shared.content import NAME_CHARACTERS_MAX
from shared.problem import MEDIA_TYPE
from shared.refusals import CODES
from shared.touchpoint import CHANNELS

DESCRIPTION = f"""
Takes one touchpoint (an object), several (an array), or NDJSON, gzip or not. `text/plain` is read as
whichever of them it is, for `navigator.sendBeacon`.

A 202 means durable. Send a touchpoint again with the same `id` as often as you like: it counts once.
Without an `id` one is made of the header `Idempotency-Key` and the touchpoint's place in the request; without
that header, of the content when `occurred_at` is there: a retry still counts once. `unrepeatable` in the
answer says how many touchpoints had nothing of all this, and would count again.

A device's clock may be wrong. `sent_at` is what it says as the request is sent, anew for every try: of one
touchpoint, or in the query for all of a request (`?sent_at=2026-03-01T12:35:00Z`). Where that is more than 5
minutes from ours, `occurred_at` is moved by the difference. Without `occurred_at` it is not needed.

Each touchpoint is accepted or refused by itself. Limits: {EVENT_BYTES_MAX} bytes a touchpoint, {EVENTS_MAX}
touchpoints and {WIRE_BYTES_MAX} bytes a request, {INFLATED_BYTES_MAX} inflated.
""".strip()

_EXAMPLE = {
    "id": "order-4711",
    "type": "order_placed",
    "channel": "web",
    "occurred_at": "2026-03-01T12:34:56Z",
    "sent_at": "2026-03-01T12:35:00Z",
    "identities": {"user_id": "u-17", "email": "ane@example.com"},
    "properties": {"order_id": "4711", "total": 249.5, "currency": "DKK"},
    "context": {"campaign": "spring", "page": "/checkout"},
}
_OBJECT = {"type": "object", "additionalProperties": True}

TOUCHPOINT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["type", "channel", "identities"],
    "properties": {
        "id": {
            "type": "string",
            "minLength": 1,
            "maxLength": NAME_CHARACTERS_MAX,
            "description": "the sender's, unique for ever among its touchpoints",
        },
        "type": {
            "type": "string",
            "pattern": "^[a-z][a-z0-9_]*$",
            "maxLength": NAME_CHARACTERS_MAX,
            "description": "what happened; a name of the API's /v1/touchpoint-types where one fits",
        },
        "channel": {"enum": list(CHANNELS)},
        "occurred_at": {"type": "string", "format": "date-time", "description": "1990 to 24 hours ahead"},
        "sent_at": {
            "type": "string",
            "format": "date-time",
            "description": "what the clock that `occurred_at` is of says as the touchpoint is sent",
        },
        "identities": {
            "type": "object",
            "description": "kind to value or values; at least one that says who (account_id alone does not). "
            "`phone` with its country code, or without where the key's source has a region",
            "additionalProperties": {"type": ["string", "array", "null"], "items": {"type": "string"}},
        },
        "properties": _OBJECT,
        "traits": _OBJECT,
        "context": _OBJECT,
        "consent": _OBJECT,
        "owner": {"enum": list(OWNERS), "default": "own"},
        "sentiment": {"type": "number", "minimum": -1, "maximum": 1},
    },
}
_REFUSAL = {
    "type": "object",
    "properties": {
        "index": {"type": "integer", "description": "the touchpoint's place in the request, from 0"},
        "code": {"enum": list(CODES)},
        "message": {"type": "string"},
        "pointer": {"type": "string", "description": "where in the touchpoint (RFC 6901)"},
    },
}
_ACCEPTED = {
    "type": "object",
    "required": ["accepted", "duplicate_in_request", "refused"],
    "properties": {
        "accepted": {"type": "integer"},
        "duplicate_in_request": {"type": "integer"},
        "refused": {"type": "array", "items": _REFUSAL},
        "unrepeatable": {
            "type": "integer",
            "description": "how many of the accepted have neither id nor time, in a request without "
            "`Idempotency-Key`: sent again, they count again. Not there: none",
        },
        "worthless_identities": {
            "type": "object",
            "additionalProperties": {"type": "integer"},
            "description": "by kind, how many identities stand for nobody (null, 0) and were left out",
        },
    },
}
_PROBLEM = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
    },
}
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}

IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": REQUEST_KEY_BYTES_MAX},
    "description": "the same for each try of a request, unique for ever among the source's requests; of "
    "touchpoints without an id it makes one",
}

REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"oneOf": [TOUCHPOINT, {"type": "array", "items": TOUCHPOINT, "maxItems": EVENTS_MAX}]},
            "examples": {"one": {"value": _EXAMPLE}, "several": {"value": [_EXAMPLE]}},
        },
        "application/x-ndjson": {"schema": {"type": "string"}},
        "text/plain": {"schema": {"type": "string"}},
    },
}


def _problem(description: str, **more: Any) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _PROBLEM}}, **more}


RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "What is accepted is durable.",
        "content": {
            "application/json": {
                "schema": _ACCEPTED,
                "example": {
                    "accepted": 1,
                    "duplicate_in_request": 0,
                    "refused": [
                        {
                            "index": 1,
                            "code": "no_identity",
                            "message": CODES["no_identity"],
                            "pointer": "/identities",
                        }
                    ],
                },
            }
        },
    },
    400: _problem("The body is not JSON, or no whole gzip; says where."),
    401: _problem("No valid write key."),
    408: _problem("The request did not come in time."),
    413: _problem("Too many touchpoints or bytes."),
    415: _problem("A media type or an encoding that is not taken."),
    422: _problem("No touchpoint was fit; says why of each, like a 202."),
    429: _problem("The key has sent more than its rate.", headers=_RETRY_AFTER),
    503: _problem("Nothing is known to be kept; send it again.", headers=_RETRY_AFTER),
}
