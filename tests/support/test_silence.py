"""Laws of the rig: a failure that nobody asked for fails the test, and a skipped test is a failed one."""

import re
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]

_WRONG = {
    "error_in_the_log": """
import logging
def test_it(): logging.getLogger('ours').error('lost %d records', 3)
""",
    "error_that_no_handler_sees": """
import logging
def test_it():
    logger = logging.getLogger('ours')
    logger.propagate = False
    logger.error('lost')
""",
    "expected_error_missing": """
import pytest
@pytest.mark.expects_error('ours: lost')
def test_it(): pass
""",
    "task_that_failed_unseen": """
import asyncio
async def fail(): raise RuntimeError('nobody looks')
async def test_it():
    loop = asyncio.get_running_loop()
    loop.create_task(fail())
    await asyncio.sleep(0)
""",
    "callback_that_failed": """
import asyncio
def fail(): raise RuntimeError('nobody looks')
async def test_it():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0)
""",
    "thread_that_failed": """
import threading
def fail(): raise RuntimeError('nobody looks')
def test_it():
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
""",
    "warning": """
import warnings
def test_it(): warnings.warn('old')
""",
    "skipped_test": """
import pytest
def test_it(): pytest.skip('no broker')
""",
    "skipped_module": """
import pytest
pytest.importorskip('no_such_module')
""",
}

_FINE = {
    "nothing": """
def test_it(): pass
""",
    "announced_error": """
import logging, pytest
@pytest.mark.expects_error('ours: lost')
def test_it(): logging.getLogger('ours').error('lost')
""",
    "allowed_error_that_stayed_away": """
import pytest
@pytest.mark.allows_error('ours: lost')
def test_it(): pass
""",
    "known_gap": """
import pytest
@pytest.mark.xfail(reason='known')
def test_it(): assert False
""",
}


def test_nothing_goes_wrong_in_silence(tmp_path: Path) -> None:
    """Run as ours are, exactly the modules with something wrong fail, each for itself."""
    for name, module in {**_WRONG, **_FINE}.items():
        (tmp_path / f"test_{name}.py").write_text(module)

    told = _pytest(tmp_path)

    failed = set(re.findall(r"^(?:FAILED|ERROR) .*?test_(\w+)\.py", told, re.MULTILINE))
    assert failed == set(_WRONG), told


def _pytest(folder: Path) -> str:
    """Run the tests in `folder` under the project's configuration and hooks, and return what pytest tells."""
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(_ROOT / "pyproject.toml")]
    command += ["-p", "tests.conftest", "-o", f"cache_dir={folder / 'cache'}"]
    command += ["--continue-on-collection-errors", str(folder)]
    return subprocess.run(command, capture_output=True, check=False, cwd=_ROOT, text=True, timeout=60).stdout
