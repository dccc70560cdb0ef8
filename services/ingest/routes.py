"""The doors as routes: answered by plain ASGI callables, described to FastAPI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Security
from fastapi.routing import APIRoute
from fastapi.security import APIKeyQuery, HTTPBearer
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.ingest import openapi

PATH = "/v1/touchpoints"

_PREFLIGHT = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "authorization, content-type, content-encoding",
    "Access-Control-Max-Age": "86400",
}


class DoorRoute(APIRoute):
    """A route that FastAPI describes and a plain ASGI callable answers."""

    def __init__(self, path: str, door: ASGIApp, **description: Any) -> None:
        super().__init__(path, _described, **description)
        self.app = door


class DoorApp(FastAPI):
    """A FastAPI app whose doors are asked first: its own stack of middleware costs more than they do."""

    def __init__(self, doors: Mapping[str, ASGIApp], **options: Any) -> None:
        super().__init__(**options)
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        door = (
            self._doors.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        )
        await (door(scope, receive, send) if door else super().__call__(scope, receive, send))


def door_routes(door: ASGIApp) -> list[Route]:
    """The routes of the touchpoints' door."""
    route = DoorRoute(
        PATH,
        door,
        methods=["POST"],
        status_code=202,
        summary="Take touchpoints",
        description=openapi.DESCRIPTION,
        operation_id="postTouchpoints",
        tags=["touchpoints"],
        response_class=Response,
        responses=openapi.RESPONSES,
        openapi_extra={"requestBody": openapi.REQUEST_BODY},
        dependencies=[
            Security(HTTPBearer(scheme_name="write key", auto_error=False)),
            Security(APIKeyQuery(name="key", scheme_name="write key in the query", auto_error=False)),
        ],
    )
    return [route, Route(PATH, _preflight, methods=["OPTIONS"])]


def _described() -> None:
    """Stands for the door where FastAPI wants a function."""


async def _preflight(_: Request) -> Response:
    """Any website may post; a browser sends no cookies along."""
    return Response(status_code=204, headers=_PREFLIGHT)
