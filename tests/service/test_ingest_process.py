"""Ingest as a process: how it starts, ends, is killed, and shares its folder with nobody."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from services.ingest.spool import Spool
from shared import codec
from shared.clock import SystemClock
from shared.store.keys import create_key
from tests.support import plain_http
from tests.support.eventually import eventually_async
from tests.support.ingest import PATH, event, kept_in_local_log
from tests.support.ports import free_port, is_refused
from tests.support.process import RejseProcess


@pytest.fixture
async def key(database_url: str) -> str:
    """A write key of the source `shop`, in the store."""
    connection = await asyncpg.connect(database_url)
    try:
        return await create_key(connection, "write", "shop", SystemClock().now())
    finally:
        await connection.close()


class Service:
    """`python -m services.ingest` on a folder of its own."""

    def __init__(self, home: Path, database_url: str, key: str) -> None:
        self.home = home
        self.data_dir = home / "data"
        self.port = free_port()
        self._database_url = database_url
        self.key = key
        self._started: list[RejseProcess] = []

    def process(self, port: int | None = None, **variables: object) -> RejseProcess:
        """A process that isn't started yet, with `REJSE_*` variables such as `ack_timeout_s=1`."""
        settings = {
            "data_dir": self.data_dir,
            "database_url": self._database_url,
            "ingest_port": port or self.port,
            **variables,
        }
        process = RejseProcess(
            [],
            env={f"REJSE_{name.upper()}": str(value) for name, value in settings.items()},
            log_file=self.home / "ingest.log",
            ready_port=port or self.port,
            module="services.ingest",
        )
        self._started.append(process)
        return process

    async def post(self, client: httpx.AsyncClient, id_: str) -> int:
        """Send one touchpoint and return the status."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.port}{PATH}"
        answer = await client.post(url, content=json.dumps(event(id=id_)), headers=headers)
        return answer.status_code

    def close(self) -> None:
        """End what was started."""
        for process in self._started:
            process.close()


@pytest.fixture
def service(tmp_path: Path, database_url: str, key: str) -> Iterator[Service]:
    """The service, whose processes end with the test."""
    found = Service(tmp_path, database_url, key)
    yield found
    found.close()


async def send_until_stopped(service: Service, done: asyncio.Event, answered: list[str]) -> None:
    """Send touchpoints one after the other until told to stop or not answered; note the ids answered 202."""
    async with plain_http.async_client(timeout=20) as client:
        for number in itertools.count():
            if done.is_set():
                break
            id_ = f"{id(client)}-{number}"
            try:
                if await service.post(client, id_) != 202:
                    break
            except httpx.HTTPError:
                break
            answered.append(id_)


async def under_load(service: Service, act: Callable[[], Awaitable[None]]) -> list[str]:
    """Do something while eight senders send and are answered; the ids that were answered 202."""
    done, answered = asyncio.Event(), list[str]()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(send_until_stopped(service, done, answered))
        await eventually_async(lambda: len(answered), 30, until=lambda number: number > 50)
        await act()
        done.set()
    return answered


async def test_sigterm_under_load_loses_nothing(service: Service) -> None:
    """The process exits 0 within its deadline, and all that was answered 202 is in the log."""
    process = service.process()
    process.start()

    async def stop() -> None:
        code = await asyncio.to_thread(process.terminate, 15.0)
        assert code == 0, process.log

    ids = await under_load(service, stop)
    assert set(ids) <= {touchpoint.id for touchpoint in await kept_in_local_log(service.data_dir)}
    assert '"event": "stopped"' in process.log


async def test_sigkill_under_load_loses_nothing_that_was_answered(service: Service) -> None:
    """Durable means that it needs no process to be there; and the next one starts on the same folder."""
    process = service.process()
    process.start()

    async def kill() -> None:
        await asyncio.to_thread(process.kill)

    ids = await under_load(service, kill)
    assert set(ids) <= {touchpoint.id for touchpoint in await kept_in_local_log(service.data_dir)}
    service.process().start()


@pytest.mark.parametrize(("point", "kept"), [("ingest.before_append", set()), ("ingest.after_append", {"1"})])
async def test_killed_before_the_answer_nothing_is_acked(
    service: Service, point: str, kept: set[str]
) -> None:
    """Before the append the touchpoint is nowhere, after it it is kept; never is it acked in between. Sent
    again, it is there."""
    process = service.process(failpoints=f"{point}:kill")
    process.start()
    async with plain_http.async_client() as client:
        with pytest.raises(httpx.HTTPError):
            await service.post(client, "1")
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
        assert {touchpoint.id for touchpoint in await kept_in_local_log(service.data_dir)} == kept
        service.process().start()
        assert await service.post(client, "1") == 202
    assert {touchpoint.id for touchpoint in await kept_in_local_log(service.data_dir)} == {"1"}


async def test_killed_after_the_spools_commit_the_spool_has_it(service: Service) -> None:
    """With Kafka away, what reached the spool is there for the next process, answered or not."""
    process = service.process(
        failpoints="ingest.after_spool_commit:kill:2",
        kafka_bootstrap=f"127.0.0.1:{free_port()}",
        ack_timeout_s=2,
    )
    process.start()
    async with plain_http.async_client() as client:
        assert await service.post(client, "1") == 202
        with pytest.raises(httpx.HTTPError):
            await service.post(client, "2")
    await asyncio.to_thread(process.wait)

    spool = await Spool.open(service.data_dir / "ingest" / "spool", 1 << 30, SystemClock())
    found = (await spool.oldest(10)).records
    await spool.close(1.0)
    assert [codec.decode(record.value).id for record in found] == ["1", "2"]


async def test_a_second_ingest_on_the_folder_refuses_to_start(service: Service) -> None:
    """It says why and exits 2; the first one goes on; a folder whose process was killed is free."""
    first = service.process()
    first.start()
    second = service.process(port=free_port())
    second.launch()
    assert await asyncio.to_thread(second.wait) == 2
    assert "another ingest uses" in second.log
    async with plain_http.async_client() as client:
        assert await service.post(client, "1") == 202
    first.kill()
    service.process().start()


async def test_a_request_that_is_being_sent_at_sigterm_is_answered(service: Service) -> None:
    """What is in flight is finished, new connections are not taken, and the process ends before its time."""
    process = service.process(drain_timeout_s=8)
    process.start()
    body = json.dumps(event(id="slow")).encode()
    head = (
        f"POST {PATH}?key={service.key} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(head + body[:5])
    async with asyncio.TaskGroup() as tasks:
        ending = tasks.create_task(asyncio.to_thread(process.terminate, 15.0))
        await eventually_async(lambda: is_refused(service.port))
        writer.write(body[5:])
        assert (await reader.readline()).split()[1] == b"202"
        writer.close()
    assert ending.result() == 0
    assert [touchpoint.id for touchpoint in await kept_in_local_log(service.data_dir)] == ["slow"]


async def test_a_balancer_is_given_the_time_to_notice(service: Service) -> None:
    """After SIGTERM it is unready for so long and still takes what comes; then it ends in order."""
    process = service.process(drain_wait_s=3)
    process.start()
    async with plain_http.async_client() as client, asyncio.TaskGroup() as tasks:
        ending = tasks.create_task(asyncio.to_thread(process.terminate, 15.0))
        await eventually_async(lambda: asyncio.to_thread(process.is_ready), until=lambda ready: not ready)
        assert await service.post(client, "late") == 202
    assert ending.result() == 0
    assert [touchpoint.id for touchpoint in await kept_in_local_log(service.data_dir)] == ["late"]


def test_settings_that_are_wrong_are_named_all_at_once(tmp_path: Path) -> None:
    """Exit code 2, and one look at the message is enough."""
    process = RejseProcess(
        [],
        env={"REJSE_INGEST_PORT": "x", "REJSE_ACK_TIMEOUT_S": "-1", "REJSE_OOPS": "1"},
        log_file=tmp_path / "ingest.log",
        module="services.ingest",
    )
    with process:
        assert process.wait() == 2
    for name in ("REJSE_INGEST_PORT", "REJSE_ACK_TIMEOUT_S", "REJSE_OOPS"):
        assert name in process.log


async def test_the_store_may_go_and_come(service: Service) -> None:
    """Without an answer of the store a restarted ingest knows its keys and takes touchpoints."""
    service.process().start()
    service.close()
    away = service.process(database_url=f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    away.start()
    async with plain_http.async_client() as client:
        assert await service.post(client, "1") == 202
