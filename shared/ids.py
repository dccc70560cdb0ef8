"""Where new ids come from."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import uuid_utils
import uuid_utils.compat

NewId = Callable[[], UUID]
"""Gives a fresh id at every call."""


def uuid7() -> UUID:
    """A new UUIDv7 (RFC 9562, section 5.7): ids made later sort later, which keeps indexes local."""
    return uuid_utils.compat.uuid7()


def uuid7_bytes() -> bytes:
    """The 16 bytes of a new UUIDv7."""
    return uuid_utils.uuid7().bytes
