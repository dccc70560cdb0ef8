"""How an operation is attached to the app: documented by FastAPI, answering with ready bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shared.problem import Problem

UNKNOWN = "is not known here"
_encode = msgspec.json.Encoder().encode
# An answer tells of a person as of now: no cache may keep it.
_HEADERS = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


class Answer(Response):
    """An answer's response: one encode, and headers that are ready."""

    media_type = "application/json"

    def render(self, content: msgspec.Struct) -> bytes:
        return _encode(content)

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        self.raw_headers = [*_HEADERS, (b"content-length", b"%d" % len(self.body))]


class PathOnlyRoute(APIRoute):
    """An operation that takes nothing but the text of its path parameters.

    Its endpoint is called with them at once: FastAPI reads the signature for the docs, but solves no
    dependencies, which would cost as much as the query does. Query parameters are refused.
    """

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["query_string"]:
                _refuse_parameters(scope["query_string"].decode("latin-1"))
            response: Response = await endpoint(**scope["path_params"])
            await response(scope, receive, send)

        self.app = app

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Another operation may have the same path, with another method; a 405 names them all."""
        if scope["method"] not in (self.methods or ()):
            there = [one.methods for one in scope["app"].routes if getattr(one, "path", "") == self.path]
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(set().union(*there)))})
        await super().handle(scope, receive, send)


def invalid_parameters(errors: Sequence[tuple[str, str]]) -> Problem:
    """The problem of parameters that are wrong, each by name and reason. A reason never repeats the value."""
    told = [{"parameter": name, "detail": reason} for name, reason in errors]
    return Problem(422, "invalid_parameters", "see errors for each parameter", more={"errors": told})


def _refuse_parameters(query: str) -> None:
    if names := [name for name, _ in parse_qsl(query, keep_blank_values=True)]:
        raise invalid_parameters([(name, UNKNOWN) for name in names])


async def require_admin(request: Request) -> None:
    """Let only an admin key pass.

    Raises:
        Problem: 403.
    """
    if request.scope["key_scope"] != "admin":
        raise Problem(403, "wrong_scope", "this key has not the scope admin")
