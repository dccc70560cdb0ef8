"""Values that stand for nobody link nobody, and cost no touchpoint that says who by something else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.accept import Accepted
from services.ingest.settings import Settings
from shared import codec
from shared.config import load
from shared.errors import ConfigError
from shared.ids import uuid7
from shared.worthless import WORTHLESS, Worthless
from tests.support.accepting import accept
from tests.unit.test_identities import identity_texts

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ZEROES = ("0", "000", "-", "--", "00000000-0000-0000-0000-000000000000", "+0 (00) 000", "", "  ")
VALUES = (*sorted(WORTHLESS.values), *ZEROES, "NULL", "Undefined", "[object Object]", " None ", "NaN")


def verdict(identities: Mapping[str, Any], worthless: Worthless = WORTHLESS, **more: Any) -> Accepted:
    """The verdict on one touchpoint, the same whichever way it is read."""
    body = json.dumps({"id": "1", "type": "t", "channel": "web", "identities": identities}).encode()
    quickly = accept(body, "json", "s", NOW, uuid7, worthless=worthless, **more)
    assert accept(body, "json", "s", NOW, uuid7, worthless=worthless, quick=False, **more) == quickly
    return quickly


def kept(found: Accepted) -> tuple[str, ...]:
    """The identities that reach the log."""
    return codec.decode(found.records[0].value).identities


@pytest.mark.parametrize("kind", ["user_id", "email", "phone", "loyalty_id", "account_id", "crm"])
def test_a_worthless_value_is_left_out_whatever_its_kind(kind: str) -> None:
    """The rest of the touchpoint stands, and the answer tells which kind it was."""
    for value in VALUES:
        found = verdict({kind: [value, value.upper()], "other": "u-1"})

        assert (value, kept(found), found.worthless) == (value, ("other:u-1",), [kind, kind])


def test_a_touchpoint_of_nobody_is_refused() -> None:
    """Where nothing else says who, that is the reason; an account does not say who either."""
    found = verdict({"user_id": "null", "anonymous_id": "0", "account_id": "acme"})

    assert [(one.code, one.pointer) for one in found.refusals] == [("worthless_identity", "/identities")]
    assert found.worthless == ["user_id", "anonymous_id"]


@pytest.mark.parametrize("value", ["nullable", "0x0", "guest-7", "10", "-10", "null@example.com", "Testa"])
def test_what_only_looks_like_it_is_kept(value: str) -> None:
    """A whole value is worthless, never a part of one."""
    assert kept(verdict({"crm": value})) == (f"crm:{value}",)


def test_more_can_be_declared_worthless() -> None:
    """Of every kind or of one, normalised as identities are, beside the default list."""
    texts = ["Void", "email:NoReply@Shop.example", "phone:+45 70 10 20 30", "loyalty_id:99 00"]
    more = WORTHLESS.and_also(texts)
    sent = {
        "user_id": "void",
        "email": ["noreply@shop.example", "ida@shop.example"],
        "phone": "0045 70102030",
        "loyalty_id": "9900",
        "crm": ["null", "9900"],
    }

    assert kept(verdict(sent, more)) == ("email:ida@shop.example", "crm:9900")
    assert len(kept(verdict(sent))) == 6


def test_the_setting_is_such_a_list() -> None:
    """Wrong ones are told by their number; what is in the list is not repeated."""
    texts = ["void", "email:noreply@shop.example"]
    environ = {"REJSE_WORTHLESS_IDENTITIES": ", ".join(texts)}

    assert load(Settings, {}).worthless_identities is WORTHLESS
    assert load(Settings, environ).worthless_identities == WORTHLESS.and_also(texts)
    with pytest.raises(ConfigError, match="IDENTITIES has, as number 2, what is no e-mail address"):
        load(Settings, {"REJSE_WORTHLESS_IDENTITIES": "void,email:shop"})


@given(
    st.dictionaries(
        st.sampled_from(["user_id", "email", "phone", "crm"]), st.sampled_from(VALUES) | identity_texts
    )
)
def test_a_record_of_the_log_has_no_worthless_identity(identities: dict[str, str]) -> None:
    """Whatever is sent is refused, or its record is one that would be accepted as it is: who reads the log
    needs no settings."""
    found = verdict(identities, region="DK")
    for record in found.records:
        given = dict(one.split(":", 1) for one in codec.decode(record.value).identities)
        again = verdict(given)
        assert (kept(again), again.worthless) == (codec.decode(record.value).identities, [])
