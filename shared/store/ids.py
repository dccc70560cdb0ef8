"""The ids of rows: how a sender's id becomes the store's, and where fresh ones come from."""

from __future__ import annotations

from hashlib import blake2b, sha256
from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as StoreUUID

from shared.ids import uuid7_bytes

# The driver's kind of UUID is what rows hold too: made, hashed and compared in C.


def new_row_id() -> UUID:
    """A fresh id for a row; ids made later sort later."""
    return StoreUUID(uuid7_bytes())


def touchpoint_uid(source: str, sender_id: str) -> UUID:
    """The store's id of a touchpoint: the sender's id hashed with its source.

    A sender's id is unique per source only; hashing both gives 16 bytes of the same size for all.
    """
    return StoreUUID(blake2b(f"{source}\0{sender_id}".encode(), digest_size=16).digest())


def account_uid(identity: str) -> UUID:
    """The store's id of an account: its `account_id:…` hashed, as PostgreSQL can do it too, so that two
    transactions that meet a new account give it the same."""
    return StoreUUID(sha256(identity.encode()).digest()[:16])
