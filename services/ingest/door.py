"""`POST /v1/touchpoints` as a plain ASGI callable: the hot path.

What sheds load comes first and costs least: key, rate, announced length, bytes in flight; only then is the
body read, inflated and parsed. A 2xx is sent after the records are durable, never before.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.types import Receive, Scope, Send

from services.ingest.accept import Accepted, accept
from services.ingest.body import ClientGone, inflate, read_body
from services.ingest.frames import TooMuch, framing
from services.ingest.head import Head
from services.ingest.keycache import KeyCache
from services.ingest.ledger import Ledger
from services.ingest.limits import Held, InFlight, Jitter, Rates
from services.ingest.refusals import Refusal, Refused
from services.ingest.thorough import Malformed
from services.ingest.writer import GroupWriter
from shared.clock import Clock
from shared.eventlog.port import Outcome
from shared.ids import NewId
from shared.keys import KeyRecord
from shared.metrics import Metrics
from shared.problem import Problem, problem_response

_CORS_HEADERS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"Retry-After"),
)
_JSON_HEADERS = ((b"content-type", b"application/json"), _CORS_HEADERS[0])

Answer = tuple[int, Sequence[tuple[bytes, bytes]], bytes]
"""Status, headers, body."""


class TouchpointsDoor:
    """Takes touchpoints in Rejse's own dialect."""

    def __init__(
        self,
        keys: KeyCache,
        rates: Rates,
        in_flight: InFlight,
        writer: GroupWriter,
        ledger: Ledger,
        clock: Clock,
        new_id: NewId,
        jitter_s: Jitter,
        metrics: Metrics,
    ) -> None:
        self._keys = keys
        self._rates = rates
        self._in_flight = in_flight
        self._writer = writer
        self._ledger = ledger
        self._clock = clock
        self._new_id = new_id
        self._jitter_s = jitter_s
        self._accepted = metrics.counter("rejse_ingest_requests_total").labels("202")
        self._requests = metrics.counter("rejse_ingest_requests_total")
        self._seconds = metrics.histogram("rejse_ingest_request_seconds")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began_s = self._clock.monotonic_s()
        try:
            status, headers, body = await self._answer(scope, receive)
        except Problem as problem:
            status, headers, body = _problem(problem)
        except ClientGone:
            self._requests.labels("client_gone").inc()
            return
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": body})
        (self._accepted if status == 202 else self._requests.labels(str(status))).inc()
        self._seconds.observe(self._clock.monotonic_s() - began_s)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        head = Head(scope)
        key = self._key(head)
        self._rates.check(key.id)
        media_type, is_gzip = head.media_type(), head.is_gzip()
        head.check_length()
        with self._in_flight.hold(head.length) as held:
            body = await read_body(receive, held)
            if is_gzip:
                body = _inflated(body, held)
            accepted = self._accept(body, media_type, key)
            outcomes = await self._writer.write(accepted.records) if accepted.records else ()
        return self._verdict(accepted, outcomes, key)

    def _key(self, head: Head) -> KeyRecord:
        found = self._keys.ring.find(head.key(), "write")
        if found is not None:
            return found
        if not self._keys.known:
            raise self._unavailable("keys_unknown", "the keys were not read yet")
        raise Problem(401, "unauthorized", "the request needs a write key: Authorization: Bearer … or ?key=")

    def _accept(self, body: bytes, media_type: str, key: KeyRecord) -> Accepted:
        try:
            accepted = accept(body, framing(media_type, body), key.source, self._clock.now(), self._new_id)
        except Malformed as error:
            raise Problem(400, "malformed_json", f"the body is not JSON: {error}") from None
        except TooMuch as excess:
            raise Problem(413, excess.code, excess.detail) from None
        self._rates.spend(key.id, accepted.received)
        return accepted

    def _verdict(self, accepted: Accepted, outcomes: Sequence[Outcome], key: KeyRecord) -> Answer:
        """What a request is told.

        Raises:
            Problem: 503, a record is not known to be durable; 422, no touchpoint was fit.
        """
        if Outcome.UNKNOWN in outcomes or Outcome.FULL in outcomes:
            raise self._unavailable("not_durable", "nothing is known to be kept: send it again")
        refusals = accepted.refusals
        if Outcome.REFUSED in outcomes:
            refusals = _with_set_aside(accepted, outcomes)
        kept = accepted.received - accepted.duplicates - len(refusals)
        self._ledger.count(key.source, accepted, kept)
        members = {"accepted": kept, "duplicate_in_request": accepted.duplicates, "refused": refusals}
        if not kept and not accepted.duplicates:
            raise Problem(422, "nothing_accepted", "no touchpoint of the request was accepted", more=members)
        return 202, _JSON_HEADERS, msgspec.json.encode(members)

    def _unavailable(self, code: str, detail: str) -> Problem:
        return Problem(503, code, detail, retry_after_s=self._jitter_s())


def _inflated(body: bytes, held: Held) -> bytes:
    inflated = inflate(body)
    held.at_least(len(body) + len(inflated))
    return inflated


def _with_set_aside(accepted: Accepted, outcomes: Sequence[Outcome]) -> list[Refusal]:
    """The refusals with those of records that the log does not take, in the request's order."""
    set_aside = [
        Refused("log_refused").at(index)
        for index, outcome in zip(accepted.indexes, outcomes, strict=True)
        if outcome is Outcome.REFUSED
    ]
    return sorted(accepted.refusals + set_aside, key=lambda refusal: refusal.index)


def _problem(problem: Problem) -> Answer:
    response = problem_response(problem)
    headers = [header for header in response.raw_headers if header[0] != b"content-length"]
    return problem.status, [*headers, *_CORS_HEADERS], bytes(response.body)
