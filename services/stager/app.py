"""The stager, wired by hand: the loop, the sweeper and the probes, and the order in which they end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import zlib
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any

from services.stager.backfill import Backfill, Page
from services.stager.clearing import Clearing
from services.stager.definitions import register
from services.stager.erasing import Erasing
from services.stager.frozen import end_frozen
from services.stager.identity import Limits
from services.stager.in_force import InForce
from services.stager.loop import Loop
from services.stager.metrics import CATALOGUE
from services.stager.partitions import Partitions
from services.stager.publish import Publisher
from services.stager.retelling import Retelling
from services.stager.settings import Settings
from services.stager.store import COUNTER_SHARDS, BatchStore
from services.stager.sweeper import Sweeper
from shared.clock import Clock
from shared.errors import Contended, Permanent, Transient
from shared.eventlog.choose import open_reader, open_writer
from shared.eventlog.port import STAGE_CHANGES, TOPIC, EventReader
from shared.failpoints import Failpoints
from shared.health import health_listener
from shared.journey.catalog import load_definitions
from shared.journey.definition import Definition
from shared.lifecycle import wait_for_stop
from shared.logs import fields
from shared.metrics import Metrics
from shared.store.engine import Pool, connection_of, open_pool, require_durable, weaknesses
from shared.store.halts import Halts
from shared.store.ids import new_row_id

log = logging.getLogger("rejse.stager")

SWEEP_EVERY_S = 1.0
FOLLOW_EVERY_S = 1.0
FROZEN_EVERY_S = 1.0
STUCK_AFTER_S = 30.0
RETRY_S = 1.0
CUT_OFF_S = 1.0
"""How long what is cut off may take to tell the store so."""
CONNECTIONS_MAX = 6
# A plan that was kept from when the tables were small would scan them whole once they are large.
SESSION = {"plan_cache_mode": "force_custom_plan"}


async def serve(
    settings: Settings, database_url: str, listener: socket.socket, stop: asyncio.Event, clock: Clock
) -> None:
    """Stage until `stop` is set; then end the batch that has begun, leave the group and return.

    Raises:
        ConfigError: a definition, or the durability of the store or the log, is not as it must be.
    """
    definitions = load_definitions(settings.journeys_dir, settings.journeys)
    metrics = Metrics(CATALOGUE)
    owner = f"{socket.gethostname()}:{os.getpid()}"
    shard = zlib.crc32(owner.encode()) % COUNTER_SHARDS
    failpoints = Failpoints(settings.failpoints)
    tells = settings.kafka_bootstrap is not None if settings.stage_changes is None else settings.stage_changes
    async with AsyncExitStack() as parts:
        parts.callback(listener.close)
        pool = await open_pool(
            database_url,
            connections_max=CONNECTIONS_MAX,
            service="stager",
            server_settings=SESSION,
        )
        parts.callback(pool.terminate)
        await _prepare_store(pool, definitions, stop, clock)
        reader = await _join(settings, stop, clock)
        if reader is None:
            return
        parts.push_async_callback(reader.close, settings.drain_timeout_s / 3)
        in_force = InForce(pool)
        store = BatchStore(
            pool,
            in_force,
            log_id=reader.log_id,
            owner=owner,
            shard=shard,
            new_id=new_row_id,
            failpoints=failpoints,
            tells=tells,
            limits=Limits(settings.identity_limits, settings.identity_handed_over),
        )
        partitions = Partitions(reader, store, Halts(pool, reader.log_id, TOPIC), clock)
        loop = Loop(reader, store, partitions, metrics, clock, settings.batch_records_max)
        sweeper = Sweeper(pool, in_force, shard, clock, tells=tells)
        backfill = Backfill(pool, in_force, shard, clock, failpoints)
        keep = timedelta(days=settings.retired_states_days)
        clearing = Clearing(pool, keep, shard, clock)
        retelling = Retelling(pool, in_force, shard, clock, tells=tells)
        erasing = Erasing(pool, in_force, shard, clock, failpoints, tells=tells)
        readiness = partial(checks, loop, partitions, stop, clock)
        await parts.enter_async_context(health_listener(listener, readiness, metrics, clock))
        log.info("started", extra=fields(port=listener.getsockname()[1]))
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(loop.run(stop), name="loop"),
                tasks.create_task(_sweep(sweeper, metrics, stop), name="sweeper"),
                tasks.create_task(_page_by_page(backfill, clearing, metrics, stop), name="backfill"),
                tasks.create_task(_retell(retelling, stop), name="retelling"),
                tasks.create_task(_follow(in_force, stop), name="in-force"),
                tasks.create_task(_settle(store, metrics, stop, clock), name="settle"),
                tasks.create_task(_erase(erasing, metrics, stop), name="erase"),
                tasks.create_task(_end_frozen(pool, metrics, stop), name="frozen"),
            ]
            if tells:
                publishing = _publish(settings, pool, metrics, failpoints, stop, clock)
                work.append(tasks.create_task(publishing, name="publish"))
            await stop.wait()
            await _end(work, pool, settings.drain_timeout_s / 2)
    log.info("stopped")


async def _end(work: Collection[asyncio.Task[None]], pool: Pool, timeout_s: float) -> None:
    """Let what has begun end, and cut off what waits for a store or a log that does not answer: a batch that
    was not committed is read again by whoever has its partition next."""
    _, late = await asyncio.wait(work, timeout=timeout_s)
    for task in late:
        log.warning("cut_off", extra=fields(task=task.get_name()))
        task.cancel()
    if late:
        _, stuck = await asyncio.wait(late, timeout=CUT_OFF_S)
        if stuck:
            # A transaction that is cut off is rolled back first, and for that the store has to answer.
            pool.terminate()
            await asyncio.wait(stuck)


async def _prepare_store(
    pool: Pool, definitions: Sequence[Definition], stop: asyncio.Event, clock: Clock
) -> None:
    """Check the store and register the definitions, waiting for a store that is away."""
    while not stop.is_set():
        try:
            async with connection_of(pool) as connection:
                await require_durable(connection)
                for weakness in await weaknesses(connection):
                    log.warning("store_weak", extra=fields(weakness=weakness))
                await register(connection, definitions, clock.now())
            return
        except Transient as error:
            log.warning("store_away", extra=fields(error=str(error)))
            await wait_for_stop(stop, RETRY_S)


async def _join(settings: Settings, stop: asyncio.Event, clock: Clock) -> EventReader | None:
    """A reader in the group, waiting for a log that is away; None when told to stop first."""
    while not stop.is_set():
        joining = open_reader(
            kafka_bootstrap=settings.kafka_bootstrap,
            data_dir=settings.data_dir,
            partitions=settings.kafka_partitions,
            replicas=settings.kafka_replicas,
            clock=clock,
            accept_weak_topic=settings.kafka_accept_weak_topic,
        )
        try:
            return await _unless(stop, joining)
        except Transient as error:
            log.warning("log_away", extra=fields(error=str(error)))
            await wait_for_stop(stop, RETRY_S)
    return None


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, EventReader]) -> EventReader | None:
    """What the work gives; None if it is told to stop first, for a group may take half a minute to let us
    in, which is longer than a service may take to end."""
    loop = asyncio.get_running_loop()
    working, stopping = loop.create_task(work, name="join"), loop.create_task(stop.wait(), name="join-stop")
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.wait({working, stopping})


async def _sweep(sweeper: Sweeper, metrics: Metrics, stop: asyncio.Event) -> None:
    timers = metrics.counter("rejse_stager_timers_total")
    while not stop.is_set():
        try:
            changes = await sweeper.sweep()
        except Transient as error:
            log.warning("sweep_failed", extra=fields(error=str(error)))
            changes = []
        for change in changes:
            timers.labels(change.journey.definition.key).inc(len(change.added))
        if not changes:
            await wait_for_stop(stop, SWEEP_EVERY_S)


async def _publish(
    settings: Settings,
    pool: Pool,
    metrics: Metrics,
    failpoints: Failpoints,
    stop: asyncio.Event,
    clock: Clock,
) -> None:
    """Publish stage changes, waiting for a log that is away.

    Raises:
        ConfigError: the log refuses us, or would not keep what it acks.
    """
    while not stop.is_set():
        try:
            writer = await open_writer(
                kafka_bootstrap=settings.kafka_bootstrap,
                data_dir=settings.data_dir,
                partitions=settings.kafka_partitions,
                replicas=settings.kafka_replicas,
                clock=clock,
                topic=STAGE_CHANGES,
                accept_weak_topic=settings.kafka_accept_weak_topic,
                local_keep_bytes=settings.local_log_keep_bytes,
            )
        except Transient as error:
            log.warning("log_away", extra=fields(topic=STAGE_CHANGES, error=str(error)))
            await wait_for_stop(stop, RETRY_S)
            continue
        try:
            await Publisher(pool, writer, metrics, failpoints).run(stop)
        finally:
            await writer.close(settings.drain_timeout_s / 5)


async def _page_by_page(
    backfill: Backfill, clearing: Clearing, metrics: Metrics, stop: asyncio.Event
) -> None:
    """Stage by versions that are wanted, and let them take over; then clear those that were retired."""
    backfilled = metrics.counter("rejse_stager_backfilled_customers_total")
    cleared = metrics.counter("rejse_stager_cleared_customers_total")
    while not stop.is_set():
        page, customers, event = await _page(backfill, "backfill_failed"), backfilled, "took_over"
        if page is None:
            page, customers, event = await _page(clearing, "clearing_failed"), cleared, "cleared"
        if page is None:
            await wait_for_stop(stop, RETRY_S)
            continue
        customers.labels(page.version.key).inc(page.customers)
        if page.ended:
            log.info(event, extra=fields(journey=page.version.key, version=page.version.version))
        await wait_for_stop(stop, page.seconds)


async def _settle(store: BatchStore, metrics: Metrics, stop: asyncio.Event, clock: Clock) -> None:
    """Carry out links that were withdrawn, or taken back."""
    settled = metrics.counter("rejse_stager_links_settled_total")
    while not stop.is_set():
        try:
            filed = await store.settle(clock.now())
        except Contended:
            continue
        except (Transient, Permanent) as error:
            log.warning("settling_failed", extra=fields(error=str(error)))
            filed = None
        if filed is None:
            await wait_for_stop(stop, RETRY_S)
            continue
        outcome = "parted" if filed.parted else "merged" if filed.merged else "unchanged"
        settled.labels(outcome).inc()


async def _erase(erasing: Erasing, metrics: Metrics, stop: asyncio.Event) -> None:
    """Carry out erasures."""
    customers = metrics.counter("rejse_stager_customers_erased_total")
    touchpoints = metrics.counter("rejse_stager_touchpoints_erased_total")
    while not stop.is_set():
        try:
            page = await erasing.page()
        except Contended:
            continue
        except (Transient, Permanent) as error:
            # Whatever is wrong with it, live staging goes on.
            log.warning("erasing_failed", extra=fields(error=str(error)))
            page = None
        if page is None:
            await wait_for_stop(stop, RETRY_S)
            continue
        touchpoints.inc(page.touchpoints)
        customers.inc(page.ended)
        await wait_for_stop(stop, page.seconds)


async def _page(job: Backfill | Clearing, failed: str) -> Page | None:
    """A page, or None if there is nothing to do or it can't be done now."""
    while True:
        try:
            return await job.page()
        except Contended:
            continue
        except (Transient, Permanent) as error:
            # Whatever is wrong with it, live staging goes on.
            log.warning(failed, extra=fields(error=str(error)))
            return None


async def _retell(retelling: Retelling, stop: asyncio.Event) -> None:
    """Bring members of before up to the rule, until there are none left."""
    while not stop.is_set():
        try:
            seconds = await retelling.page()
        except Contended:
            continue
        except (Transient, Permanent) as error:
            # Whatever is wrong with it, live staging goes on.
            log.warning("retelling_failed", extra=fields(error=str(error)))
            await wait_for_stop(stop, RETRY_S)
            continue
        if seconds is None:
            return
        await wait_for_stop(stop, seconds)


async def _follow(in_force: InForce, stop: asyncio.Event) -> None:
    """Notice what is in force while nothing is staged, and how far a backfill is."""
    while not stop.is_set():
        try:
            await in_force.follow()
        except Transient as error:
            log.warning("store_away", extra=fields(error=str(error)))
        await wait_for_stop(stop, FOLLOW_EVERY_S)


async def _end_frozen(pool: Pool, metrics: Metrics, stop: asyncio.Event) -> None:
    """End the sessions of stagers that stand still, so that no takeover waits for them."""
    ended = metrics.counter("rejse_stager_frozen_sessions_ended_total")
    while not stop.is_set():
        try:
            ended.inc(await end_frozen(pool))
        except (Transient, Permanent) as error:
            log.warning("store_away", extra=fields(error=str(error)))
        await wait_for_stop(stop, FROZEN_EVERY_S)


def checks(loop: Loop, partitions: Partitions, stop: asyncio.Event, clock: Clock) -> Mapping[str, str]:
    """Ready: the loop turns, what waits is committed, and no partition is halted. One that owns none stands
    by, and is ready too."""
    owned = f"ok: {len(partitions.held)} owned"
    return {
        "loop": "draining" if stop.is_set() else _loop_state(loop, clock),
        "partitions": f"halted: {dict(partitions.halted)}" if partitions.halted else owned,
    }


def _loop_state(loop: Loop, clock: Clock) -> str:
    if loop.failing is not None:
        return f"failing: {loop.failing}"
    if clock.monotonic_s() - loop.last_turn_s > STUCK_AFTER_S:
        return "stuck"
    if clock.monotonic_s() - loop.last_progress_s > STUCK_AFTER_S:
        return f"behind: nothing was committed for {clock.monotonic_s() - loop.last_progress_s:.0f} s"
    return "ok"
