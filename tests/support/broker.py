"""A real Apache Kafka broker, run as a plain process: one node that is broker and controller."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.support.child import Child, RigError, inherited_env
from tests.support.lifeline import remove_at_the_end
from tests.support.ports import free_port

_ROOT = Path(__file__).parents[2]
_JARS = _ROOT / ".cache/kafka/libs"
_CLASSES = _ROOT / ".cache/kafka/classes.jsa"
_LOGGING = _ROOT / "deploy/kafka/log4j2.properties"
_CLUSTER_ID = "UmVqc2UtdGVzdC1yaWctMQ"

_JVM = (
    "-Xmx512m",
    "-Xshare:auto",
    # Quick to start and easy on two cores, which matters more here than the last bit of throughput.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
)

_ONE_NODE = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # After a kill the controller refuses the same broker until its last session has run out (9 s by default).
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "200",
    "num.network.threads": "2",
    "num.io.threads": "4",
    # Allocated at once, and 128 MiB by default.
    "log.cleaner.dedupe.buffer.size": "4194304",
}


class Broker:
    """One Kafka node with its data in a folder of its own.

    Clients come in by `bootstrap`, the advertised address, which may be a proxy's; the node itself, and a
    test that wants to look past a proxy, use `direct`. Both outlast restarts, and so does the data.
    Usable as a context manager: started on entry, ended on exit.
    """

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        advertised_port: int | None = None,
        properties: Mapping[str, str] | None = None,
        java_options: Sequence[str] = (),
    ) -> None:
        """Describe a broker; nothing is started.

        Args:
            home: an existing folder for its data, configuration and log.
            port: where it listens for clients on 127.0.0.1; a free one by default.
            advertised_port: what it tells clients to connect to, if a proxy stands before it.
            properties: broker properties over the rig's own; `{"log.flush.interval.messages": "1"}` makes its
                acks durable.
            java_options: options after the rig's own, such as `-XX:TieredStopAtLevel=4` for a benchmark.
        """
        self.home = home
        self.port = port or free_port()
        self.advertised_port = advertised_port or self.port
        self.log_file = home / "broker.log"
        self._direct_port = free_port()
        self._controller_port = free_port()
        self._properties = dict(properties or {})
        self._java_options = tuple(java_options)
        self._child: Child | None = None

    @property
    def bootstrap(self) -> str:
        """The address for clients, `host:port`."""
        return f"127.0.0.1:{self.advertised_port}"

    @property
    def direct(self) -> str:
        """An address that no proxy stands before, `host:port`."""
        return f"127.0.0.1:{self._direct_port}"

    @property
    def pid(self) -> int:
        """The process id of the running broker.

        Raises:
            RigError: it is not started.
        """
        return self._started().pid

    @property
    def running(self) -> bool:
        """Whether its process lives; true when paused too."""
        return self._child is not None and self._child.running

    def start(self, timeout_s: float = 60.0) -> None:
        """Start it, on the data that is there, and wait until it serves consumer groups too.

        Raises:
            RigError: Java or the jars are missing, it runs already, or it wasn't ready in time.
        """
        if self.running:
            raise RigError("the broker runs already")
        self._configure()
        self._child = self._launch()
        self._child.await_ready(lambda: _serves(self._direct_port), timeout_s)

    def stop(self, timeout_s: float = 30.0) -> None:
        """Shut it down in order (SIGTERM) and wait for its end.

        Raises:
            RigError: it is not started, or still runs after `timeout_s`.
        """
        child = self._started()
        child.send(signal.SIGTERM)
        child.wait(timeout_s)

    def kill(self) -> None:
        """Kill it (SIGKILL) and wait for its end."""
        child = self._started()
        child.send(signal.SIGKILL)
        child.wait(timeout_s=10)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): its port still accepts connections, nothing answers."""
        self._started().freeze()

    def resume(self) -> None:
        """Let it run on after `pause`."""
        self._started().thaw()

    def restart(self) -> None:
        """Stop it in order and start it again on the same data and ports."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self._child is not None:
            self._child.end()

    async def create_topic(
        self, name: str, *, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        """Create a topic; `config={"flush.messages": "1"}` makes acks on it durable.

        Raises:
            KafkaError: the broker refuses it, for example because it exists.
        """
        admin = AIOKafkaAdminClient(bootstrap_servers=self.direct)
        await admin.start()
        try:
            topic = NewTopic(name, partitions, replication_factor=1, topic_configs=dict(config or {}))
            await admin.create_topics([topic])
        finally:
            await admin.close()

    async def alter_topic(self, name: str, config: Mapping[str, str]) -> None:
        """Give a topic this configuration, in place of all that it was given before.

        Raises:
            KafkaError: the broker doesn't answer.
        """
        admin = AIOKafkaAdminClient(bootstrap_servers=self.direct)
        await admin.start()
        try:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=dict(config))])
        finally:
            await admin.close()

    async def delete_topic(self, name: str) -> None:
        """Delete a topic with all that it holds.

        Raises:
            KafkaError: the broker doesn't answer.
        """
        admin = AIOKafkaAdminClient(bootstrap_servers=self.direct)
        await admin.start()
        try:
            await admin.delete_topics([name])
        finally:
            await admin.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _started(self) -> Child:
        if self._child is None or not self._child.running:
            raise RigError("the broker is not running")
        return self._child

    def _configure(self) -> None:
        self._settings_file.write_text(
            "".join(f"{name}={value}\n" for name, value in self._settings().items())
        )
        if not (self._data / "meta.properties").exists():
            shutil.copytree(_formatted(), self._data, dirs_exist_ok=True)

    def _settings(self) -> dict[str, str]:
        """The node's configuration: clients, itself and the controller each have a listener."""
        local = "127.0.0.1"
        return {
            **_ONE_NODE,
            "log.dirs": str(self._data),
            "controller.quorum.voters": f"1@{local}:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "DIRECT",
            "listener.security.protocol.map": "CLIENTS:PLAINTEXT,DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "listeners": f"CLIENTS://{local}:{self.port},DIRECT://{local}:{self._direct_port},"
            f"CONTROLLER://{local}:{self._controller_port}",
            "advertised.listeners": f"CLIENTS://{self.bootstrap},DIRECT://{self.direct}",
            **self._properties,
        }

    def _launch(self) -> Child:
        command = _java("kafka.Kafka", str(self._settings_file), options=self._java_options)
        return Child(command, env=inherited_env(), log_file=self.log_file, cwd=self.home)

    @property
    def _data(self) -> Path:
        return self.home / "data"

    @property
    def _settings_file(self) -> Path:
        return self.home / "server.properties"


@cache
def _formatted() -> Path:
    """A folder as Kafka formats it, to be copied: that takes a JVM as long as the broker takes to start."""
    home = Path(tempfile.mkdtemp(prefix="rejse-kafka-"))
    remove_at_the_end(home)
    settings, data = home / "server.properties", home / "data"
    node = {**_ONE_NODE, "log.dirs": data, "controller.quorum.voters": "1@127.0.0.1:1"}
    node |= {"listeners": "CONTROLLER://127.0.0.1:1", "controller.listener.names": "CONTROLLER"}
    node["process.roles"] = "controller"
    settings.write_text("".join(f"{name}={value}\n" for name, value in node.items()))
    command = _java("kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(settings))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise RigError(f"the broker's folder can't be formatted\n{done.stdout}{done.stderr}")
    return data


def _java(main_class: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    logging = f"-Dlog4j2.configurationFile={_LOGGING}"
    # The JVM looks itself whether they are of its own release and of these jars, and else reads the jars.
    classes = [f"-XX:SharedArchiveFile={_CLASSES}"] if _CLASSES.exists() else []
    given = ["-cp", f"{_JARS}{os.sep}*", main_class, *arguments]
    return [_java_command(), *_JVM, *classes, *options, logging, *given]


def _java_command() -> str:
    java = shutil.which("java")
    if java is None:
        raise RigError("the broker needs Java 17 or newer: run `make test`, which installs it")
    if not any(_JARS.glob("kafka_2.13-*.jar")):
        raise RigError("the broker's jars are missing: run `make test`, which fetches them")
    return java


_FIND_COORDINATOR_V0, _CORRELATION, _NO_CLIENT_ID, _GROUP, _NO_ERROR = (10, 0), 7, -1, b"rig", 0


def _serves(port: int) -> bool:
    """Whether the node on this port names a coordinator for a group: itself.

    The open port alone tells too little. This answer also means that the topic of group offsets is there:
    it is made upon the first such request, and without it a client logs an error.
    """
    body = struct.pack(">hhihh", *_FIND_COORDINATOR_V0, _CORRELATION, _NO_CLIENT_ID, len(_GROUP)) + _GROUP
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.settimeout(2)
            connection.sendall(struct.pack(">i", len(body)) + body)
            answer = connection.makefile("rb").read(10)
    except OSError:
        return False
    return answer[4:] == struct.pack(">ih", _CORRELATION, _NO_ERROR)
