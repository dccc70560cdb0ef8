"""The oracle turns red on whatever is wrong with what was kept, and on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from shared import codec
from shared.clock import SystemClock
from shared.touchpoint import Touchpoint
from tests.faults.ledger import Account, Ledger, Tail, read
from tests.faults.promises import Kept, Obligations, of_the_links, of_the_log, of_the_timelines
from tests.faults.report import Line
from tests.faults.traffic import Face, Traffic, face_in

TRAFFIC = Traffic(seed=1, batch=50)
TAKEN, REFUSED_IN_PART, UNANSWERED = 0, 1, 2


@pytest.fixture
def obligations(tmp_path: Path) -> Obligations:
    """Three requests: one was taken, one but for its first event, one was never answered."""
    book = Ledger(tmp_path / "ledger")
    for number in (TAKEN, REFUSED_IN_PART, UNANSWERED):
        book.enter("intent", number)
    book.enter("answer", TAKEN, 202, "-")
    book.enter("answer", REFUSED_IN_PART, 202, "0")
    book.enter("answer", UNANSWERED, "ReadTimeout", "-")
    book.close()
    return Obligations.of(read(tmp_path / "ledger"), TRAFFIC, {})


def faces(number: int) -> list[Face]:
    """What a request says that a door may take."""
    return [event.face for event in TRAFFIC.request(number).events if event.face is not None]


def obliged() -> list[Face]:
    """What has to be there."""
    return faces(TAKEN) + faces(REFUSED_IN_PART)[1:]


def broken(obligations: Obligations, found: list[Face | None]) -> list[str]:
    """The promises that don't hold."""
    kept = Kept()
    for face in found:
        kept.add(face, obligations)
    return failures(of_the_timelines(obligations, kept))


def failures(lines: list[Line]) -> list[str]:
    """What the lines say that don't hold."""
    return [line.what.split()[0] for line in lines if not line.held]


def test_what_was_acked_and_nothing_more_is_well(obligations: Obligations) -> None:
    """All that was answered 2xx, but for what the answer refused."""
    assert broken(obligations, [*obliged()]) == []


def test_what_was_not_acked_may_be_there(obligations: Obligations) -> None:
    """An unknown outcome obliges to nothing and forbids nothing."""
    assert broken(obligations, [*obliged(), *faces(UNANSWERED), faces(REFUSED_IN_PART)[0]]) == []


@pytest.mark.parametrize(
    ("lie", "seen"),
    [
        (lambda found: found[1:], "I1"),
        (lambda found: [*found, found[3]], "I1,"),
        (lambda found: [*found, msgspec.structs.replace(found[3], id="nobody's")], "I2"),
        (lambda found: [*found[1:], msgspec.structs.replace(found[0], micros=5)], "I2"),
        (lambda found: [*found[1:], msgspec.structs.replace(found[0], properties=b"{}")], "I2"),
        (lambda found: [*found, None], "I2"),
        (lambda found: [*found, faces(UNANSWERED)[0], faces(UNANSWERED)[0]], "I1,"),
    ],
    ids=["lost", "doubled", "invented", "time altered", "body altered", "unreadable", "unacked, doubled"],
)
def test_a_lie_is_seen(
    obligations: Obligations, lie: Callable[[list[Face]], list[Face | None]], seen: str
) -> None:
    """One record among all is enough."""
    assert broken(obligations, lie(obliged())) == [seen]


def test_what_was_said_last_of_a_link_has_to_be_so(tmp_path: Path) -> None:
    """Whatever of it was forgotten is seen; a word without an answer obliges to nothing."""
    book = Ledger(tmp_path / "ledger")
    for identity, *words in (("a", "unlink"), ("b", "unlink", "relink"), ("c", "unlink")):
        for word in words:
            book.enter("word", word, identity)
            book.enter("said", word, identity, f"{identity}|x,y|{identity}")
    book.enter("word", "relink", "c")
    book.enter("word", "unlink", "d")
    book.enter("said", "unlink", "d", "-")
    book.close()
    account = read(tmp_path / "ledger")

    assert of_the_links(account, {("a", "x"), ("y", "a")}).held
    assert of_the_links(account, {("a", "x"), ("y", "a"), ("c", "x")}).held
    assert not of_the_links(account, {("a", "x")}).held
    assert not of_the_links(account, {("a", "x"), ("y", "a"), ("b", "x")}).held


def test_either_body_of_a_conflict_may_be_the_one_that_counts() -> None:
    """The first wins, and who was first is the log's business."""
    account = Account(intended={1, 2}, taken={1: [frozenset()], 2: [frozenset()]})
    one, other = TRAFFIC.event(1, 0), TRAFFIC.event(1, 0, variant=1)
    assert one.face is not None
    assert other.face is not None
    obligations = Obligations.of(account, TRAFFIC, {})
    obligations.sent[one.face.source, one.id].add(other.face.digest())
    found = [face for face in faces(1) + faces(2) if face.id != one.id or face.source != one.face.source]
    assert broken(obligations, [*dict.fromkeys(found), other.face]) == []


def test_each_record_below_the_offset_has_one_fate() -> None:
    """A record that was skipped, one that came from nowhere, and one that was buried alive are seen."""
    a, b, c = ("shop", "a"), ("shop", "b"), ("shop", "c")
    assert failures(of_the_log({a, b}, {a, b}, {"x": 1}, {"x": 1})) == []
    assert failures(of_the_log({a, b, c}, {a, b}, {}, {})) == ["I6"]
    assert failures(of_the_log({a}, {a, b}, {}, {})) == ["I6"]
    assert failures(of_the_log({a}, {a}, {"x": 1}, {})) == ["I6"]
    assert failures(of_the_log({a}, {a}, {}, {"x": 1})) == ["I6"]


def test_the_face_of_an_event_survives_ingest() -> None:
    """What a record of the log says is what was sent, whichever offset the sender's clock stood in."""
    for event in TRAFFIC.request(5).events:
        if event.face is None:
            continue
        face = event.face
        json = event.json
        record = Touchpoint(
            id=event.id,
            type=face.type,
            channel=json["channel"],
            occurred_at=msgspec.convert(json["occurred_at"], SystemClock().now().__class__, strict=False),
            received_at=SystemClock().now(),
            source=face.source,
            identities=face.identities,
            properties=msgspec.Raw(msgspec.json.encode(json["properties"])),
        )
        assert face_in(codec.encode(record)) == face


def test_a_seed_gives_the_same_requests_and_all_kinds_of_them() -> None:
    """Sent again, other bodies, late ones, and times that no door takes: all are there."""
    requests = [TRAFFIC.request(number) for number in range(300)]
    assert requests == [Traffic(seed=1, batch=50).request(number) for number in range(300)]
    assert requests != [Traffic(seed=2, batch=50).request(number) for number in range(300)]
    events = [(request.source, event) for request in requests for event in request.events]
    assert any(event.face is None for _, event in events)
    seen: dict[tuple[str, str], set[int]] = {}
    for source, event in events:
        if event.face is not None:
            seen.setdefault((source, event.id), set()).add(event.face.digest())
    assert len(seen) < len(events)
    assert any(len(bodies) > 1 for bodies in seen.values())


def test_a_ledger_can_be_followed_while_it_is_written(tmp_path: Path) -> None:
    """Each whole entry is given once; half of one is left for later."""
    path = tmp_path / "ledger"
    tail = Tail(path)
    assert list(tail.entries()) == []
    book = Ledger(path)
    book.enter("intent", 1)
    with path.open("a") as file:
        file.write("intent")
    assert list(tail.entries()) == ["intent 1"]
    book.enter("", 2)
    assert list(tail.entries()) == ["intent 2"]
    book.close()
