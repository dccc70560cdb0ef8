"""Group commit: few appends for many requests, and each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from services.ingest.writer import GroupWriter
from shared.eventlog.port import NewRecord, Outcome
from shared.failpoints import Failpoints

OF_VALUE = {b"kept": Outcome.KEPT, b"refused": Outcome.REFUSED, b"unknown": Outcome.UNKNOWN}


class Slow:
    """An append that a test lets go on, and that says of a record what its value says."""

    def __init__(self) -> None:
        self.groups: list[list[bytes]] = []
        self.go = asyncio.Semaphore(0)

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Outcome]:
        """Wait to be let go, then answer."""
        self.groups.append([record.value for record in records])
        await self.go.acquire()
        return [OF_VALUE.get(record.value, Outcome.KEPT) for record in records]


def records(*values: bytes) -> list[NewRecord]:
    """Records of these values."""
    return [NewRecord(b"", value) for value in values]


@asynccontextmanager
async def running(log: Slow) -> AsyncIterator[tuple[GroupWriter, asyncio.TaskGroup]]:
    """A writer whose task runs; at the end it is finished and whatever waits is let go."""
    writer = GroupWriter(log.append, Failpoints())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run())
        yield writer, tasks
        await turns()
        writer.finish()
        for _ in range(10):
            log.go.release()


async def turns(count: int = 5) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_comes_while_one_append_is_in_flight_goes_out_in_the_next() -> None:
    """One append for the first request, one for all that came meanwhile, in their order."""
    log = Slow()
    async with running(log) as (writer, tasks):
        requests = []
        for value in (b"1", b"2", b"3", b"4"):
            requests.append(tasks.create_task(writer.write(records(value, value))))
            await turns()
        log.go.release()
        await turns()
        assert requests[0].done()
        assert not requests[1].done()
        log.go.release()
        await turns()
        assert all(request.done() for request in requests)
    assert log.groups == [[b"1"] * 2, [b"2", b"2", b"3", b"3", b"4", b"4"]]


async def test_each_request_gets_the_outcomes_of_its_own_records() -> None:
    """In its own order, whoever is beside it in the group."""
    log = Slow()
    async with running(log) as (writer, tasks):
        sent = [records(b"kept"), records(b"unknown", b"kept"), records(b"refused", b"refused", b"kept")]
        requests = [tasks.create_task(writer.write(batch)) for batch in sent]
    for request, batch in zip(requests, sent, strict=True):
        assert request.result() == [OF_VALUE[record.value] for record in batch]


async def test_a_request_that_is_cancelled_takes_nothing_from_the_others() -> None:
    """Its records are appended all the same; the rest of its group is answered."""
    log = Slow()
    async with running(log) as (writer, tasks):
        first = tasks.create_task(writer.write(records(b"first")))
        await turns()
        gone = tasks.create_task(writer.write(records(b"gone")))
        stays = tasks.create_task(writer.write(records(b"refused")))
        await turns()
        gone.cancel()
        first.cancel()
        await turns()
        log.go.release()
        log.go.release()
        assert await stays == [Outcome.REFUSED]
    assert log.groups == [[b"first"], [b"gone", b"refused"]]


async def test_finishing_appends_what_waits_before_the_task_ends() -> None:
    """A drain loses nothing that was handed over."""
    log = Slow()
    async with running(log) as (writer, tasks):
        requests = []
        for value in (b"1", b"2"):
            requests.append(tasks.create_task(writer.write(records(value))))
            await turns()
    assert [request.result() for request in requests] == [[Outcome.KEPT], [Outcome.KEPT]]


async def test_a_bug_in_the_log_is_no_ones_silence() -> None:
    """Every request of the group gets the error, and the task ends with it: the service stops."""

    async def broken(_: Sequence[NewRecord]) -> Sequence[Outcome]:
        raise KeyError

    writer = GroupWriter(broken, Failpoints())
    request = asyncio.get_running_loop().create_task(writer.write(records(b"1")))
    await turns()
    with pytest.raises(KeyError):
        await writer.run()
    with pytest.raises(KeyError):
        await request
