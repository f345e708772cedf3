"""Garbage collection between two beats.

A collection stops the pacer for as long as it takes, so none comes by itself: the modules are
frozen, and what sessions leave is collected in gaps that are longer than the last one took. The
young objects are few; everything is looked through only when sessions have ended, for nothing
else leaves rings of objects behind.
"""

from __future__ import annotations

import gc
import time

from ipc.clock import NS_PER_S

# New objects before a collection of the young is worth its fixed cost (gc's own default: 700).
YOUNG = 1_000
# How often everything is looked through when sessions have ended, and how many of them must have
# ended before that is done even without a gap.
FULL_NS = 60 * NS_PER_S
OVERDUE_SESSIONS = 200
FULL, YOUNG_GENERATION = 2, 1


class Garbage:
    """The collector of this process. `begin` once, then `collect` in every gap."""

    def __init__(self) -> None:
        self.longest_ns = 0
        self.collections = 0
        self._took_ns = {YOUNG_GENERATION: 0, FULL: 0}
        self._full_due_ns = 0
        self._ended = 0

    def session_ended(self) -> None:
        """A session has left its objects."""
        self._ended += 1

    def begin(self, now_ns: int) -> None:
        """Everything is imported: keep it out of all collections and collect by hand from now."""
        self._run(FULL)
        self.longest_ns = self.collections = 0
        gc.freeze()
        gc.disable()
        self._full_due_ns = now_ns + FULL_NS

    def collect(self, now_ns: int, gap_ns: int, *, idle: bool) -> None:
        """Collect what is due if nobody is there to be disturbed, or the gap is longer than the
        last such collection took.
        """
        if self._ended and now_ns >= self._full_due_ns:
            overdue = idle or self._ended >= OVERDUE_SESSIONS
            if overdue or gap_ns > self._took_ns[FULL]:
                self._run(FULL)
                self._full_due_ns = now_ns + FULL_NS
                self._ended = 0
                return
        if gc.get_count()[0] > YOUNG and gap_ns > self._took_ns[YOUNG_GENERATION]:
            self._run(YOUNG_GENERATION)

    def _run(self, generation: int) -> None:
        before_ns = time.perf_counter_ns()
        gc.collect(generation)
        took_ns = time.perf_counter_ns() - before_ns
        self._took_ns[generation] = took_ns
        self.longest_ns = max(self.longest_ns, took_ns)
        self.collections += 1
