"""The pure stages of the path, each timed alone in a loop on the events of the benchmarks.

What they take here they take in a service too, at best: there other work comes between and cools the caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from statistics import median
from typing import Any
from uuid import UUID

import msgspec
from aiokafka import AIOKafkaProducer

from services.ingest.event import Event
from services.stager.assign import carry
from services.stager.batch import read_batch
from shared.clock import SystemClock
from shared.codec import body_hash, decode, encode
from shared.eventlog.port import NewRecord, Record, partition_of
from shared.ids import uuid7
from shared.journey.catalog import load_definitions
from shared.journey.fold import Journey
from shared.journey.state import NOWHERE, State
from shared.journey.touch import Touch
from shared.store.ids import touchpoint_uid
from shared.suspicion import suspicious
from shared.touchpoint import Touchpoint
from tests.bench.events import SOURCE, batches, touchpoints, wire_events
from tests.bench.processes import PARTITIONS
from tests.support.accepting import accept

_EVENTS, _CUSTOMERS = 4_000, 2_000
_ROUNDS = 7

Micros = Mapping[str, float]
"""Microseconds an event, by stage."""


async def of_ingest(batch_events: int, batch_records: int) -> Micros:
    """The stages of accepting requests of so many events, and of putting them on the log, so many records a
    batch."""
    now = SystemClock().now()
    wire = list(wire_events(_EVENTS, _CUSTOMERS, now - timedelta(days=2)))
    bodies = batches(wire, batch_events) if batch_events > 1 else wire
    event = msgspec.json.Decoder(Event)
    canonical = list(touchpoints(_EVENTS, _CUSTOMERS, now - timedelta(days=2)))
    records = [NewRecord(one.identities[0].encode(), encode(one)) for one in canonical]
    producer = AIOKafkaProducer(enable_idempotence=True, max_batch_size=1_000_000)
    found = {
        "suspicion": _each(suspicious, bodies),
        "decode": _each(event.decode, wire),
        "encode": _each(encode, canonical),
        "all of accepting": _each(lambda body: accept(body, "json", SOURCE, now, uuid7), bodies),
        "routing": _each(lambda record: partition_of(record.key, PARTITIONS), records),
        "batch building": _each(lambda some: _build(producer, some), _cut(records, batch_records)),
    }
    await producer.stop()
    return found


def of_stager() -> Micros:
    """The stages between reading a record and writing what it changes."""
    found = list(touchpoints(_EVENTS, _CUSTOMERS, SystemClock().now() - timedelta(days=2)))
    values = [encode(one) for one in found]
    records = [Record(number % PARTITIONS, number, value) for number, value in enumerate(values)]
    journeys = [Journey(definition) for definition in load_definitions(None)]
    return {
        "decode": _each(decode, values),
        "store's id": _each(lambda one: touchpoint_uid(one.source, one.id), found),
        "body's digest": _each(body_hash, found),
        "all of reading": _each(read_batch, [records]),
        "fold": _each(lambda journey: _fold(journey, found), journeys),
    }


def _fold(journey: Journey, found: Iterable[Touchpoint]) -> None:
    held: dict[str, State] = {}
    for number, one in enumerate(found):
        if journey.concerns(one.type):
            customer = one.identities[0]
            touch = Touch(one.occurred_at, UUID(int=number), one.type, one.channel)
            held[customer] = carry(journey, held.get(customer, NOWHERE), [touch])[0]


def _build(producer: Any, records: Sequence[NewRecord]) -> None:
    batch = producer.create_batch()
    for record in records:
        batch.append(timestamp=0, key=record.key, value=record.value)
    batch.close()


def _cut(records: Sequence[NewRecord], size: int) -> list[Sequence[NewRecord]]:
    return [records[at : at + size] for at in range(0, len(records), size)]


def _each(stage: Callable[[Any], object], inputs: Sequence[Any]) -> float:
    """Microseconds an event that a stage takes for inputs that hold all events: the median round."""
    return median(_round_us(stage, inputs) for _ in range(_ROUNDS)) / _EVENTS


def _round_us(stage: Callable[[Any], object], inputs: Sequence[Any]) -> float:
    began_ns = time.perf_counter_ns()
    for one in inputs:
        stage(one)
    return (time.perf_counter_ns() - began_ns) / 1_000
