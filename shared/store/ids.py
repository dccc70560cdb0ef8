"""How a sender's id becomes the store's."""

from __future__ import annotations

from hashlib import blake2b
from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as StoreUUID


def touchpoint_uid(source: str, sender_id: str) -> UUID:
    """The store's id of a touchpoint: the sender's id hashed with its source.

    A sender's id is unique per source only; hashing both gives 16 bytes of the same size for all.
    """
    # The driver's kind of UUID, which rows hold too: made and compared in C.
    return StoreUUID(blake2b(f"{source}\0{sender_id}".encode(), digest_size=16).digest())
