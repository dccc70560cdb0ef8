"""uvicorn doing nothing: reads the body and answers 202. What HTTP in Python costs before any work."""

from __future__ import annotations

import sys

import uvicorn
from starlette.types import Receive, Scope, Send

_START = {"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]}
_BODY = {"type": "http.response.body", "body": b""}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request."""
    while (await receive()).get("more_body", False):
        pass
    await send(_START)
    await send(_BODY)


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
