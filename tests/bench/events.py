"""The touchpoints of the benchmarks: the same from run to run, about 230 bytes each on the wire."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import Raw

from shared.touchpoint import Touchpoint

TYPES = ("page_viewed",) * 6 + ("product_viewed",) * 3 + ("order_completed",)
_STEP = timedelta(milliseconds=100)
SOURCE = "bench"


def identity_of(customer: int) -> str:
    """The identity of the customer of that number."""
    return f"user_id:customer-{customer:08d}"


def wire_events(count: int, customers: int, begin: datetime) -> Iterator[bytes]:
    """Events in Rejse's own dialect, one JSON object each, a tenth of a second apart."""
    draw = random.Random(1)
    for number in range(count):
        customer = draw.randrange(customers)
        yield wire_event(f"{draw.getrandbits(96):024x}", customer, begin + number * _STEP, draw.choice(TYPES))


def wire_event(id_: str, customer: int, at: datetime, type_: str) -> bytes:
    """One event."""
    moment = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return (
        f'{{"id":"{id_}","type":"{type_}","channel":"web","occurred_at":"{moment}",'
        f'"identities":{{"user_id":"customer-{customer:08d}"}},'
        f'"properties":{{"path":"/products/{customer % 977:05d}","referrer":"search"}}}}'
    ).encode()


def batches(events: Sequence[bytes], size: int) -> list[bytes]:
    """JSON arrays of so many events each; what is left over is left out."""
    whole = len(events) - len(events) % size
    return [b"[" + b",".join(events[at : at + size]) + b"]" for at in range(0, whole, size)]


def touchpoints(count: int, customers: int, begin: datetime) -> Iterator[Touchpoint]:
    """The same events as ingest would write them to the log."""
    draw = random.Random(2)
    for number in range(count):
        customer = draw.randrange(customers)
        yield _touchpoint(draw, customer, (identity_of(customer),), begin + number * _STEP)


def merging(share: float, count: int, customers: int, begin: datetime) -> Iterator[Touchpoint]:
    """The same, but that customers come again and again in a browser that nobody knows yet, and log in
    later: about so large a share of the touchpoints begin somebody new, and as many merge that one."""
    draw = random.Random(2)
    strangers: list[tuple[int, str]] = []
    for number in range(count):
        chance, at = draw.random(), begin + number * _STEP
        if chance < share:
            strangers.append((draw.randrange(customers), f"anonymous_id:{draw.getrandbits(96):024x}"))
            customer, browser = strangers[-1]
            names: tuple[str, ...] = (browser,)
        elif chance < 2 * share and strangers:
            at_random = draw.randrange(len(strangers))
            strangers[at_random], strangers[-1] = strangers[-1], strangers[at_random]
            customer, browser = strangers.pop()
            names = (identity_of(customer), browser)
        else:
            customer = draw.randrange(customers)
            names = (identity_of(customer),)
        yield _touchpoint(draw, customer, names, at)


def _touchpoint(draw: random.Random, customer: int, identities: tuple[str, ...], at: datetime) -> Touchpoint:
    return Touchpoint(
        id=f"{draw.getrandbits(96):024x}",
        type=draw.choice(TYPES),
        channel="web",
        occurred_at=at,
        received_at=at + _STEP,
        source=SOURCE,
        identities=identities,
        properties=Raw(b'{"path":"/products/%05d","referrer":"search"}' % (customer % 977)),
    )


def purchases(count: int, customers: int, begin: datetime) -> Iterator[Touchpoint]:
    """Purchases alone, in time order, as CDNOW's customers made them: all begin within the first twelve
    weeks, half of them never come back, and the others do so for a year and a half. Only the day is known."""
    draw = random.Random(3)
    made = sorted(_purchases(count, customers, draw))
    for number, (days, customer) in enumerate(made):
        at = begin + timedelta(days=days)
        yield Touchpoint(
            id=f"{number:024x}",
            type="order_completed",
            channel="web",
            occurred_at=at,
            received_at=at + _STEP,
            source=SOURCE,
            identities=(identity_of(customer),),
            properties=Raw(b'{"quantity":%d,"value":%d.77}' % (1 + customer % 3, 10 + customer % 50)),
        )


def _purchases(count: int, customers: int, draw: random.Random) -> Iterator[tuple[int, int]]:
    """The day and the customer of each."""
    first = [draw.randrange(84) for _ in range(customers)]
    yield from zip(first, range(customers), strict=True)
    for _ in range(count - customers):
        customer = int(customers / 2 * draw.random() ** 2)
        yield draw.randrange(first[customer], 546), customer
