"""What the commands about journeys do: with the definitions that are known, and with those in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from services.supervisor.commands import StoreSettings, has_store, with_store
from shared.clock import SystemClock
from shared.config import load
from shared.errors import ConfigError
from shared.journey.catalog import all_definitions, load_definitions
from shared.journey.definition import Definition
from shared.journey.language import parse
from shared.store.definitions import (
    Version,
    as_stored,
    fetch_active,
    fetch_version,
    fetch_versions,
    retire,
    want,
)
from shared.store.engine import Connection
from shared.store.what_if import WhatIf, what_if

Answer = TypeVar("Answer")

LOOK_EVERY_S = 0.3
ACTIVE, AT_FIRST = "yes", "at first"
"""What `state` says of a version that is active, and of one that will be once there is a store."""


@dataclass(frozen=True, slots=True)
class JourneySettings:
    """See `shared.config.VARIABLES` for what each means."""

    journeys_dir: Path | None
    journeys: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Known:
    """A version that there is, in a file, in the store or in both; `state` says what is made of it."""

    key: str
    version: int
    state: str
    definition: Definition | None


def known(environ: Mapping[str, str]) -> Sequence[Known]:
    """All versions that there are, by key and version.

    Raises:
        ConfigError: lists all that is wrong with the files, and with the choice of active ones.
    """
    settings = load(JourneySettings, environ)
    asked = {one.key for one in load_definitions(settings.journeys_dir, settings.journeys)}
    stored = {(one.key, one.version): one for one in _stored(environ)}
    found = {
        (one.key, one.version): Known(one.key, one.version, AT_FIRST if one.key in asked else "no", one)
        for one, _ in all_definitions(settings.journeys_dir)
    }
    for place, version in stored.items():
        found[place] = Known(version.key, version.version, _state(version), _readable(version))
    return [found[place] for place in sorted(found)]


def find(environ: Mapping[str, str], name: str) -> Definition:
    """The definition that a file's path or `key[@version]` names: of a key without a version the active one,
    or the file's.

    Raises:
        ConfigError: there is none, or it is wrong.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        return read_file(Path(name))
    key, _, version = name.partition("@")
    found = [one for one in known(environ) if one.key == key and version in ("", str(one.version))]
    found.sort(key=lambda one: (one.state == ACTIVE, one.version))
    if not found:
        told = f" in version {version}" if version else ""
        raise ConfigError(f"there is no journey {key!r}{told}")
    definition = found[-1].definition
    if definition is None:
        raise ConfigError(f"journey {key} version {found[-1].version} can't be read by this version of Rejse")
    return definition


def find_active(environ: Mapping[str, str], key: str) -> Definition:
    """The active version of a key; without a store, the one that would be.

    Raises:
        ConfigError: there is none.
    """
    found = [one for one in known(environ) if one.key == key and one.state in (ACTIVE, AT_FIRST)]
    definition = found[-1].definition if found else None
    if definition is None:
        raise ConfigError(f"no version of {key} is active: name two")
    return definition


def validate(files: Sequence[Path]) -> Sequence[Definition]:
    """The definitions of some files.

    Raises:
        ConfigError: lists all that is wrong in any of them.
    """
    problems: list[str] = []
    found: list[Definition] = []
    for file in files:
        try:
            found.append(read_file(file))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def read_file(file: Path) -> Definition:
    """The definition of a file.

    Raises:
        ConfigError: lists all that is wrong in it.
    """
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is no UTF-8 text") from None
    return parse(text, str(file))


def activate(
    environ: Mapping[str, str], name: str, show: Callable[[Version], None], *, detach: bool
) -> Version:
    """Ask for a definition to take over, show how far it is until it has, and say how it stands at last.

    Raises:
        ConfigError: the definition is wrong, or another one was asked for meanwhile.
    """
    definition = find(environ, name)
    files = [one for one, _ in all_definitions(load(JourneySettings, environ).journeys_dir)]

    async def asked(connection: Connection) -> Version:
        prepared = await as_stored(connection, definition, files)
        found = await want(connection, prepared, SystemClock().now())
        while found.is_wanted and not detach:
            show(found)
            await asyncio.sleep(LOOK_EVERY_S)
            now = await fetch_version(connection, found.key, found.version)
            assert now is not None
            found = now
        if not (found.is_active or found.is_wanted):
            raise ConfigError(f"another version of {found.key} was asked for meanwhile")
        return found

    return with_store(environ, asked)


def try_out(
    environ: Mapping[str, str],
    name: str,
    at: datetime | None,
    samples: int,
    show: Callable[[int, int | None], None],
) -> WhatIf:
    """What a definition would make of the store's customers, compared with the active version.

    Raises:
        ConfigError: the definition is wrong.
    """
    definition, clock = find(environ, name), SystemClock()
    files = [one for one, _ in all_definitions(load(JourneySettings, environ).journeys_dir)]

    async def asked(connection: Connection) -> WhatIf:
        prepared = await as_stored(connection, definition, files)
        active = [one for one in await fetch_active(connection) if one.key == definition.key]
        return await what_if(
            connection,
            prepared,
            active[0].definition() if active else None,
            at or clock.now(),
            clock,
            samples=samples,
            show=show,
        )

    return with_store(environ, asked)


def deactivate(environ: Mapping[str, str], key: str) -> None:
    """Let nobody be staged in a journey any more.

    Raises:
        ConfigError: it isn't active.
    """
    now = SystemClock().now()
    if not with_store(environ, lambda store: retire(store, key, now)):
        raise ConfigError(f"there is no active journey {key!r}")


def _state(version: Version) -> str:
    if version.is_active:
        return ACTIVE
    if version.is_wanted:
        return f"on its way: {version.share:.0%}"
    return f"until {version.retired_at:%Y-%m-%d}" if version.retired_at else "no"


def _readable(version: Version) -> Definition | None:
    try:
        return version.definition()
    except ConfigError:
        return None


def _stored(environ: Mapping[str, str]) -> Sequence[Version]:
    """The versions in the store; none where no store was made yet."""
    if not has_store(load(StoreSettings, environ)):
        return []
    stored: Callable[[Connection], Awaitable[Sequence[Version]]] = fetch_versions
    return with_store(environ, stored)
