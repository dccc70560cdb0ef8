"""The judge: reads the event log, the store and the public API, and holds them against the ledger."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from hashlib import blake2b
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.journey.catalog import load_definitions
from shared.journey.fold import Journey
from tests.faults import ledger
from tests.faults.erasures import (
    Grave,
    bare_ids,
    erased_until,
    graves,
    known_ids,
    must_be_nowhere,
    of_the_erasures,
    of_their_ids,
)
from tests.faults.places import Places
from tests.faults.promises import Id, Kept, Obligations, line, of_the_links, of_the_log, of_the_timelines
from tests.faults.remains import not_gone, remains
from tests.faults.report import Line
from tests.faults.traffic import Face, Traffic, face_in
from tests.faults.witness import fallen
from tests.support import plain_http
from tests.support.audit import differences
from tests.support.crowd import who_is_who_wrongly, withdrawn_links
from tests.support.told import told_wrongly

TOPIC = "touchpoints"
_PARTED = """
SELECT count(*) FROM identity_links AS l
JOIN identities AS one ON one.identity = l.identity JOIN identities AS other ON other.identity = l.other
WHERE l.withdrawn_at IS NOT NULL AND one.customer_id <> other.customer_id
"""
_API_CUSTOMERS = 150
_PAGE = 500
_ROWS = 5_000
_READ_TIMEOUT_MS = 10_000


class Verdict(msgspec.Struct):
    """Promises with what was seen, and how often things happened that have to happen sometimes."""

    lines: list[Line]
    seen: dict[str, int]
    acked: int
    stored: int


class LogContents(msgspec.Struct):
    """What lies on a log below the stored offsets: ids, and the digests of what is no touchpoint."""

    ids: set[Id] = msgspec.field(default_factory=set)
    poison: dict[str, int] = msgspec.field(default_factory=dict)
    records: int = 0
    conflicts: int = 0


async def judge(places: Places) -> Verdict:
    """Look at everything. Nothing may be on its way any more."""
    account = ledger.read(places.ledger_path)
    connection = await asyncpg.connect(places.database_url)
    try:
        buried = await graves(connection, account)
        erased = erased_until(buried)
        obligations = Obligations.of(account, Traffic(places.seed), erased)
        kept = await _timelines(connection, obligations)
        contents = earlier(places)
        await read_log(places, await _stands(connection), contents)
        dead = await _dead_letters(connection)
        known = await known_ids(connection, obligations)
        journeys = [Journey(one) for one in load_definitions(Path(places.journeys))]
        lines = [
            *of_the_timelines(obligations, kept),
            line(
                "I4 states, histories and counts that are not the fold's",
                "0",
                await _differences(connection, journeys),
            ),
            of_the_links(account, await withdrawn_links(connection)),
            line("customers that links don't make so", "0", await who_is_who_wrongly(connection)),
            line("I5 offsets or epochs that fell", "0", await fallen(connection)),
            line("refusals to come back without Retry-After", "0", account.broken),
            *of_the_log(contents.ids, kept.times.keys() | known, contents.poison, dead),
            line(
                "I12 transitions told wrongly or not at all",
                "0",
                await told_wrongly(connection, places.kafka),
            ),
            await _api_line(places, connection),
            *of_the_erasures(account, buried),
            *of_their_ids(obligations, contents.ids, known, await bare_ids(connection)),
            line(
                "what is left of erased people",
                "0",
                await remains(connection, *must_be_nowhere(account, buried, obligations)),
            ),
            await _gone_line(places, buried),
            line("touchpoints set aside by a spool", "0", _set_aside(Path(places.spool))),
        ]
        seen = await _seen(connection) | {"a customer erased": sum(one.carried_out for one in buried)}
    finally:
        await connection.close()
    seen |= {
        "a dropped duplicate": contents.records - len(contents.ids) - contents.conflicts,
        "a conflict": contents.conflicts,
        "a 429": account.statuses["429"],
        "a 503": account.statuses["503"],
        "a dead letter": len(dead),
    }
    return Verdict(lines, seen, len(obligations.acked), kept.times.total())


def archive_log(places: Places) -> None:
    """Keep what lies on the log below the stored offsets, before it is made anew."""
    contents = asyncio.run(_log_so_far(places))
    Path(places.earlier_logs).write_bytes(msgspec.msgpack.encode(contents))


async def _log_so_far(places: Places) -> LogContents:
    contents = earlier(places)
    connection = await asyncpg.connect(places.database_url)
    try:
        await read_log(places, await _stands(connection), contents)
    finally:
        await connection.close()
    return contents


def earlier(places: Places) -> LogContents:
    """What lay on logs that have been made anew since."""
    path = Path(places.earlier_logs)
    if not path.exists():
        return LogContents()
    return msgspec.msgpack.decode(path.read_bytes(), type=LogContents)


async def read_log(places: Places, stands: dict[int, int], contents: LogContents) -> None:
    """Read every partition from its beginning to the stored offset."""
    faces: dict[Id, int] = {}
    async for value in _records(places.kafka, stands):
        contents.records += 1
        face = face_in(value)
        if face is None or _is_poison(face):
            contents.poison[_digest(value)] = 1
            continue
        id_ = (face.source, face.id)
        contents.ids.add(id_)
        contents.conflicts += faces.setdefault(id_, face.digest()) != face.digest()
    contents.records -= len(contents.poison)


async def _records(kafka: str, stands: dict[int, int]) -> AsyncIterator[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        places = {TopicPartition(TOPIC, partition): end for partition, end in stands.items()}
        consumer.assign(list(places))
        await consumer.seek_to_beginning(*places)
        left = {place for place, end in places.items() if end > 0}
        while left:
            found = await consumer.getmany(*left, timeout_ms=_READ_TIMEOUT_MS)
            if not found:
                return
            for place, records in found.items():
                for record in records:
                    if record.offset < places[place]:
                        yield record.value or b""
                if records and records[-1].offset + 1 >= places[place]:
                    left.discard(place)
    finally:
        await consumer.stop()


def _is_poison(face: Face) -> bool:
    """What PostgreSQL refuses reads like a touchpoint."""
    return "\0" in face.type


def _digest(value: bytes) -> str:
    return blake2b(value, digest_size=8).hexdigest()


async def _differences(
    connection: asyncpg.Connection[asyncpg.Record], journeys: Sequence[Journey]
) -> list[str]:
    # One snapshot: the sweeper never ends, and may come between two of the questions.
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await differences(connection, journeys)


async def _timelines(connection: asyncpg.Connection[asyncpg.Record], obligations: Obligations) -> Kept:
    kept = Kept()
    async with connection.transaction(readonly=True):
        async for row in connection.cursor("SELECT body FROM touchpoints", prefetch=_ROWS):
            kept.add(face_in(row["body"]), obligations)
    return kept


async def _stands(connection: asyncpg.Connection[asyncpg.Record]) -> dict[int, int]:
    rows = await connection.fetch("SELECT partition, next_offset FROM stager_offsets")
    return {row["partition"]: row["next_offset"] for row in rows}


async def _dead_letters(connection: asyncpg.Connection[asyncpg.Record]) -> Counter[str]:
    rows = await connection.fetch("SELECT value FROM dead_letters")
    return Counter(_digest(row["value"]) for row in rows)


async def _seen(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, int]:
    questions = {
        "a refold by a late event": "SELECT count(*) FROM stage_transitions WHERE superseded_at IS NOT NULL",
        "a customer parted": _PARTED,
        "a takeover": "SELECT count(*) FROM stager_offsets WHERE epoch > 1",
    }
    return {what: await connection.fetchval(question) for what, question in questions.items()}


async def _api_line(places: Places, connection: asyncpg.Connection[asyncpg.Record]) -> Line:
    """The public timelines of some customers are those of the store."""
    rows = await connection.fetch("SELECT customer_id, array_agg(id) AS ids FROM touchpoints GROUP BY 1")
    chosen = random.Random(places.seed).sample(rows, min(_API_CUSTOMERS, len(rows)))
    wrong: list[UUID] = []
    async with _api_of(places) as client:
        for row in chosen:
            shown = await _shown(client, row["customer_id"])
            if sorted(shown) != sorted(map(str, row["ids"])):
                wrong.append(row["customer_id"])
    return line(f"public timelines of {len(chosen)} customers that differ from the store", "0", wrong)


def _api_of(places: Places) -> httpx.AsyncClient:
    return plain_http.async_client(base_url=places.api_url, headers=places.read_headers, timeout=20)


async def _gone_line(places: Places, buried: Sequence[Grave]) -> Line:
    """Whoever asks for a customer who was erased, by whichever id, is told so."""
    ids = [id_ for grave in buried for id_ in grave.ids]
    async with _api_of(places) as client:
        return line(
            f"public answers to {len(ids)} ids of erased customers that aren't 410",
            "0",
            await not_gone(client, ids),
        )


async def _shown(client: httpx.AsyncClient, customer_id: UUID) -> list[str]:
    found: list[str] = []
    query = {"kind": "touchpoint", "limit": str(_PAGE)}
    while True:
        answer = await client.get(f"/v1/customers/{customer_id}/timeline", params=query)
        answer.raise_for_status()
        page = answer.json()
        found += [item["id"] for item in page["items"]]
        if page.get("next_cursor") is None:
            return found
        query["cursor"] = page["next_cursor"]


def _set_aside(spool: Path) -> list[str]:
    return [text for path in spool.rglob("set_aside.ndjson") for text in path.read_text().splitlines()]
