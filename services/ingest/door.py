"""`POST /v1/touchpoints`: the hot path.

What sheds load comes first and costs least: key, rate, what waits already, announced length, bytes in flight;
only then is the body collected, inflated and parsed. A 2xx is sent after the records are durable, never
before.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from functools import lru_cache, partial

import msgspec

from services.ingest.accept import Accepted, accept
from services.ingest.body import inflate, too_large
from services.ingest.event import WIRE_BYTES_MAX, TooMuch
from services.ingest.frames import framing
from services.ingest.head import Head
from services.ingest.keycache import KeyCache
from services.ingest.ledger import Ledger
from services.ingest.limits import Held, InFlight, Jitter, Rates
from services.ingest.steps import Steps
from services.ingest.turns import Turns
from services.ingest.visit import Answer, Reply
from services.ingest.writer import GroupWriter
from shared.clock import Clock
from shared.content import Malformed
from shared.eventlog.port import Outcome
from shared.ids import NewId
from shared.keys import KeyRecord
from shared.metrics import Metrics
from shared.problem import Problem, problem_response
from shared.refusals import Refusal, Refused
from shared.worthless import Worthless

_JSON = b"content-type: application/json\r\naccess-control-allow-origin: *\r\n"
_CALLERS_MAX = 10_000
_CREDENTIALS_BYTES_MAX = 200
_WORDED_MAX = 256
_CORS = b"access-control-allow-origin: *\r\naccess-control-expose-headers: Retry-After\r\n"


class TouchpointsDoor:
    """Takes touchpoints in Rejse's own dialect."""

    def __init__(
        self,
        keys: KeyCache,
        rates: Rates,
        turns: Turns,
        in_flight: InFlight,
        writer: GroupWriter,
        ledger: Ledger,
        clock: Clock,
        new_id: NewId,
        jitter_s: Jitter,
        metrics: Metrics,
        worthless: Worthless,
    ) -> None:
        self._keys = keys
        self.rates = rates
        self._turns = turns
        self._in_flight = in_flight
        self._ledger = ledger
        self._new_id = new_id
        self._jitter_s = jitter_s
        self._worthless = worthless
        self._accepted = metrics.counter("rejse_ingest_requests_total").labels("202")
        self._requests = metrics.counter("rejse_ingest_requests_total")
        self._seconds = metrics.histogram("rejse_ingest_request_seconds")
        self._ring = keys.ring
        self._callers: dict[bytes, KeyRecord] = {}
        """By the bytes that they showed, of this ring alone: hashing them again would tell nothing new."""
        self.clock = clock
        self.writer = writer

    def __call__(self, head: Head) -> TouchpointsRequest:
        """Open a request."""
        return TouchpointsRequest(self, head)

    def admit(self, head: Head) -> tuple[KeyRecord, Held]:
        """Whose request it is, and the room that it has."""
        key = self._key(head)
        self.rates.check(key.id)
        self._turns.check(self.writer.behind_s(), head.length)
        head.check_media()
        head.check_length()
        return key, self._in_flight.hold(head.length)

    def accept(self, body: bytes, head: Head, key: KeyRecord) -> Steps[Accepted]:
        """The touchpoints of a body."""
        now, sent_at = self.clock.now(), head.sent_at()
        return accept(
            body,
            framing(head.media_type, body),
            key.source,
            now,
            self._new_id,
            sent_at=sent_at,
            request_key=head.request_key(),
            region=key.region,
            worthless=self._worthless,
        )

    def verdict(self, accepted: Accepted, outcomes: Sequence[Outcome], key: KeyRecord) -> Answer:
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
        members: dict[str, object] = {
            "accepted": kept,
            "duplicate_in_request": accepted.duplicates,
            "refused": refusals,
        }
        if accepted.unrepeatable:
            members["unrepeatable"] = accepted.unrepeatable
        if accepted.worthless:
            members["worthless_identities"] = Tally(accepted.worthless)
        if not kept and not accepted.duplicates:
            raise Problem(422, "nothing_accepted", "no touchpoint of the request was accepted", more=members)
        return Answer(202, _JSON, msgspec.json.encode(members))

    def count(self, status: int, began_s: float) -> None:
        """Count a request that has been answered."""
        (self._accepted if status == 202 else self._requests.labels(str(status))).inc()
        self._seconds.observe(self.clock.monotonic_s() - began_s)

    def count_gone(self) -> None:
        """Count a request whose client has hung up before its end."""
        self._requests.labels("client_gone").inc()

    def _key(self, head: Head) -> KeyRecord:
        ring = self._keys.ring
        if ring is not self._ring:
            self._ring, self._callers = ring, {}
        credentials = head.credentials
        found = self._callers.get(credentials)
        if found is not None:
            return found
        found = ring.find(head.key(), "write")
        if found is not None:
            if len(self._callers) == _CALLERS_MAX:
                self._callers.clear()
            if len(credentials) < _CREDENTIALS_BYTES_MAX:
                self._callers[credentials] = found
            return found
        if not self._keys.known:
            raise self._unavailable("keys_unknown", "the keys were not read yet")
        raise Problem(401, "unauthorized", "the request needs a write key: Authorization: Bearer … or ?key=")

    def _unavailable(self, code: str, detail: str) -> Problem:
        return Problem(503, code, detail, retry_after_s=self._jitter_s())


class TouchpointsRequest:
    """A `visit.Request`."""

    __slots__ = ("_began_s", "_door", "_head", "_held", "_key")

    _key: KeyRecord
    _held: Held | None

    def __init__(self, door: TouchpointsDoor, head: Head) -> None:
        self._door = door
        self._head = head
        self._held = None
        self._began_s = door.clock.monotonic_s()

    def admit(self) -> None:
        self._key, self._held = self._door.admit(self._head)

    def has_come(self, count: int) -> None:
        assert self._held is not None
        if count > WIRE_BYTES_MAX:
            raise too_large()
        self._held.at_least(count)

    def take(self, body: bytes, reply: Reply) -> Steps[None]:
        if self._head.is_gzip:
            body = yield from self._inflated(body)
        try:
            accepted = yield from self._door.accept(body, self._head, self._key)
        except Malformed as error:
            raise Problem(400, "malformed_json", f"the body is not JSON: {error}") from None
        except TooMuch as excess:
            raise Problem(413, excess.code, excess.detail) from None
        self._door.rates.spend(self._key.id, accepted.received)
        if accepted.records:
            self._door.writer.write(
                accepted.records, lambda outcomes: reply(partial(self._verdict, accepted, outcomes))
            )
        else:
            reply(partial(self._verdict, accepted, ()))

    def refused(self, problem: Problem) -> Answer:
        self._end(problem.status)
        return _in_words(problem)

    def left(self) -> None:
        self._release()
        self._door.count_gone()

    def _inflated(self, body: bytes) -> Steps[bytes]:
        inflated = yield from inflate(body)
        assert self._held is not None
        self._held.at_least(len(body) + len(inflated))
        return inflated

    def _verdict(self, accepted: Accepted, outcomes: Sequence[Outcome]) -> Answer:
        answer = self._door.verdict(accepted, outcomes, self._key)
        self._end(answer.status)
        return answer

    def _end(self, status: int) -> None:
        self._release()
        self._door.count(status, self._began_s)

    def _release(self) -> None:
        if self._held is not None:
            self._held.release()


def _with_set_aside(accepted: Accepted, outcomes: Sequence[Outcome]) -> list[Refusal]:
    """The refusals with those of records that the log does not take, in the request's order."""
    set_aside = [
        Refused("log_refused").at(index)
        for index, outcome in zip(accepted.indexes, outcomes, strict=True)
        if outcome is Outcome.REFUSED
    ]
    return sorted(accepted.refusals + set_aside, key=lambda refusal: refusal.index)


def _in_words(problem: Problem) -> Answer:
    if problem.more:
        return _worded(problem)
    return _often_worded(problem.status, problem.code, problem.detail, problem.retry_after_s)


@lru_cache(maxsize=_WORDED_MAX)
def _often_worded(status: int, code: str, detail: str, retry_after_s: int | None) -> Answer:
    """Under overload the same few refusals are said thousands of times a second."""
    return _worded(Problem(status, code, detail, retry_after_s=retry_after_s))


def _worded(problem: Problem) -> Answer:
    response = problem_response(problem)
    head = b"".join(
        b"%s: %s\r\n" % header for header in response.raw_headers if header[0] != b"content-length"
    )
    return Answer(problem.status, head + _CORS, bytes(response.body))
