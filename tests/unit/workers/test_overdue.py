"""Who waits in vain is served in the slot in which that is due, and nobody is asked in vain."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, cast

import pytest

from ipc.clock import NS_PER_MS
from workers.audio.reorder import FILL_AFTER_NS, Reorder
from workers.overdue import Overdue

if TYPE_CHECKING:
    from ipc.clock import ManualClock

SLOT_MS = 4
SLOTS_PER_FRAME = 5


class Silent:
    """A sink that only counts what was made up; both a session and its receiver."""

    def __init__(self, now_ns: int) -> None:
        self._reorder = Reorder(self, 48_000, now_ns)
        self.looks = self.made_up = 0
        self.fails = False
        self.arriving = cast("Any", self)

    @property
    def reorder(self) -> Reorder:
        self.looks += 1
        return self._reorder

    def tick(self, now_ns: int) -> None:
        if self.fails:
            raise ValueError("a fault")
        self._reorder.tick(now_ns)

    def arrive(self, sequence: int, now_ns: int) -> None:
        self._reorder.arrive(sequence, 960 * sequence, 96, b"..", 2, now_ns)

    def decode(self, _kind: int, _data: int | bytes, _length: int) -> int:
        return 960

    def recover(self, _kind: int, _data: int | bytes, _length: int, _ticks: int) -> bool:
        return False

    def conceal(self, _ticks: int) -> None:
        self.made_up += 1

    def fill(self, _ticks: int) -> None:
        self.made_up += 1


def refuse(_session: object) -> None:
    raise AssertionError("nobody fails here")


def test_callers_who_speak_are_looked_at_once_a_frame(clock: ManualClock) -> None:
    overdue, session = Overdue(refuse), Silent(clock.now_ns())
    for slot in range(50 * SLOTS_PER_FRAME):
        if slot % SLOTS_PER_FRAME == 3:
            session.arrive(slot // SLOTS_PER_FRAME, clock.now_ns())
        overdue.tick({"one": session}, clock.now_ns())
        clock.advance_ms(SLOT_MS)
    assert session.looks <= 51
    assert session.made_up == 0


@pytest.mark.parametrize("seed", range(20))
def test_each_is_served_in_the_slot_in_which_it_is_due_whatever_comes(
    clock: ManualClock, seed: int
) -> None:
    rng = random.Random(seed)
    overdue = Overdue(refuse)
    sessions = {str(number): Silent(clock.now_ns()) for number in range(12)}
    for sequence in range(1_000):
        clock.advance_ms(rng.choice((SLOT_MS, SLOT_MS, 2 * SLOT_MS, 60)))
        for session in sessions.values():
            if rng.random() < 0.4:
                session.arrive(sequence - rng.choice((0, 0, 0, 1, 3)), clock.now_ns())
        if rng.random() < 0.02:
            sessions[str(len(sessions))] = Silent(clock.now_ns())
        before = {id(s): (s._reorder.due_ns, s.made_up) for s in sessions.values()}
        overdue.tick(sessions, clock.now_ns())
        for session in sessions.values():
            due_ns, made_up = before[id(session)]
            if due_ns <= clock.now_ns():
                assert session._reorder.due_ns > due_ns
            else:
                assert (session._reorder.due_ns, session.made_up) == (due_ns, made_up)


def test_one_that_fails_is_told_and_the_others_are_served(clock: ManualClock) -> None:
    failed: list[object] = []
    overdue = Overdue(failed.append)
    sessions = {str(number): Silent(clock.now_ns()) for number in range(3)}
    sessions["0"].fails = True
    clock.advance_ms(FILL_AFTER_NS // NS_PER_MS)
    overdue.tick(sessions, clock.now_ns())
    assert failed == [sessions["0"]]
    assert [session.made_up for session in sessions.values()] == [0, 1, 1]


def test_after_a_stall_all_that_is_due_is_made_up_slot_by_slot(clock: ManualClock) -> None:
    overdue, session = Overdue(refuse), Silent(clock.now_ns())
    clock.advance_ms(1_000)
    for _ in range(60):
        overdue.tick({"one": session}, clock.now_ns())
        clock.advance_ms(1)
    assert session.made_up == (1_060 - 65) // 20 + 1
