"""A bare asyncpg primary-key read behind bare uvicorn: what asking for one row costs in Python."""

from __future__ import annotations

import sys
from uuid import UUID

import asyncpg
import msgspec
import uvicorn
from starlette.types import Receive, Scope, Send

_READ = "SELECT journey_key, stage, entered_at FROM customer_stages WHERE customer_id = $1"


class App:
    """`GET /<customer's UUID>`."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._encode = msgspec.json.Encoder().encode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; connect when uvicorn starts."""
        if scope["type"] == "lifespan":
            await receive()
            self._pool = await asyncpg.create_pool(self._database_url, min_size=8, max_size=8)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return
        assert self._pool is not None
        row = await self._pool.fetchrow(_READ, UUID(scope["path"][1:]))
        body = self._encode(None if row is None else tuple(row))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 404 if row is None else 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(
        App(sys.argv[2]),
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        lifespan="on",
        log_level="warning",
        access_log=False,
    )
