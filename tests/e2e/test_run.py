"""`rejse run` as a person has it on a machine, and what becomes of it when things die."""

from __future__ import annotations

import json
import stat
import subprocess
import time
from functools import partial
from pathlib import Path

import httpx
import psutil

from tests.support import plain_http
from tests.support.eventually import eventually
from tests.support.installation import Installation
from tests.support.ports import free_port
from tests.support.process import RejseProcess

SERVICES = ("stager", "ingest", "api")


def events(rejse: Installation, name: str = "supervisor") -> list[dict[str, object]]:
    """The lines of a log of `rejse run`."""
    path = rejse.home / "data/logs" / f"{name}.log"
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def pids(rejse: Installation) -> dict[str, int]:
    """The process ids of the services, as they were last started."""
    found = {line["child"]: line["pid"] for line in events(rejse) if line["event"] == "service_started"}
    return {str(name): int(str(pid)) for name, pid in found.items()}


def lives(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def up(rejse: Installation) -> RejseProcess:
    """Start `rejse run`, wait until it says that it is up, and read its keys."""
    run = rejse.start("run")
    eventually(lambda: "Rejse is up" in run.log, 30)
    rejse.read_keys()
    return run


def buy(rejse: Installation, id_: str) -> httpx.Response:
    touchpoint = {"id": id_, "type": "order_completed", "channel": "web", "identities": {"user_id": "ida"}}
    return rejse.post([touchpoint])


def staged(rejse: Installation) -> set[str]:
    headers = {"Authorization": f"Bearer {rejse.read_key}"}
    url = f"{rejse.url('api')}/v1/customers/user_id:ida/timeline"
    answer = plain_http.get(url, params={"kind": "touchpoint"}, headers=headers, timeout=10)
    return {item["source_id"] for item in answer.json()["items"]} if answer.status_code == 200 else set()


def test_it_starts_works_and_ends_leaving_nothing_but_its_data(tmp_path: Path) -> None:
    """From nothing to a customer's stage with what it prints; its keys are private; SIGTERM ends the services
    in order (api, ingest, stager), then PostgreSQL, with exit code 0 and no process left; a second start
    knows the customer. How soon, the benchmark `start` tells."""
    with Installation(tmp_path) as rejse:
        run = up(rejse)
        keys_file = tmp_path / "data/keys.env"
        keys = keys_file.read_text()
        assert stat.S_IMODE(keys_file.stat().st_mode) == 0o600
        assert [line.split("=")[0] for line in keys.splitlines()] == [
            "REJSE_WRITE_KEY", "REJSE_READ_KEY", "REJSE_ADMIN_KEY",
        ]  # fmt: skip
        assert not any(key.split("=")[1] in run.log for key in keys.splitlines())

        tried = run.log.partition("another terminal:\n")[2]
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", tried.partition("\n  curl http")[0]],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert buy(rejse, "a").status_code == 202
        eventually(lambda: staged(rejse), until=lambda ids: ids == {"a"})

        assert run.terminate() == 0
        assert run.survivors() == []
        ended = [str(line["service"]) for line in sorted(_stops(rejse), key=lambda line: str(line["time"]))]
        assert ended == ["api", "ingest", "stager"]

        run = up(rejse)
        assert keys_file.read_text() == keys
        assert staged(rejse) == {"a"}
        assert run.terminate() == 0


def test_a_type_that_nobody_knows_is_kept_counted_and_named(tmp_path: Path) -> None:
    """It is on the timeline, in the stager's metric, and in the API's list of unknown types."""
    with Installation(tmp_path) as rejse:
        up(rejse)
        visit = {"type": "gym_visited", "channel": "store", "identities": {"user_id": "ida"}}
        assert rejse.post([{"id": "a", **visit}, {"id": "b", **visit}]).status_code == 202
        assert buy(rejse, "c").status_code == 202
        eventually(lambda: staged(rejse), until=lambda ids: ids == {"a", "b", "c"})

        (unknown,) = rejse.get("/v1/touchpoint-types")["unknown"]
        assert (unknown["type"], unknown["count"]) == ("gym_visited", 2)
        eventually(lambda: rejse.metric("stager", "rejse_stager_unknown_types_total"), until=(2.0).__eq__)


def _stops(rejse: Installation) -> list[dict[str, object]]:
    lines = [line for name in SERVICES for line in events(rejse, name)]
    return [line for line in lines if line["event"] == "stopped"]


def test_a_second_one_on_the_folder_or_the_ports_is_refused_with_the_reason(tmp_path: Path) -> None:
    """The same folder: a line and exit code 2. Another folder and the same ports: each is told by its
    variable. The first one does not notice."""
    with Installation(tmp_path) as rejse:
        up(rejse)
        same = rejse.process("run")
        same.launch()
        assert same.wait() == 2
        assert "another `rejse run` uses" in same.log

        other = rejse.process("run", REJSE_DATA_DIR=str(tmp_path / "other"))
        other.launch()
        assert other.wait() == 2
        for service in SERVICES:
            assert f"REJSE_{service.upper()}_PORT: port {rejse.ports[service]}" in other.log
        assert "Traceback" not in other.log
        assert buy(rejse, "a").status_code == 202


def test_a_service_that_is_killed_comes_back(tmp_path: Path) -> None:
    """Whichever of them is killed, it is started again by itself, and nothing that was answered 202 is
    lost."""
    with Installation(tmp_path) as rejse:
        run = up(rejse)
        kept: set[str] = set()
        for service in SERVICES:
            assert buy(rejse, f"before {service}").status_code == 202
            psutil.Process(pids(rejse)[service]).kill()

            after = partial(buy, rejse, f"after {service}")
            assert eventually(after, 30, tolerate=(httpx.HTTPError,)).status_code == 202
            kept |= {f"before {service}", f"after {service}"}
            eventually(lambda: staged(rejse), 30, until=kept.__eq__, tolerate=(httpx.HTTPError,))
            assert f"{service} ended (SIGKILL)" in run.log
        assert run.terminate() == 0


def test_postgresql_that_is_killed_comes_back(tmp_path: Path) -> None:
    """Its first process killed, it recovers by itself; what is posted meanwhile is staged afterwards."""
    with Installation(tmp_path) as rejse:
        run = up(rejse)
        server = int((tmp_path / "data/postgres/postmaster.pid").read_text().split()[0])
        psutil.Process(server).kill()

        assert buy(rejse, "meanwhile").status_code == 202
        eventually(lambda: staged(rejse), 30, until={"meanwhile"}.__eq__, tolerate=(httpx.HTTPError,))
        assert run.terminate() == 0
        assert run.survivors() == []


def test_killed_itself_its_services_end_and_the_next_start_takes_over(tmp_path: Path) -> None:
    """After SIGKILL of the supervisor alone, the services end by themselves; started again at once, on the
    same ports and folder, it is up, has what was kept, and ends everything in the end."""
    with Installation(tmp_path) as rejse:
        run = up(rejse)
        assert buy(rejse, "before").status_code == 202
        orphans = pids(rejse)
        run.kill()

        again = up(rejse)
        assert not any(lives(pid) for pid in orphans.values())
        assert buy(rejse, "after").status_code == 202
        eventually(lambda: staged(rejse), 30, until={"before", "after"}.__eq__)
        assert again.terminate() == 0
        assert [*run.survivors(), *again.survivors()] == []


def exists(folder: Path, pattern: str) -> bool:
    return any(folder.glob(pattern))


def test_killed_while_it_starts_the_next_start_works(tmp_path: Path) -> None:
    """Killed at any moment of its first start, the next one comes up with keys that work."""
    with Installation(tmp_path) as rejse:
        for moment in ("run", "postgres*/PG_VERSION", "postgres/PG_VERSION", "keys.env", "logs/api.log"):
            starting = rejse.process("run")
            starting.launch()
            eventually(partial(exists, tmp_path / "data", moment), 30)
            starting.kill()

        run = up(rejse)
        assert buy(rejse, "a").status_code == 202
        eventually(lambda: staged(rejse), 30, until={"a"}.__eq__)
        assert run.terminate() == 0


def test_a_service_that_can_not_start_ends_all_with_the_reason(tmp_path: Path) -> None:
    """A wrong setting of one service alone: its words reach the terminal, all ends, exit code 1."""
    with Installation(tmp_path) as rejse:
        run = rejse.process("run", REJSE_SPOOL_BYTES_MAX="much")
        run.launch()

        assert run.wait(60) == 1
        assert "REJSE_SPOOL_BYTES_MAX is no whole number" in run.log
        assert "ingest is set up wrongly" in run.log
        assert run.survivors() == []


def test_a_store_of_ones_own_is_used_and_left_alone(tmp_path: Path, database_url: str) -> None:
    """With REJSE_DATABASE_URL nothing embedded is made, and the database is used."""
    with Installation(tmp_path, {"REJSE_DATABASE_URL": database_url}) as rejse:
        run = up(rejse)
        assert buy(rejse, "a").status_code == 202
        eventually(lambda: staged(rejse), 30, until={"a"}.__eq__)
        assert not (tmp_path / "data/postgres").exists()
        assert run.terminate() == 0


def test_a_store_that_can_not_be_reached_is_told_without_its_password(tmp_path: Path) -> None:
    """The variable and the reason, exit code 2."""
    url = f"postgresql://me:hunter2@127.0.0.1:{free_port()}/rejse"
    with Installation(tmp_path, {"REJSE_DATABASE_URL": url}) as rejse:
        run = rejse.process("run")
        run.launch()

        assert run.wait() == 2
        assert "REJSE_DATABASE_URL: the store can't be reached" in run.log
        assert "hunter2" not in run.log + (tmp_path / "data/logs/supervisor.log").read_text()


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """With a service frozen, one SIGTERM waits for it; a second one kills it, and still ends PostgreSQL."""
    with Installation(tmp_path, {"REJSE_DRAIN_TIMEOUT_S": "60"}) as rejse:
        run = up(rejse)
        psutil.Process(pids(rejse)["api"]).suspend()
        process = psutil.Process(run.pid)
        process.terminate()
        eventually(lambda: "Ending" in run.log)
        began_s = time.monotonic()
        process.terminate()

        assert run.wait() == 130
        assert time.monotonic() - began_s < 15
        assert run.survivors() == []
