"""What the oracle holds what was kept against: plain functions, so that a test can lie to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from tests.faults.ledger import Account
from tests.faults.report import Line
from tests.faults.traffic import PROBE_SOURCE, Face, Traffic, probe_event, return_event
from tests.support.people import Pair

Id = tuple[str, str]
"""A source, and the id that it gave to an event."""
_EXAMPLES = 5


@dataclass(slots=True)
class Obligations:
    """What a ledger obliges to: every id that may be there with the faces that it may have, and those that
    have to be."""

    sent: dict[Id, set[int]] = field(default_factory=dict)
    acked: set[Id] = field(default_factory=set)
    gone: set[Id] = field(default_factory=set)
    """Those of erased people: none of them may be there, acked or not, but their ids stay known."""
    erased: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, account: Account, traffic: Traffic, erased: Mapping[str, int]) -> Obligations:
        """Make every request of a ledger again, and say what it obliges to. `erased` has the names that were
        erased, each with the time until which it was, in the traffic's microseconds."""
        found = cls(erased=erased)
        for number in account.intended:
            request = traffic.request(number)
            for event in request.events:
                if event.face is not None:
                    found._send(event.face)
            for refused in account.taken.get(number, []):
                for index, event in enumerate(request.events):
                    if index not in refused:
                        found.acked.add((request.source, event.id))
        for number in account.probed:
            face = probe_event(number).face
            assert face is not None
            found._send(face)
            if number in account.probes_taken:
                found.acked.add((PROBE_SOURCE, face.id))
        for returned, taken in account.returns.items():
            face = return_event(*returned).face
            assert face is not None
            found._send(face)
            if taken:
                found.acked.add((face.source, face.id))
        return found

    def _send(self, face: Face) -> None:
        id_ = (face.source, face.id)
        self.sent.setdefault(id_, set()).add(face.digest())
        if any(face.micros <= self.erased.get(name, face.micros - 1) for name in face.identities):
            self.gone.add(id_)


@dataclass(slots=True)
class Kept:
    """The touchpoints that were found somewhere: how often each id, and what was wrong with single ones."""

    times: Counter[Id] = field(default_factory=Counter)
    invented: list[Id] = field(default_factory=list)
    altered: list[Id] = field(default_factory=list)
    unreadable: int = 0

    def add(self, face: Face | None, obligations: Obligations) -> None:
        """Note one touchpoint; None: it can't be read."""
        if face is None:
            self.unreadable += 1
            return
        id_ = (face.source, face.id)
        self.times[id_] += 1
        if id_ not in obligations.sent:
            self.invented.append(id_)
        elif face.digest() not in obligations.sent[id_]:
            self.altered.append(id_)


def of_the_timelines(obligations: Obligations, kept: Kept) -> list[Line]:
    """I1 to I3: what was acked is there once, unless it was an erased person's; what wasn't acked is there at
    most once, and nothing else is."""
    lost = obligations.acked - kept.times.keys() - obligations.gone
    doubled = [id_ for id_, times in kept.times.items() if times > 1]
    wrong = [*kept.invented, *kept.altered]
    extra = kept.times.keys() - obligations.acked
    return [
        line("I1 acked events lost", "0", lost),
        line("I1, I3 events doubled", "0", doubled),
        line("I2 stored events that nobody sent so", "0", wrong, kept.unreadable),
        Line("I3 events without an ack in the store", "0 or 1 times each", f"{len(extra)}, once", True),
    ]


def of_the_log(
    below: Set[Id], stored: Set[Id], poison: Mapping[str, int], dead: Mapping[str, int]
) -> list[Line]:
    """I6: each record below the stored offsets has one fate. `below` are the ids that those records have,
    `stored` those that are known, `poison` what no touchpoint is among them and `dead` the dead letters, by
    digest of their bytes."""
    return [
        line("I6 records below next_offset without a fate", "0", below - stored),
        line("I6 stored events that the log doesn't hold below next_offset", "0", stored - below),
        line("I6 poison records that are no dead letters", "0", poison.keys() - dead.keys()),
        line("I6 dead letters that are no poison", "0", dead.keys() - poison.keys()),
    ]


def of_the_links(account: Account, withdrawn: Set[Pair]) -> Line:
    """Of each link that was talked about, what was said last is so."""
    wrong = [
        pair
        for pair, is_so in account.withdrawn.items()
        if (pair in withdrawn) != is_so and account.unsure.isdisjoint(pair)
    ]
    return line(f"words on {len(account.withdrawn)} links that don't count", "0", wrong)


def line(what: str, promised: str, found: Iterable[object], more: int = 0) -> Line:
    """A promise that nothing of a kind is found."""
    all_found = list(found)
    examples = ", ".join(map(str, all_found[:_EXAMPLES]))
    number = len(all_found) + more
    return Line(what, promised, f"{number}" + (f": {examples}" if examples else ""), not number)
