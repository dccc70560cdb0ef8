"""The paths of ingest: its doors, which the protocol answers before any application is asked, described to
FastAPI for the OpenAPI document; and what browsers ask before they post."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Security
from fastapi.routing import APIRoute
from fastapi.security import APIKeyQuery, HTTPBearer
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.ingest import openapi
from services.ingest.limits import Peers
from services.ingest.turns import Turns
from services.ingest.visit import Door

PATH = "/v1/touchpoints"

_PREFLIGHT = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "authorization, content-type, content-encoding, idempotency-key",
    "Access-Control-Max-Age": "86400",
}


class DoorApp(FastAPI):
    """A FastAPI app that names its doors by their paths, who may connect, and in whose turns the doors are
    gone through, for the protocol to go by."""

    def __init__(self, doors: Mapping[str, Door], peers: Peers, turns: Turns, **options: Any) -> None:
        super().__init__(**options)
        self.peers = peers
        self.turns = turns
        self.doors = {path.encode(): door for path, door in doors.items()}


def door_routes() -> list[Route]:
    """The routes of the touchpoints' door."""
    route = APIRoute(
        PATH,
        _described,
        methods=["POST"],
        status_code=202,
        summary="Take touchpoints",
        description=openapi.DESCRIPTION,
        operation_id="postTouchpoints",
        tags=["touchpoints"],
        response_class=Response,
        responses=openapi.RESPONSES,
        openapi_extra={"parameters": [openapi.IDEMPOTENCY_KEY], "requestBody": openapi.REQUEST_BODY},
        dependencies=[
            Security(HTTPBearer(scheme_name="write key", auto_error=False)),
            Security(APIKeyQuery(name="key", scheme_name="write key in the query", auto_error=False)),
        ],
    )
    return [route, Route(PATH, _preflight, methods=["OPTIONS"])]


def _described() -> None:
    """Stands for the door where FastAPI wants a function. Only a server without our protocol comes here."""
    raise HTTPException(501)


async def _preflight(_: Request) -> Response:
    """Any website may post; a browser sends no cookies along."""
    return Response(status_code=204, headers=_PREFLIGHT)
