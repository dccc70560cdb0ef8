"""What every request passes: the key, the clock, and the one place where an error becomes an answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.routes.operation import UNKNOWN, invalid_parameters
from services.api.views.reference import Reference
from shared.clock import Clock
from shared.errors import ConfigError, Transient
from shared.ids import NewId
from shared.keys import bearer
from shared.logs import fields
from shared.metrics import Metrics
from shared.problem import Problem, problem_response

log = logging.getLogger("rejse.api")

_PROTECTED = "/v1"
_RETRY_AFTER_S = 2


class Gate:
    """Routes on the path as it was sent, so that a percent-encoded slash stays part of a value; lets only
    a read key into `/v1`; answers every error as problem+json; counts and times what it answers."""

    def __init__(
        self, app: ASGIApp, reference: Reference, metrics: Metrics, clock: Clock, new_id: NewId
    ) -> None:
        self._app = app
        self._reference = reference
        self._requests = metrics.counter("rejse_api_requests_total")
        self._seconds = metrics.histogram("rejse_api_request_seconds")
        self._clock = clock
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = self._clock.monotonic_s()
        scope["path"] = scope["raw_path"].decode("latin-1")
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            try:
                self._admit(scope)
                await self._app(scope, receive, noting)
            except Exception as error:  # the outermost edge: a bug is logged and answered without its text
                if status:
                    raise
                await self._refuse(error, scope, receive, noting)
        finally:
            route = _template(scope)
            self._requests.labels(route, status).inc()
            self._seconds.labels(route).observe(self._clock.monotonic_s() - began_s)

    def _admit(self, scope: Scope) -> None:
        path = scope["path"]
        if path != _PROTECTED and not path.startswith(f"{_PROTECTED}/"):
            return
        keyring = self._reference.keyring
        if keyring is None:
            raise Problem(503, "store_unavailable", "the keys are not read yet", retry_after_s=_RETRY_AFTER_S)
        key = bearer(_authorization(scope))
        found = keyring.find(key, "read")
        if found is not None:
            scope["key_scope"] = found.scope
            return
        if keyring.find(key, "write") is not None:
            raise Problem(403, "wrong_scope", "this key has not the scope read")
        raise Problem(401, "unauthorized", "a valid key is needed: Authorization: Bearer <key>")

    async def _refuse(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        problem = _known(error)
        if problem is None or problem.status >= 500:
            request_id = self._new_id()
            problem = problem or Problem(500, "internal_error", "a fault of ours; the log knows more")
            problem.more["request_id"] = request_id
            _log(error, problem, scope, request_id)
        response = problem_response(problem)
        if isinstance(error, HTTPException) and error.headers:
            response.headers.update(error.headers)
        await response(scope, receive, send)


def _authorization(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            return str(value, "latin-1")
    return None


def _template(scope: Scope) -> str:
    """The route's template, which has no value of the request in it."""
    route = scope.get("route")
    return "none" if route is None else str(route.path)


def _known(error: Exception) -> Problem | None:
    """The problem that an error means, or None if it is a bug."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Transient | ConfigError):
        return Problem(503, "store_unavailable", "the store is away or busy", retry_after_s=_RETRY_AFTER_S)
    if isinstance(error, RequestValidationError):
        return invalid_parameters([_parameter_error(one) for one in error.errors()])
    if isinstance(error, HTTPException):
        return _http_problem(error.status_code)
    return None


def _http_problem(status: int) -> Problem:
    if status == HTTPStatus.NOT_FOUND:
        return Problem(404, "not_found", "there is nothing at this path")
    phrase = HTTPStatus(status).phrase.lower()
    return Problem(status, phrase.replace(" ", "_").replace("-", "_"), f"{phrase} at this path")


def _parameter_error(error: Mapping[str, Any]) -> tuple[str, str]:
    """The name of a wrong parameter and the reason. pydantic's own messages don't repeat values."""
    name = ".".join(str(part) for part in error["loc"][1:])
    if error["type"] == "extra_forbidden":
        return name, UNKNOWN
    return name, str(error["msg"]).removeprefix("Value error, ")


def _log(error: Exception, problem: Problem, scope: Scope, request_id: UUID) -> None:
    told = fields(route=_template(scope), status=problem.status, request_id=request_id)
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request_failed", exc_info=error, extra=told)
    else:
        log.warning("request_unavailable", extra=told)
