"""Waiting for a condition under a deadline, instead of sleeping for luck."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar, overload

T = TypeVar("T")

_EVERY_S = 0.02
_PAUSE_MAX_S = 0.5


def eventually(
    observe: Callable[[], T],
    timeout_s: float = 10.0,
    *,
    until: Callable[[T], object] = bool,
    tolerate: tuple[type[Exception], ...] = (),
) -> T:
    """Call `observe` until `until` holds of what it returns, and return that.

    Args:
        observe: looks at the world; unless `until` says otherwise, a true answer is the condition.
        timeout_s: the deadline; `observe` is called once more when it has passed.
        until: the condition where truth is not enough: `eventually(count, until=lambda n: n == 3)`.
        tolerate: exceptions of `observe` that mean "not yet".

    Raises:
        AssertionError: the deadline passed; the message has the last value or exception seen.
    """
    seen: object = None
    for began_s in _looks(timeout_s):
        try:
            seen = value = observe()
            if until(value):
                return value
        except tolerate as error:
            seen = error
        time.sleep(_pause_s(began_s))
    raise AssertionError(_late(timeout_s, seen))


@overload
async def eventually_async(
    observe: Callable[[], Awaitable[T]],
    timeout_s: float = 10.0,
    *,
    until: Callable[[T], object] = bool,
    tolerate: tuple[type[Exception], ...] = (),
) -> T: ...
@overload
async def eventually_async(
    observe: Callable[[], T],
    timeout_s: float = 10.0,
    *,
    until: Callable[[T], object] = bool,
    tolerate: tuple[type[Exception], ...] = (),
) -> T: ...
async def eventually_async(
    observe: Callable[[], Any],
    timeout_s: float = 10.0,
    *,
    until: Callable[[Any], object] = bool,
    tolerate: tuple[type[Exception], ...] = (),
) -> Any:
    """Like `eventually`, without blocking the loop; `observe` may be a coroutine function.

    Raises:
        AssertionError: the deadline passed; the message has the last value or exception seen.
        TimeoutError: one call of `observe` alone took longer than `timeout_s`.
    """
    seen: object = None
    for began_s in _looks(timeout_s):
        try:
            async with asyncio.timeout(timeout_s):
                answer = observe()
                seen = value = await answer if inspect.isawaitable(answer) else answer
            if until(value):
                return value
        except tolerate as error:
            seen = error
        await asyncio.sleep(_pause_s(began_s))
    raise AssertionError(_late(timeout_s, seen))


def _looks(timeout_s: float) -> Iterator[float]:
    """Yield the clock while there is time, and once more after."""
    deadline = time.monotonic() + timeout_s
    while (now := time.monotonic()) < deadline:
        yield now
    yield time.monotonic()


def _pause_s(began_s: float) -> float:
    """Twice as long as the look took: what is waited for needs the processor too."""
    return max(_EVERY_S, min(2 * (time.monotonic() - began_s), _PAUSE_MAX_S))


def _late(timeout_s: float, seen: object) -> str:
    return f"not within {timeout_s:g} s; last seen: {seen!r}"
