"""The bounds that answer overload."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.limits import RETRY_AFTER_MAX_S, InFlight, Peers, Rates
from shared.problem import Problem
from tests.support.clock import ManualClock


def clock() -> ManualClock:
    """A clock at some time."""
    return ManualClock(datetime(2026, 3, 1, tzinfo=UTC))


def one() -> int:
    """A jitter that a test can count with."""
    return 1


def retry_after_s(rates: Rates, key: str) -> int:
    """How long a key is told to wait; 0 when it may pass."""
    try:
        rates.check(key)
    except Problem as problem:
        return problem.retry_after_s or -1
    return 0


def test_bytes_in_flight_have_a_bound_and_are_given_back() -> None:
    """What doesn't fit is 503 and takes nothing; what is released is given back once."""
    in_flight = InFlight(100, one)
    held = in_flight.hold(60)
    assert in_flight.bytes == 0
    held.at_least(50)
    assert in_flight.bytes == 50
    held.at_least(90)
    assert in_flight.bytes == 90
    with pytest.raises(Problem) as caught:
        in_flight.hold(11)
    assert (caught.value.status, caught.value.retry_after_s) == (503, 1)
    with pytest.raises(Problem):
        held.at_least(101)
    assert in_flight.bytes == 90
    held.release()
    held.release()
    assert in_flight.bytes == 0


def test_a_key_may_send_a_seconds_worth_at_once_and_then_its_rate() -> None:
    """Debt of a large request is waited for, and what is told is enough."""
    now = clock()
    rates = Rates(10, now, one)
    rates.spend("a", 10)
    assert retry_after_s(rates, "a") == 0
    rates.spend("a", 25)
    assert retry_after_s(rates, "a") == 4
    assert retry_after_s(rates, "b") == 0
    now.advance(2.4)
    assert retry_after_s(rates, "a") == 2
    now.advance(0.2)
    assert retry_after_s(rates, "a") == 0


def test_a_rest_saves_up_no_more_than_one_second() -> None:
    """After an hour of silence a key has one second's touchpoints, not an hour's."""
    now = clock()
    rates = Rates(10, now, one)
    rates.spend("a", 1)
    now.advance(3_600)
    rates.spend("a", 11)

    assert retry_after_s(rates, "a") == 2


def test_no_rate_is_no_limit_and_retry_after_has_a_bound() -> None:
    """SDKs give up on more than 300 seconds."""
    unlimited, slow = Rates(0, clock(), one), Rates(1, clock(), one)
    unlimited.spend("a", 1_000_000)
    slow.spend("a", 1_000_000)

    assert retry_after_s(unlimited, "a") == 0
    assert retry_after_s(slow, "a") == RETRY_AFTER_MAX_S


@given(
    rate=st.integers(1, 1_000),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 500)), min_size=1, max_size=50),
)
def test_no_pattern_of_requests_gets_more_than_the_rate(rate: int, steps: list[tuple[float, int]]) -> None:
    """Over any time a key sends at most its rate, one second's worth, and the debt of one request."""
    now = clock()
    rates = Rates(rate, now, one)
    sent = 0
    for pause_s, events in steps:
        now.advance(pause_s)
        if not retry_after_s(rates, "a"):
            rates.spend("a", events)
            sent += events

    assert sent <= rate * (now.monotonic_s() + 1) + 500 + 1e-6 * len(steps)


def test_an_address_has_so_many_connections_and_no_more() -> None:
    """The next one is refused and counted, whatever other addresses do; a closed one makes room."""
    refused: list[None] = []
    peers = Peers(2, one, lambda: refused.append(None))
    entered = [peers.enter("192.0.2.1"), peers.enter("192.0.2.1"), peers.enter("192.0.2.2")]
    with pytest.raises(Problem) as told:
        peers.enter("192.0.2.1")
    assert (told.value.status, told.value.retry_after_s, len(refused)) == (429, 1, 1)
    for peer in entered:
        assert peer is not None
        peers.leave(peer)

    assert peers.enter("192.0.2.1")


def test_an_ipv6_host_is_its_network() -> None:
    """64 bits of address are one host's to change as it likes; IPv4 in IPv6 is what it is in IPv4."""
    peers = Peers(1, one, lambda: None)
    assert peers.enter("2001:db8::1")
    with pytest.raises(Problem):
        peers.enter("2001:db8::ffff:2")
    assert peers.enter("2001:db8:0:1::1")
    assert peers.enter("::ffff:192.0.2.1")
    with pytest.raises(Problem):
        peers.enter("192.0.2.1")


def test_no_bound_on_connections_counts_none() -> None:
    """Behind a proxy, or on a socket without addresses."""
    assert Peers(0, one, lambda: None).enter("192.0.2.1") is None
    assert Peers(1, one, lambda: None).enter("") is None
