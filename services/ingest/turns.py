"""Short turns of the event loop, and a queue before the work that makes them long.

All that comes while a turn lasts is handled in the next one. Left alone, requests for more than a core can
do make the turns longer and longer: what has been read waits for its commit, new connections wait to be
accepted, and in the end every sender has given up when its answer comes, so that all work is in vain. Here a
turn reads requests for `TURN_S` only; those beyond it wait, in order, for the next turns. While it will take
more than `WAIT_S_MAX` to read those, new requests are refused by their heads, which costs little.

Little, but not nothing: senders that come again at once can keep a loop busy with refusals alone. So while
requests are refused, what is read has `SHARE` times as long as all else took in the turn before, within
`TURN_S_MAX`: who is refused waits for that as well, and comes again the less often.

A website's one event is read in a fraction of what hundreds of bad ones take, and doesn't wait for them: what
is short goes first. What is long is read in steps, and after `STEP_S` the next one has its turn, so that none
holds up all others; each turn begins with one of them, so that they come to their end too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from services.ingest.limits import Jitter
from services.ingest.steps import Steps
from shared.clock import Clock
from shared.problem import Problem

TURN_S = 0.01
"""What comes during a commit goes into the next one, so that shorter turns make no more of them."""
STEP_S = 0.005
"""Most requests need no more."""
WAIT_S_MAX = 0.5
"""Short for a sender, and long enough for any crowd that comes at once but no more often."""

SHORT_BYTES = 8 * 1024
"""A dozen touchpoints; a larger body may take milliseconds."""

TURN_S_MAX = 2.0
"""A loop that was stopped for a while has not been busy."""
SHARE = 6
SHEDDING_S = 1.0
"""So long after a refusal those who were refused may keep the loop busy."""

_REMEMBERED = 16
"""Of how many jobs the mean tells how long one takes: whenever the process is held up, some seem long."""

Job = Steps[None]
"""Must not raise."""


class _Queue:
    """Jobs that wait, each with the seconds that it has taken so far."""

    def __init__(self) -> None:
        self.jobs: deque[tuple[Job, float]] = deque()
        self._job_s = 0.0
        """How long one of the last took, from its first step to its last."""
        self._done = 0

    @property
    def wait_s(self) -> float:
        """How long it will take to do them all, as far as those tell that were done."""
        return len(self.jobs) * self._job_s

    def note(self, took_s: float) -> None:
        """One of them is done."""
        self._done = min(self._done + 1, _REMEMBERED)
        self._job_s += (took_s - self._job_s) / self._done


class Turns:
    """Does jobs in the order in which they come, the short ones first. `in_next_turn` calls a function in the
    loop's next turn."""

    def __init__(
        self, clock: Clock, in_next_turn: Callable[[Callable[[], None]], object], jitter_s: Jitter
    ) -> None:
        self._clock = clock
        self._in_next_turn = in_next_turn
        self._jitter_s = jitter_s
        self._until_s: float | None = None
        """How long (monotonic seconds) this turn reads; None between turns."""
        self._left_s: float | None = None
        """When the last turn stopped reading, if it left something."""
        self._shed_until_s = 0.0
        self._short = _Queue()
        self._long = _Queue()

    def check(self, behind_s: float, size: int) -> None:
        """Let a request in whose body will have so many bytes. `behind_s` is how many seconds those had to
        wait further on who are there now.

        Raises:
            Problem: 503, too much waits already.
        """
        wait_s = self._short.wait_s + (0.0 if size <= SHORT_BYTES else self._long.wait_s)
        if wait_s > WAIT_S_MAX or behind_s > WAIT_S_MAX:
            self._shed_until_s = self._clock.monotonic_s() + SHEDDING_S
            raise Problem(503, "overloaded", "too much came at once", retry_after_s=self._jitter_s())

    def do(self, job: Job, size: int) -> None:
        """Do a job, the reading of so many bytes, now; or in one of the next turns if this one has lasted for
        too long."""
        now_s = self._clock.monotonic_s()
        if self._until_s is None:
            self._until_s = now_s + TURN_S
            self._in_next_turn(self._turn)
        is_short = size <= SHORT_BYTES
        if self._short.jobs or (self._long.jobs and not is_short) or now_s > self._until_s:
            (self._short if is_short else self._long).jobs.append((job, 0.0))
        else:
            self._go_on(job, 0.0, now_s)

    def _go_on(self, job: Job, taken_s: float, now_s: float) -> bool:
        """Go on with a job that has taken some seconds; whether it is done. What turns out to be long waits
        with those that are."""
        for _ in job:
            step_s = self._clock.monotonic_s() - now_s
            if step_s >= STEP_S:
                self._long.jobs.append((job, taken_s + step_s))
                return False
        return True

    def _turn(self) -> None:
        """Begin a turn with what waits."""
        if not (self._short.jobs or self._long.jobs):
            self._until_s = self._left_s = None
            return
        began_s = self._clock.monotonic_s()
        elsewhere_s = 0.0 if self._left_s is None else began_s - self._left_s
        self._in_next_turn(self._turn)
        now_s = self._do_next(self._long, began_s) if self._long.jobs else began_s
        share_s = min(SHARE * elsewhere_s, TURN_S_MAX) if began_s < self._shed_until_s else 0.0
        self._until_s = now_s + max(TURN_S, share_s)
        while (queue := self._next()) and now_s <= self._until_s:
            now_s = self._do_next(queue, now_s)
        self._left_s = now_s if queue else None

    def _next(self) -> _Queue | None:
        return self._short if self._short.jobs else self._long if self._long.jobs else None

    def _do_next(self, queue: _Queue, now_s: float) -> float:
        """Go on with the first of a queue; the time afterwards."""
        job, taken_s = queue.jobs.popleft()
        done = self._go_on(job, taken_s, now_s)
        after_s = self._clock.monotonic_s()
        if done:
            queue.note(taken_s + after_s - now_s)
        return after_s
