"""Overload is answered, not suffered: bounds on the bytes in flight and on the connections of an address, and
a token bucket a key."""

from __future__ import annotations

import math
from collections.abc import Callable
from ipaddress import IPv6Address

from shared.clock import Clock
from shared.problem import Problem

RETRY_AFTER_MAX_S = 300

Jitter = Callable[[], int]
"""Seconds to wait before the next try, another number each time, so that senders come back spread out."""


class InFlight:
    """The bytes of all bodies that are being handled."""

    def __init__(self, bytes_max: int, jitter_s: Jitter) -> None:
        self._bytes_max = bytes_max
        self._jitter_s = jitter_s
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """How many there are now."""
        return self._bytes

    def hold(self, announced: int) -> Held:
        """What a request holds until it is released: nothing yet.

        There must be room for the bytes that it announces, but only what comes is held: who announces much
        and sends it slowly, or never, would shut the others out.

        Raises:
            Problem: 503, there is no room.
        """
        self._check_room(announced)
        return Held(self)

    def _take(self, count: int) -> None:
        self._check_room(count)
        self._bytes += count

    def _check_room(self, count: int) -> None:
        if self._bytes + count > self._bytes_max:
            raise Problem(
                503, "overloaded", "too many bytes are being handled", retry_after_s=self._jitter_s()
            )

    def _give(self, count: int) -> None:
        self._bytes -= count


class Held:
    """What one request holds of the bytes in flight."""

    __slots__ = ("_count", "_in_flight")

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._count = 0

    def at_least(self, count: int) -> None:
        """Hold so many bytes in all, if it is not so many already.

        Raises:
            Problem: 503, no room is left.
        """
        if count > self._count:
            self._in_flight._take(count - self._count)
            self._count = count

    def release(self) -> None:
        """Give it all back. Idempotent."""
        self._in_flight._give(self._count)
        self._count = 0


class Peers:
    """The open connections, by the address that they come from; of IPv6 its network of 64 bits, which one
    host has to itself. A bound of 0 is none."""

    def __init__(self, connections_max: int, jitter_s: Jitter, refused: Callable[[], object]) -> None:
        self._connections_max = connections_max
        self._jitter_s = jitter_s
        self._refused = refused
        self._open: dict[str, int] = {}

    def enter(self, address: str) -> str | None:
        """Let a connection in; what to give to `leave` when it is closed, if anything.

        Raises:
            Problem: 429, its address has too many. `refused` has been called.
        """
        if not self._connections_max or not address:
            return None
        peer = _peer(address)
        number = self._open.get(peer, 0)
        if number >= self._connections_max:
            self._refused()
            raise Problem(
                429,
                "too_many_connections",
                f"an address may have {self._connections_max} connections",
                retry_after_s=self._jitter_s(),
            )
        self._open[peer] = number + 1
        return peer

    def leave(self, peer: str) -> None:
        """One of its connections has been closed."""
        self._open[peer] -= 1
        if not self._open[peer]:
            del self._open[peer]


def _peer(address: str) -> str:
    if ":" not in address:
        return address
    parsed = IPv6Address(address)
    return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))


class Rates:
    """A token bucket a key, which holds one second's touchpoints.

    What a request costs is known only when it is read, so a bucket may go below zero: the next request
    waits until it is full of nothing again. A rate of 0 is none.
    """

    def __init__(self, events_s: int, clock: Clock, jitter_s: Jitter) -> None:
        self._events_s = events_s
        self._clock = clock
        self._jitter_s = jitter_s
        self._buckets: dict[str, tuple[float, float]] = {}
        """By key id: the touchpoints left, and when (monotonic seconds) that was so."""

    def check(self, key_id: str) -> None:
        """Let a request of a key pass.

        Raises:
            Problem: 429, the key has sent more than its rate.
        """
        if not self._events_s:
            return
        left = self._left(key_id)
        if left < 0:
            wait_s = math.ceil(-left / self._events_s) + self._jitter_s()
            raise Problem(
                429,
                "rate_exceeded",
                f"the key may send {self._events_s} touchpoints a second",
                retry_after_s=min(wait_s, RETRY_AFTER_MAX_S),
            )

    def spend(self, key_id: str, events: int) -> None:
        """Count a request's touchpoints."""
        if self._events_s:
            self._buckets[key_id] = (self._left(key_id) - events, self._clock.monotonic_s())

    def _left(self, key_id: str) -> float:
        now_s = self._clock.monotonic_s()
        left, since_s = self._buckets.get(key_id, (self._events_s, now_s))
        return min(self._events_s, left + (now_s - since_s) * self._events_s)
