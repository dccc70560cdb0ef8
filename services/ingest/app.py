"""Ingest, wired by hand, and the order in which it ends."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.ingest.detour import Detour
from services.ingest.direct import DirectLog
from services.ingest.door import TouchpointsDoor
from services.ingest.folder import held_folder
from services.ingest.keycache import KeyCache, LoadKeys
from services.ingest.ledger import Ledger
from services.ingest.limits import InFlight, Peers, Rates
from services.ingest.metrics import CATALOGUE
from services.ingest.protocol import BoundedProtocol
from services.ingest.routes import PATH, DoorApp, door_routes
from services.ingest.settings import Settings
from services.ingest.spool import Spool
from services.ingest.turns import Turns
from services.ingest.writer import GroupWriter
from shared.clock import Clock
from shared.eventlog.choose import open_writer
from shared.eventlog.port import TOPIC, EventWriter
from shared.failpoints import Failpoints
from shared.health import health_listener
from shared.ids import NewId, uuid7
from shared.lifecycle import Deadline, serve_http
from shared.logs import fields
from shared.metrics import Metrics
from shared.probes import Readiness, probe_routes
from shared.problem import Problem, problem_response

FOLDER = "ingest"
_RETRY_AFTER_S = (1, 7)
_CLOSE_S = 2.0

_log = logging.getLogger("rejse.ingest")


def create_app(
    settings: Settings,
    *,
    keys: KeyCache,
    writer: GroupWriter,
    ledger: Ledger,
    readiness: Readiness | None,
    clock: Clock,
    new_id: NewId,
    metrics: Metrics,
) -> FastAPI:
    """The HTTP surface on parts that are open already, with probes if it is given a readiness."""
    jitter_s = partial(random.randint, *_RETRY_AFTER_S)
    in_flight = InFlight(settings.in_flight_bytes_max, jitter_s)
    turns = Turns(clock, lambda turn: asyncio.get_running_loop().call_soon(turn), jitter_s)
    metrics.gauge("rejse_ingest_in_flight_bytes").set_function(lambda: in_flight.bytes)
    metrics.gauge("rejse_ingest_keys").set_function(lambda: len(keys.ring))
    door = TouchpointsDoor(
        keys=keys,
        rates=Rates(settings.rate_events_s, clock, jitter_s),
        turns=turns,
        in_flight=in_flight,
        writer=writer,
        ledger=ledger,
        clock=clock,
        new_id=new_id,
        jitter_s=jitter_s,
        metrics=metrics,
        worthless=settings.worthless_identities,
    )
    app = DoorApp(
        {PATH: door},
        Peers(
            settings.connections_per_address_max,
            jitter_s,
            metrics.counter("rejse_ingest_connections_refused_total").inc,
        ),
        turns,
        title="Rejse ingest",
        version="1",
        routes=[*door_routes(), *(probe_routes(readiness, metrics) if readiness else ())],
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)
    return app


async def serve(
    settings: Settings,
    listener: socket.socket,
    stop: asyncio.Event,
    clock: Clock,
    load_keys: LoadKeys,
    *,
    topic: str = TOPIC,
    protocol: type[BoundedProtocol] = BoundedProtocol,
    health: socket.socket | None = None,
) -> None:
    """Take touchpoints until `stop` is set; then answer what is in flight, flush the writer and return. The
    probes are answered on `health`, or without one beside the touchpoints.

    Raises:
        ConfigError: the data folder can't be used, or another ingest uses it; or Kafka's topic would not
            keep what it acks.
        Transient: the local disk is full or fails.
    """
    metrics, failpoints = Metrics(CATALOGUE), Failpoints(settings.failpoints)
    async with AsyncExitStack() as parts:
        folder = parts.enter_context(held_folder(settings.data_dir / FOLDER))
        log = await _open_log(settings, topic, clock)
        parts.push_async_callback(log.close, _CLOSE_S)
        durable: DirectLog | Detour = DirectLog(log, settings.ack_timeout_s, clock, metrics)
        if settings.kafka_bootstrap is not None:
            spool = await Spool.open(
                folder / "spool", settings.spool_bytes_max, clock, settings.disk_free_bytes_min
            )
            parts.push_async_callback(spool.close, _CLOSE_S)
            durable = Detour(log, spool, settings.ack_timeout_s, clock, metrics, failpoints)
        keys = KeyCache(folder / "keys.json", load_keys, clock)
        await keys.open()
        writer, ledger = GroupWriter(durable.append, clock, failpoints), Ledger(metrics)
        readiness = partial(_checks, durable, keys, stop)
        if health is not None:
            await parts.enter_async_context(health_listener(health, readiness, metrics, clock))
        app = create_app(
            settings,
            keys=keys,
            writer=writer,
            ledger=ledger,
            readiness=readiness if health is None else None,
            clock=clock,
            new_id=uuid7,
            metrics=metrics,
        )
        _log.info("started", extra=fields(port=listener.getsockname()[1], log=type(log).__name__))
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(writer.run(), name="writer")
            beside = [
                tasks.create_task(keys.run(), name="keys"),
                tasks.create_task(ledger.run(clock), name="ledger"),
            ]
            if isinstance(durable, Detour):
                beside.append(tasks.create_task(durable.drain(), name="drain"))
            await serve_http(
                app,
                listener,
                stop,
                settings.drain_timeout_s / 2,
                drain_wait_s=settings.drain_wait_s,
                http=protocol,
                proxy_headers=False,
            )
            await _finish(writer, writing, Deadline(settings.drain_timeout_s / 2 - _CLOSE_S, clock))
            for task in beside:
                task.cancel()
        ledger.say()
    _log.info("stopped")


async def _open_log(settings: Settings, topic: str, clock: Clock) -> EventWriter:
    return await open_writer(
        kafka_bootstrap=settings.kafka_bootstrap,
        data_dir=settings.data_dir,
        partitions=settings.kafka_partitions,
        replicas=settings.kafka_replicas,
        clock=clock,
        topic=topic,
        accept_weak_topic=settings.kafka_accept_weak_topic,
        local_keep_bytes=settings.local_log_keep_bytes,
        free_bytes_min=settings.disk_free_bytes_min,
    )


async def _finish(writer: GroupWriter, writing: asyncio.Task[None], deadline: Deadline) -> None:
    """Let the writer append what was taken; what isn't kept in time was never answered."""
    writer.finish()
    _, late = await asyncio.wait([writing], timeout=deadline.remaining_s())
    for task in late:
        task.cancel()


def _checks(durable: DirectLog | Detour, keys: KeyCache, stop: asyncio.Event) -> Mapping[str, str]:
    """Ready: an event can be made durable now, and who sends it can be told."""
    return {
        "durable": durable.state(),
        "keys": keys.state(),
        "lifetime": "draining" if stop.is_set() else "ok",
    }


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = problem_response(
        Problem(error.status_code, error.detail.lower().replace(" ", "_"), error.detail)
    )
    response.headers.update(error.headers or {})
    return response


async def _bug(_: Request, __: Exception) -> Response:
    return problem_response(Problem(500, "internal_error", "this is a fault of ours; the log tells more"))
