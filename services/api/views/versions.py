"""The versions of a journey in the store, and what an admin does with a definition."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from shared.clock import Clock
from shared.errors import ConfigError
from shared.journey.catalog import all_definitions
from shared.journey.definition import Definition
from shared.journey.language import parse
from shared.problem import Problem
from shared.store.definitions import Version, as_stored, fetch_active, fetch_versions, retire, want
from shared.store.engine import Pool, connection_of
from shared.store.what_if import WhatIf, what_if

_State = Literal["active", "on_its_way", "retired", "stored"]
_LINE = re.compile(r"(?:line (\d+): )?(.*)")


class JourneyVersion(msgspec.Struct, frozen=True):
    """A version of a journey. The `active` one is read; one that is `on_its_way` has staged so many of about
    so many customers (null: not counted yet) and takes over when it has staged all; one that was `retired`
    is folded no more, and has no states since it was cleared; one that is `stored` never took over."""

    key: str
    version: int
    state: _State
    customers_done: int
    customers_total: int | None = None
    wanted_at: datetime | None = None
    activated_at: datetime | None = None
    retired_at: datetime | None = None
    cleared_at: datetime | None = None


class JourneyVersions(msgspec.Struct, frozen=True):
    """All versions of a journey that the store has, the oldest first."""

    versions: Sequence[JourneyVersion]


class ValidJourney(msgspec.Struct, frozen=True):
    """A definition that nothing is wrong with."""

    key: str
    version: int
    stages: Sequence[str]
    exits: Sequence[str]


def read_definition(text: str) -> Definition:
    """The definition of a text.

    Raises:
        Problem: 422, with all that is wrong, each with its line.
    """
    try:
        return parse(text, "")
    except ConfigError as error:
        raise _invalid([line.removeprefix(": ") for line in str(error).splitlines()]) from None


def valid(definition: Definition) -> ValidJourney:
    """What there is to say of a definition that could be read."""
    return ValidJourney(
        definition.key,
        definition.version,
        [stage.key for stage in definition.stages],
        [exit_.key for exit_ in definition.exits],
    )


async def try_out(
    pool: Pool, definition: Definition, at: datetime | None, samples: int, seconds_max: float, clock: Clock
) -> WhatIf:
    """Fold the customers by a definition and by the active version of its key, as many as the time allows.

    Raises:
        Problem: 409, it or the active version was folded in another way.
        Transient: the store is away or busy.
    """
    async with connection_of(pool) as connection:
        try:
            prepared = await as_stored(connection, definition, _built_in())
            active = [one.definition() for one in await fetch_active(connection) if one.key == definition.key]
        except ConfigError as error:
            raise Problem(409, "version_exists", str(error)) from None
        return await what_if(
            connection,
            prepared,
            active[0] if active else None,
            at or clock.now(),
            clock,
            samples=samples,
            seconds_max=seconds_max,
        )


async def activate(pool: Pool, definition: Definition, now: datetime) -> JourneyVersion:
    """Ask for a definition to take over.

    Raises:
        Problem: 409, the version is there with another text.
        Transient: the store is away or busy.
    """
    async with connection_of(pool) as connection:
        try:
            prepared = await as_stored(connection, definition, _built_in())
            return told(await want(connection, prepared, now))
        except ConfigError as error:
            raise Problem(409, "version_exists", str(error)) from None


async def deactivate(pool: Pool, key: str, now: datetime) -> JourneyVersions:
    """Let nobody be staged in a journey any more.

    Raises:
        Problem: 404, it isn't active.
        Transient: the store is away or busy.
    """
    async with connection_of(pool) as connection:
        if not await retire(connection, key, now):
            raise Problem(404, "journey_not_found", "no active journey has this key")
    return await versions(pool, key)


async def versions(pool: Pool, key: str) -> JourneyVersions:
    """The versions of a key.

    Raises:
        Problem: 404, there is none.
        Transient: the store is away or busy.
    """
    async with connection_of(pool) as connection:
        found = [told(one) for one in await fetch_versions(connection) if one.key == key]
    if not found:
        raise Problem(404, "journey_not_found", "no journey has this key")
    return JourneyVersions(found)


def told(version: Version) -> JourneyVersion:
    """What the API says of a version."""
    state: _State = "retired" if version.retired_at else "stored"
    if version.is_active:
        state = "active"
    elif version.is_wanted:
        state = "on_its_way"
    return JourneyVersion(
        version.key,
        version.version,
        state,
        version.done,
        version.total,
        version.wanted_at,
        version.activated_at,
        version.retired_at,
        version.cleared_at,
    )


def _built_in() -> Sequence[Definition]:
    return [definition for definition, _ in all_definitions(None)]


def _invalid(problems: Sequence[str]) -> Problem:
    errors = []
    for problem in problems:
        line, detail = _LINE.fullmatch(problem).groups()  # type: ignore[union-attr]
        errors.append({"line": int(line), "detail": detail} if line else {"detail": detail})
    return Problem(422, "invalid_definition", "see errors for each place", more={"errors": errors})
