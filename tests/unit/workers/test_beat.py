"""A worker's beats: how often, what is in them, and when it rests between them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from ipc.clock import NS_PER_MS, NS_PER_S
from tests.fakes.paced import BEGIN_NS, Fake, pacer_with
from workers.beat import REST_AFTER_NS, Beat
from workers.pacer import FRAME_NS

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_MS, RESTING_MS = 50, 250


class World:
    """A worker's slots and beats, without its sockets."""

    def __init__(self, resting_ms: int = RESTING_MS) -> None:
        self.pacer = pacer_with()
        self.beat = Beat(self.pacer, BEGIN_NS, every_ms=EVERY_MS, resting_ms=resting_ms)
        self.now_ns = BEGIN_NS
        self.busy = False
        self.slots_ns: list[int] = []
        self.beats_ns: list[int] = []
        self.ticks: list[int] = []

    def slot(self) -> None:
        """The next slot, exactly when it is due."""
        self.now_ns = self.pacer.due_ns
        self.pacer.run(self.now_ns)
        self.slots_ns.append(self.now_ns)
        if self.now_ns >= self.beat.due_ns:
            said = self.beat.next(
                self.now_ns,
                sessions=int(self.busy),
                unheard=0,
                priority="none",
                udp_port=1,
                upgrades={},
            )
            self.beats_ns.append(self.now_ns)
            self.ticks.append(said.ticks)
        self.beat.rest(self.now_ns, busy=self.busy)

    def until(self, done: Callable[[], bool]) -> None:
        for _ in range(1_000):
            if done():
                return
            self.slot()
        raise AssertionError("it never came to that")

    def run(self, seconds: float) -> None:
        end_ns = self.now_ns + seconds * NS_PER_S
        self.until(lambda: self.pacer.due_ns > end_ns)


@pytest.fixture
def resting() -> World:
    world = World()
    world.until(lambda: world.beat.resting)
    world.slots_ns, world.beats_ns = [], []
    return world


def gaps_ms(times_ns: list[int]) -> set[float]:
    return {(later - earlier) / NS_PER_MS for earlier, later in pairwise(times_ns)}


def test_one_with_nothing_to_do_rests_after_a_second() -> None:
    world = World()
    world.until(lambda: world.beat.resting)
    assert REST_AFTER_NS <= world.now_ns - BEGIN_NS <= REST_AFTER_NS + FRAME_NS
    assert gaps_ms(world.beats_ns) == {60}  # the first frame that begins after 50 ms


def test_one_that_rests_turns_for_its_beats_alone(resting: World) -> None:
    resting.run(3)
    assert resting.slots_ns == resting.beats_ns
    assert gaps_ms(resting.beats_ns) == {RESTING_MS}
    assert len(set(resting.ticks)) == len(resting.ticks)  # each shows that it turns


def test_one_that_is_busy_never_rests() -> None:
    world = World()
    world.busy = True
    world.run(5)
    assert not world.beat.resting
    assert gaps_ms(world.slots_ns) == {FRAME_NS / NS_PER_MS}


def test_one_that_has_become_idle_waits_a_second_again() -> None:
    world = World()
    world.busy = True
    world.run(5)
    world.busy = False
    idle_ns = world.now_ns
    world.until(lambda: world.beat.resting)
    assert world.now_ns - idle_ns >= REST_AFTER_NS


def test_a_session_that_arrives_has_its_slot_and_the_engine_a_beat_at_once(resting: World) -> None:
    resting.run(1)
    resting.beats_ns = []
    arrived_ns = resting.now_ns + 7 * NS_PER_MS
    resting.beat.wake(arrived_ns)
    session = Fake()
    resting.pacer.add(session)
    resting.busy = True
    resting.slot()
    assert resting.now_ns == arrived_ns + resting.pacer.slot_ns
    assert session.sent_ns == resting.beats_ns == [resting.now_ns]
    resting.run(1)
    assert gaps_ms(session.sent_ns) == {FRAME_NS / NS_PER_MS}
    assert max(gaps_ms(resting.beats_ns)) <= EVERY_MS + FRAME_NS / NS_PER_MS
    assert resting.pacer.missed_frames == 0


def test_what_came_and_failed_at_once_lets_it_rest_again_after_a_second(resting: World) -> None:
    resting.beat.wake(resting.now_ns)
    woken_ns = resting.now_ns
    resting.until(lambda: resting.beat.resting)
    assert resting.now_ns - woken_ns >= REST_AFTER_NS


def test_without_a_pace_to_rest_at_it_does_not() -> None:
    world = World(resting_ms=0)
    world.run(5)
    assert not world.beat.resting
    assert gaps_ms(world.slots_ns) == {FRAME_NS / NS_PER_MS}
