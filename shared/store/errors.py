"""What each of the driver's and PostgreSQL's errors means to Rejse: one table, and nothing outside of it.

PostgreSQL's are told apart by SQLSTATE: a whole class of them (the first two characters) means one thing,
but for the codes that mean another. What blames the moment is retried, what blames the record sets it aside,
what blames the installation calls a person; the rest is a bug of ours, which is raised as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg
from asyncpg import exceptions as errors

from shared.errors import ConfigError, Contended, Permanent, RejseError, Transient

Meaning = type[RejseError] | None

_BUG = None

BY_CLASS: Mapping[str, Meaning] = {
    "01": _BUG,  # warnings, which are never raised
    "02": _BUG,
    "03": _BUG,
    "08": Transient,  # the connection
    "09": _BUG,
    "0A": ConfigError,  # a feature that this PostgreSQL hasn't
    "0B": _BUG,
    "0F": _BUG,
    "0L": ConfigError,
    "0P": ConfigError,
    "0Z": _BUG,
    "10": _BUG,
    "20": _BUG,
    "21": _BUG,
    "22": Permanent,  # a value
    "23": Permanent,  # a constraint
    "24": _BUG,
    "25": _BUG,  # the state of the transaction
    "26": _BUG,
    "27": _BUG,
    "28": ConfigError,  # user and password
    "2B": _BUG,
    "2D": _BUG,
    "2F": _BUG,
    "34": _BUG,
    "38": _BUG,
    "39": _BUG,
    "3B": _BUG,
    "3D": ConfigError,  # the database's name
    "3F": ConfigError,  # the schema's name
    "40": Transient,  # the transaction was rolled back
    "42": _BUG,  # the statement
    "44": _BUG,
    "53": Transient,  # disk, memory, connections
    "54": Permanent,  # larger or more nested than PostgreSQL goes
    "55": Transient,  # in use, locked, not ready yet
    "57": Transient,  # cancelled, shut down, starting
    "58": Transient,  # the operating system
    "72": Transient,
    "F0": Transient,  # its own files, while it starts
    "HV": _BUG,  # foreign tables, of which there are none
    "P0": _BUG,
    "XX": Transient,  # a fault within PostgreSQL: neither ours nor the record's
}
"""PostgreSQL's classes of errors; None stands for a bug of ours."""

BY_STATE: Mapping[str, Meaning] = {
    "25006": Transient,  # read-only: a standby, until the failover is through
    "25P03": Transient,
    "25P04": Transient,
    "40001": Contended,
    "40P01": Contended,
    "42501": ConfigError,  # this role may not
    "42883": ConfigError,  # a function
    "42703": ConfigError,  # a column, and below a table: the store has not been migrated
    "42P01": ConfigError,
    "55P02": _BUG,
    "55P04": _BUG,
}
"""The codes that mean another thing than their class."""

BY_KIND: Mapping[type[BaseException], Meaning] = {
    errors.InvalidCachedStatementError: Transient,  # the tables changed under a prepared statement
    errors.UnknownPostgresError: Transient,  # of a newer PostgreSQL: nothing follows from it
    errors.FatalPostgresError: Transient,
    errors.InterfaceError: Transient,  # mostly a connection that was closed meanwhile
    errors.ClientConfigurationError: ConfigError,
    errors.UnsupportedClientFeatureError: ConfigError,
    errors.UnsupportedServerFeatureError: ConfigError,
    errors.InternalClientError: Transient,
    errors.OutdatedSchemaCacheError: Transient,
    errors.ProtocolError: Transient,
    errors.TargetServerAttributeNotMatched: Transient,
    errors.InterfaceWarning: _BUG,
    errors.PostgresWarning: _BUG,
    OSError: Transient,
    TimeoutError: Transient,
}
"""What has no SQLSTATE, or whose kind says more than that."""


def classified(error: BaseException) -> RejseError | None:
    """What a driver's error means to us, or None if it is a bug of ours. The text names the class and no
    value."""
    if isinstance(error, RejseError):
        return error
    meaning = _meaning(error)
    return None if meaning is None else meaning(_TEXTS.get(meaning, "the store: ") + type(error).__name__)


def _meaning(error: BaseException) -> Meaning:
    for kind in type(error).__mro__:
        if kind in BY_KIND:
            return BY_KIND[kind]
    if not isinstance(error, asyncpg.PostgresError):
        return _BUG
    state = error.sqlstate or ""
    # A class that is younger than this table says nothing of the record.
    return BY_STATE[state] if state in BY_STATE else BY_CLASS.get(state[:2], Transient)


_TEXTS: Mapping[type[RejseError], str] = {
    Contended: "",
    Permanent: "the store refuses it: ",
    ConfigError: "the store is set up wrongly, or not migrated (rejse migrate): ",
}
