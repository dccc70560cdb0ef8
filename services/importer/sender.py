"""Sends batches to ingest until each is answered: waits when it is told to, tries again when it isn't."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec

from shared.clock import Clock
from shared.errors import ConfigError, Transient

log = logging.getLogger("rejse.import")

PATH = "/v1/touchpoints"
DELAY_FIRST_S = 0.2
DELAY_MAX_S = 10.0
RETRY_AFTER_MAX_S = 300.0

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_BLAMES_THE_BODY = frozenset({400, 413, 422})
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class Refusal(msgspec.Struct, frozen=True):
    """One touchpoint that ingest refused: its place in the request, why, and where in it."""

    index: int
    code: str
    message: str
    pointer: str


class _Answer(msgspec.Struct, frozen=True):
    accepted: int
    duplicate_in_request: int
    refused: list[Refusal]


class _Problem(msgspec.Struct, frozen=True):
    code: str = "refused"
    detail: str = ""


class Sender:
    """One ingest, asked with one key. May be used by several tasks at once."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        clock: Clock,
        note: Callable[[str], None],
        give_up_after_s: float,
        compress: bool = False,
    ) -> None:
        """`note` tells the user why it takes long; `give_up_after_s` is how long nothing may be answered.

        Raises:
            ConfigError: the URL or the key can't be one.
        """
        if not _is_address(url):
            raise ConfigError("--url is no http:// or https:// address")
        if not key.isascii() or not key.isprintable() or not key:
            raise ConfigError("--key, or REJSE_WRITE_KEY, is no key")
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        if compress:
            headers["Content-Encoding"] = "gzip"
        self._url = url.rstrip("/") + PATH
        self._client = httpx.AsyncClient(headers=headers, timeout=_TIMEOUT)
        self._clock = clock
        self._note = note
        self._give_up_after_s = give_up_after_s
        self._compress = compress
        self._last_answer_s = clock.monotonic_s()
        self._not_before_s = 0.0

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def send(self, events: Sequence[bytes]) -> Sequence[Refusal]:
        """Have every event answered; the refused ones, by their index.

        Raises:
            Transient: nothing was answered for `give_up_after_s` seconds.
            ConfigError: the address or the key is wrong.
        """
        body = b"[" + b",".join(events) + b"]"
        answer = await self._until_answered(gzip.compress(body, 1) if self._compress else body)
        if answer.status_code in _BLAMES_THE_BODY:
            return await self._halved(events, answer)
        return self._refusals(answer, len(events))

    async def _halved(self, events: Sequence[bytes], answer: httpx.Response) -> Sequence[Refusal]:
        """Find what a whole request was refused for, by sending its halves."""
        if len(events) == 1:
            problem = _problem(answer)
            return [Refusal(0, problem.code, problem.detail, "")]
        middle = len(events) // 2
        first = await self.send(events[:middle])
        second = await self.send(events[middle:])
        return [*first, *(msgspec.structs.replace(found, index=found.index + middle) for found in second)]

    def _refusals(self, answer: httpx.Response, sent: int) -> Sequence[Refusal]:
        try:
            told = msgspec.json.decode(answer.content, type=_Answer)
        except msgspec.DecodeError:
            raise ConfigError(f"what answers at {self._url} is not Rejse's ingest") from None
        if told.accepted + told.duplicate_in_request + len(told.refused) != sent:
            raise ConfigError(f"{self._url} answered for another number of touchpoints than were sent")
        return told.refused

    async def _until_answered(self, body: bytes) -> httpx.Response:
        tries = 0
        while True:
            await self._wait_for_turn()
            delay_s = min(DELAY_MAX_S, DELAY_FIRST_S * 2.0**tries)
            try:
                answer = await self._client.post(self._url, content=body)
            except httpx.RequestError as error:
                self._again(type(error).__name__, delay_s)
            else:
                if answer.is_success or answer.status_code in _BLAMES_THE_BODY:
                    self._last_answer_s = self._clock.monotonic_s()
                    return answer
                if answer.status_code not in _AGAIN:
                    raise ConfigError(_refusal_of_all(answer, self._url))
                told_s = retry_after_s(answer.headers.get("Retry-After"), self._clock)
                self._again(f"status {answer.status_code}", delay_s if told_s is None else told_s)
            tries += 1

    async def _wait_for_turn(self) -> None:
        """Wait as long as the server has asked for, whichever request it asked."""
        while (wait_s := self._not_before_s - self._clock.monotonic_s()) > 0:
            await self._clock.sleep(wait_s)

    def _again(self, why: str, delay_s: float) -> None:
        now_s = self._clock.monotonic_s()
        silent_s = now_s - self._last_answer_s
        if silent_s + delay_s > self._give_up_after_s:
            raise Transient(f"{self._url} has taken nothing for {silent_s:.0f} s ({why})")
        self._not_before_s = max(self._not_before_s, now_s + delay_s)
        if delay_s >= 1.0:
            self._note(f"waiting {delay_s:.0f} s for {self._url} ({why})")


def retry_after_s(header: str | None, clock: Clock) -> float | None:
    """The seconds of a `Retry-After` header (RFC 9110, section 10.2.3), within reason; None without one."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return min(RETRY_AFTER_MAX_S, float(header))
    try:
        seconds = (parsedate_to_datetime(header) - clock.now()).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(RETRY_AFTER_MAX_S, max(0.0, seconds))


def _is_address(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def _problem(answer: httpx.Response) -> _Problem:
    try:
        return msgspec.json.decode(answer.content, type=_Problem)
    except msgspec.DecodeError:
        return _Problem()


def _refusal_of_all(answer: httpx.Response, url: str) -> str:
    status = answer.status_code
    if status in (401, 403):
        return f"{url} does not take this key for writing ({status}); see --key"
    told: Any = _problem(answer).detail
    return f"{url} answered {status}; is --url right?{' ' + told if told else ''}"
