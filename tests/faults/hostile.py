"""Rows 14 to 17: hostile requests by the thousand, then hostile records straight into the log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from shared.codec import decode
from shared.eventlog.port import TOPIC
from shared.store.ids import touchpoint_uid
from tests.bench import topics
from tests.bench.processes import PARTITIONS, apart
from tests.bench.rig import kafka, postgres
from tests.faults.forge import SOURCE, Forged, forge
from tests.faults.process_watch import Watch, watched
from tests.faults.provoke import Provoked, provoked
from tests.faults.report import Line, Report
from tests.faults.scale import Scale
from tests.support import plain_http
from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.support.installation import Installation
from tests.support.process import RejseProcess

_REQUESTS, _REQUESTS_FULL = 50_000, 1_000_000
_RSS_MIB_MAX = 200.0
_STAGED_S = 120.0
_LARGE = {"flush.messages": "1", "max.message.bytes": str(20 << 20)}
_TIMED = ("503 for want of time", "slow")
_PROMISES = ("5xx or no answer", "unstable", *_TIMED, "4xx without a code", "fit and refused")


def run(scale: Scale, home: Path) -> Report:
    """Provoke ingest over HTTP and then the stager through the log, and look at what was stored."""
    count = _REQUESTS_FULL if scale.full else _REQUESTS
    with _installation(home) as (broker, rejse, ingest, stager):
        with watched(ingest.pid) as seen:
            found = _provoke(rejse, scale.seed, count)
        sent = asyncio.run(topics.count(broker.direct, TOPIC))
        _await_staged(rejse, sent)
        lines = [*_answer_lines(found, ingest, seen), *_stored_lines(rejse, found, sent)]
        with watched(stager.pid) as stager_seen:
            forged = asyncio.run(forge(broker.direct, scale.seed))
            _await_staged(rejse, sent + forged.records)
        lines += _forged_lines(rejse, forged, stager, stager_seen, sent)
    notes = [
        f"Seed {scale.seed}. Answers: {dict(sorted(found.answers.items()))}; the slowest, "
        f"“{found.slowest}”, took {1000 * found.slowest_s:.0f} ms.",
        *(f"`{told}`" for told in (*found.told, *forged.told)),
    ]
    return Report("Hostile requests and records", lines, notes)


@contextmanager
def _installation(home: Path) -> Iterator[tuple[Broker, Installation, RejseProcess, RejseProcess]]:
    with kafka(home, core=None) as broker, postgres(core=None) as store, store.database() as database_url:
        asyncio.run(broker.create_topic(TOPIC, partitions=PARTITIONS, config=_LARGE))
        env = {"REJSE_KAFKA_BOOTSTRAP": broker.bootstrap, "REJSE_DATABASE_URL": database_url}
        with Installation(home, env | {"REJSE_LOG_LEVEL": "WARNING"}) as rejse:
            rejse.make_keys()
            ingest, stager = rejse.start("ingest"), rejse.start("stager")
            rejse.start("api")
            yield broker, rejse, ingest, stager


def _provoke(rejse: Installation, seed: int, count: int) -> Provoked:
    port = rejse.ports["ingest"]
    found: Provoked = apart(provoked, port, rejse.write_key, seed, count, core=None, timeout_s=3_000.0)
    return found


def _await_staged(rejse: Installation, records: int) -> None:
    """Wait until every record of the log lies behind the stager, if it gets there."""
    eventually(lambda: _read(rejse), _STAGED_S, until=lambda read: read >= records)


def _read(rejse: Installation) -> int:
    rows = asyncio.run(_rows(rejse, "SELECT coalesce(sum(next_offset), 0) FROM stager_offsets"))
    return int(rows[0][0])


async def _rows(rejse: Installation, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
    connection = await asyncpg.connect(rejse.database_url)
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()


def _answer_lines(found: Provoked, ingest: RejseProcess, seen: Watch) -> Sequence[Line]:
    alive = ingest.running and ingest.is_ready()
    return [
        Line("14–17: hostile requests, each sent twice", "all answered", f"{found.requests:,}", alive),
        *(
            Line(
                f"14–17: answers that are: {what}",
                "0",
                str(found.broken[what]),
                not found.broken[what],
                timed=what in _TIMED,
            )
            for what in _PROMISES
        ),
        Line(
            "14–17: memory of ingest",
            f"≤ {_RSS_MIB_MAX:.0f} MiB",
            f"{seen.peak_rss_mib:.0f} MiB",
            seen.peak_rss_mib <= _RSS_MIB_MAX,
        ),
    ]


def _stored_lines(rejse: Installation, found: Provoked, sent: int) -> Sequence[Line]:
    dead = asyncio.run(_rows(rejse, "SELECT reason FROM dead_letters"))
    stored = _stored(rejse, list(found.kept))
    lost = found.kept.keys() - stored.keys()
    other = [id_ for id_, properties in stored.items() if found.kept[id_] != properties]
    return [
        Line(
            "15–17: records of ingest's own that became dead letters",
            "0",
            f"{len(dead)} of {sent:,} {sorted({row[0] for row in dead})[:3] or ''}",
            not dead,
        ),
        Line(
            "15–17: touchpoints of a 202 that the store doesn't have",
            "0",
            f"{len(lost)} of {len(found.kept):,}",
            not lost and len(found.kept) > found.fit,
        ),
        Line(
            "15–17: of those, properties that aren't the bytes sent",
            "0",
            f"{len(other)} {[(one, found.kept[one][:200], stored[one][:200]) for one in other[:2]] or ''}",
            not other,
        ),
    ]


def _stored(rejse: Installation, ids: Sequence[str]) -> Mapping[str, bytes]:
    """The properties of what was stored, by the sender's id."""
    by_uid = {touchpoint_uid(SOURCE, id_): id_ for id_ in ids}
    query = "SELECT id, body FROM touchpoints WHERE id = ANY($1::uuid[])"
    rows = asyncio.run(_rows(rejse, query, list(by_uid)))
    return {by_uid[row["id"]]: bytes(decode(row["body"]).properties) for row in rows}


def _forged_lines(
    rejse: Installation, forged: Forged, stager: RejseProcess, seen: Watch, sent: int
) -> Sequence[Line]:
    dead = {bytes(row[0]) for row in asyncio.run(_rows(rejse, "SELECT value FROM dead_letters"))}
    fates = {
        fate: int(rejse.metric("stager", "rejse_stager_records_total", {"fate": fate}))
        for fate in ("stored", "duplicate", "conflict", "erased", "dead_letter")
    }
    unseen = [value[:80] for value in forged.unfit if value not in dead]
    innocent = [value[:80] for value in forged.fit if value in dead]
    stored = _stored(rejse, forged.honest_ids)
    all_ = sent + forged.records
    odd = [ref for ref in forged.refs if not _is_answered(rejse, ref)]
    return [
        Line(
            "16: records written past ingest that it would refuse",
            "each a dead letter",
            f"{len(forged.unfit) - len(unseen)} of {len(forged.unfit)} {unseen[:2] or ''}",
            not unseen,
        ),
        Line("16: fit records among them that are dead letters", "0", str(len(innocent)), not innocent),
        Line(
            "16: honest records between them that are stored",
            f"{len(forged.honest_ids):,}",
            f"{len(stored):,}",
            len(stored) == len(forged.honest_ids),
        ),
        Line(
            "16: records with one fate",
            f"{all_:,}",
            f"{sum(fates.values()):,} {fates}",
            sum(fates.values()) == all_ and stager.running,
        ),
        Line(
            "16: timelines of forged customers that the API doesn't answer as JSON",
            "0",
            f"{len(odd)} of {len(forged.refs)} {odd[:3] or ''}",
            not odd,
        ),
        Line(
            "16: memory of the stager",
            f"≤ {_RSS_MIB_MAX:.0f} MiB more",
            f"{seen.peak_rss_mib - seen.first_rss_mib:.0f} MiB more",
            seen.peak_rss_mib - seen.first_rss_mib <= _RSS_MIB_MAX,
        ),
    ]


def _is_answered(rejse: Installation, ref: str) -> bool:
    """Whether the API answers a customer's timeline: JSON in UTF-8, whatever stands in it."""
    headers = {"Authorization": f"Bearer {rejse.read_key}"}
    answer = plain_http.get(f"{rejse.url('api')}/v1/customers/{ref}/timeline", headers=headers, timeout=10)
    try:
        answer.content.decode()
        answer.json()
    except ValueError:
        return False
    return answer.status_code == 200
