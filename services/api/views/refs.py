"""How a customer is named in a path: as everywhere, percent-encoded."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from shared import refs
from shared.refs import CustomerRef


def parse_ref(segment: str) -> CustomerRef:
    """The customer that a path segment, percent-encoded as it was sent, names.

    Raises:
        ValueError: it can't name a customer. The text never repeats it.
    """
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    return refs.parse_ref(text)
