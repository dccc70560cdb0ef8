"""Fills the store's tables in the shape that the stager writes, and serves the query API over them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import httpx
import msgspec

from services.api.app import serve
from services.api.settings import Settings
from shared.clock import SystemClock
from shared.codec import decode, encode
from shared.config import load
from shared.ids import uuid7
from shared.journey.fold import Journey, fold, fold_runs
from shared.journey.state import Kept, State, Transition, decode_states, encode_states
from shared.journey.touch import Lens
from shared.keys import Scope
from shared.lifecycle import listen
from shared.store.ids import touchpoint_uid
from shared.store.keys import create_key
from shared.touchpoint import Touchpoint
from tests.support import plain_http
from tests.support.eventually import eventually_async
from tests.support.journeys import EPOCH

SOURCE = "desk"

_RETIRE = "UPDATE journey_definitions SET activated_at = NULL, retired_at = $2 WHERE key = $1"
_DEFINITION = """
INSERT INTO journey_definitions (key, version, hash, source, links, recorded_at, activated_at)
VALUES ($1, $2, $3, $4, $5, $6, $6)
"""
_TRANSITION = """
INSERT INTO stage_transitions (customer_id, journey_key, version, seq, revision, at, kind, from_stage,
    from_paused, to_stage, to_paused, touchpoint_id, rule, recorded_at, run)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
"""
_STATES = """
INSERT INTO journey_states (customer_id, run, due_at, states, updated_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (customer_id, run) DO UPDATE SET due_at = EXCLUDED.due_at, states = EXCLUDED.states
"""
_COUNT = """
INSERT INTO stage_counts AS c VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (journey_key, version, stage, paused, shard) DO UPDATE SET count = c.count + EXCLUDED.count
"""
_FLOW = """
INSERT INTO stage_flows AS f (journey_key, version, span, since, from_stage, from_paused, to_stage, to_paused,
    shard, count)
SELECT $1, $2, span, date_trunc(span, $3::timestamptz, 'UTC'), $4, $5, $6, $7, $8, $9
FROM unnest('{hour,day,month}'::text[]) AS span
ON CONFLICT (journey_key, version, span, since, from_stage, from_paused, to_stage, to_paused, shard)
    DO UPDATE SET count = f.count + EXCLUDED.count
"""
_STANDING = """
SELECT seq, at, kind, from_stage, from_paused, to_stage, to_paused, touchpoint_id, rule
FROM stage_transitions
WHERE customer_id = $1 AND journey_key = $2 AND version = $3 AND run = $4 AND superseded_at IS NULL
ORDER BY seq
"""
_SUPERSEDE = """
UPDATE stage_transitions SET superseded_at = $5
WHERE customer_id = $1 AND journey_key = $2 AND version = $3 AND run = $4 AND superseded_at IS NULL
"""
_HELD = "SELECT states FROM journey_states WHERE customer_id = $1 AND run = $2"


class ApiStore:
    """The writer of a test's store."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], journeys: Sequence[Journey]) -> None:
        self.connection = connection
        self.journeys = journeys
        self._written = 0

    async def register(self) -> None:
        """Make the journeys active."""
        for journey in self.journeys:
            definition = journey.definition
            await self.connection.execute(
                _RETIRE,
                definition.key,
                EPOCH,
            )
            await self.connection.execute(
                _DEFINITION,
                definition.key,
                definition.version,
                definition.hash,
                definition.source,
                definition.links,
                EPOCH,
            )

    async def clear(self) -> None:
        """Forget every customer."""
        await self.connection.execute(
            "TRUNCATE customers, identities, touchpoints, journey_states, stage_transitions, "
            "stage_counts, stage_flows"
        )

    async def add_key(self, scope: Scope = "read") -> str:
        """A fresh key."""
        return await create_key(self.connection, scope, SOURCE, EPOCH)

    async def add_customer(
        self,
        *identities: str,
        touchpoints: Iterable[Touchpoint] = (),
        until: datetime = EPOCH,
        linked_at: datetime = EPOCH,
    ) -> UUID:
        """A customer with identities and touchpoints, folded to `until`."""
        id_ = uuid7()
        await self.connection.execute("INSERT INTO customers VALUES ($1, $2)", id_, linked_at)
        for identity in identities:
            await self.connection.execute(
                "INSERT INTO identities VALUES ($1, $2, $3, $4)", identity, id_, uuid7(), linked_at
            )
        await self.add_touchpoints(id_, touchpoints)
        await self.fold(id_, until)
        return id_

    async def add_touchpoints(self, customer_id: UUID, touchpoints: Iterable[Touchpoint]) -> None:
        """Store touchpoints, without folding them."""
        await self.connection.executemany(
            "INSERT INTO touchpoints VALUES ($1, $2, $3, $4, $5, $6)",
            [
                (
                    customer_id,
                    one.occurred_at,
                    touchpoint_uid(one.source, one.id),
                    one.type,
                    one.channel,
                    encode(one),
                )
                for one in touchpoints
            ],
        )

    async def fold(self, customer_id: UUID, until: datetime) -> None:
        """Fold the stored timeline, and write it as histories that supersede those before."""
        rows = await self.connection.fetch(
            "SELECT id, body FROM touchpoints WHERE customer_id = $1 ORDER BY occurred_at, id", customer_id
        )
        lens = Lens(journey.asks for journey in self.journeys)
        touches = [lens.touch(row["id"], decode(row["body"])) for row in rows]
        for journey in self.journeys:
            if journey.definition.subject.kind == "customer":
                await self.write_history(customer_id, journey, *fold(journey, touches, until))
            else:
                for run, folded in fold_runs(journey, touches, until).items():
                    await self.write_history(customer_id, journey, *folded, run=run)

    async def write_history(
        self,
        customer_id: UUID,
        journey: Journey,
        state: State,
        history: Sequence[Transition],
        run: str = "",
    ) -> None:
        """Put a state and its history in the place of what there was."""
        key, version = journey.definition.key, journey.definition.version
        self._written += 1
        shard = self._written % 3
        named = (customer_id, key, version, run)
        kept = {one.journey_key: one for one in await self._kept(customer_id, run)}
        held = kept.get(key)
        old = [Transition(*row) for row in await self.connection.fetch(_STANDING, *named)]
        revision = 0 if held is None else held.revision + 1
        await self.connection.execute(_SUPERSEDE, *named, EPOCH)
        await self._write_flows(journey, old, shard, -1)
        await self._write_flows(journey, history, shard, 1)
        if held is not None:
            await self._write_count(journey, held.state, shard, -1)
        await self._write_count(journey, state, shard, 1)
        for one in history:
            fields = msgspec.structs.astuple(one)
            await self.connection.execute(
                _TRANSITION, customer_id, key, version, one.seq, revision, *fields[1:], EPOCH, run
            )
        kept[key] = Kept(key, version, revision, journey.due_at(state), state)
        due_at = min((one.due_at for one in kept.values() if one.due_at is not None), default=None)
        states = encode_states(list(kept.values()))
        await self.connection.execute(_STATES, customer_id, run, due_at, states, EPOCH)

    async def _kept(self, customer_id: UUID, run: str) -> list[Kept]:
        states = await self.connection.fetchval(_HELD, customer_id, run)
        return decode_states(states) if states else []

    async def _write_count(self, journey: Journey, state: State, shard: int, delta: int) -> None:
        if state.place is not None:
            definition = journey.definition
            await self.connection.execute(
                _COUNT, definition.key, definition.version, state.place, state.paused, shard, delta
            )

    async def _write_flows(
        self, journey: Journey, history: Sequence[Transition], shard: int, delta: int
    ) -> None:
        for one in history:
            await self.connection.execute(
                _FLOW,
                journey.definition.key,
                journey.definition.version,
                one.at,
                one.from_place or "",
                one.from_paused,
                one.to_place,
                one.to_paused,
                shard,
                delta,
            )


def touchpoint(
    id_: str,
    type_: str = "order_completed",
    *,
    hours: float = 0,
    channel: str = "web",
    more: Mapping[str, object] | None = None,
) -> Touchpoint:
    """A touchpoint so many hours after the epoch."""
    at = EPOCH + timedelta(hours=hours)
    values = {"id": id_, "type": type_, "channel": channel, "occurred_at": at, "received_at": at}
    values |= {"source": SOURCE, "identities": ("user_id:ann",), **(more or {})}
    return decode(msgspec.json.encode(values))


@asynccontextmanager
async def store_of(database_url: str, journeys: Sequence[Journey]) -> AsyncIterator[ApiStore]:
    """The writer of a database, with the journeys active."""
    # Each statement is a transaction of its own; nobody asks that they outlive a power cut.
    connection = await asyncpg.connect(database_url, server_settings={"synchronous_commit": "off"})
    try:
        store = ApiStore(connection, journeys)
        await store.register()
        yield store
    finally:
        await connection.close()


@asynccontextmanager
async def serving(
    database_url: str, key: str | None = None, *, health: socket.socket | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """The query API over a database, by HTTP on a port of its own; given a key, ready to take it."""
    environ = {"REJSE_DATABASE_URL": database_url, "REJSE_DRAIN_TIMEOUT_S": "5"}
    stop, listener = asyncio.Event(), listen("127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with (
        asyncio.TaskGroup() as tasks,
        plain_http.async_client(base_url=base_url, headers=headers, timeout=20) as client,
    ):
        settings = load(Settings, environ)
        tasks.create_task(serve(settings, database_url, listener, stop, SystemClock(), health=health))
        try:
            await eventually_async(lambda: status(client, "/livez"), until=lambda seen: seen is not None)
            if key is not None:
                await eventually_async(lambda: status(client, "/v1/journeys"), until=lambda seen: seen == 200)
            yield client
        finally:
            stop.set()


@asynccontextmanager
async def allowed(database_url: str, scope: Scope) -> AsyncIterator[httpx.AsyncClient]:
    """The same, with a new key of a scope."""
    connection = await asyncpg.connect(database_url)
    try:
        key = await create_key(connection, scope, "test", EPOCH)
    finally:
        await connection.close()
    async with serving(database_url, key) as client:
        yield client


async def status(client: httpx.AsyncClient, path: str) -> int | None:
    """The status that a GET answers with; None: nobody answers."""
    try:
        return (await client.get(path)).status_code
    except httpx.TransportError:
        return None
