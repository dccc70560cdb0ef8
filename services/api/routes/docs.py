"""The OpenAPI document: schemas made of the answers themselves, with examples, keys and every error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from services.api.views import answers, versions
from shared.problem import MEDIA_TYPE
from shared.store import erasures, identities, what_if, withdrawals

_REF = "#/components/schemas/{name}"
_ANSWERS = (
    answers.Customer,
    answers.Account,
    answers.Members,
    identities.IdentityProof,
    withdrawals.Links,
    erasures.Erasure,
    answers.IdentityConflicts,
    answers.Proof,
    answers.Timeline,
    answers.History,
    answers.JourneyDefinition,
    answers.Journeys,
    answers.Counts,
    answers.Flows,
    answers.TouchpointTypes,
    versions.ValidJourney,
    versions.JourneyVersion,
    versions.JourneyVersions,
    what_if.WhatIf,
    answers.ProblemAnswer,
)

SECURITY: Sequence[Mapping[str, Sequence[str]]] = [{"key": []}]
SECURITY_SCHEMES = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "a key with the scope `read` or `admin`; definitions take an `admin` one",
    }
}

_PARAMETER_ERRORS = {
    "errors": [{"parameter": "limit", "detail": "Input should be greater than or equal to 1"}]
}
_REQUEST_ID = {"request_id": "019a0000-0000-7000-8000-000000000000"}
_PROBLEMS: Mapping[int, tuple[str, str, str, Mapping[str, Any]]] = {
    401: ("no valid key", "unauthorized", "a valid key is needed: Authorization: Bearer <key>", {}),
    403: ("the key has another scope", "wrong_scope", "this key has not the scope read", {}),
    404: ("there is none", "not_found", "there is nothing at this path", {}),
    405: ("another method", "method_not_allowed", "method not allowed at this path", {}),
    422: (
        "a parameter is unknown or wrong",
        "invalid_parameters",
        "see errors for each parameter",
        _PARAMETER_ERRORS,
    ),
    500: ("a fault of ours", "internal_error", "a fault of ours; the log knows more", _REQUEST_ID),
    503: (
        "the store is away or busy: ask again after Retry-After seconds",
        "store_unavailable",
        "the store is away or busy",
        _REQUEST_ID,
    ),
}


_ERASED = (
    "the customer of this id was erased",
    "customer_erased",
    "the customer of this id was erased",
    dict[str, Any](),
)
_NOT_SETTLED = (
    "a link of the customer's was withdrawn or taken back, and it is not carried out yet: ask again",
    "not_settled",
    "a link of theirs was withdrawn or taken back, and is not carried out yet",
    dict[str, Any](),
)
_DEFINITION_ERRORS = {
    "errors": [{"line": 12, "detail": "stages[1].enter.tipe: is not known here; did you mean type?"}]
}
_WRONG_SCOPE = (
    "the key has another scope",
    "wrong_scope",
    "this key has not the scope admin",
    dict[str, Any](),
)
_DEFINITION_PROBLEMS: Mapping[int, tuple[str, str, str, Mapping[str, Any]]] = {
    **_PROBLEMS,
    409: (
        "the version is there with another text",
        "version_exists",
        "journey gym has changed but is still version 2: raise it",
        {},
    ),
    413: ("the body is too large", "too_large", "a definition has at most 262144 bytes", {}),
    422: (
        "the definition, or a parameter, is wrong",
        "invalid_definition",
        "see errors for each place",
        _DEFINITION_ERRORS,
    ),
    429: ("another one is at work", "what_if_running", "another what-if is at work", {}),
}


def schemas() -> dict[str, Any]:
    """The JSON schemas of all answers, by name."""
    _, components = msgspec.json.schema_components(_ANSWERS, ref_template=_REF)
    return components


def responses(answer: type[msgspec.Struct], example: Mapping[str, Any]) -> dict[int | str, dict[str, Any]]:
    """What an operation answers: its answer with an example, and every problem."""
    content = {"schema": {"$ref": _REF.format(name=answer.__name__)}, "example": example}
    documented: dict[int | str, dict[str, Any]] = {
        200: {"description": (answer.__doc__ or "").strip(), "content": {"application/json": content}}
    }
    for status in _PROBLEMS:
        documented[status] = _problem(status, *_PROBLEMS[status])
    return documented


def admin_responses(
    answer: type[msgspec.Struct], example: Mapping[str, Any]
) -> dict[int | str, dict[str, Any]]:
    """The same of an operation that only an admin key may ask for."""
    return responses(answer, example) | {403: _problem(403, *_WRONG_SCOPE)}


def customer_responses(
    answer: type[msgspec.Struct], example: Mapping[str, Any]
) -> dict[int | str, dict[str, Any]]:
    """The same of an operation about one customer."""
    return responses(answer, example) | {410: _problem(410, *_ERASED)}


def erasure_responses(
    answer: type[msgspec.Struct], example: Mapping[str, Any]
) -> dict[int | str, dict[str, Any]]:
    """The same of the one that erases a customer, which only an admin key may ask for."""
    found = admin_responses(answer, example) | {409: _problem(409, *_NOT_SETTLED)}
    return found | {202: found.pop(200)}


def definition_responses(
    answer: type[msgspec.Struct], example: Mapping[str, Any]
) -> dict[int | str, dict[str, Any]]:
    """The same of one that takes a definition."""
    problems = {status: _problem(status, *problem) for status, problem in _DEFINITION_PROBLEMS.items()}
    return admin_responses(answer, example) | problems


def _problem(
    status: int, description: str, code: str, detail: str, more: Mapping[str, Any]
) -> dict[str, Any]:
    example = {
        "type": f"urn:rejse:problem:{code}",
        "title": code.replace("_", " "),
        "status": status,
        "code": code,
        "detail": detail,
        **more,
    }
    schema = {"$ref": _REF.format(name=answers.ProblemAnswer.__name__)}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema, "example": example}}}
