"""One person's address, number or card is one identity, however it is spelled."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.identities import normalise_identity
from shared.phones import regions
from shared.touchpoint import IDENTITY_KINDS

SPELLINGS = {
    "email:ida@example.com": (
        "ida@example.com",
        " Ida@Example.COM\n",
        "ida@example.com.",
        "\ufeffida@example.com",
        "ida@exam\u200bple.com",
        "\u202aida@example.com\u202c",
    ),
    # RFC 6530: the part before the @ may be in any script; the same letters composed or not.
    "email:zoë@example.com": ("zoë@example.com", "zoe\u0308@example.com", "ZOË@example.com"),
    # RFC 5891: A-label and U-label are one domain. UTS 46: what is mapped (case, width, the ideographic full
    # stop), what is ignored (the soft hyphen), and the deviation characters ß and ς, which are kept.
    "email:ida@xn--blbr-roah.dk": (
        "ida@blåbær.dk",
        "ida@BLÅBÆR.DK",
        "ida@bla\u030abær.dk",
        "ida@xn--blbr-roah.dk",
        "Ida@XN--BLBR-ROAH.dk.",
        "ida@blåbær。dk",
        "ida@blå\u00adbær.dk",
    ),
    "email:ida@xn--fa-hia.de": ("ida@faß.de", "ida@xn--fa-hia.de"),
    "email:ida@fass.de": ("ida@fass.de", "ida@ｆａｓｓ.de"),
    "email:ida@xn--nxasmm1c.com": ("ida@βόλος.com",),
    "email:ida@xn--r8jz45g.jp": ("ida@例え.jp", "ida@XN--R8JZ45G.JP"),
    "email:ida.s+shop@example.com": ("ida.s+shop@example.com",),
    # ITU-T E.123 writes spaces and (0), RFC 3966 `tel:` and hyphens, people everything.
    "phone:+4533123456": (
        "+4533123456",
        "+45 33 12 34 56",
        "(+45) 33-12-34-56",
        "+45.33.12.34.56",
        "0045 33 12 34 56",
        "tel:+45-33-12-34-56",
        "\u202a+45 33 12 34 56\u202c",
        "+45\u00a033\u201112\u201134\u201156",
        "＋４５ ３３１２３４５６",
        "+٤٥٣٣١٢٣٤٥٦",
    ),
    # libphonenumber's FAQ: the zero of an Italian number is part of it, that of a British one is not.
    "phone:+390236618300": ("+39 02 3661 8300", "0039 0236618300"),
    "phone:+442070313000": ("+44 20 7031 3000", "+44 (0)20 7031 3000", "+4402070313000"),
    "phone:+80012345678": ("+800 1234 5678",),
    # Long enough for a number, though none such was given out.
    "phone:+15551234567": ("+1 (555) 123-4567",),
    "phone:+4533123456;ext=12": (
        "+45 33 12 34 56 x12",
        "+45 33123456 ext. 12",
        "+4533123456 Extension 012",
        "+45 33 12 34 56 #12",
        "tel:+45-33-12-34-56;ext=12",
    ),
    "loyalty_id:0123456789": ("0123456789", "0123 4567 89", "0123-4567-89", "0123\u00a04567\u201189 "),
    "loyalty_id:dk12ab": ("DK12AB", "dk 12 ab", "dk12-AB"),
    "user_id:Ann-1": (" Ann-1 ",),
    "account_id:ACME A/S": ("ACME A/S\t",),
    "anonymous_id:A-1": ("A-1",),
    "crm:zoë 47-11": ("zoë 47-11", "zoe\u0308 47-11 "),
}

DIALLED = {
    ("DK", "33 12 34 56"): "+4533123456",
    ("DK", "(33) 12-34-56"): "+4533123456",
    ("DK", "33123456 ext 7"): "+4533123456;ext=7",
    ("DK", "0046 8 505 103 00"): "+46850510300",
    ("DK", "+46 8 505 103 00"): "+46850510300",
    ("SE", "08-505 103 00"): "+46850510300",
    ("GB", "020 7031 3000"): "+442070313000",
    ("US", "(212) 555-0123"): "+12125550123",
    ("US", "011 45 33 12 34 56"): "+4533123456",
    ("US", "0045 33 12 34 56"): "+4533123456",
    ("IT", "02 3661 8300"): "+390236618300",
    ("BR", "00 15 45 33123456"): "+4533123456",
}

REFUSED = {
    "email": (
        "ida", "ida@", "@example.com", "ida@@example.com", "ida@example..com", "ida@.com", "ida@-a.com",
        "i d@a.dk", "mailto:ida@example.com", "Ida <ida@example.com>", '"ida"@example.com', "a@x.dk,b@x.dk",
        "ida@[192.0.2.1]", "ida@" + "a" * 64 + ".dk", "ida@❤.ws", "ida@ex\0ample.com", "ida@blå bær.dk",
        "x" * 201 + "@a.dk",
    ),
    "phone": (
        "33123456", "112", "+45112", "+45 33 12 34 5", "+45 33 12 34 56 7", "+999 1234567", "+45", "+",
        "call me", "1-800-FLOWERS", "+4533123456 or 44556677", "+45 33 12 34 56 / 78", "+" + "1" * 25,
        "+45 33+12 34 56", "sip:+4533123456@example.com", "+1" + " " * 250 + "2125550123", "²²²²²²²²",
    ),
    "loyalty_id": ("-", " - ", "x" * 201),
    "user_id": ("", " ", "x" * 201, "é" * 101),
}  # fmt: skip


@pytest.mark.parametrize("identity", SPELLINGS)
def test_every_spelling_is_one_identity(identity: str) -> None:
    """Case, decoration, script of the domain, composition of letters: none of it makes another person."""
    kind = identity.partition(":")[0]

    assert {normalise_identity(kind, spelling) for spelling in SPELLINGS[identity]} == {identity}


@pytest.mark.parametrize(("region", "text"), DIALLED)
def test_a_number_is_what_it_is_when_dialled_in_the_region(region: str, text: str) -> None:
    """National numbers, and those that begin with the region's prefix for calls abroad or with `00`."""
    assert normalise_identity("phone", text, region) == f"phone:{DIALLED[region, text]}"


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind in REFUSED for value in REFUSED[kind]])
def test_what_is_not_of_its_kinds_form_is_refused_without_repeating_it(kind: str, value: str) -> None:
    """The reason is a phrase of ours alone."""
    with pytest.raises(ValueError, match=r"^is [a-z0-9 ,'+-]+$") as refused:
        normalise_identity(kind, value)

    assert not [word for word in ("ida", "33", "flowers", "call") if word in str(refused.value).lower()]


def test_a_national_number_is_told_what_it_lacks() -> None:
    """Without a region only the sender can know the country."""
    with pytest.raises(ValueError, match="without its country code, and there is no default region"):
        normalise_identity("phone", "33 12 34 56")


phonelike = st.text(" +0123456789()-.x;ext=tel:/#٣３", max_size=30)
domains = st.text("abcßςåæØéİΣ例え.-。\u00ad\u200b_xn", max_size=25) | st.text(max_size=15)
emaillike = st.builds("{}@{}".format, st.text(max_size=12), domains)
identity_texts = st.text(max_size=40) | phonelike | emaillike


@given(
    st.sampled_from([*sorted(IDENTITY_KINDS), "crm"]),
    identity_texts,
    st.sampled_from([None, *sorted(regions())]),
)
@example("phone", "+44 0 0 20 7031 3000", None)
@example("phone", "+46 00 969 887 396", None)
@example("phone", "8 10 45 33123456", "RU")
@example("email", "İΣ@ΟΔΟΣ.gr", None)
def test_normalising_twice_is_normalising_once(kind: str, value: str, region: str | None) -> None:
    """What the log has is what the API finds for it, wherever it is normalised again, with a region or
    without; and whatever was sent, it is an identity or a ValueError."""
    with contextlib.suppress(ValueError):
        identity = normalise_identity(kind, value, region)
        canonical = identity.partition(":")[2]
        assert normalise_identity(kind, canonical) == identity
        assert normalise_identity(kind, canonical, "DK") == identity


@given(st.sampled_from(sorted(SPELLINGS)), st.data())
def test_white_space_and_case_of_an_address_do_not_matter(identity: str, data: st.DataObject) -> None:
    """Any mixture of upper and lower case of an e-mail address or a card, with any white space around it."""
    kind, _, value = identity.partition(":")
    if kind not in ("email", "loyalty_id"):
        return
    cased = "".join(data.draw(st.sampled_from((one.lower(), one.upper()))) for one in value)
    space = data.draw(st.text(" \t\n\u00a0\u3000", max_size=3))

    assert normalise_identity(kind, f"{space}{cased}{space}") == identity


def test_what_knows_numbers_and_scripts_is_loaded_when_it_is_needed() -> None:
    """A service whose senders write neither pays for neither, at its start or in memory."""
    program = (
        "import services.ingest.app, services.api.app, sys\n"
        "from shared.identities import normalise_identity\n"
        "normalise_identity('email', 'Ida@Example.com'), normalise_identity('user_id', 'zoë')\n"
        "print(sorted({'idna', 'phonenumbers'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
