"""The parts of each path, by the modules that do them; and SQL statements by what they do to which table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from tests.bench.sampler import LOOP

Parts = Mapping[str, Sequence[str]]
"""The modules of each part, by prefix. The longest prefix decides."""

_METRICS = "prometheus_client"
_FITNESS = ("shared.suspicion", "shared.content", "shared.fitness", "shared.refusals")
_HTTP = ("uvicorn", "httptools", "shared.receiving")
REST = "the rest, the event loop's own"

INGEST: Parts = {
    "uvicorn: HTTP and its socket": (*_HTTP, "services.ingest.protocol", "services.ingest.front"),
    "the door: head, key, limits, answer": ("services.ingest", "shared", "fastapi", "starlette"),
    "accepting: suspicion, decode, checks, encode": (
        *("services.ingest.accept", "services.ingest.frames", "services.ingest.thorough"),
        *("shared.touchpoint", "shared.codec", *_FITNESS),
    ),
    "group commit, detour and spool": (
        *("services.ingest.writer", "services.ingest.detour", "services.ingest.direct"),
        "services.ingest.spool",
    ),
    "the log: routing, lanes, batches": ("shared.eventlog",),
    "aiokafka and its socket": ("aiokafka",),
    "metrics and ledger": (_METRICS, "shared.metrics", "services.ingest.ledger"),
}
STAGER: Parts = {
    "aiokafka, its socket, records": ("aiokafka", "shared.eventlog"),
    "reading: decode, checks, ids, digests": (
        *("services.stager.batch", "shared.codec", "shared.ids", "shared.store.ids"),
        *_FITNESS,
    ),
    "identity": ("services.stager.identity", "shared.touchpoint"),
    "fold": ("services.stager.assign", "shared.journey"),
    "the transaction: sorting out, rows, columns": (
        *("services.stager.store", "services.stager.changes", "services.stager.states"),
        *("services.stager.runs", "services.stager.ids"),
    ),
    "asyncpg and its socket": ("asyncpg", "shared.store"),
    "the loop, partitions, metrics": ("services.stager", "shared", _METRICS),
}
API: Parts = {
    "uvicorn: HTTP and its socket": _HTTP,
    "the gate: key, errors, metrics": ("services.api.routes.gate", "shared.keys", "shared.metrics", _METRICS),
    "FastAPI and Starlette": ("fastapi", "starlette"),
    "the route and the answer": ("services.api", "shared"),
    "the view: rows to an answer": ("services.api.views", "shared.journey"),
    "asyncpg and its socket": ("asyncpg", "shared.store"),
}

_TABLE = re.compile(r"\b(INSERT INTO|COPY|UPDATE|DELETE FROM|FROM) (\w+)")


def shares(samples: Mapping[str, int], parts: Parts) -> Mapping[str, float]:
    """What share of the samples each part has; the shares of all parts and the rest make 1."""
    found = Counter(dict.fromkeys((*parts, REST), 0))
    for module, number in samples.items():
        found[_part(module, parts)] += number
    total = max(1, sum(samples.values()))
    return {part: number / total for part, number in found.items()}


def _part(module: str, parts: Parts) -> str:
    by_prefix = {prefix: part for part, prefixes in parts.items() for prefix in prefixes}
    while module and module != LOOP:
        if module in by_prefix:
            return by_prefix[module]
        module = module.rpartition(".")[0]
    return REST


def statement(sql: str) -> str:
    """A statement's short name: what it does, to which table first."""
    text = " ".join(sql.split())
    found = _TABLE.search(text)
    if found is None:
        return text.partition(" ")[0].strip(";")
    verb, table = found.groups()
    if verb == "FROM":
        verb = "SELECT FOR UPDATE" if "FOR UPDATE" in text else "SELECT"
    return f"{verb} {table}"
