"""How a customer is named: `kind:value` of any identity, or the customer's own UUID."""

from __future__ import annotations

from uuid import UUID

from shared.identities import normalise_identity
from shared.touchpoint import is_identity_kind

CustomerRef = UUID | str
"""A customer's id, or a normalised `kind:value` identity."""


def parse_ref(text: str) -> CustomerRef:
    """The customer that a text, as people write it, names.

    Raises:
        ValueError: it can't name a customer. The text never repeats it.
    """
    kind, colon, value = text.partition(":")
    if not colon:
        return _parse_id(text)
    if not is_identity_kind(kind):
        raise ValueError("begins with no kind of identity, such as email: or crm:")
    if "\0" in value:
        raise ValueError("holds a NUL")
    return normalise_identity(kind, value)


def _parse_id(text: str) -> UUID:
    try:
        id_ = UUID(text)
    except ValueError:
        id_ = None
    # UUID() also takes braces and missing hyphens; one customer has one address.
    if id_ is None or str(id_) != text.lower():
        raise ValueError("is neither kind:value nor a UUID")
    return id_
