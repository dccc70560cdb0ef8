"""One campaign as it is played: the load, the legs, the end, and the report of it all."""

from __future__ import annotations

import contextlib
import operator
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import httpx
import msgspec

from tests.faults import breaking_everything as everything
from tests.faults.breaking_store import RIVAL
from tests.faults.catalogue import BY_THE_END, BY_THE_LOAD
from tests.faults.fresh import send_and_see
from tests.faults.judge import Verdict, archive_log
from tests.faults.ledger import Account, Ledger, Tail
from tests.faults.places import Places
from tests.faults.progress import behind
from tests.faults.promises import line
from tests.faults.report import Line, Report
from tests.faults.rig import ROOT, STAGERS, Rig, environment, python
from tests.faults.scene import ANY_STAGER, Fault, Scene
from tests.faults.sightings import missing, seen_in_logs
from tests.faults.traffic import Traffic
from tests.faults.watch import Watch
from tests.faults.witness import deadlocks
from tests.support.child import Child
from tests.support.eventually import eventually

_HANDS = 6
"""So many faults go on at once."""
_DRAIN_S = 180.0
_DRAIN_BROKEN_S = 20.0
_PROBE = 1
_FRESH_S = 10.0
_JUDGE_S = 900.0
_PROMISED_S = {
    "takeover from a stager frozen at stager.filed": 12.0,
    "the end of a session that is silent in a copy": 12.0,
}


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is: events acked, faults in all, faults a round, legs in all rounds, events a second."""

    acked: int
    faults_min: int
    faults: int
    legs: int
    rounds: int
    events_s: int


class Play:
    """A campaign on a rig. A promise that breaks on the way ends the legs, not the judgement."""

    def __init__(self, rig: Rig, size: Size, seed: int, *, full: bool, drain_s: float = _DRAIN_S) -> None:
        self.chance = random.Random(seed)
        self._rig = rig
        self._size = size
        self._seed = seed
        self._full = full
        self._drain_s = drain_s
        self._began_s = time.monotonic()
        self._places = self._write_places()
        self._traffic = Traffic(seed)
        self._tail = Tail(self._places.ledger_path)
        self._account = Account()
        self._done: Counter[tuple[int, str]] = Counter()
        self._lines: list[Line] = []
        self._lock = threading.Lock()
        self._watch = Watch(rig)

    @property
    def _broken(self) -> list[str]:
        return self._rig.diary.broken

    def leave_out(self, faults: Sequence[Fault], excused: Collection[str]) -> None:
        """Say which faults this machine can't have; each fails the run unless it is excused by name."""
        for fault in faults:
            held = fault.name in excused
            self._lines.append(
                Line(f"row {fault.row}: {fault.name}", "possible", str(fault.lacks(self._rig)), held)
            )

    @contextlib.contextmanager
    def loaded(self) -> Iterator[None]:
        """A load runs within."""
        log_file = self._rig.home / "load.log"
        load = Child(
            python("tests.faults.oracle", "load", self._places_file),
            env=environment(),
            log_file=log_file,
            cwd=ROOT,
        )
        try:
            yield
        finally:
            if not load.running:
                self._broken.append(f"the load ended by itself: {load.tail()}")
            else:
                load.send(signal.SIGTERM)
                load.wait(60)

    def leg(self, faults: Sequence[Fault], power_cut: Fault | None = None) -> None:
        """Play these faults, several at once, and perhaps cut the power at the end."""
        if self._broken:
            return
        queue = deque(faults)
        hands = [
            threading.Thread(
                target=self._play_from, args=(queue, self.chance.getrandbits(32)), name=f"hand-{number}"
            )
            for number in range(_HANDS)
        ]
        for hand in hands:
            hand.start()
        for hand in hands:
            hand.join()
        if not self._broken:
            self._watched(self._rig.await_ready, "all services ready after the faults")
        if not self._broken and power_cut is not None:
            self._play(power_cut, random.Random(self.chance.getrandbits(32)), STAGERS[0])

    def go_on_to(self, acked: int) -> None:
        """Let the load go on until so many events have been acked."""
        if not self._broken:
            self._watched(lambda: eventually(lambda: self._acked() >= acked, 600), "the load")

    def replace_log(self) -> None:
        """Once everything is staged, delete the log; what the stagers must do is halt."""
        if self._broken:
            self._watched(self._rig.heal, "healing what broke")
        self._drain()
        if self._broken:
            return
        self._note(28, BY_THE_END[28])
        archive_log(self._places)
        everything.make_log_anew(self._rig)
        book = Ledger(self._places.ledger_path)
        book.enter("log", 2)
        book.close()
        with self.loaded():
            taken = self._acked() + 1_000
            self._watched(lambda: eventually(lambda: self._acked() >= taken, 60), "the load")
        self._watched(lambda: everything.expect_halt(self._rig), "the log made anew")
        everything.resume_as_operator(self._rig)
        self._drain()

    def restart_servers(self) -> None:
        """The last fault of all, after which a fresh event must be acked and seen in time."""
        if self._broken:
            return
        self._note(25, "broker and PostgreSQL killed at once")
        self._rig.broker.kill()
        self._rig.postgres.kill()
        self._rig.heal_servers()
        began_s = time.monotonic()
        self._watched(lambda: send_and_see(self._places, _PROBE), "a fresh event")
        seconds = time.monotonic() - began_s
        self._lines.append(
            Line(
                "I7 a fresh event acked and visible after the last fault",
                f"{_FRESH_S:g} s",
                f"{seconds:.1f} s",
                seconds <= _FRESH_S,
                timed=True,
            )
        )

    def report(self) -> Report:
        """Judge everything and say what was found."""
        self._drain()
        verdict = self._judge()
        seen = Counter(self._rig.diary.seen)
        seen.update(verdict.seen)
        seen.update(seen_in_logs(self._rig))
        number = sum(self._done.values())
        cuts = sum(count for (_, name), count in self._done.items() if name.startswith("a power cut"))
        lines = [
            Line(
                "acked events",
                f"at least {self._size.acked:,}",
                f"{verdict.acked:,}",
                verdict.acked >= self._size.acked,
            ),
            Line(
                "faults",
                f"at least {self._size.faults_min}",
                f"{number}, of which {cuts} power cuts",
                number >= self._size.faults_min and not self._broken,
            ),
            *verdict.lines,
            line(
                "deadlocks among our own batches",
                "0",
                deadlocks(self._rig.postgres.log_file, RIVAL),
            ),
            *self._watch.lines(),
            *self._times(),
            *missing(seen),
            *self._lines,
        ]
        lines += [Line("a fault's own check", "holds", text, False) for text in self._broken]
        return Report("Fault campaign", lines, list(self._notes(seen)))

    def _notes(self, seen: Counter[str]) -> Iterator[str]:
        yield f"seed {self._seed}; {time.monotonic() - self._began_s:.0f} s"
        for (row, name), count in sorted(self._done.items()):
            yield f"row {row}: {name} × {count}"
        yield from (f"row {row}: {what}, all the time" for row, what in BY_THE_LOAD.items())
        yield "seen: " + ", ".join(f"{what} × {count}" for what, count in sorted(seen.items()))
        yield "answers: " + ", ".join(f"{what} × {n}" for what, n in self._account.statuses.most_common())
        if self._broken:
            yield from (f"fault log: {text}" for text in self._rig.diary.done)

    def _times(self) -> Iterator[Line]:
        for what, seconds in sorted(self._rig.diary.longest_s.items()):
            promised = _PROMISED_S.get(what)
            held = promised is None or seconds <= promised
            limit = f"{promised:g} s" if promised else "-"
            yield Line(what, limit, f"{seconds:.1f} s at most", held, timed=True)

    def _play_from(self, queue: deque[Fault], seed: int) -> None:
        chance = random.Random(seed)
        while not self._broken:
            try:
                fault = queue.popleft()
            except IndexError:
                return
            self._rig.dead.wait(chance.uniform(0, 0.5))
            self._hold_and_play(fault, chance)

    def _hold_and_play(self, fault: Fault, chance: random.Random) -> None:
        if fault.parts != (ANY_STAGER,):
            with self._rig.holding(*fault.parts):
                self._play(fault, chance, STAGERS[0])
            return
        stager = eventually(lambda: self._rig.any_stager(chance.randrange(len(STAGERS))), 900)
        assert stager is not None
        try:
            self._play(fault, chance, stager)
        finally:
            self._rig.let_go(stager)

    def _play(self, fault: Fault, chance: random.Random, stager: str) -> None:
        scene = Scene(self._rig, chance, self._full, stager)
        self._note(fault.row, fault.name)
        began_s = time.monotonic()
        self._watched(lambda: fault.run(scene), fault.name)
        self._say(f"{fault.name} took {time.monotonic() - began_s:.1f} s")

    def _watched(self, act: object, what: str) -> None:
        """Do something; that it fails is a broken promise, and the campaign goes on to its judgement."""
        try:
            assert callable(act)
            act()
        except Exception as error:
            self._broken.append(f"{what}: {type(error).__name__}: {error}"[:2_000])
            traceback.print_exc(file=sys.stderr)

    def _note(self, row: int, name: str) -> None:
        with self._lock:
            self._done[row, name] += 1
        self._say(f"row {row}: {name}")

    def _say(self, text: str) -> None:
        line = f"{time.monotonic() - self._began_s:7.1f} s  {text}"
        self._rig.diary.done.append(line)
        print(line, file=sys.stderr, flush=True)

    def _acked(self) -> int:
        for entry in self._tail.entries():
            self._account.enter(entry)
        return sum(map(self._traffic.size, self._account.taken))

    def _drain(self) -> None:
        """Wait until everything that was taken has been staged. A busy machine takes its time for that: the
        promise is broken once nothing more is staged."""
        began_s = time.monotonic()
        self._watched(self._stage_the_rest, "staging what was taken")
        self._say(f"staged after {time.monotonic() - began_s:.1f} s")

    def _stage_the_rest(self) -> None:
        left = sys.maxsize
        while left:
            left = eventually(
                lambda: behind(self._places),
                _DRAIN_BROKEN_S if self._broken else self._drain_s,
                until=partial(operator.gt, left),
                tolerate=(OSError, httpx.HTTPError),
            )

    def _judge(self) -> Verdict:
        done = subprocess.run(
            python("tests.faults.oracle", "judge", self._places_file),
            env=environment(),
            cwd=ROOT,
            capture_output=True,
            timeout=_JUDGE_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the judge failed: {done.stderr.decode()}")
        return msgspec.json.decode(done.stdout, type=Verdict)

    @property
    def _places_file(self) -> str:
        return str(self._rig.home / "places.json")

    def _write_places(self) -> Places:
        rig = self._rig
        places = Places(
            ingest_url=rig.url("ingest"),
            api_url=rig.url("api"),
            database_url=rig.database_url(),
            kafka=rig.broker.direct,
            keys=rig.keys,
            seed=self._seed,
            ledger=str(rig.home / "ledger"),
            earlier_logs=str(rig.home / "earlier_logs"),
            spool=str(rig.disks["spool"].mount_point),
            journeys=str(rig.home / "journeys"),
            events_s=self._size.events_s,
        )
        places.ledger_path.touch()
        (rig.home / "places.json").write_bytes(msgspec.json.encode(places))
        return places
