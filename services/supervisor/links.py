"""Links between identities that a person withdraws, or takes back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from services.supervisor.commands import with_store
from shared.clock import SystemClock
from shared.errors import ConfigError
from shared.refs import parse_ref
from shared.store.engine import Connection
from shared.store.withdrawals import Links, links_of, take_back, withdraw

LOOK_EVERY_S = 0.2
WAIT_S = 60.0


def unlink(environ: Mapping[str, str], identity: str, other: str | None, *, detach: bool) -> Links:
    """Withdraw the link between two identities, or every link of one, and wait until a stager has carried
    it out, a minute at most.

    Raises:
        ConfigError: they can't name anybody, or no touchpoint told of them together.
    """
    return _said(environ, identity, other, withdrawn=True, detach=detach)


def relink(environ: Mapping[str, str], identity: str, other: str | None, *, detach: bool) -> Links:
    """Let withdrawn links count again; the rest as for `unlink`."""
    return _said(environ, identity, other, withdrawn=False, detach=detach)


def _said(
    environ: Mapping[str, str], identity: str, other: str | None, *, withdrawn: bool, detach: bool
) -> Links:
    names = _name(identity), None if other is None else _name(other)
    clock = SystemClock()

    async def asked(connection: Connection) -> Links:
        await (withdraw if withdrawn else take_back)(connection, *names, clock.now())
        found = await links_of(connection, *names)
        until_s = clock.monotonic_s() + (0 if detach else WAIT_S)
        while not all(one.carried_out for one in found.links) and clock.monotonic_s() < until_s:
            await asyncio.sleep(LOOK_EVERY_S)
            found = await links_of(connection, *names)
        return found

    found = with_store(environ, asked)
    if not found.links:
        raise ConfigError("no touchpoint told of these identities together")
    return found


def _name(text: str) -> str:
    try:
        found = parse_ref(text)
    except ValueError as error:
        raise ConfigError(f"an identity {error}") from None
    if not isinstance(found, str):
        raise ConfigError("an identity is written kind:value")
    return found
