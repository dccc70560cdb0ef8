"""The obvious way to take events: FastAPI, pydantic models, aiokafka's `send` per event, its ack awaited."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal

import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI
from pydantic import BaseModel


class Event(BaseModel):
    """What is taken."""

    id: str
    type: str
    channel: Literal["web", "app", "store", "phone", "email", "chat", "social", "ads", "mail", "meeting"]
    occurred_at: datetime
    identities: dict[str, str]
    properties: dict[str, Any] = {}


def create_app(bootstrap: str, topic: str) -> FastAPI:
    """The app; its producer waits for every replica and writes each event once."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, acks="all", enable_idempotence=True
        )
        async with app.state.producer:
            yield

    app = FastAPI(lifespan=lifespan)

    async def send(event: Event) -> asyncio.Future[Any]:
        key = next(iter(event.identities.values())).encode()
        sent: asyncio.Future[Any] = await app.state.producer.send(
            topic, event.model_dump_json().encode(), key=key
        )
        return sent

    async def one(event: Event) -> dict[str, int]:
        await (await send(event))
        return {"accepted": 1}

    async def many(events: list[Event]) -> dict[str, int]:
        await asyncio.gather(*[await send(event) for event in events])
        return {"accepted": len(events)}

    app.add_api_route("/events", one, methods=["POST"], status_code=202)
    app.add_api_route("/events/batch", many, methods=["POST"], status_code=202)
    return app


if __name__ == "__main__":
    uvicorn.run(
        create_app(*sys.argv[2:]), port=int(sys.argv[1]), log_level="warning", access_log=False, loop="uvloop"
    )
