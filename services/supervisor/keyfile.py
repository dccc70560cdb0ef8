"""`keys.env`: the first keys of an installation, kept where only its owner can read them.

The file comes first and the store follows: at every start the file's keys are adopted by the store, so that
a crash between the two leaves nothing that the next start doesn't mend. A key that was revoked stays so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from shared.errors import ConfigError
from shared.keys import SCOPES, Scope, new_key
from shared.store.engine import connect
from shared.store.keys import adopt_key

SOURCE = "local"
"""Whose touchpoints the first write key sends."""

VARIABLES: Mapping[str, Scope] = {f"REJSE_{scope.upper()}_KEY": scope for scope in SCOPES}
_LINE = re.compile(r"([A-Z_]+)=([!-~]{20,200})")


def read_or_make(path: Path) -> Mapping[Scope, str]:
    """The keys of the file by scope; made anew where there is no file. Lines left out stay so.

    Raises:
        ConfigError: the file has a line that is no key, or can't be read or written.
    """
    try:
        if not path.exists():
            _write(path, {scope: new_key(scope) for scope in SCOPES})
        return _read(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


async def adopt(database_url: str, keys: Mapping[Scope, str], now: datetime) -> None:
    """Make the keys valid in the store."""
    connection = await connect(database_url, 10)
    try:
        for scope, key in keys.items():
            await adopt_key(connection, key, scope, SOURCE, now)
    finally:
        await connection.close(timeout=5)


def _read(path: Path) -> Mapping[Scope, str]:
    keys: dict[Scope, str] = {}
    problems: list[str] = []
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None or found[1] not in VARIABLES:
            problems.append(f"{path}: line {number} is not one of {', '.join(VARIABLES)} with a key")
            continue
        keys[VARIABLES[found[1]]] = found[2]
    if problems:
        raise ConfigError("\n".join(problems))
    return keys


def _write(path: Path, keys: Mapping[Scope, str]) -> None:
    """All or nothing, and never readable by others, not even while it is made."""
    text = "".join(f"{variable}={keys[scope]}\n" for variable, scope in VARIABLES.items())
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
