"""The table of aiokafka's errors is complete, and says what the adapters rely on."""

from __future__ import annotations

import asyncio
import inspect

import pytest
import uvloop
from aiokafka import errors

from shared.errors import ConfigError, LogReplaced, Permanent, RejseError, Transient
from shared.eventlog.kafka.errors import MEANING, came_too_late, is_refusal, translated

CLASSES: frozenset[type[Exception]] = frozenset(
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, Exception) and found.__module__ == errors.__name__
)


def test_every_error_of_the_driver_has_a_meaning() -> None:
    """No class of `aiokafka.errors` is missing from the table, and the table has no other."""
    assert set(MEANING) == CLASSES


@pytest.mark.parametrize("kind", sorted(CLASSES, key=str))
def test_an_error_becomes_what_the_table_says(kind: type[Exception]) -> None:
    """Each class is translated to its meaning, and a bug of ours is raised as it is."""
    error = kind()
    meaning = MEANING[kind]

    assert type(translated(error)) is (kind if meaning is None else meaning)


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (errors.KafkaConnectionError(), Transient),
        (errors.OutOfOrderSequenceNumber(), Transient),
        (errors.UnknownError(), Transient),
        (ConnectionRefusedError(), Transient),
        (TimeoutError(), Transient),
        (errors.MessageSizeTooLargeError(), Permanent),
        (errors.OffsetOutOfRangeError(), LogReplaced),
        (errors.TopicAuthorizationFailedError(), ConfigError),
    ],
)
def test_the_errors_that_matter_most(error: Exception, meaning: type[RejseError]) -> None:
    """What is away is retried, what is refused is not, and a log that was cut is told apart."""
    assert type(translated(error)) is meaning


def test_a_class_that_the_table_lacks_means_what_its_base_means() -> None:
    """An error that a later release derives from a known one is treated like that one."""
    newer = type("Newer", (errors.NotLeaderForPartitionError,), {})

    assert type(translated(newer())) is Transient


def test_a_write_to_a_connection_that_has_just_been_closed_finds_kafka_away() -> None:
    """As uvloop tells it, which raises no OSError there; any other RuntimeError is a bug."""

    async def write_too_late() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.transport.abort()
            await asyncio.sleep(0)
            writer.write(b"late")

    with pytest.raises(RuntimeError) as caught:
        uvloop.run(write_too_late())

    assert came_too_late(caught.value)
    assert type(translated(caught.value)) is Transient
    bug = RuntimeError("dictionary changed size during iteration")
    assert translated(bug) is bug


def test_an_error_that_is_not_the_drivers_stays_what_it_is() -> None:
    """A bug is not dressed up as a broker that is away."""
    bug = KeyError("x")

    assert translated(bug) is bug


def test_only_a_size_is_the_records_fault() -> None:
    """An append is refused for ever for its size alone."""
    refusals = {kind for kind in CLASSES if is_refusal(kind)}

    assert refusals == {
        errors.MessageSizeTooLargeError,
        errors.RecordListTooLargeError,
        errors.RecordTooLargeError,
    }


def test_no_translated_text_repeats_what_the_driver_said() -> None:
    """The driver's text may hold anything; ours names the class alone."""
    error = translated(errors.KafkaConnectionError("secret"))

    assert "secret" not in str(error)
    assert "KafkaConnectionError" in str(error)
