"""Identities in one form: however a value was typed, scanned or copied, it is one identity.

Done once, at the door, and in the API for what it is asked; the log and the store know only the result. A
value's form is all that is looked at. What a provider makes of its addresses (dots, `+` tags) is not guessed:
two people of one company could become one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache

from shared.phones import normalise_phone
from shared.touchpoint import IDENTITY_VALUE_BYTES_MAX

_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
"""What comes along when text is copied: soft hyphens, zero-width spaces, marks of direction."""
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_ADDRESS = re.compile(rf'([^@\s()<>\[\]:;,\\"]+@{_LABEL}(?:\.{_LABEL})*)\.?')
_TOO_LONG = f"is longer than {IDENTITY_VALUE_BYTES_MAX} bytes"
_CARD_DECORATION = re.compile(r"[\s\-\u2010-\u2015\u2212]")


def normalise_identity(kind: str, value: str, region: str | None = None) -> str:
    """The canonical `kind:value` of an identity.

    `email` is an address in lower case with its domain in ASCII, `phone` is in E.164's form (a national
    number is one of the region), `loyalty_id` is in lower case without spaces and hyphens. Every other value
    is only trimmed: it is an id of a system that knows what it means by its case. Text is in Unicode's
    form NFC, so that two ways to type the same name are one identity.

    Raises:
        ValueError: the value is empty, too long or not of its kind's form. The text never repeats it.
    """
    text = trimmed(value)
    if not text:
        raise ValueError("is empty")
    return canonical(kind, text, region)


def canonical(kind: str, text: str, region: str | None = None) -> str:
    """The same, of a text that is `trimmed` and not empty."""
    form = _FORMS.get(kind)
    if form is not None:
        if len(text) > IDENTITY_VALUE_BYTES_MAX:
            raise ValueError(_TOO_LONG)
        text = form(text, region)
    # A character has four bytes at most.
    if len(text) > IDENTITY_VALUE_BYTES_MAX // 4 and len(text.encode()) > IDENTITY_VALUE_BYTES_MAX:
        raise ValueError(_TOO_LONG)
    return f"{kind}:{text}"


def trimmed(value: str) -> str:
    """A text in form NFC, without white space around it."""
    return (value if value.isascii() else unicodedata.normalize("NFC", value)).strip()


def _email(value: str, _: str | None) -> str:
    """An address in lower case, as a whole: RFC 5321 lets the part before the `@` tell cases apart, but no
    provider does, and people type theirs as they like. A domain's final dot, which only says that it is
    complete, goes. Quoted parts and addresses with a name beside them are refused: they are for headers."""
    value = value.lower()
    if not value.isascii():
        value = _with_ascii_domain(_INVISIBLE.sub("", value))
    match = _ADDRESS.fullmatch(value)
    if match is None:
        raise ValueError("is no e-mail address")
    return match[1]


def _with_ascii_domain(value: str) -> str:
    local, at, domain = value.strip().rpartition("@")
    return f"{unicodedata.normalize('NFC', local)}{at}{domain if domain.isascii() else _to_ascii(domain)}"


@lru_cache(maxsize=1_000)
def _to_ascii(domain: str) -> str:
    """A domain as it stands in the DNS (IDNA 2008, mapped as UTS 46 says): the form that mail is sent to."""
    # Imported late: its tables take 20 ms.
    import idna

    try:
        return idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        raise ValueError("is an e-mail address with a domain that there can't be") from None


def _loyalty_id(value: str, _: str | None) -> str:
    """A card's number as a scanner reads it. People type it in groups, as it is printed, and don't mind the
    case of letters; leading zeros are part of it."""
    value = value.lower()
    if value.isascii() and value.isalnum():
        return value
    value = unicodedata.normalize("NFC", _CARD_DECORATION.sub("", value))
    if not value:
        raise ValueError("is empty")
    return value


def _phone(value: str, region: str | None) -> str:
    return normalise_phone(value if value.isascii() else _INVISIBLE.sub("", value), region)


_FORMS: Mapping[str, Callable[[str, str | None], str]] = {
    "email": _email,
    "phone": _phone,
    "loyalty_id": _loyalty_id,
}
"""What a kind makes of a text, where that is more than keeping it. A region is for phone numbers alone."""
