"""The beat: 20 ms cut into slots, every session in one of them, sends before anything else.

A pure function of the sessions and `now`: the timer around it is the worker's. In a slot its
own sessions send what they encoded one slot ago, then what has come is taken in, then the next
slot's sessions encode, then those that sent settle what follows from it (bells, messages). So a
packet's time depends neither on how long encoding takes nor on the neighbours. When the worker
was stopped for longer than a burst may be, the frames it missed are given up: their time passes
on the RTP clock, no sequence number is skipped.

Up to a hundred sessions share every second slot, which halves the wake-ups and lets more of them
run in caches that are warm; a crowd spreads over all, and nobody who is there already ever changes
place for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ipc.audio_ring import FRAME_MS
from ipc.clock import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable

SLOTS = 10
STRIDE = 2
CROWD = 100
MAX_BURST_FRAMES = 2
FRAME_NS = FRAME_MS * NS_PER_MS


class Paced(Protocol):
    """What the pacer drives, 50 times a second each."""

    def send(self, now_ns: int) -> None:
        """Let the packet go that was encoded a slot ago."""
        ...

    def settle(self, now_ns: int) -> None:
        """What follows from having sent, and is in no hurry."""
        ...

    def encode(self) -> None:
        """Make the next packet ready."""
        ...

    def miss(self, frames: int) -> None:
        """So many frames were given up: time has passed without them."""
        ...


class Pacer:
    """Which session is due when."""

    def __init__(
        self,
        now_ns: int,
        *,
        slots: int = SLOTS,
        stride: int = STRIDE,
        on_fault: Callable[[Paced], None],
        drain: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_fault` hears, in the handler of the exception, of a session that failed.

        `drain` is called when all that are due have sent: what has come is taken in.
        Up to 100 sessions use every `stride`-th of the `slots`.
        """
        self._on_fault = on_fault
        self._drain = drain
        self.slot_ns = FRAME_NS // slots
        self.due_ns = now_ns + self.slot_ns
        self.ticks = 0
        self.late_ns = 0
        self.missed_frames = 0
        self._slots: list[list[Paced]] = [[] for _ in range(slots)]
        self._place: dict[Paced, int] = {}
        self._stride = stride
        self._next = 0
        self._plan()

    def add(self, paced: Paced) -> None:
        """Put a session into the emptiest slot."""
        stride = self._stride if len(self._place) < CROWD else 1
        place = min(range(0, len(self._slots), stride), key=lambda slot: len(self._slots[slot]))
        # A copy here and in `remove`, because the slot may be being walked through.
        self._slots[place] = [*self._slots[place], paced]
        self._place[paced] = place
        self._plan()

    def remove(self, paced: Paced) -> None:
        """Take a session out. Safe when it is not in."""
        place = self._place.pop(paced, None)
        if place is not None:
            self._slots[place] = [other for other in self._slots[place] if other is not paced]
            self._plan()

    def rest(self, until_ns: int) -> None:
        """While nobody is in: let the next slot be no earlier than that."""
        if not self._place and until_ns > self.due_ns:
            self.due_ns, self._next = until_ns, 0

    def wake(self, now_ns: int) -> None:
        """Somebody is about to come: the first of nobody's slots is not far away."""
        if not self._place and self.due_ns > now_ns + self.slot_ns:
            self.due_ns, self._next = now_ns + self.slot_ns, 0

    def _plan(self) -> None:
        """Which slot follows which; those that nobody uses are slept through."""
        slots = self._slots
        used = [
            slot
            for slot in range(len(slots))
            if slot == 0 or slots[slot] or (self._place and slot % self._stride == 0)
        ]
        following = [*used[1:], len(slots)]
        self._following = [
            next(slot for slot in following if slot > place) for place in range(len(slots))
        ]

    def run(self, now_ns: int) -> int:
        """Everything that is due by `now_ns`; returns when the next slot is due."""
        late_ns = now_ns - self.due_ns
        if late_ns > self.late_ns:
            self.late_ns = late_ns
        if late_ns >= MAX_BURST_FRAMES * FRAME_NS:
            self._give_up(late_ns // FRAME_NS - (MAX_BURST_FRAMES - 1))
        while self.due_ns <= now_ns:
            self._run_slot(now_ns)
        return self.due_ns

    @property
    def at_frame(self) -> bool:
        """Whether the slot that comes next begins a frame."""
        return self._next == 0

    def _run_slot(self, now_ns: int) -> None:
        self.ticks += 1
        slots, slot = self._slots, self._next
        due, following = slots[slot], self._following[slot]
        self.due_ns += (following - slot) * self.slot_ns
        self._next = following % len(slots)
        for paced in due:
            try:
                paced.send(now_ns)
            except Exception:
                self._failed(paced)
        if self.due_ns > now_ns:  # when late, those that are due come first
            self._drain()
        for paced in slots[self._next]:
            try:
                paced.encode()
            except Exception:
                self._failed(paced)
        for paced in due:
            if paced in self._place:  # it may have failed or left meanwhile
                try:
                    paced.settle(now_ns)
                except Exception:
                    self._failed(paced)

    def _failed(self, paced: Paced) -> None:
        self.remove(paced)
        self._on_fault(paced)

    def _give_up(self, frames: int) -> None:
        self.due_ns += frames * FRAME_NS
        self.missed_frames += frames
        for slot in self._slots:
            for paced in slot:
                try:
                    paced.miss(frames)
                except Exception:
                    self._failed(paced)
