"""What a worker says of itself, how often, and when it may rest.

With sessions it beats every 50 ms, so that a hang is noticed within a second. A worker that has had
nothing to do for a second rests: it beats more rarely, and sleeps through the slots in between,
for its sockets wake it. Whatever arrives ends that at once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ipc.clock import NS_PER_MS, NS_PER_S
from ipc.messages import WorkerBeat

if TYPE_CHECKING:
    from workers.pacer import Pacer

# Goodbyes, and what else follows the end of a session, have the slots that they are used to.
REST_AFTER_NS = NS_PER_S


class Beat:
    """The beats of one worker."""

    def __init__(self, pacer: Pacer, now_ns: int, *, every_ms: int, resting_ms: int) -> None:
        """`resting_ms` between the beats of a worker that rests; one with 0 never does."""
        self._pacer = pacer
        self._every_ns = every_ms * NS_PER_MS
        self._resting_ns = resting_ms * NS_PER_MS
        self._number = 0
        self._busy_ns = now_ns
        self._last_ns, self._last_cpu_ns = now_ns, time.process_time_ns()
        self.resting = False
        self.due_ns = now_ns

    def next(
        self,
        now_ns: int,
        *,
        sessions: int,
        unheard: int,
        priority: str,
        udp_port: int,
        upgrades: dict[str, int],
    ) -> WorkerBeat:
        """The beat that is due."""
        pacer = self._pacer
        cpu_ns = time.process_time_ns()
        load = (cpu_ns - self._last_cpu_ns) / max(1, now_ns - self._last_ns)
        self._last_cpu_ns, self._last_ns = cpu_ns, now_ns
        self.due_ns = now_ns + (self._resting_ns if self.resting else self._every_ns)
        late_ns, pacer.late_ns = pacer.late_ns, 0
        self._number += 1
        return WorkerBeat(
            number=self._number,
            ticks=pacer.ticks,
            sessions=sessions,
            load=round(load, 3),
            late_ms=round(late_ns / NS_PER_MS, 2),
            missed_frames=pacer.missed_frames,
            unheard=unheard,
            priority=priority,
            udp_port=udp_port,
            upgrades=upgrades,
        )

    def rest(self, now_ns: int, *, busy: bool) -> bool:
        """At the end of each slot: whether the worker sleeps until its next beat is due."""
        if busy:
            self._busy_ns, self.resting = now_ns, False
        elif self._resting_ns and now_ns - self._busy_ns >= REST_AFTER_NS:
            self.resting = True
            self._pacer.rest(self.due_ns)
        return self.resting

    def wake(self, now_ns: int) -> None:
        """A session begins: the next slot comes as soon as one can, with a beat in it."""
        self._busy_ns = now_ns
        if self.resting:
            self.resting, self.due_ns = False, now_ns
        self._pacer.wake(now_ns)
