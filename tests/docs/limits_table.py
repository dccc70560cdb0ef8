"""The table of limits in docs/operations.md: every pool, bound and timeout, and what happens at it.

The numbers are the code's own. `python -m tests.docs.limits_table` writes the table there anew.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from pathlib import Path
from typing import Any

from shared.config import VARIABLES

OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"
_TABLE = re.compile(r"(?<=<!-- limits: begin -->\n).*?(?=<!-- limits: end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Limit:
    """What is bounded, where its number is (`module:name`, or a setting's name), and what then happens."""

    what: str
    where: str
    then: str


AT_THE_DOOR: tuple[Limit, ...] = (
    Limit("connections from one address", "connections_per_address_max", "429, closed"),
    Limit(
        "connections accepted in one turn", "shared.accepting:ACCEPTED_A_TURN_MAX", "the rest in the next one"
    ),
    Limit("touchpoints a second and key", "rate_events_s", "429 with `Retry-After`; 0: no limit"),
    Limit("`Retry-After`, in seconds", "services.ingest.limits:RETRY_AFTER_MAX_S", "told no more"),
    Limit("a body on the wire", "services.ingest.event:WIRE_BYTES_MAX", "413"),
    Limit(
        "the wait until a request is read",
        "services.ingest.turns:WAIT_S_MAX",
        "503 with `Retry-After`",
    ),
    Limit("bodies in flight", "in_flight_bytes_max", "503 with `Retry-After`"),
    Limit("a body, inflated", "services.ingest.event:INFLATED_BYTES_MAX", "413; inflating stops there"),
    Limit("`Idempotency-Key`, in bytes", "services.ingest.head:REQUEST_KEY_BYTES_MAX", "400"),
    Limit("touchpoints of a request", "services.ingest.event:EVENTS_MAX", "413"),
    Limit("brackets of a request", "services.ingest.event:BRACKETS_MAX", "413"),
    Limit("a touchpoint", "services.ingest.event:EVENT_BYTES_MAX", "that one is refused"),
    Limit("nesting", "shared.content:DEPTH_MAX", "that touchpoint is refused"),
    Limit(
        "characters of a name or id",
        "shared.content:NAME_CHARACTERS_MAX",
        "that touchpoint is refused",
    ),
    Limit("characters of a number", "shared.content:NUMBER_CHARACTERS_MAX", "that touchpoint is refused"),
    Limit("identities of a touchpoint", "shared.fitness:IDENTITIES_MAX", "that touchpoint is refused"),
    Limit("an identity", "shared.touchpoint:IDENTITY_VALUE_BYTES_MAX", "that touchpoint is refused"),
    Limit("phone numbers of a touchpoint", "services.ingest.accept:PHONES_MAX", "that touchpoint is refused"),
    Limit(
        "e-mail addresses beyond ASCII of a touchpoint",
        "services.ingest.accept:INTERNATIONAL_EMAILS_MAX",
        "that touchpoint is refused",
    ),
    Limit("digits of a phone number", "shared.phones:DIGITS_MAX", "that touchpoint is refused"),
    Limit("phone numbers kept as they were read", "shared.phones:NUMBERS_REMEMBERED", "the least used go"),
    Limit("a time ahead of now", "shared.fitness:OCCURRED_AT_AHEAD_MAX", "that touchpoint is refused"),
    Limit("reading requests at one go", "services.ingest.turns:TURN_S_MAX", "the rest in the next turn"),
    Limit(
        "records of a group commit", "services.ingest.writer:GROUP_RECORDS_MAX", "the rest in the next one"
    ),
    Limit("a request's wait for its turn to be kept", "services.ingest.writer:AGE_S_MAX", "503, not kept"),
    Limit("an append to the log", "ack_timeout_s", "Kafka: to the spool instead. Local log: 503"),
    Limit(
        "free space of ingest's disk", "disk_free_bytes_min", "503 with `Retry-After` for what would go there"
    ),
    Limit("the spool", "spool_bytes_max", "503 with `Retry-After`; nothing is dropped"),
    Limit(
        "records sent on from the spool at once",
        "services.ingest.detour:DRAIN_RECORDS_MAX",
        "the rest follows",
    ),
    Limit("reading the keys", "services.ingest.__main__:KEYS_TIMEOUT_S", "the known keys stay valid"),
)
IN_THE_LOG: tuple[Limit, ...] = (
    Limit("a record", "shared.eventlog.port:RECORD_BYTES_MAX", "refused by itself"),
    Limit(
        "a batch to Kafka", "shared.eventlog.kafka.sizes:BATCH_BYTES_MAX", "the rest goes with the next one"
    ),
    Limit("what the local log keeps behind the stager", "local_log_keep_bytes", "the oldest records go"),
    Limit(
        "a stager's silence to Kafka's group",
        "shared.eventlog.kafka.consumer:SESSION_TIMEOUT_MS",
        "its partitions go to others",
    ),
    Limit(
        "a consumer's silence while Kafka answers",
        "shared.eventlog.kafka.vigil:SILENT_S",
        "another consumer replaces it",
    ),
)
IN_THE_STAGER: tuple[Limit, ...] = (
    Limit("records of a batch", "batch_records_max", "the rest comes with the next one"),
    Limit("batches under way at once", "services.stager.loop:LANES", "the next one waits"),
    Limit(
        "pairs of identities that it remembers as linked",
        "services.stager.pairs:PAIRS_MAX",
        "all are forgotten, and each is offered to the store once more",
    ),
    Limit("a poll of the log that has nothing", "services.stager.loop:POLL_TIMEOUT_S", "it polls again"),
    Limit("the same, with batches under way", "services.stager.loop:BUSY_POLL_TIMEOUT_S", "it polls again"),
    Limit(
        "tries of a batch that others are in the way of",
        "services.stager.loop:CONTENDED_TRIES_MAX",
        "a pause, then again",
    ),
    Limit(
        "dead letters among the latest records",
        "services.stager.loop:DEAD_SHARE_MAX",
        "the stager ends: the fault is ours",
    ),
    Limit(
        "a lost partition is left alone",
        "services.stager.partitions:RECLAIM_AFTER_S",
        "claimed again if it is still given to us",
    ),
    Limit("subjects of a sweep", "services.stager.sweeper:SUBJECTS_MAX", "the rest comes with the next one"),
    Limit(
        "customers of a page of a backfill, a clearing or a what-if",
        "shared.store.pages:CUSTOMERS_MAX",
        "the rest comes with the next one",
    ),
    Limit(
        "changes of stage told of a sample of a what-if",
        "shared.store.what_if:HISTORY_MAX",
        "the latest are told",
    ),
    Limit(
        "touchpoints of a sample of a what-if",
        "shared.store.what_if:SEEN_MAX",
        "near misses are looked for among the newest",
    ),
    Limit(
        "stage changes published at once",
        "services.stager.publish:MESSAGES_MAX",
        "the rest comes with the next ones",
    ),
    Limit(
        "keeping stage changes",
        "services.stager.publish:APPEND_TIMEOUT_S",
        "they wait, and are told again",
    ),
    Limit(
        "unknown types counted by name, a shard of the counters",
        "shared.touchpoint_types:UNKNOWN_TYPES_MAX",
        "those beyond are counted together",
    ),
    Limit(
        "a loop that stands still, or commits nothing of what waits",
        "services.stager.app:STUCK_AFTER_S",
        "`/readyz` is 503",
    ),
    Limit(
        "what is cut off at the end of a stager",
        "services.stager.app:CUT_OFF_S",
        "its connections to the store are closed",
    ),
)
IN_THE_API: tuple[Limit, ...] = (
    Limit(
        "a what-if",
        "services.api.routes.definitions:WHAT_IF_TIMEOUT_S",
        "those met by then are told of",
    ),
    Limit("samples of a what-if", "services.api.routes.definitions:SAMPLES_MAX", "422"),
    Limit("items of a page", "services.api.routes.parameters:LIMIT_MAX", "422"),
    Limit("runs of a journey in an answer", "services.api.views.customers:RUNS_MAX", "the latest are told"),
    Limit(
        "ids merged into a customer's, in an answer",
        "services.api.views.customers:ALIASES_MAX",
        "the latest are told",
    ),
    Limit(
        "items of each list of why identities are one customer",
        "shared.store.identities:LISTED_MAX",
        "the latest are told, and that there are more",
    ),
    Limit(
        "those whom an identity was handed over to, there",
        "shared.store.identities:HOLDERS_MAX",
        "the latest are told, and that there are more",
    ),
    Limit(
        "links of an answer about links", "shared.store.withdrawals:LINKS_MAX", "the first by name are told"
    ),
    Limit(
        "links among which one looks for what holds two identities together",
        "shared.store.withdrawals:EDGES_MAX",
        "a way by others is not told",
    ),
    Limit(
        "characters of an identity in a parameter", "services.api.routes.identity:REF_CHARACTERS_MAX", "422"
    ),
    Limit("runs of a proof", "services.api.views.proofs:RUNS_PROVED_MAX", "the latest are told"),
    Limit("transitions of a proof", "services.api.routes.proofs:LIMIT_MAX", "422; the latest are told"),
    Limit(
        "touchpoints read for a proof",
        "services.api.views.proofs:TOUCHPOINTS_READ_MAX",
        "a near miss further back is not told",
    ),
    Limit(
        "touchpoints of a rule's types that a proof tries",
        "shared.journey.misses:TRIED_MAX",
        "a near miss further back is not told",
    ),
    Limit(
        "characters of a touchpoint's text in a proof",
        "shared.journey.misses:TEXT_CHARACTERS_MAX",
        "its begin is told",
    ),
    Limit(
        "members of a touchpoint's list in a proof",
        "shared.journey.misses:MEMBERS_MAX",
        "the first are told",
    ),
    Limit("a query", "services.api.views.customers:QUERY_TIMEOUT_S", "503"),
    Limit(
        "age of keys and definitions",
        "services.api.views.reference:STALE_AFTER_S",
        "`/readyz` is 503; they stay valid",
    ),
)
IN_THE_STORE: tuple[Limit, ...] = (
    Limit("connections of an api", "services.api.app:CONNECTIONS_MAX", "a request waits for one"),
    Limit("connections of a stager", "services.stager.app:CONNECTIONS_MAX", "its parts wait for one"),
    Limit(
        "waiting for a connection of the pool",
        "shared.store.engine:ACQUIRE_TIMEOUT_S",
        "api: 503; stager: again later",
    ),
    Limit("connecting", "shared.store.engine:CONNECT_TIMEOUT_S", "api: 503; stager: again later"),
    Limit(
        "waiting for a lock",
        "shared.store.engine:SERVER_SETTINGS.lock_timeout",
        "api: 503; stager: the batch again",
    ),
    Limit(
        "a statement, in PostgreSQL",
        "shared.store.engine:SERVER_SETTINGS.statement_timeout",
        "api: 503; stager: the batch again",
    ),
    Limit(
        "a statement, in the service",
        "shared.store.engine:COMMAND_TIMEOUT_S",
        "the same, and a new connection",
    ),
    Limit(
        "an open transaction that does nothing",
        "shared.store.engine:SERVER_SETTINGS.idle_in_transaction_session_timeout",
        "PostgreSQL rolls it back: a takeover waits no longer",
    ),
    Limit(
        "until a stager looks again for one that stands still in a copy, longer than a statement may take",
        "services.stager.app:FROZEN_EVERY_S",
        "its session is ended: a takeover waits no longer",
    ),
    Limit(
        "start of embedded PostgreSQL",
        "shared.store.embedded:START_TIMEOUT_S",
        "`rejse` ends with the reason",
    ),
)
EVERYWHERE: tuple[Limit, ...] = (
    Limit("silence on a connection", "shared.receiving:DeadlineProtocol.idle_s", "closed"),
    Limit("time for a request's headers", "shared.receiving:DeadlineProtocol.headers_s", "408, closed"),
    Limit("time for a request's body", "shared.receiving:DeadlineProtocol.body_s", "408, closed"),
    Limit("a request's headers", "shared.receiving:HEADER_BYTES_MAX", "431, closed"),
    Limit("an answer that the client doesn't take", "shared.receiving:DeadlineProtocol.write_s", "cut off"),
    Limit("an idle connection at the end", "shared.receiving:DeadlineProtocol.linger_s", "closed"),
    Limit("requests sent before an earlier answer", "shared.receiving:PIPELINED_MAX", "closed"),
    Limit("a loop that doesn't turn", "shared.health:LOOP_STILL_S", "`/livez` on a port of its own is 503"),
    Limit("a YAML file", "shared.strict_yaml:BYTES_MAX", "refused"),
    Limit("items of a list of a journey", "shared.journey.shape:ITEMS_MAX", "the definition is refused"),
    Limit("types of a journey's rule", "shared.journey.rule_shapes:TYPES_MAX", "the definition is refused"),
    Limit(
        "a count in a window of a journey's rule",
        "shared.journey.checks:WINDOW_COUNT_MAX",
        "the definition is refused",
    ),
    Limit(
        "tests of traits of a journey",
        "shared.journey.checks:TRAIT_TESTS_MAX",
        "the definition is refused",
    ),
    Limit(
        "bytes of the name of what a run is about",
        "shared.journey.fold:RUN_NAME_BYTES_MAX",
        "the touchpoint belongs to no run",
    ),
    Limit("a count in a journey's rule", "shared.journey.rule_shapes:COUNT_MAX", "the definition is refused"),
    Limit(
        "the end after SIGTERM",
        "drain_timeout_s",
        "what is not finished is cut; a 2xx was given for nothing of it",
    ),
)
PARTS = {
    "ingest": AT_THE_DOOR,
    "event log": IN_THE_LOG,
    "stager": IN_THE_STAGER,
    "api": IN_THE_API,
    "store": IN_THE_STORE,
    "all": EVERYWHERE,
}


def with_table(text: str) -> str:
    """A document with the table of limits between its marks."""
    rows = [
        f"| {part} | {limit.what} | {_shown(limit.where)} | {limit.then} |"
        for part, limits in PARTS.items()
        for limit in limits
    ]
    table = "\n".join(["| part | what | limit | at the limit |", "|---|---|---|---|", *rows])
    return _TABLE.sub(lambda _: f"{table}\n", text)


def named() -> set[str]:
    """Every place in the code that the table names."""
    return {limit.where for limits in PARTS.values() for limit in limits if ":" in limit.where}


def _shown(where: str) -> str:
    if ":" in where:
        module, _, path = where.partition(":")
        return _in_units(path, reduce(_member, path.split("."), importlib.import_module(module)))
    (variable,) = (one for one in VARIABLES if one.name == where)
    return f"{_in_units(where, variable.read(variable.default or ''))} (`{variable.env}`)"


def _member(holder: Any, name: str) -> Any:
    return holder[name] if isinstance(holder, dict) else getattr(holder, name)


def _in_units(name: str, value: Any) -> str:
    """A value with the unit that its name says."""
    if isinstance(value, str):
        return re.sub(r"(?<=\d)(?=[a-z])", " ", value)
    if isinstance(value, timedelta):
        return f"{value.total_seconds() / 3600:g} h"
    lower = name.lower()
    if "bytes" in lower:
        return _bytes(value)
    if "share" in lower:
        return f"{value:.0%}"
    if lower.endswith("_ms"):
        return f"{value / 1000:g} s"
    if lower.endswith(("_s", "_s_max")) and "events" not in lower and "retry" not in lower:
        return f"{value:g} s"
    return f"{value:,}"


def _bytes(value: int) -> str:
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if value and not value % (1 << shift):
            return f"{value >> shift} {unit}"
    return f"{value:,} bytes"


if __name__ == "__main__":
    OPERATIONS.write_text(with_table(OPERATIONS.read_text()))
