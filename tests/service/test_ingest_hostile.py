"""Whatever is sent, the answer is a stable 4xx (or a 202) within a second, and ingest lives on."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from services.ingest.accept import accept
from services.ingest.body import inflate
from services.ingest.event import TooMuch
from services.ingest.frames import framing
from shared.clock import SystemClock
from shared.content import Malformed
from shared.ids import uuid7
from tests.support.ingest import KEY, PATH, Ingest, event, running_ingest

ONE_MIB, FOUR_MIB = 1024 * 1024, 4 * 1024 * 1024
STEP_S_MAX = 0.05


def in_properties(value: bytes) -> bytes:
    """A touchpoint that is fit but for a value."""
    return b'{"type":"t","channel":"web","identities":{"user_id":"1"},"properties":{"a":%s}}' % value


def filled(start: bytes, unit: bytes, end: bytes, size: int = FOUR_MIB) -> bytes:
    """As many units as fit."""
    return start + unit * ((size - len(start) - len(end)) // len(unit)) + end


def many(kind: str, values: list[str], each: int) -> bytes:
    """Touchpoints with so many of the values each."""
    cut = [values[at : at + each] for at in range(0, len(values), each)]
    return json.dumps([event(identities={kind: some}) for some in cut]).encode()


EVENT = in_properties(b"1")
IN_EVENT = 32_000 - len(EVENT)
CORPUS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "application/json"),
    "null": (b"null", "application/json"),
    "text": (b'"x"', "application/json"),
    "NUL": (b"\x00" * 1000, "application/json"),
    "BOM": (b"\xef\xbb\xbf" + EVENT, "application/json"),
    "UTF-16": (EVENT.decode().encode("utf-16"), "application/json"),
    "UTF-32": (EVENT.decode().encode("utf-32"), "text/plain"),
    "deep array": (b"[" * FOUR_MIB, "application/json"),
    "deep array that ends": (b"[" * (FOUR_MIB // 2) + b"]" * (FOUR_MIB // 2), "application/json"),
    "deep objects": (filled(b"", b'{"a":', b""), "application/json"),
    "deep lines": (filled(b"", b"[" * 4000 + b"\n", b""), "application/x-ndjson"),
    "deep inside": (in_properties(b"[" * 15_000 + b"]" * 15_000), "application/json"),
    "deep twice": (b"[%s,%s]" % ((in_properties(b"[" * 9_000 + b"]" * 9_000),) * 2), "application/json"),
    "zeros": (filled(b"[", b"0,", b"0]"), "application/json"),
    "zeros and NaN": (filled(b"[", b"0,", b"NaN]"), "application/json"),
    "one item of zeros": (filled(b"[[", b"0,", b"0],NaN]"), "application/json"),
    "empty arrays": (filled(b"[[", b"[],", b"NaN]]"), "application/json"),
    "newlines": (b"\n" * FOUR_MIB, "application/x-ndjson"),
    "spaces and newlines": (b" \n" * (FOUR_MIB // 2), "application/x-ndjson"),
    "quotes": (b'"' * FOUR_MIB, "application/json"),
    "escaped quotes": (b'["' + b'\\"' * (FOUR_MIB // 2 - 4), "application/json"),
    "backslashes": (b'["' + b"\\" * (FOUR_MIB - 3), "application/json"),
    "backslash quotes in an array": (filled(b'[NaN,"', b'\\"', b'"]'), "application/json"),
    "unicode escapes": (filled(b'["', b"\\ud800", b'"]'), "application/json"),
    "look-alikes of exponents": (filled(b'["', b"x0e000", b'"]'), "application/json"),
    "digits": (filled(b"[", b"9", b"]"), "application/json"),
    "exponent": (in_properties(b"1e" + b"9" * IN_EVENT), "application/json"),
    "1e131071": (in_properties(b"1e131071"), "application/json"),
    "many numbers": (
        b"[" + b",".join([in_properties(filled(b"[", b"1e400,", b"1]", 8_000))] * 499) + b"]",
        "application/json",
    ),
    "many floats that are fine": (
        b"[" + b",".join([in_properties(filled(b"[", b"1e100,", b"1]", 8_000))] * 499) + b"]",
        "application/json",
    ),
    "bad at every end": (
        b"[" + b",".join([in_properties(filled(b"[", b"[],", b'"\\u0000"]', 8_000))] * 499) + b"]",
        "application/json",
    ),
    "identities": (
        b'{"type":"t","channel":"web","identities":{"crm":%s}}' % filled(b"[", b'"1",', b'"1"]', IN_EVENT),
        "application/json",
    ),
    "kinds": (
        json.dumps(event(identities={f"n{n}": "1" for n in range(2_000)})).encode(),
        "application/json",
    ),
    "one name again and again": (b"{" + b'"type":1,' * 3_000 + b'"type":2}', "application/json"),
    "long name": (b'{"%s":1}' % (b"a" * 30_000), "application/json"),
    "e-mail address": (
        json.dumps(event(identities={"email": "a" * 15_000 + "@" + "b" * 15_000 + " "})).encode(),
        "application/json",
    ),
    "phone number": (
        json.dumps(event(identities={"phone": "+" + "1 " * 15_000})).encode(),
        "application/json",
    ),
    "many phone numbers": (
        many("phone", [f"+45{20_000_000 + n}" for n in range(5_000)], 10),
        "application/json",
    ),
    "many domains": (many("email", [f"a@{'é' * 40}{n}.dk" for n in range(1_500)], 3), "application/json"),
    "combining marks": (
        json.dumps(event(identities={"user_id": "e" + "\u0301" * 5_000})).encode(),
        "application/json",
    ),
    "type that nearly fits": (json.dumps(event(type="a_" * 10_000 + "A")).encode(), "application/json"),
    "time": (json.dumps(event(occurred_at="2026-03-01T" + "0" * 20_000)).encode(), "application/json"),
    "binary": (bytes(range(256)) * 1_000, "text/plain"),
    "xml": (b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", "text/plain"),
    "form": (b"a=b&c=d", "text/plain"),
    "injection": (json.dumps(event(type="'; DROP TABLE touchpoints; --")).encode(), "application/json"),
}


@pytest.fixture
async def ingest(tmp_path: Path) -> AsyncIterator[Ingest]:
    """Ingest as it comes."""
    async with running_ingest(tmp_path) as running:
        yield running


async def answered(ingest: Ingest, body: bytes, media_type: str, **headers: str) -> httpx.Response:
    """The answer to a body: taken, or refused by name."""
    answer = await ingest.post(body, media_type, **headers)
    assert answer.status_code == 202 or 400 <= answer.status_code < 500, answer.text
    return answer


async def check(ingest: Ingest, body: bytes, media_type: str, **headers: str) -> None:
    """Send a body and hold the answer to the law."""
    answer = await answered(ingest, body, media_type, **headers)
    # The least of three: the bound is on the work, and other tests have the processor at times.
    took_s = [answer.elapsed.total_seconds()]
    while min(took_s) >= 1 and len(took_s) < 3:
        again = await answered(ingest, body, media_type, **headers)
        took_s.append(again.elapsed.total_seconds())
    assert min(took_s) < 1
    if answer.status_code != 202:
        assert answer.json()["code"]
    for refusal in answer.json().get("refused", ()):
        assert len(refusal["message"]) < 300
    assert (await ingest.post(event())).status_code == 202


@pytest.mark.parametrize("name", CORPUS)
async def test_a_hostile_body_is_answered_within_a_second(ingest: Ingest, name: str) -> None:
    """As it is where it fits on the wire, and compressed."""
    body, media_type = CORPUS[name]
    if len(body) <= ONE_MIB:
        await check(ingest, body, media_type)
    await check(ingest, gzip.compress(body), media_type, Content_Encoding="gzip")


@pytest.mark.parametrize("name", CORPUS)
def test_a_hostile_body_is_read_in_short_steps(name: str) -> None:
    """Between them others have their turn, so that none is held up by it: a few milliseconds of CPU each,
    here with much to spare for machines that are slow or busy."""
    body, media_type = CORPUS[name]
    tries = [longest_step_s(body, media_type)]
    while min(tries) >= STEP_S_MAX and len(tries) < 3:
        tries.append(longest_step_s(body, media_type))

    assert min(tries) < STEP_S_MAX


def longest_step_s(body: bytes, media_type: str) -> float:
    """The CPU time (seconds) of the longest step of reading a body."""
    longest_s = 0.0
    steps = read(gzip.compress(body), media_type)
    while True:
        began_s = time.thread_time()
        step = next(steps, "done")
        longest_s = max(longest_s, time.thread_time() - began_s)
        if step == "done":
            return longest_s


def read(compressed: bytes, media_type: str) -> Iterator[None]:
    """All that is done to a body that came compressed."""
    with contextlib.suppress(Malformed, TooMuch):
        inflated = yield from inflate(compressed)
        yield from accept(inflated, framing(media_type, inflated), "shop", SystemClock().now(), uuid7)


@pytest.mark.parametrize("size", [1, 100, 10_000])
async def test_gzip_that_is_cut_or_flipped_is_a_4xx(ingest: Ingest, size: int) -> None:
    """Cut at places all over the stream, and with a wrong byte there."""
    whole = gzip.compress(EVENT + b" " * size)
    for at in range(0, len(whole), max(1, len(whole) // 8)):
        await check(ingest, whole[:at], "application/json", Content_Encoding="gzip")
        flipped = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        await check(ingest, flipped, "application/json", Content_Encoding="gzip")


async def test_empty_gzip_members_do_not_add_up(ingest: Ingest) -> None:
    """A mebibyte of members that hold nothing costs no more than any other."""
    member = gzip.compress(b"")
    await check(ingest, member * (ONE_MIB // len(member)), "application/json", Content_Encoding="gzip")


async def test_raw_deflate_under_the_name_of_gzip_is_400(ingest: Ingest) -> None:
    """Only what RFC 1952 describes is inflated."""
    await check(ingest, zlib.compress(EVENT), "application/json", Content_Encoding="gzip")


@pytest.mark.parametrize(
    "query",
    [
        "key=",
        "key",
        "key=%00",
        "key=%ff%fe",
        "key=" + "a" * 8_000,
        "&" * 200,
        "key=a&key=b",
        "%6bey=x",
        "a&" * 200 + "key=x",
    ],
)
async def test_a_hostile_query_is_401(ingest: Ingest, query: str) -> None:
    """No valid key, whatever stands there."""
    answer = await ingest.client.post(
        f"{PATH}?{query}", content=EVENT, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == 401
    assert KEY not in answer.text


@pytest.mark.parametrize(
    "path", ["/v1/touchpoints/", "/v1//touchpoints", "/v1/touchpoints%00", "/v1/%2e%2e/x", "/../etc"]
)
async def test_a_hostile_path_is_404(ingest: Ingest, path: str) -> None:
    """Only the door's own path is the door."""
    assert (await ingest.client.post(path, content=EVENT)).status_code == 404
