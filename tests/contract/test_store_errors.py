"""The table of the store's errors is complete, and says what the services rely on."""

from __future__ import annotations

import inspect

import asyncpg
import pytest
from asyncpg import exceptions

from shared.errors import ConfigError, Contended, Permanent, RejseError, Transient
from shared.store.errors import BY_CLASS, BY_KIND, BY_STATE, classified

_ROOTS = {exceptions.PostgresError, *exceptions.PostgresError.__mro__}
CLASSES: frozenset[type[BaseException]] = frozenset(
    found
    for _, found in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(found, BaseException) and found not in _ROOTS
)
WITH_STATE = {kind for kind in CLASSES if getattr(kind, "sqlstate", None)}


def test_every_error_of_postgresql_has_a_meaning() -> None:
    """Each class of SQLSTATEs that the driver knows is in the table, and the table has no other."""
    assert {kind.sqlstate[:2] for kind in WITH_STATE} == set(BY_CLASS)  # type: ignore[attr-defined]


def test_every_error_of_the_driver_has_a_meaning() -> None:
    """Each class without a SQLSTATE is in the table itself, and not by its base alone."""
    ours = {OSError, TimeoutError}
    assert set(BY_KIND) >= CLASSES - WITH_STATE
    assert set(BY_KIND) <= CLASSES | ours


def test_every_exception_to_a_class_is_one() -> None:
    """A code stands beside its class only where it exists and means another thing."""
    states = {kind.sqlstate for kind in WITH_STATE}  # type: ignore[attr-defined]
    assert set(BY_STATE) <= states
    assert not [state for state, meaning in BY_STATE.items() if BY_CLASS[state[:2]] is meaning]


@pytest.mark.parametrize("kind", sorted(WITH_STATE - set(BY_KIND), key=str))
def test_retries_and_dead_letters_are_by_class(kind: type[asyncpg.PostgresError]) -> None:
    """Classes 08, 40, 53 and 57 and a lock that isn't had are never the record's fault; classes 22, 23 and 54
    always are."""
    found = classified(kind("text"))
    state = kind.sqlstate or ""

    if state[:2] in ("08", "40", "53", "57") or state == "55P03":
        assert isinstance(found, Transient)
    elif state[:2] in ("22", "23", "54"):
        assert isinstance(found, Permanent)
    else:
        assert not isinstance(found, Permanent)


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (asyncpg.DeadlockDetectedError("x"), Contended),
        (asyncpg.SerializationError("x"), Contended),
        (asyncpg.LockNotAvailableError("x"), Transient),
        (asyncpg.QueryCanceledError("x"), Transient),
        (asyncpg.ReadOnlySQLTransactionError("x"), Transient),
        (exceptions.InvalidCachedStatementError("x"), Transient),
        (asyncpg.InterfaceError("connection is closed"), Transient),
        (ConnectionRefusedError(), Transient),
        (TimeoutError(), Transient),
        (asyncpg.UniqueViolationError("x"), Permanent),
        (asyncpg.UntranslatableCharacterError("x"), Permanent),
        (asyncpg.StatementTooComplexError("x"), Permanent),
        (asyncpg.InvalidPasswordError("x"), ConfigError),
        (asyncpg.UndefinedTableError("x"), ConfigError),
    ],
)
def test_the_errors_that_matter_most(error: Exception, meaning: type[RejseError]) -> None:
    """What is away or busy is retried, what the record is to blame for is not, and a person is called for
    what only a person can mend."""
    assert type(classified(error)) is meaning


def test_a_bug_is_raised_as_it_is() -> None:
    """A wrong statement is not dressed up as a store that is away, and neither is any other exception."""
    assert classified(asyncpg.PostgresSyntaxError("x")) is None
    assert classified(asyncpg.InFailedSQLTransactionError("x")) is None
    assert classified(ValueError("x")) is None


def test_what_a_newer_postgresql_says_costs_no_record() -> None:
    """A code of a class that nobody knows yet is retried."""
    newer = type("Newer", (asyncpg.PostgresError,), {"sqlstate": "99001"})

    assert type(classified(newer("x"))) is Transient


def test_no_text_repeats_what_the_store_said() -> None:
    """PostgreSQL's own text quotes values, which may be a person's."""
    for kind in CLASSES:
        found = classified(kind("ida@example.com"))
        assert found is None or "ida" not in str(found)
