"""Laws of the rig: child processes are real, waiting has a deadline, and nothing outlives the tests."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.child import Child, RigError, inherited_env, lives
from tests.support.eventually import eventually, eventually_async
from tests.support.ports import free_port
from tests.support.process import RejseProcess

_SPAWNS_A_STRAY = (
    "import subprocess, sys, time; "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True); "
    "print('spawned', flush=True); time.sleep(600)"
)


def test_a_command_runs_to_its_end_and_tells_its_status(tmp_path: Path) -> None:
    """The exit status and the output of a command are the command's."""
    process = RejseProcess(
        ["-n", "1", "-r", "1", "print('done')"], env={}, log_file=tmp_path / "log", module="timeit"
    )
    process.launch()

    assert process.wait() == 0
    assert "done" in process.log


def test_a_process_that_dies_before_it_is_ready_says_why(tmp_path: Path) -> None:
    """Waiting for a dead process ends at once, with its last words."""
    process = RejseProcess(
        [], env={}, log_file=tmp_path / "log", ready_port=free_port(), module="no_such_module"
    )

    with pytest.raises(RigError, match="No module named no_such_module"):
        process.start(timeout_s=60)


def test_what_configures_rejse_does_not_leak_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child sees the REJSE_* variables that the test gives it, and no others."""
    monkeypatch.setenv("REJSE_STRAY", "1")
    process = RejseProcess(
        ["-s", "import os", "-n", "1", "-r", "1", "print({k for k in os.environ if k.startswith('REJSE_')})"],
        env={"REJSE_MEANT": "1"},
        log_file=tmp_path / "log",
        module="timeit",
    )
    process.launch()

    assert process.wait() == 0
    assert "{'REJSE_MEANT'}" in process.log


def test_the_end_takes_strays_along(tmp_path: Path) -> None:
    """A grandchild that left for a session of its own ends with the child that is closed."""
    child = _child(tmp_path / "log", _SPAWNS_A_STRAY)
    eventually(lambda: "spawned" in child.tail())
    family = child.family()
    assert len(family) == 2

    child.send(signal.SIGKILL)
    child.wait(timeout_s=10)
    child.end()

    assert not any(map(lives, family))


def test_nothing_outlives_a_killed_test_process(tmp_path: Path) -> None:
    """When the test process is killed outright, its children and its folders go too."""
    log_file, folder = tmp_path / "log", tmp_path / "folder"
    folder.mkdir()
    script = (
        "import sys, time; from pathlib import Path; "
        "from tests.support.child import *; from tests.support.lifeline import *; "
        f"remove_at_the_end(Path({str(folder)!r})); "
        f"child = Child([sys.executable, '-c', 'import time; time.sleep(600)'], env=inherited_env(), "
        f"log_file=Path({str(log_file)!r})); print(child.pid, flush=True); time.sleep(600)"
    )
    tests = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with tests:
        assert tests.stdout is not None
        child = psutil.Process(int(tests.stdout.readline()))
        tests.kill()

    eventually(lambda: not lives(child))
    eventually(lambda: not folder.exists())


def test_eventually_returns_what_it_waited_for() -> None:
    """The value that met the condition is the answer; exceptions tolerated mean "not yet"."""
    answers: Iterator[ValueError | int] = iter([ValueError(), 1, 2, 3])

    def observe() -> int:
        answer = next(answers)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    assert eventually(observe, until=lambda n: n == 3, tolerate=(ValueError,)) == 3


def test_eventually_fails_with_what_it_saw_last() -> None:
    """The deadline's message has the last value."""
    with pytest.raises(AssertionError, match="last seen: 41"):
        eventually(lambda: 41, timeout_s=0.05, until=lambda n: n == 42)


async def test_eventually_async_awaits_and_fails_alike() -> None:
    """The async twin takes coroutine functions and plain ones, under the same deadline."""

    async def observe() -> int:
        return 41

    assert await eventually_async(observe) == 41
    with pytest.raises(AssertionError, match="last seen: 41"):
        await eventually_async(observe, timeout_s=0.05, until=lambda n: n == 42)


def test_a_free_port_is_given_once() -> None:
    """No port is handed out twice, so two servers never race for one."""
    ports = [free_port() for _ in range(50)]

    assert len(set(ports)) == 50


def _child(log_file: Path, script: str) -> Child:
    return Child([sys.executable, "-c", script], env=inherited_env(), log_file=log_file)
