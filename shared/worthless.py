"""Values that stand for nobody: defaults, mistakes and test data that very many customers share.

One such value would unite all of them. So it is no identity: the touchpoint is kept, and what else it says of
who it was decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.identities import normalise_identity, trimmed
from shared.touchpoint import is_identity_kind

_BARE = (
    # What Segment suggests to block: segment.com/docs/unify/identity-resolution, "Blocked values".
    "-1", "null", "anonymous",
    # What PostHog never merges by: nodejs/src/common/persons/person-utils.ts in its repository.
    "guest", "distinctid", "distinct_id", "id", "not_authenticated", "email", "undefined", "true", "false",
    "[object object]", "nan", "none", "0",
    # Ours: other words for nothing, other names of members in place of their values, and test data.
    "nil", "n/a", "na", "unknown", "user_id", "userid", "anonymous_id", "phone", "loyalty_id", "test",
)  # fmt: skip
NOTHING = "0-+./() "
"""A text of these alone is worthless too: Segment's zeroes and dashes, so the UUID of zeroes, and what
decorates a phone number."""


@dataclass(frozen=True, slots=True)
class Worthless:
    """What is worthless: `values` of every kind, in lower case, and whole `identities`, normalised.

    Values are looked for before a text is held to its kind's form: `null` is no e-mail address, but no reason
    to refuse a purchase either.
    """

    values: frozenset[str]
    identities: frozenset[str] = frozenset()

    def and_also(self, texts: Sequence[str]) -> Worthless:
        """With more, each a value of every kind, or `kind:value`.

        Raises:
            ValueError: one of them is empty, or not of its kind's form.
        """
        values, identities = set(self.values), set(self.identities)
        for number, text in enumerate(map(trimmed, texts), 1):
            kind, colon, value = text.partition(":")
            try:
                if colon and is_identity_kind(kind):
                    identities.add(normalise_identity(kind, value))
                else:
                    values |= _spellings(text)
            except ValueError as error:
                raise ValueError(f"has, as number {number}, what {error}") from None
        return Worthless(frozenset(values), frozenset(identities))


def _spellings(value: str) -> frozenset[str]:
    """A value, alone and in the quotes that some serialisers leave around it. The case doesn't matter: SQL
    has `NULL`, Python `None`, and pandas writes `nan`."""
    if not value:
        raise ValueError("is empty")
    value = value.lower()
    return frozenset((value, f'"{value}"', f"'{value}'"))


WORTHLESS = Worthless(frozenset().union(*map(_spellings, _BARE)))
"""The default list."""
