"""The ingest service on a real socket, in the test's own loop."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services.ingest.app import serve
from services.ingest.protocol import BoundedProtocol
from services.ingest.settings import Settings
from shared import codec
from shared.clock import SystemClock
from shared.config import load
from shared.errors import Transient
from shared.eventlog.choose import LOCAL_FOLDER
from shared.eventlog.local.reader import LocalReader
from shared.keys import KeyRecord, digest
from shared.lifecycle import listen
from shared.touchpoint import Touchpoint
from tests.support import plain_http
from tests.support.eventually import eventually_async

KEY = "rejse_write_of-the-tests"
OTHER_KEY = "rejse_write_of-the-till"
READ_KEY = "rejse_read_of-the-tests"
KEYS = (
    KeyRecord("shop", digest(KEY), "write", "shop"),
    KeyRecord("till", digest(OTHER_KEY), "write", "till"),
    KeyRecord("read", digest(READ_KEY), "read", ""),
)
PATH = "/v1/touchpoints"


class KeyStore:
    """Where ingest gets its keys in a test; `away` makes it fail as a store that can't be reached."""

    def __init__(self, keys: Sequence[KeyRecord] = KEYS) -> None:
        self.keys = keys
        self.away = False

    async def load(self) -> Sequence[KeyRecord]:
        """The keys, as `shared.store.keys.fetch_keys` gives them."""
        if self.away:
            raise Transient("the store is away")
        return self.keys


@dataclass
class Ingest:
    """A running service."""

    client: httpx.AsyncClient
    port: int
    data_dir: Path
    stop: asyncio.Event

    async def post(
        self, body: Any, media_type: str = "application/json", key: str = KEY, **headers: str
    ) -> httpx.Response:
        """Send touchpoints; what isn't bytes is sent as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        auth = {"Authorization": f"Bearer {key}", "Content-Type": media_type}
        return await self.client.post(PATH, content=content, headers=auth | named)

    async def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics` by its name and labels as they are written."""
        text = (await self.client.get("/metrics")).text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    async def checks(self) -> tuple[int, dict[str, str]]:
        """What `/readyz` answers."""
        answer = await self.client.get("/readyz")
        return answer.status_code, answer.json()["checks"]


@asynccontextmanager
async def running_ingest(
    data_dir: Path,
    *,
    keys: KeyStore | None = None,
    topic: str = "touchpoints",
    protocol: type[BoundedProtocol] = BoundedProtocol,
    variables: Mapping[str, object] | None = None,
    health: socket.socket | None = None,
) -> AsyncIterator[Ingest]:
    """Ingest with `REJSE_*` variables such as `{"ack_timeout_s": 1}`; it is drained at the end."""
    environ = {f"REJSE_{name.upper()}": str(value) for name, value in (variables or {}).items()}
    settings = load(Settings, {"REJSE_DATA_DIR": str(data_dir), **environ})
    stop = asyncio.Event()
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    load_keys = (keys or KeyStore()).load
    with listener:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                serve(
                    settings,
                    listener,
                    stop,
                    SystemClock(),
                    load_keys,
                    topic=topic,
                    protocol=protocol,
                    health=health,
                )
            )
            async with plain_http.async_client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                # Any answer will do: it listens.
                await eventually_async(lambda: client.get("/livez"), tolerate=(httpx.HTTPError,))
                try:
                    yield Ingest(client, port, data_dir, stop)
                finally:
                    stop.set()


async def kept_in_local_log(data_dir: Path) -> list[Touchpoint]:
    """Every touchpoint of the local log, in order."""
    reader = await LocalReader.open(data_dir / LOCAL_FOLDER, SystemClock())
    try:
        reader.start(0, 0)
        return [codec.decode(record.value) for record in await reader.poll(100_000, 0.0)]
    finally:
        await reader.close(1.0)


def event(**change: Any) -> dict[str, Any]:
    """A touchpoint that is fit."""
    return {"type": "order_placed", "channel": "web", "identities": {"user_id": "u-1"}} | change
