"""Erasing a customer, by command."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from services.supervisor.commands import with_store
from services.supervisor.links import LOOK_EVERY_S, WAIT_S
from shared.clock import SystemClock
from shared.errors import ConfigError
from shared.refs import CustomerRef
from shared.store.engine import Connection
from shared.store.erasures import Erasure, find_erasure
from shared.store.erasures import erase as erase_in_store


def erase(environ: Mapping[str, str], ref: CustomerRef, *, detach: bool) -> Erasure:
    """Erase the customer that `ref` names, and wait until a stager has carried it out, a minute at most. Of
    one who is erased already it tells how that stands.

    Raises:
        ConfigError: nobody is known by it.
        Transient: somebody else is at it, or a link of theirs is not settled yet.
    """
    clock = SystemClock()

    async def asked(connection: Connection) -> Erasure | None:
        async with connection.transaction():
            found = await erase_in_store(connection, ref, clock.now())
        until_s = clock.monotonic_s() + (0 if detach else WAIT_S)
        while found and not found.carried_out and clock.monotonic_s() < until_s:
            await asyncio.sleep(LOOK_EVERY_S)
            found = await find_erasure(connection, found.customer)
        return found

    erased = with_store(environ, asked)
    if erased is None:
        raise ConfigError("no customer is known by this reference")
    return erased
