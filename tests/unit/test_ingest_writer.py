"""Group commit: few appends for many requests, and each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest

from services.ingest.writer import AGE_S_MAX, GROUP_RECORDS_MAX, GroupWriter
from shared.eventlog.port import NewRecord, Outcome
from shared.failpoints import Failpoints
from tests.support.clock import ManualClock
from tests.support.journeys import EPOCH

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


class Requests:
    """Requests of a writer, by their number, and what they were told."""

    def __init__(self, writer: GroupWriter) -> None:
        self.writer = writer
        self._sent = 0
        self.told: dict[int, Sequence[Outcome]] = {}

    def write(self, *values: bytes) -> None:
        """Hand over records of these values."""
        self.writer.write(records(*values), partial(self.told.__setitem__, self._sent))
        self._sent += 1


@asynccontextmanager
async def running(log: Slow, clock: ManualClock | None = None) -> AsyncIterator[Requests]:
    """A writer whose task runs; at the end it is finished and whatever waits is let go."""
    writer = GroupWriter(log.append, clock or ManualClock(EPOCH), Failpoints())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run())
        yield Requests(writer)
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
    async with running(log) as requests:
        for value in (b"1", b"2", b"3", b"4"):
            requests.write(value, value)
            await turns()
        log.go.release()
        await turns()
        assert list(requests.told) == [0]
        log.go.release()
        await turns()
        assert list(requests.told) == [0, 1, 2, 3]
    assert log.groups == [[b"1"] * 2, [b"2", b"2", b"3", b"3", b"4", b"4"]]


async def test_each_request_gets_the_outcomes_of_its_own_records() -> None:
    """In its own order, whoever is beside it in the group."""
    log = Slow()
    sent = [(b"kept",), (b"unknown", b"kept"), (b"refused", b"refused", b"kept")]
    async with running(log) as requests:
        for values in sent:
            requests.write(*values)
    assert [list(told) for told in requests.told.values()] == [
        [OF_VALUE[value] for value in values] for values in sent
    ]


async def test_finishing_appends_what_waits_before_the_task_ends() -> None:
    """A drain loses nothing that was handed over."""
    log = Slow()
    async with running(log) as requests:
        for value in (b"1", b"2"):
            requests.write(value)
            await turns()
    assert list(requests.told.values()) == [[Outcome.KEPT], [Outcome.KEPT]]


async def test_a_bug_in_the_log_is_no_ones_silence() -> None:
    """Nothing is known of the group's records, and the task ends with the error: the service stops."""

    async def broken(_: Sequence[NewRecord]) -> Sequence[Outcome]:
        raise KeyError

    writer = GroupWriter(broken, ManualClock(EPOCH), Failpoints())
    requests = Requests(writer)
    requests.write(b"1")
    with pytest.raises(KeyError):
        await writer.run()
    assert list(requests.told.values()) == [[Outcome.UNKNOWN]]


async def test_work_that_is_too_old_is_answered_and_not_done() -> None:
    """A request that waited beyond the age limit is not appended: nothing is known of it. The younger ones of
    the same group are, and the age counts again from zero for each."""
    log, clock = Slow(), ManualClock(EPOCH)
    async with running(log, clock) as requests:
        requests.write(b"0")
        await turns()
        requests.write(b"1", b"also 1")
        clock.advance(AGE_S_MAX / 2)
        requests.write(b"2")
        clock.advance(AGE_S_MAX / 2 + 1)
        log.go.release()
        await turns()
        assert requests.told[1] == [Outcome.UNKNOWN] * 2
        requests.write(b"3")
        clock.advance(AGE_S_MAX + 1)
        log.go.release()
        await turns()
        assert requests.told[3] == [Outcome.UNKNOWN]

    assert log.groups == [[b"0"], [b"2"]]
    assert requests.told[0] == requests.told[2] == [Outcome.KEPT]


async def test_a_group_has_its_bound_and_the_rest_goes_out_in_the_next_ones() -> None:
    """No request is torn, and none is left behind."""
    log = Slow()
    many = [b"%d" % number for number in range(GROUP_RECORDS_MAX // 2 + 1)]
    async with running(log) as requests:
        requests.write(b"first")
        await turns()
        for _ in range(3):
            requests.write(*many)

    assert [len(group) for group in log.groups] == [1, 2 * len(many), len(many)]
    assert set(requests.told) == {0, 1, 2, 3}


async def test_only_more_than_a_group_behind_a_slow_one_has_to_wait() -> None:
    """A slow append alone, or a crowd alone, is no reason to turn somebody away."""
    log, clock = Slow(), ManualClock(EPOCH)
    many = [b"%d" % number for number in range(GROUP_RECORDS_MAX)]
    async with running(log, clock) as requests:
        requests.write(b"first")
        await turns()
        requests.write(b"waits")
        clock.advance(2)
        log.go.release()
        await turns()
        assert requests.writer.behind_s() == 0
        requests.write(*many)
        assert requests.writer.behind_s() == 2
        log.go.release()
        await turns()
        requests.write(*many)
        assert requests.writer.behind_s() == 0
