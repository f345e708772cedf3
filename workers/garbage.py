"""Garbage collection between two beats.

A collection stops the pacer for as long as it takes, so none comes by itself: the modules are
frozen, and everything happens in gaps. The rings of objects that a session leaves would have to
be looked for among those of all live ones; but they are known, so they are taken apart instead,
one session in a gap, and are gone at once. What else there may be is little, and everything is
looked through for it only when that disturbs nobody, or when it could have become much.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from typing import TYPE_CHECKING

from ipc.clock import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

# New objects before a collection of the young is worth its fixed cost (gc's own default: 700),
# and before it has to come without a gap; that is about a millisecond's work.
YOUNG = 1_000
MOST_YOUNG = 10_000
# How long what a session has left is let be: timers and tasks of aiortc's may still come for it.
REST_NS = 5 * NS_PER_S
# The gap that taking one session apart needs, and how many may wait for theirs.
APART_NS = NS_PER_MS // 2
MAX_RESTING = 256
# How often everything is looked through when sessions have ended; how long that takes for each
# live one until it is known better; and how many must have ended before it is done without a gap:
# so many if it is short enough that no packet is more than a frame late, else very many.
FULL_NS = 60 * NS_PER_S
SESSION_NS = NS_PER_MS // 8
SHORT_NS = 15 * NS_PER_MS
OVERDUE_SESSIONS = 1_000
LAST_RESORT_SESSIONS = 10_000
FULL, YOUNG_GENERATION = 2, 1


class Garbage:
    """The collector of this process. `begin` once, then `collect` in every slot."""

    def __init__(self) -> None:
        self.longest_ns = 0
        self.collections = 0
        self._young_ns = 0
        self._session_ns = SESSION_NS
        self._full_due_ns = 0
        self._ended = 0
        self._resting: deque[tuple[int, Sequence[object]]] = deque()

    def __len__(self) -> int:
        """How many sessions have left what is to be taken apart."""
        return len(self._resting)

    def leave(self, remains: Sequence[object], now_ns: int) -> None:
        """Take these objects apart when nothing uses them any more, which is soon."""
        self._resting.append((now_ns + REST_NS, remains))

    def session_ended(self) -> None:
        """A session has left its objects."""
        self._ended += 1

    def begin(self, now_ns: int) -> None:
        """Everything is imported: keep it out of all collections and collect by hand from now."""
        gc.collect()
        gc.freeze()
        gc.disable()
        self._full_due_ns = now_ns + FULL_NS

    def collect(self, now_ns: int, gap_ns: int, sessions: int) -> None:
        """One piece of what is due, if it fits the gap or cannot wait any longer.

        `gap_ns` is 0 when something else is to be done in it; so many `sessions` are live.
        """
        resting = self._resting
        if resting and now_ns >= resting[0][0]:
            if gap_ns > APART_NS or len(resting) > MAX_RESTING:
                for part in resting.popleft()[1]:
                    vars(part).clear()
        elif self._ended and now_ns >= self._full_due_ns and self._may_look(gap_ns, sessions):
            took_ns = self._run(FULL)
            if sessions:  # when it was interrupted, it seems to take longer
                self._session_ns = min(took_ns // sessions, 4 * SESSION_NS)
            self._full_due_ns = now_ns + FULL_NS
            self._ended = 0
        elif (young := gc.get_count()[0]) > YOUNG and (
            gap_ns > self._young_ns or young > MOST_YOUNG
        ):
            self._young_ns = self._run(YOUNG_GENERATION)

    def _may_look(self, gap_ns: int, sessions: int) -> bool:
        """Whether everything may be looked through now."""
        takes_ns = self._session_ns * sessions
        if takes_ns < gap_ns:
            return True
        most = OVERDUE_SESSIONS if takes_ns <= SHORT_NS else LAST_RESORT_SESSIONS
        return self._ended >= most

    def _run(self, generation: int) -> int:
        """How long it took."""
        before_ns = time.perf_counter_ns()
        gc.collect(generation)
        took_ns = time.perf_counter_ns() - before_ns
        self.longest_ns = max(self.longest_ns, took_ns)
        self.collections += 1
        return took_ns
