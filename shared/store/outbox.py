"""What consumers are told of journeys themselves: which version is read from now on."""

from __future__ import annotations

from datetime import datetime

import msgspec

from shared.store.engine import Connection

_encode = msgspec.json.Encoder().encode
_TELL = "INSERT INTO outbox (key, value, to_all) VALUES ($1, $2, true)"


class VersionTold(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="journey_version"):
    """From now on `version` of a journey is read (null: none), and until now it was `former` (null: none).
    What was told of customers in the journey before is about that one."""

    journey: str
    version: int | None
    former: int | None
    known_at: datetime


async def tell_version(
    connection: Connection, journey: str, version: int | None, former: int | None, now: datetime
) -> None:
    """Put into the outbox which version is read from now on, for every partition.

    The revision of what is folded must have been raised in the same transaction: no batch by the former
    version is under way then, and none by the new one has begun. So all that is told of the one has a lower
    id, and all that is told of the other a higher one.
    """
    await connection.execute(_TELL, journey.encode(), _encode(VersionTold(journey, version, former, now)))
