"""HTTP to services on this machine, which speak no TLS."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

# For a client of its own making httpx reads the certificates of all authorities first: 50 ms of CPU.
_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def client(**options: Any) -> httpx.Client:
    """A client with httpx's options."""
    return httpx.Client(verify=_TRUSTS_NOBODY, **options)


def async_client(**options: Any) -> httpx.AsyncClient:
    """The same, for an event loop."""
    return httpx.AsyncClient(verify=_TRUSTS_NOBODY, **options)


def get(url: str, **options: Any) -> httpx.Response:
    """Ask once."""
    with client() as one:
        return one.get(url, **options)


def post(url: str, **options: Any) -> httpx.Response:
    """Post once."""
    with client() as one:
        return one.post(url, **options)
