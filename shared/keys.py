"""API keys: random, shown once, stored as SHA-256, with scopes.

A key is `rejse_<scope>_<43 random characters>`: the prefix lets a secret scanner find it, and 256 random
bits make a fast hash the right one. A write key belongs to a source, whose name stands on every touchpoint.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

Scope = Literal["write", "read", "admin"]
SCOPES: tuple[Scope, ...] = ("write", "read", "admin")


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is stored of a key. `id` names it without giving it away, `source` is its sender, and `region` the
    ISO 3166-1 alpha-2 code of the country whose phone numbers that one writes without a country code."""

    id: str
    digest: bytes
    scope: Scope
    source: str
    region: str | None = None


def new_key(scope: Scope) -> str:
    """A fresh key, to be shown once."""
    return f"rejse_{scope}_{secrets.token_urlsafe(32)}"


def digest(key: str) -> bytes:
    """What is stored of a key and looked up by."""
    return sha256(key.encode("utf-8", "surrogatepass")).digest()


def key_id(key: str) -> str:
    """A short public name of a key, for lists and logs."""
    return digest(key).hex()[:12]


def bearer(authorization: str | None) -> str | None:
    """The token of an `Authorization: Bearer …` header (RFC 6750), or None."""
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


class Keyring:
    """The keys that are valid now. Looking one up hashes first, so that an unknown key costs the same."""

    def __init__(self, keys: Mapping[bytes, KeyRecord]) -> None:
        self._keys = dict(keys)

    def find(self, key: str | None, scope: Scope) -> KeyRecord | None:
        """The record of a key that is valid and has the scope (an admin key has every scope but `write`)."""
        found = self._keys.get(digest(key or ""))
        if found is None:
            return None
        if found.scope == scope or (found.scope == "admin" and scope == "read"):
            return found
        return None

    def __len__(self) -> int:
        return len(self._keys)
