"""Everything that a campaign breaks: a whole Rejse of real processes, on disks whose power can be cut.

Each part (`ingest`, a stager, `api`, `broker`, `postgres`) has a lock. A fault holds those of the parts that
it breaks, and gives them back healed, so that faults on different parts overlap and none meets its own
victim half broken.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.faults.diary import Diary
from tests.faults.disks import Disk, PowerGrid
from tests.faults.preload import Preloads
from tests.faults.traffic import PROBE_SOURCE, SOURCES
from tests.faults.witness import TRIGGER
from tests.support import plain_http
from tests.support.broker import Broker
from tests.support.child import RigError, inherited_env
from tests.support.journeys import EVERYTHING
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.process import RejseProcess
from tests.support.proxy import Proxy

ROOT = Path(__file__).parents[2]
STAGERS = ("stager-a", "stager-b", "stager-c")
PARTS = ("api", "broker", "guest", "ingest", "postgres", *STAGERS)
"""What a fault can hold. `guest` is a stager that comes and goes."""
PARTITIONS = 6
SPOOL_BYTES_MAX = 4 << 20
RATE_EVENTS_S = 5_000
BURST_SOURCE = "burst"
TOPIC = "touchpoints"
READY_S = 240.0

_SETTINGS = {
    "REJSE_KAFKA_PARTITIONS": str(PARTITIONS),
    "REJSE_ACK_TIMEOUT_S": "2",
    "REJSE_SPOOL_BYTES_MAX": str(SPOOL_BYTES_MAX),
    "REJSE_RATE_EVENTS_S": str(RATE_EVENTS_S),
    "REJSE_DRAIN_TIMEOUT_S": "10",
}
_DISK_BYTES = {"kafka": 12 << 30, "pg": 12 << 30, "spool": 256 << 20}


class Rig:
    """A whole Rejse. Made running by entering it; ended, and its disks removed, by leaving it."""

    def __init__(self, home: Path, code: Path = ROOT) -> None:
        """Describe one.

        Args:
            home: an existing folder on a disk.
            code: the folder whose `services` and `shared` are run.
        """
        self.home = home
        self.code = code
        self.diary = Diary()
        self.dead = threading.Event()
        """Set when the campaign is over, whatever the reason: waits may end."""
        self._exits = ExitStack()
        self._locks = {part: threading.Lock() for part in PARTS}
        self._service_ports = {part: free_port() for part in ("ingest", "api", *STAGERS)}
        self._services: dict[str, RejseProcess] = {}
        self.disks: dict[str, Disk] = {}
        self.keys: dict[str, str] = {}

    def __enter__(self) -> Rig:
        with self._exits:
            self._make_disks()
            self.preloads = Preloads.build(self.home)
            self._start_servers()
            self._prepare_store()
            for part in ("ingest", "api", *STAGERS):
                self.launch(part)
            self.await_ready()
            # What was installed long ago is on disk; neither initdb nor Kafka's formatting sees to that here.
            for disk in self.disks.values():
                disk.sync()
            self._exits = self._exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.dead.set()
        self._exits.close()

    @contextlib.contextmanager
    def holding(self, *parts: str) -> Iterator[None]:
        """Be the only one who breaks these parts."""
        with ExitStack() as held:
            for part in sorted(parts):
                held.enter_context(self._locks[part])
            yield

    def any_stager(self, start: int) -> str | None:
        """Hold a stager that nobody else breaks, if there is one; `let_go` gives it back."""
        for turn in range(len(STAGERS)):
            part = STAGERS[(start + turn) % len(STAGERS)]
            if self._locks[part].acquire(blocking=False):
                return part
        return None

    def let_go(self, part: str) -> None:
        """Give a part back."""
        self._locks[part].release()

    def service(self, part: str) -> RejseProcess:
        """The process of a service, as it was launched last."""
        return self._services[part]

    def launch(self, part: str, **env: str) -> RejseProcess:
        """Start a service and wait for nothing; `env` goes over what it sees otherwise."""
        process = RejseProcess(
            [],
            env={**self.env(part), **env},
            log_file=self.log_of(part),
            ready_port=self._service_ports[part],
            module=f"services.{part.partition('-')[0]}",
            cwd=self.code,
        )
        process.launch()
        self._services[part] = process
        return process

    def guest_stager(self, port: int) -> RejseProcess:
        """Start one more stager and wait for nothing; whoever asks ends it."""
        env = {**self.env(STAGERS[0]), "REJSE_STAGER_PORT": str(port)}
        log_file = self.log_of("stager-guest")
        guest = RejseProcess([], env=env, log_file=log_file, module="services.stager", cwd=self.code)
        guest.launch()
        self._exits.callback(guest.close)
        return guest

    def start(self, part: str, **env: str) -> RejseProcess:
        """Start a service and wait until it can work."""
        process = self.launch(part, **env)
        process.await_ready(READY_S)
        return process

    def end(self, part: str) -> None:
        """Kill a service, whatever state it is in."""
        if part in self._services:
            self._services[part].close()

    def await_ready(self) -> None:
        """Wait until every service can do its work.

        Raises:
            RigError: one can't; with what it says of itself.
        """
        for part in ("ingest", "api", *STAGERS):
            try:
                self.service(part).await_ready(READY_S)
            except RigError as error:
                raise RigError(f"{part} says {self._checks(part)}; {error}") from None

    def _checks(self, part: str) -> str:
        try:
            return plain_http.get(f"{self.url(part)}/readyz", timeout=5).text
        except httpx.HTTPError as error:
            return f"nothing: {error}"

    def url(self, part: str) -> str:
        """The base URL of a service."""
        return f"http://127.0.0.1:{self._service_ports[part]}"

    def log_of(self, part: str) -> Path:
        """The file that a service's processes log to, one after the other. No power cut takes it."""
        return self.home / f"{part}.log"

    def env(self, part: str) -> dict[str, str]:
        """What a service sees."""
        port = self._service_ports[part]
        return {
            **_SETTINGS,
            "PYTHONPATH": str(self.code),
            "REJSE_DATA_DIR": str(self.disks["spool"].mount_point),
            "REJSE_DATABASE_URL": self.database_url(self._postgres_proxy.port),
            "REJSE_KAFKA_BOOTSTRAP": self.broker.bootstrap,
            "REJSE_JOURNEYS_DIR": str(self.home / "journeys"),
            f"REJSE_{part.partition('-')[0].upper()}_PORT": str(port),
            **self.preloads.env(),
        }

    def database_url(self, port: int | None = None) -> str:
        """The store's URL; without a port past the proxy."""
        return f"postgresql://postgres@127.0.0.1:{port or self.postgres.port}/postgres"

    @property
    def broker_proxy(self) -> Proxy:
        """Stands before the broker, for every service."""
        return self._broker_proxy

    @property
    def postgres_proxy(self) -> Proxy:
        """Stands before PostgreSQL, for every service."""
        return self._postgres_proxy

    def heal_servers(self) -> None:
        """Start the broker and PostgreSQL if they have ended."""
        if not self.broker.running:
            self.broker.start()
        if not self.postgres.running:
            self.postgres.start()

    def heal(self) -> None:
        """Undo whatever a fault that failed may have left behind."""
        for disk in self.disks.values():
            disk.empty()
        self.preloads.fail_syncs(False)
        self.preloads.set_clock(0)
        for proxy in (self._broker_proxy, self._postgres_proxy):
            proxy.set()
        for server in (self.broker, self.postgres):
            if server.running:
                server.resume()
        self.heal_servers()
        # Anew, all of them: one may stand still, or be armed to die.
        for part in ("ingest", "api", *STAGERS):
            self.end(part)
            self.launch(part)
        self.await_ready()

    def freeze_frame(self) -> None:
        """Let everything stand still, and copy what a power cut would leave."""
        parts: list[Broker | Postgres | RejseProcess] = [self.broker, self.postgres, *self._services.values()]
        for part in parts:
            if part.running:
                part.pause()
        for disk in self.disks.values():
            disk.freeze_frame()

    def kill_all(self) -> None:
        """Kill everything at once."""
        for process in self._services.values():
            process.close()
        if self.broker.running:
            self.broker.kill()
        if self.postgres.running:
            self.postgres.kill()

    def come_back(self) -> None:
        """Mount what the power cut left."""
        for disk in self.disks.values():
            disk.come_back()

    def power_up(self) -> None:
        """Start everything on the disks that are mounted, services first: they wait for what they need."""
        for part in ("ingest", "api", *STAGERS):
            self.launch(part)
        self.heal_servers()

    def command(self, *arguments: str) -> str:
        """Run a `rejse ...` command and return what it printed."""
        log_file = self.home / "command.log"
        log_file.unlink(missing_ok=True)
        env = {**self.env("api"), "REJSE_API_PORT": "0"}
        process = RejseProcess(arguments, env=env, log_file=log_file, cwd=self.code)
        process.launch()
        assert process.wait(60) == 0, process.log
        return process.log.strip()

    def _make_disks(self) -> None:
        grid = self._exits.enter_context(PowerGrid(self.home))
        for name, size_bytes in _DISK_BYTES.items():
            self.disks[name] = grid.disk(self.home / name, size_bytes)

    def _start_servers(self) -> None:
        broker_port, postgres_port = free_port(), free_port()
        self.broker = Broker(self.disks["kafka"].mount_point, port=broker_port, advertised_port=free_port())
        # Closed after the servers: a client that is cut off says so in the log.
        self._broker_proxy = self._exits.enter_context(Proxy(self.broker.advertised_port, broker_port))
        self._postgres_proxy = self._exits.enter_context(Proxy(free_port(), postgres_port))
        self.postgres = Postgres(
            home=self.disks["pg"].mount_point,
            port=postgres_port,
            settings={"shared_buffers": "128MB", "max_wal_size": "512MB", "log_min_messages": "warning"},
        )
        # No power cut shall take what they have told.
        self.broker.log_file = self.log_of("broker")
        self.postgres.log_file = self.log_of("postgres")
        self._exits.callback(self._end_all)
        self.broker.start()
        self.postgres.start()

    def _end_all(self) -> None:
        for process in self._services.values():
            process.close()
        self.broker.close()
        self.postgres.close()

    def _prepare_store(self) -> None:
        (self.home / "journeys").mkdir()
        (self.home / "journeys" / "everything.yaml").write_text(EVERYTHING)
        self.command("migrate")
        self.postgres.execute(TRIGGER)
        for source in (*SOURCES, PROBE_SOURCE, BURST_SOURCE):
            self.keys[source] = self.command("keys", "create", "write", "--source", source)
        self.keys["read"] = self.command("keys", "create", "read", "--source", "crm")
        self.keys["admin"] = self.command("keys", "create", "admin", "--source", "desk")


def python(*arguments: str | Path) -> list[str]:
    """A command that runs a module of the checkout."""
    return [sys.executable, "-m", *map(str, arguments)]


def environment() -> Mapping[str, str]:
    """What the oracle's processes see: the checkout, whatever code the services run."""
    return inherited_env(PYTHONPATH=str(ROOT))


def copied_code(target: Path) -> Path:
    """A copy of what the services run, to be changed; returns its folder."""
    for package in ("services", "shared"):
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    target.chmod(0o755)
    return target
