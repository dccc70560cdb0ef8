"""What every test stands on: real servers, a clean environment, and no silent failure."""

import gc
import inspect
import itertools
import os
import re
from collections.abc import AsyncIterator, Generator, Iterator

import pytest
from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase

from shared.eventlog.port import TOPIC
from tests.support.broker import Broker
from tests.support.child import is_ours
from tests.support.postgres import Postgres
from tests.support.silence import ErrorWatch

_watch = pytest.StashKey[ErrorWatch]()
_topic_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The session's Kafka broker. A test that stops, freezes or kills one takes `own_broker`."""
    # It never has to be back soon after a kill, and a disk that stalls for seconds is no reason to fence it.
    patient = {"broker.session.timeout.ms": "60000"}
    with Broker(tmp_path_factory.mktemp("broker"), properties=patient) as running:
        yield running


@pytest.fixture(scope="session")
def breakable_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The broker behind `own_broker`."""
    broker = Broker(tmp_path_factory.mktemp("breakable"))
    yield broker
    broker.close()


@pytest.fixture
def own_broker(breakable_broker: Broker) -> Broker:
    """A running broker that a test may do anything to. Earlier tests' topics are on it."""
    if breakable_broker.running:
        breakable_broker.resume()
    else:
        breakable_broker.start()
    return breakable_broker


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The session's PostgreSQL. A test that stops or kills one makes its own `Postgres()`."""
    with Postgres() as running:
        yield running


@pytest.fixture
async def services_broker(broker: Broker) -> AsyncIterator[Broker]:
    """The session's broker for a test of whole services, whose topic has one name; it is gone afterwards."""
    yield broker
    await broker.delete_topic(TOPIC)


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic name that no other test has; the topic itself is not created."""
    readable = re.sub(r"[^a-zA-Z0-9_]+", "-", request.node.name)[:100].strip("-")
    return f"{readable}-{next(_topic_numbers)}"


@pytest.fixture(scope="session")
def migrated_database(postgres: Postgres) -> str:
    """URL of the template that every `database_url` is cloned from; nobody connects to it."""
    # Imported late, so that tests without a database don't load the store.
    from shared.store.migrate import upgrade

    url = postgres.create_database()
    upgrade(url)
    return url


@pytest.fixture
def database_url(postgres: Postgres, migrated_database: str) -> Iterator[str]:
    """URL of a database of the test's own, with the newest schema and no rows."""
    url = postgres.create_database(template=migrated_database)
    yield url
    postgres.drop_database(url)


def pytest_configure() -> None:
    """Remove what would configure us from outside, and set how hypothesis searches."""
    for name in filter(is_ours, list(os.environ)):
        del os.environ[name]
    examples = DirectoryBasedExampleDatabase(".cache/hypothesis")
    settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True, database=examples)
    settings.load_profile("ci")


# Hooks and not a fixture: fixtures may be undone before the event loop is closed, which tells of lost tasks.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Watch for errors in the log from before the first fixture."""
    watch = item.stash[_watch] = ErrorWatch()
    watch.begin()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Fail the test for errors in the log that it did not announce, once everything is undone."""
    watch = item.stash[_watch]
    try:
        result = yield
        _forget_tasks(item)
    finally:
        watch.end()
    if wrong := watch.verdict(_patterns(item, "expects_error"), _patterns(item, "allows_error")):
        pytest.fail(wrong, pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skipped test a failed one: what isn't run proves nothing."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Make a module skipped as a whole a failed one."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
    return report


def _forget_tasks(item: pytest.Item) -> None:
    """Collect garbage after an async test: a task's lost exception is told of when the task goes."""
    if inspect.iscoroutinefunction(getattr(item, "obj", None)):
        gc.collect()


def _patterns(item: pytest.Item, marker: str) -> list[str]:
    return [pattern for mark in item.iter_markers(marker) for pattern in mark.args]
