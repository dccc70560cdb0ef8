"""The ports of the services: free, different from one another, and known before anything starts."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Mapping

from shared.errors import ConfigError
from shared.lifecycle import listen


def settle_ports(host: str, ports: Mapping[str, int]) -> Mapping[str, int]:
    """The port of every variable; 0 becomes one that the system has free.

    Raises:
        ConfigError: names every variable whose port is taken, given twice or not allowed.
    """
    settled: dict[str, int] = {}
    problems: list[str] = []
    with contextlib.ExitStack() as held:
        for variable, port in ports.items():
            try:
                listener = held.enter_context(listen(host, port))
            except OSError as error:
                problems.append(_problem(variable, host, port, error))
                continue
            # Listening, not only bound: else the system lets the next one bind the same port.
            listener.listen(1)
            settled[variable] = int(listener.getsockname()[1])
    if problems:
        raise ConfigError("\n".join(problems))
    return settled


def _problem(variable: str, host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{variable}: port {port} of {host} is taken; set {variable} to another one"
    if error.errno == errno.EACCES:
        return f"{variable}: port {port} needs rights that this user lacks"
    return f"REJSE_HOST: {host} is no address of this machine"
