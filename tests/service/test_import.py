"""`rejse import` against an ingest over real HTTP: a fake that misbehaves, and the real one."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.importer.app import Import, run_import
from services.importer.display import Lines, display_on
from services.importer.journal import Progress
from shared.clock import SystemClock
from shared.errors import ConfigError, Transient
from tests.support import plain_http
from tests.support.child import inherited_env
from tests.support.eventually import eventually_async
from tests.support.fake_ingest import FakeIngest, Turn, fake_ingest
from tests.support.ingest import KEY, kept_in_local_log, running_ingest
from tests.support.ports import free_port

MAP = """
format: csv
type: {column: type}
channel: web
occurred_at: {column: date, format: "%Y%m%d", zone: UTC}
identities: {loyalty_id: {column: customer}}
properties: {n: {column: n, as: int}}
"""


@dataclass
class Telling:
    """A display that keeps what it is told."""

    rows: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def show(self, place: Any, refused: int) -> None:
        self.rows.append(place.row)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def __enter__(self) -> Telling:
        return self

    def __exit__(self, *_: object) -> None:
        return


def table(folder: Path, rows: int, broken: Sequence[int] = ()) -> Path:
    """A file of so many rows; the ones numbered in `broken` have a date that is none. Nobody is customer 0,
    which is no identity."""
    lines = [
        f"order_completed,{'1997-x' if n in broken else '19970101'},{n % 97 or 97},{n}"
        for n in range(1, rows + 1)
    ]
    (folder / "map.yaml").write_text(MAP)
    file = folder / "history.csv"
    file.write_text("\r\n".join(["type,date,customer,n", *lines]) + "\r\n")
    return file


def wanted(file: Path, url: str, **change: Any) -> Import:
    return Import(
        file=file,
        map_file=file.with_name("map.yaml"),
        url=url,
        key=change.pop("key", KEY),
        state_file=file.with_name("state.json"),
        refused_file=file.with_name("refused.ndjson"),
        **change,
    )


async def imported(file: Path, url: str, display: Telling | None = None, **change: Any) -> Progress:
    return await run_import(wanted(file, url, **change), display or Telling(), SystemClock())


def refused_rows(file: Path) -> list[tuple[int, str, str]]:
    path = file.with_name("refused.ndjson")
    lines = path.read_text().splitlines() if path.exists() else []
    return [(told["row"], told["code"], told["pointer"]) for told in map(json.loads, lines)]


def numbers(fake: FakeIngest) -> Counter[int]:
    return Counter({json.loads(text)["properties"]["n"]: count for text, count in fake.kept.items()})


async def test_every_row_arrives_once_in_requests_that_ingest_takes(tmp_path: Path) -> None:
    """Without faults each row is sent exactly once, in batches of up to 500, several on the way at once."""
    file = table(tmp_path, 2_345)
    async with fake_ingest(KEY) as fake:
        progress = await imported(file, fake.url)

    assert numbers(fake) == Counter(range(1, 2_346))
    assert max(fake.batches) == 500
    assert sum(fake.batches) == 2_345
    assert (progress.place.row, progress.refused, progress.finished) == (2_345, 0, True)
    assert not file.with_name("refused.ndjson").exists()


async def test_large_touchpoints_go_in_smaller_requests_and_gzip_makes_them_smaller_still(
    tmp_path: Path,
) -> None:
    """No request is larger than ingest takes, whatever the rows are like."""
    file = tmp_path / "history.csv"
    (tmp_path / "map.yaml").write_text(MAP.replace("{n: {column: n, as: int}}", "{note: {column: n}}"))
    rows = (f"order_completed,19970101,{n},{'long ' * 5_000}" for n in range(100))
    file.write_text("\n".join(["type,date,customer,n", *rows]))

    async with fake_ingest(KEY) as plain:
        await imported(file, plain.url)
    async with fake_ingest(KEY) as zipped:
        await imported(file, zipped.url, compress=True, restart=True)

    assert sum(plain.batches) == sum(zipped.batches) == 100
    assert max(plain.bodies) <= 1 << 20
    assert sum(zipped.bodies) * 10 < sum(plain.bodies)


async def test_nothing_is_lost_whatever_happens_to_the_requests(tmp_path: Path) -> None:
    """429, 503, other 5xx, a connection cut before or after ingest took the batch, a body that is no answer:
    each batch is sent until it is answered, and every row arrives at least once."""
    file = table(tmp_path, 5_000)
    async with fake_ingest(KEY) as fake:
        fake.turns.extend(
            [
                Turn(429, "Retry-After: 0\r\n"),
                Turn(503, "Retry-After: 1\r\n"),
                Turn(500),
                Turn(502, keep=True),
                Turn(cut=True),
                Turn(cut=True, keep=True),
                Turn(keep=True),
                Turn(408),
                Turn(503, "Retry-After: soon\r\n"),
            ]
        )
        progress = await imported(file, fake.url)

    assert set(numbers(fake)) == set(range(1, 5_001))
    assert (progress.place.row, progress.refused) == (5_000, 0)


async def test_retry_after_is_waited_for_by_all_requests(tmp_path: Path) -> None:
    """After a 429 nothing is sent before its time has come, and the person is told."""
    file = table(tmp_path, 2_000)
    clock, telling = SystemClock(), Telling()
    async with fake_ingest(KEY) as fake:
        fake.turns.append(Turn(429, "Retry-After: 1\r\n"))
        began_s = clock.monotonic_s()
        await imported(file, fake.url, telling, in_flight=1)
        took_s = clock.monotonic_s() - began_s

    assert took_s >= 1.0
    assert any("waiting 1 s" in note for note in telling.notes)


async def test_refused_rows_are_told_in_the_files_order_whoever_refused_them(tmp_path: Path) -> None:
    """Rows that the map can't read and rows that ingest refuses stand in the refused file in order, with
    their number, code, pointer and text; nobody but the owner can read it."""
    file = table(tmp_path, 1_500, broken=[3, 700])

    def refuse(event: dict[str, Any]) -> dict[str, str] | None:
        n = event["properties"]["n"]
        why = {"code": "no_such_thing", "message": "is wrong", "pointer": "/properties/n"}
        return why if n in (2, 501, 1_500) else None

    async with fake_ingest(KEY, refuse=refuse) as fake:
        progress = await imported(file, fake.url)

    assert refused_rows(file) == [
        (2, "no_such_thing", "/properties/n"),
        (3, "invalid_time", "/occurred_at"),
        (501, "no_such_thing", "/properties/n"),
        (700, "invalid_time", "/occurred_at"),
        (1_500, "no_such_thing", "/properties/n"),
    ]
    first = json.loads(file.with_name("refused.ndjson").read_text().splitlines()[0])
    assert (first["line"], first["raw"]) == (3, ["order_completed", "19970101", "2", "2"])
    assert stat.S_IMODE(file.with_name("refused.ndjson").stat().st_mode) == 0o600
    assert progress.refused == 5
    assert len(numbers(fake)) == 1_495


async def test_a_request_refused_as_a_whole_is_halved_until_the_culprit_stands_alone(tmp_path: Path) -> None:
    """A 413 or 400 for the whole costs no other row: halves are sent, down to the one row."""
    file = table(tmp_path, 8)
    async with fake_ingest(KEY) as fake:
        # The whole, its first half, the half's half, and row 1 alone are refused.
        fake.turns.extend([Turn(413)] * 3 + [Turn(400)])
        await imported(file, fake.url, in_flight=1)

    assert refused_rows(file) == [(1, "a_code", "")]
    assert set(numbers(fake)) == set(range(2, 9))


async def test_it_goes_on_where_it_ended_and_not_for_another_file_map_or_address(tmp_path: Path) -> None:
    """A second run sends nothing again; a file that has grown sends what is new; a changed head, map or
    address is noticed; `restart` begins anew."""
    file = table(tmp_path, 1_000)
    async with fake_ingest(KEY) as fake:
        await imported(file, fake.url)
        await imported(file, fake.url)
        assert sum(fake.batches) == 1_000

        with file.open("a") as more:
            more.write("order_completed,19970102,5,1001\r\n")
        await imported(file, fake.url)
        assert sum(fake.batches) == 1_001

        with pytest.raises(ConfigError, match="--url"):
            await imported(file, fake.url.replace("127.0.0.1", "localhost"))
        file.with_name("map.yaml").write_text(MAP + "owner: partner\n")
        with pytest.raises(ConfigError, match=r"map\.yaml"):
            await imported(file, fake.url)
        file.write_text(file.read_text().replace("19970101", "19970103", 1))
        with pytest.raises(ConfigError, match=r"history\.csv"):
            await imported(file, fake.url)

        await imported(file, fake.url, restart=True)
        assert sum(fake.batches) == 2_002


async def test_it_gives_up_in_time_and_goes_on_later(tmp_path: Path) -> None:
    """With nobody listening it ends when it was told to, keeping its progress; the next run finishes."""
    file = table(tmp_path, 600)
    clock = SystemClock()
    began_s = clock.monotonic_s()
    with pytest.raises(Transient, match="has taken nothing"):
        await imported(file, f"http://127.0.0.1:{free_port()}", give_up_after_s=1.0)
    assert clock.monotonic_s() - began_s < 10

    file.with_name("state.json").unlink()
    async with fake_ingest(KEY) as fake:
        fake.turns.extend([Turn(keep=True), *[Turn(503, "Retry-After: 60\r\n")] * 4])
        with pytest.raises(Transient):
            await imported(file, fake.url, give_up_after_s=2.0, in_flight=1)
        fake.turns.clear()
        progress = await imported(file, fake.url)

    assert (progress.place.row, sum(fake.batches)) == (600, 600)


@pytest.mark.parametrize(
    ("turn", "change", "problem"),
    [
        (Turn(403), {}, "does not take this key"),
        (Turn(404), {}, "answered 404"),
        (Turn(307, "Location: /\r\n"), {}, "answered 307"),
        (Turn(200), {}, "is not Rejse's ingest"),
        (Turn(), {"key": "another"}, "does not take this key"),
        (Turn(), {"key": ""}, "is no key"),
        (Turn(), {"url": "ftp://example.com"}, "--url is no http"),
        (Turn(), {"url": "http://[::1"}, "--url is no http"),
    ],
)
async def test_a_wrong_address_or_key_ends_it_at_once(
    tmp_path: Path, turn: Turn, change: dict[str, str], problem: str
) -> None:
    """What no retry can mend is told in a line, which has no key in it."""
    file = table(tmp_path, 10)
    async with fake_ingest(KEY) as fake:
        fake.turns.append(turn)
        with pytest.raises(ConfigError, match=problem) as caught:
            await imported(file, change.get("url", fake.url), key=change.get("key", KEY))

    assert KEY not in str(caught.value)


async def test_two_imports_of_one_file_do_not_mix(tmp_path: Path) -> None:
    """While one is running, another of the same file is refused."""
    file = table(tmp_path, 10)
    async with fake_ingest(KEY) as fake, asyncio.TaskGroup() as tasks:
        fake.hold = asyncio.Event()
        first = tasks.create_task(imported(file, fake.url))
        await eventually_async(lambda: file.with_name("state.json").exists())
        with pytest.raises(ConfigError, match="another import"):
            await imported(file, fake.url)
        fake.hold.set()
    assert first.result().finished


async def test_killed_in_the_middle_and_started_again_it_sends_every_row_and_tells_every_refusal_once(
    tmp_path: Path,
) -> None:
    """Killed with SIGKILL at three moments, the command ends its work when it is run again: every row has
    arrived at least once, and the refused file has each refused row exactly once, in order."""
    file = table(tmp_path, 40_000, broken=range(50, 40_000, 1_000))

    def refuse(event: dict[str, Any]) -> dict[str, str] | None:
        n = event["properties"]["n"]
        return {"code": "no", "message": "no", "pointer": ""} if n % 1_000 == 7 else None

    async with fake_ingest(KEY, refuse=refuse) as fake:
        for batches in (5, 25, 50):
            process = await started(file, fake.url)
            await eventually_async(lambda: len(fake.batches), 30, until=batches.__le__)
            process.send_signal(signal.SIGKILL)
            assert await process.wait() == -signal.SIGKILL
        process = await started(file, fake.url)
        output, _ = await process.communicate()

    assert process.returncode == 1, output.decode()
    broken = set(range(50, 40_000, 1_000))
    refused = set(range(7, 40_001, 1_000))
    assert set(numbers(fake)) == set(range(1, 40_001)) - broken - refused
    assert [row for row, _, _ in refused_rows(file)] == sorted(broken | refused)
    assert "40,000 rows, 39,920 taken, 80 refused" in output.decode()


async def started(file: Path, url: str) -> asyncio.subprocess.Process:
    """The command itself, as a process."""
    arguments = [
        "import", str(file), "--map", str(file.with_name("map.yaml")), "--url", url,
        "--state", str(file.with_name("state.json")), "--refused", str(file.with_name("refused.ndjson")),
    ]  # fmt: skip
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", *arguments,
        env=inherited_env(REJSE_WRITE_KEY=KEY),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


def _refuse_one(unfit: dict[str, Any], why: dict[str, str], event: dict[str, Any]) -> dict[str, str] | None:
    return why if event == unfit else None


async def test_the_fake_answers_as_the_real_ingest_does(tmp_path: Path) -> None:
    """The same requests get the same status and the same body from both; only so do the tests above prove
    anything."""
    fit = {"type": "order_completed", "channel": "web", "identities": {"user_id": "u-1"}, "id": "a"}
    unfit = fit | {"type": "Order Completed"}
    body = [fit, unfit, fit]

    async with running_ingest(tmp_path) as ingest, fake_ingest(KEY) as fake:
        real = await ingest.post(body)
        why = {name: text for name, text in real.json()["refused"][0].items() if name != "index"}
        fake.refuse = partial(_refuse_one, unfit, why)
        async with plain_http.async_client(base_url=fake.url) as client:
            url, headers = "/v1/touchpoints", {"Authorization": f"Bearer {KEY}"}
            faked = await client.post(url, json=body, headers=headers)
            faked_401 = await client.post(url, json=body, headers={"Authorization": "Bearer x"})
        real_401 = await ingest.post(body, key="x")

    assert (faked.status_code, faked.json()) == (real.status_code, real.json())
    assert faked_401.status_code == real_401.status_code


async def test_what_is_imported_stands_in_the_event_log(tmp_path: Path) -> None:
    """Against the real ingest: every row is one touchpoint of the log with its own time, whatever is sent
    twice; rows that the map or ingest refuses are told."""
    file = table(tmp_path, 1_200, broken=[9])
    file.write_bytes(
        file.read_bytes().replace(b"\norder_completed,19970101,10,10\r", b"\nX Y,19970101,10,10\r")
    )

    async with running_ingest(tmp_path / "data") as ingest:
        url = f"http://127.0.0.1:{ingest.port}"
        await imported(file, url)
        await imported(file, url, restart=True, compress=True)

    kept = await kept_in_local_log(tmp_path / "data")
    assert len({touchpoint.id for touchpoint in kept}) == 1_198
    assert {touchpoint.occurred_at.isoformat() for touchpoint in kept} == {"1997-01-01T00:00:00+00:00"}
    assert refused_rows(file) == [(9, "invalid_time", "/occurred_at"), (10, "invalid_name", "/type")]


def test_without_a_terminal_progress_is_told_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A log gets lines, not a bar."""
    from rich.console import Console

    display = display_on(Console(), 100, SystemClock())

    assert isinstance(display, Lines)
    display.note("70 %, [1] rows")
    assert capsys.readouterr().out == "70 %, [1] rows\n"
