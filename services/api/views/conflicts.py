"""The links that were refused, of all customers, newest first, page by page.

A page goes on behind the last one in the order of (first refused, customer, identity, kind), along an index.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec

from services.api.views import cursor
from services.api.views.answers import IdentityConflicts
from services.api.views.customers import QUERY_TIMEOUT_S
from shared.store.engine import Pool, connection_of
from shared.store.identities import REFUSED_LINKS, RefusedLink

_PAGE = f"""
{REFUSED_LINKS} WHERE (c.first_at, c.customer_id, c.identity, c.kind) < ($1, $2, $3, $4)
ORDER BY c.first_at DESC, c.customer_id DESC, c.identity DESC, c.kind DESC LIMIT $5
"""

_IDENTITY_CHARACTERS_MAX = 300


class Refused(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The sort key of a refused link, as the query compares it."""

    first_at: datetime
    customer_id: UUID
    identity: str
    kind: str


NEWEST = Refused(datetime.max.replace(tzinfo=UTC), UUID(int=0), "", "")
"""Later than every link: where the first page begins."""

_decoder = msgspec.msgpack.Decoder(Refused)


def from_cursor(text: str) -> Refused:
    """Where a cursor says to go on.

    Raises:
        ValueError: no answer of ours gave this cursor.
    """
    place = cursor.from_text(text, _decoder)
    texts_are_storable = all(
        "\0" not in one and len(one) <= _IDENTITY_CHARACTERS_MAX for one in (place.identity, place.kind)
    )
    if not texts_are_storable or not cursor.are_storable((), (place.first_at,)):
        raise ValueError("is no cursor of ours")
    return place


async def find_conflicts(pool: Pool, after: Refused, links_max: int) -> IdentityConflicts:
    """The refused links that follow a place.

    Raises:
        Transient: the store is away or busy.
    """
    async with connection_of(pool) as connection:
        rows = await connection.fetch(
            _PAGE, *msgspec.structs.astuple(after), links_max + 1, timeout=QUERY_TIMEOUT_S
        )
    page = [RefusedLink(*row) for row in rows[:links_max]]
    if len(rows) <= links_max:
        return IdentityConflicts(page, None)
    last = page[-1]
    place = Refused(last.first_at, last.customer, last.identity, last.too_many)
    return IdentityConflicts(page, cursor.to_text(place))
