"""Short turns of the event loop, and a queue before the work that makes them long.

All that comes while a turn lasts is handled in the next one. Left alone, requests for more than a core can
do make the turns longer and longer: what has been read waits for its commit, new connections wait to be
accepted, and in the end every sender has given up when its answer comes, so that all work is in vain. Here a
turn reads requests for `TURN_S` only; those beyond it wait, in order, for the next turns. While it will take
more than `WAIT_S_MAX` to read those, new requests are refused by their heads, which costs little.

Little, but not nothing: senders that come again at once can keep a loop busy with refusals alone. So what is
read has `SHARE` times as long as everything else took in the turn before, within `TURN_S_MAX`: who is refused
waits for that as well, and comes again the less often.

A website's one event is read in a fraction of what hundreds of bad ones take, and doesn't wait for them: what
is short goes first. Each turn begins with one of the long ones, so that they come to their end too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from services.ingest.limits import Jitter
from shared.clock import Clock
from shared.problem import Problem

TURN_S = 0.05
"""Some tens of large requests: enough for a commit that is worth its sync."""
WAIT_S_MAX = 0.5
"""Short for a sender, and long enough for any crowd that comes at once but no more often."""

SHORT_BYTES = 8 * 1024
"""A dozen touchpoints; a larger body may take milliseconds."""

TURN_S_MAX = 2.0
"""A loop that was stopped for a while has not been busy."""
SHARE = 6

Job = Callable[[], None]
"""Must not raise."""


class Turns:
    """Does jobs in the order in which they come, the short ones first. `in_next_turn` calls a function in the
    loop's next turn."""

    def __init__(self, clock: Clock, in_next_turn: Callable[[Job], object], jitter_s: Jitter) -> None:
        self._clock = clock
        self._in_next_turn = in_next_turn
        self._jitter_s = jitter_s
        self._until_s: float | None = None
        """How long (monotonic seconds) this turn reads; None between turns."""
        self._left_s: float | None = None
        """When the last turn stopped reading, if it left something."""
        self._job_s = 0.0
        """How long one of the jobs took that had to wait."""
        self._short: deque[Job] = deque()
        self._long: deque[Job] = deque()

    def check(self, behind_s: float) -> None:
        """Let a request in. `behind_s` is how many seconds those had to wait further on who are there now.

        Raises:
            Problem: 503, too much waits already.
        """
        if (len(self._short) + len(self._long)) * self._job_s > WAIT_S_MAX or behind_s > WAIT_S_MAX:
            raise Problem(503, "overloaded", "too much came at once", retry_after_s=self._jitter_s())

    def do(self, job: Job, size: int) -> None:
        """Do a job, the reading of so many bytes, now; or in one of the next turns if this one has lasted for
        too long."""
        now_s = self._clock.monotonic_s()
        if self._until_s is None:
            self._until_s = now_s + TURN_S
            self._in_next_turn(self._turn)
        is_short = size <= SHORT_BYTES
        if self._short or (self._long and not is_short) or now_s > self._until_s:
            (self._short if is_short else self._long).append(job)
        else:
            job()

    def _turn(self) -> None:
        """Begin a turn with what waits."""
        if not (self._short or self._long):
            self._until_s = self._left_s = None
            return
        began_s = left_s = self._clock.monotonic_s()
        elsewhere_s = 0.0 if self._left_s is None else began_s - self._left_s
        self._in_next_turn(self._turn)
        done = 0
        if self._long:
            self._long.popleft()()
            done, left_s = 1, self._clock.monotonic_s()
        self._until_s = left_s + min(max(TURN_S, SHARE * elsewhere_s), TURN_S_MAX)
        while (queue := self._short or self._long) and left_s <= self._until_s:
            queue.popleft()()
            done += 1
            left_s = self._clock.monotonic_s()
        self._job_s = (left_s - began_s) / done
        self._left_s = left_s if queue else None
