"""A consumer of the topic `stage-changes`, and what it may be told: each transition that was committed, under
one id, and no other.

`python -m tests.support.told DATABASE_URL KAFKA|DATA_DIR` waits until nothing is left to be told, prints what
was told wrongly, one a line, and ends with 1 if there is any.

It keeps the highest id of each customer, drops what doesn't exceed it, and makes the histories by the
messages alone. Then they must be those of the store. Of a journey it knows which version is read: whatever
has a higher id than what told it so is about that one.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer

from tests.support.eventually import eventually_async

TOPIC = "stage-changes"
_POLL_MS = 5_000
_WAIT_S = 30.0

Run = tuple[str, str, int, str]
"""A customer or an account, a journey and its version, and the thing that the run is about."""

TRANSITIONS = """
SELECT customer_id::text AS customer, journey_key AS journey, version, run, revision, seq, at, kind AS change,
    from_stage AS "from", from_paused, to_stage AS "to", to_paused, touchpoint_id::text AS touchpoint, rule,
    recorded_at AS known_at, superseded_at IS NULL AS stands
FROM stage_transitions ORDER BY customer_id, journey_key, version, run, seq
"""
_LEFT = "SELECT count(*) FROM outbox"
_FIELDS = ("at", "known_at", "change", "from", "from_paused", "to", "to_paused")


class Consumer:
    """Whoever keeps histories by the messages. `wrong` says what should not have come."""

    def __init__(self) -> None:
        self.histories: defaultdict[Run, list[Mapping[str, Any]]] = defaultdict(list)
        self.told: dict[tuple[Run, int, int], Mapping[str, Any]] = {}
        self.places: dict[Run, tuple[str | None, bool]] = {}
        self.merged: dict[str, str] = {}
        self.erased: dict[str, int] = {}
        """By the id of somebody who was erased, the message's that told it."""
        self.read: dict[str, Mapping[str, Any]] = {}
        self.repeated = 0
        self.wrong: list[str] = []
        self._highest: dict[str, int] = {}

    def receive(self, value: bytes) -> None:
        """Take a message, in the order of its partition."""
        message: dict[str, Any] = msgspec.json.decode(value)
        if message["kind"] == "journey_version":
            self._take_over(message)
            return
        customer = message["customer"]
        if message["id"] <= self._highest.get(customer, 0):
            self.repeated += 1
            return
        self._highest[customer] = message["id"]
        if message["kind"] == "customer_merged":
            left = [run for run, history in self.histories.items() if run[0] == customer and history]
            self._check(not left, "comes before the end of a history", message)
            self.merged[customer] = message["into"]
            return
        if message["kind"] == "customer_erased":
            self._erase({customer, *message["aliases"]}, message["id"])
            return
        if message["id"] < self.erased.get(customer, 0):
            # Of an alias, which has another partition.
            return
        if message["kind"] == "customer_split":
            # One of their own again, or for the first time: with no history yet.
            self.merged.pop(customer, None)
            left = [run for run, history in self.histories.items() if run[0] == customer and history]
            self._check(not left, "comes after the begin of a history", message)
            return
        self._check(customer not in self.erased, "is about a customer who was erased", message)
        self._check(customer not in self.merged, "is about a customer that is another one's", message)
        read = self.read.get(message["journey"])
        if read and message["id"] > read["id"]:
            self._check(
                message["version"] == read["version"], "is about a version that nobody reads", message
            )
        run = (customer, message["journey"], message["version"], message["run"])
        history = self.histories[run]
        self._check(message["from"] == self.places.get(run, (None, False))[0], "begins elsewhere", message)
        self.places[run] = (message["to"], message["to_paused"])
        if message["kind"] == "correction":
            gone = message["superseded"]
            self._check(gone["last"] == len(history) - 1, "takes back what wasn't told", message)
            del history[gone["first"] :]
        else:
            self._check(message["seq"] == len(history), "leaves a gap", message)
            key = (run, message["revision"], message["seq"])
            self._check(key not in self.told, "comes under two ids", message)
            self.told[key] = message
            history.append(message)

    def _erase(self, ids: set[str], by: int) -> None:
        """Keep nothing of a customer."""
        self.histories = defaultdict(
            list, {run: its for run, its in self.histories.items() if run[0] not in ids}
        )
        self.told = {key: its for key, its in self.told.items() if key[0][0] not in ids}
        self.places = {run: its for run, its in self.places.items() if run[0] not in ids}
        self.erased |= dict.fromkeys(ids, by)

    def _take_over(self, message: Mapping[str, Any]) -> None:
        before = self.read.get(message["journey"])
        # There is one in each partition.
        if before is None or message["id"] > before["id"]:
            if before:
                self._check(message["former"] == before["version"], "replaces another version", message)
            self.read[message["journey"]] = message

    def differences(self, transitions: Sequence[Mapping[str, Any]]) -> list[str]:
        """What it was told wrongly or not at all, given the store's transitions (`TRANSITIONS`)."""
        found = list(self.wrong)
        stored = {}
        standing: defaultdict[Run, list[tuple[Any, ...]]] = defaultdict(list)
        for row in transitions:
            run = (row["customer"], row["journey"], row["version"], row["run"])
            stored[run, row["revision"], row["seq"]] = _of_row(row)
            if row["stands"]:
                standing[run].append(_of_row(row))
        found += [f"{key} was not told" for key in stored.keys() - self.told.keys()]
        found += [f"{key} was told and isn't stored" for key in self.told.keys() - stored.keys()]
        for key in stored.keys() & self.told.keys():
            if _of_message(self.told[key]) != stored[key]:
                found.append(f"{key} was told as {self.told[key]}, stored as {stored[key]}")
        for run in self.histories.keys() | standing.keys():
            if [_of_message(one) for one in self.histories.get(run, [])] != standing.get(run, []):
                found.append(f"the history of {run} that was told is not the one that stands")
        return found

    def _check(self, fine: bool, what: str, message: Mapping[str, Any]) -> None:
        if not fine:
            self.wrong.append(f"message {message['id']} {what}")


def listen(values: Iterable[bytes]) -> Consumer:
    """A consumer who has received messages."""
    consumer = Consumer()
    for value in values:
        consumer.receive(value)
    return consumer


def _of_message(message: Mapping[str, Any]) -> tuple[Any, ...]:
    cause = message["cause"]
    return (*(message[name] for name in _FIELDS), cause["touchpoint"], cause["rule"])


def _of_row(row: Mapping[str, Any]) -> tuple[Any, ...]:
    told: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(dict(row)))
    return (*(told[name] for name in _FIELDS), told["touchpoint"], told["rule"])


async def told_wrongly(connection: asyncpg.Connection[asyncpg.Record], log: str) -> list[str]:
    """What consumers of a log (Kafka's address, or a data folder) were told wrongly or not at all, once
    nothing is left to be told."""
    rows = await connection.fetch(TRANSITIONS)
    while True:
        if left := await _left_to_tell(connection):
            return [f"{left} messages are not told: no fewer within {_WAIT_S:g} s"]
        values = await _of_kafka(log) if ":" in log else _of_file(Path(log))
        before, rows = rows, await connection.fetch(TRANSITIONS)
        # A sweep may have come between.
        if rows == before:
            return listen(values).differences([dict(row) for row in rows])


async def _left_to_tell(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    """Wait while the messages that are left become fewer; how many are left then."""
    left: int = await connection.fetchval(_LEFT)
    with contextlib.suppress(AssertionError):
        while left:
            left = await eventually_async(
                lambda: connection.fetchval(_LEFT), _WAIT_S, until=partial(operator.gt, left)
            )
    return left


def _of_file(data_dir: Path) -> list[bytes]:
    connection = sqlite3.connect(f"file:{data_dir}/{TOPIC}/log.sqlite3?mode=ro", uri=True)
    try:
        return [value for (value,) in connection.execute("SELECT value FROM records ORDER BY place")]
    finally:
        connection.close()


async def _of_kafka(bootstrap: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        places = consumer.assignment()
        left = {place: end for place, end in (await consumer.end_offsets(places)).items() if end}
        values: list[bytes] = []
        while left:
            found = await consumer.getmany(*left, timeout_ms=_POLL_MS)
            assert found, f"nothing more comes of {left}"
            for place, records in found.items():
                values += [record.value for record in records]
                if records[-1].offset + 1 >= left[place]:
                    del left[place]
        return values
    finally:
        await consumer.stop()


async def _main(database_url: str, log: str) -> list[str]:
    connection = await asyncpg.connect(database_url)
    try:
        return await told_wrongly(connection, log)
    finally:
        await connection.close()


if __name__ == "__main__":
    found = asyncio.run(_main(*sys.argv[1:3]))
    print("\n".join(found))
    sys.exit(1 if found else 0)
