"""Lets the inputs of handshakes in one at a time, when there is time before the next slot.

A step of ICE, DTLS or SDP holds the loop for up to 1.4 ms, in tasks of aiortc's that nobody can
schedule. So what sets them off waits here (datagrams that are no media, commands): each is
let in when more than a millisecond is left, the next one after its tasks have had their turns.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from ipc.clock import NS_PER_MS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ipc.clock import Clock

log = logging.getLogger(__name__)

MAX_WAITING = 4096
NEEDED_NS = 1 * NS_PER_MS
# Even a worker that never has that much time to spare must not starve its handshakes.
MAX_WAIT_NS = 20 * NS_PER_MS
# Turns of the loop in which the tasks that an input wakes get to their work.
SETTLING_TURNS = 3


class Gate:
    """The queue in front of everything that is not on the beat."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, due_ns: Callable[[], int]
    ) -> None:
        """`due_ns` tells when the next slot begins."""
        self._loop = loop
        self._clock = clock
        self._due_ns = due_ns
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._settling = 0
        self._turning = False
        self.dropped = 0

    def __len__(self) -> int:
        """How many inputs wait."""
        return len(self._waiting)

    def push(self, work: Callable[[], None]) -> bool:
        """Do `work` when there is time; False when too much waits."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return False
        self._waiting.append((self._clock.now_ns(), work))
        self.open()
        return True

    async def turn(self) -> None:
        """Wait for a place in the queue; a queue that is full lets nobody wait longer."""
        future = self._loop.create_future()
        if self.push(lambda: None if future.done() else future.set_result(None)):
            await future

    def open(self) -> None:
        """Let in what may be let in; after each slot, and when something comes."""
        if not self._turning and self._waiting:
            self._next()

    def _next(self) -> None:
        self._turning = True
        if self._settling:
            self._settling -= 1
        else:
            now_ns = self._clock.now_ns()
            if not self._waiting or not self._may_pass(now_ns):
                self._turning = False
                return
            _, work = self._waiting.popleft()
            self._settling = SETTLING_TURNS
            try:
                work()
            except Exception:  # whatever it was, those behind it are let in
                log.exception("an input failed")
        self._loop.call_soon(self._next)

    def _may_pass(self, now_ns: int) -> bool:
        since_ns = self._waiting[0][0]
        return self._due_ns() - now_ns > NEEDED_NS or now_ns - since_ns > MAX_WAIT_NS
