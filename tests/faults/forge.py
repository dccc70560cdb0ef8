"""Records written straight into the log, past ingest: hostile ones among many honest ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec
from aiokafka import AIOKafkaProducer

from services.stager.batch import read_batch
from shared.clock import SystemClock
from shared.codec import encode
from shared.eventlog.port import TOPIC, Record
from tests.bench.events import touchpoints
from tests.support.records import FIT, UNFIT, record

SOURCE = "shop"
"""The source of the installation's key, whose ids the honest records use."""
_HONEST_BETWEEN = 150
"""Of a thousand records no more than ten may be dead letters, or the stager stops to call for help."""
_BROKEN = 40
_LARGE_BYTES = 10 << 20


@dataclass(slots=True)
class Forged:
    """What was written. `honest_ids` are the senders' ids of the honest ones, `refs` name the customers of
    the forged ones that are fit."""

    records: int = 0
    unfit: list[bytes] = field(default_factory=list)
    fit: list[bytes] = field(default_factory=list)
    honest_ids: list[str] = field(default_factory=list)
    refs: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


async def forge(bootstrap: str, seed: int) -> Forged:
    """Write all known kinds of unfit records, broken ones, odd but fit ones and a very large one."""
    forged = Forged()
    hostile = _hostile(random.Random(seed), forged)
    honest = iter(touchpoints(len(hostile) * _HONEST_BETWEEN, 1_000, SystemClock().now() - timedelta(days=1)))
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", max_request_size=2 * _LARGE_BYTES, max_batch_size=1 << 20
    )
    async with producer:
        for value in hostile:
            await producer.send_and_wait(TOPIC, value)
            for _ in range(_HONEST_BETWEEN):
                touchpoint = msgspec.structs.replace(next(honest), source=SOURCE)
                await producer.send(TOPIC, encode(touchpoint), key=touchpoint.identities[0].encode())
                forged.honest_ids.append(touchpoint.id)
        await producer.flush()
    forged.records = len(hostile) + len(forged.honest_ids)
    return forged


def _hostile(chance: random.Random, forged: Forged) -> Sequence[bytes]:
    """The values, in some order; noted by what the stager is to make of them."""
    large = record(properties={"a": "x" * _LARGE_BYTES})
    forged.unfit += [*UNFIT.values(), large]
    for number, value in enumerate(FIT.values()):
        user = f"forged-{number}"
        value = value.replace(b'"user_id:1"', b'"user_id:%s"' % user.encode())
        forged.fit.append(value.replace(b'"id": "1"', b'"id": "%s"' % user.encode()))
        forged.refs.append(f"user_id:{user}")
    for number in range(_BROKEN):
        value = _broken(chance, number)
        (forged.unfit if _is_dead(value) else forged.fit).append(value)
    values = [*forged.unfit, *forged.fit]
    chance.shuffle(values)
    return values


def _broken(chance: random.Random, number: int) -> bytes:
    """A fit record with a few bits flipped, or cut."""
    value = bytearray(record(id=f"broken-{number}", identities=[f"user_id:broken-{number}"]))
    for _ in range(chance.randint(1, 3)):
        value[chance.randrange(len(value))] ^= 1 << chance.randrange(8)
    return bytes(value if chance.random() < 0.8 else value[: chance.randrange(len(value))])


def _is_dead(value: bytes) -> bool:
    """What the rules say of a record; the process must do the same."""
    return bool(read_batch([Record(0, 0, value)]).dead)
