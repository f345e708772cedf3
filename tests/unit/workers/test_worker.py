"""A worker's tick: when WebSockets are heard, and that a session wakes it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ipc.clock import NS_PER_MS
from tests.fakes.paced import Fake
from workers.beat import Beat
from workers.overdue import Overdue
from workers.pacer import Pacer
from workers.sounds import Sounds
from workers.websocket.reading import Reading
from workers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipc.clock import ManualClock

ID = "s_" + 32 * "0"


class FakeTimer:
    """Keeps for when it was armed."""

    def __init__(self) -> None:
        self.due_ns = 0

    def arm(self, due_ns: int) -> None:
        self.due_ns = due_ns

    def close(self) -> None:
        pass


@pytest.fixture
def worker(clock: ManualClock) -> Iterator[Worker]:
    """A worker that was started without sockets."""
    worker, parts = Worker("w", "inproc://nobody", "token"), cast("Any", SimpleNamespace())
    parts.notify = lambda _message: None
    parts.session_ended = lambda: None
    parts.received, parts.dropped = 0, {}
    worker._clock = clock  # type: ignore[assignment]  # a manual one
    worker._channel = worker._mux = worker._garbage = parts
    worker._sounds = Sounds()
    worker._pacer = Pacer(clock.now_ns(), on_fault=lambda _session: None)
    worker._overdue = Overdue(on_fault=lambda _session: None)
    worker._beat = Beat(worker._pacer, clock.now_ns(), every_ms=50, resting_ms=250)
    worker._timer = FakeTimer()
    yield worker
    worker._sounds.close()


class FakeSockets:
    """Counts how often it is asked; `waiting` is what a test says."""

    def __init__(self) -> None:
        self.drained = 0
        self.waiting = False
        self.reading = Reading()

    def drain(self, _now_ns: int, _is_late: object) -> None:
        self.drained += 1


def test_websockets_of_many_sessions_are_heard_once_a_frame_and_what_is_left_at_once(
    worker: Worker, clock: ManualClock
) -> None:
    sockets = FakeSockets()
    parts = cast("Any", worker)
    parts._sockets, parts._hear_ns = sockets, 0
    parts._mux.drain = lambda: None
    pacer = Pacer(clock.now_ns(), on_fault=lambda _session: None, drain=worker._take_in)
    pacer.add(Fake())
    parts._pacer = pacer

    def slots(count: int) -> int:
        before = sockets.drained
        for _ in range(count):
            clock.advance_ms((pacer.due_ns - clock.now_ns()) / NS_PER_MS)
            pacer.run(clock.now_ns())
        return sockets.drained - before

    assert slots(50) == 50  # of few sessions, in each slot
    parts._sessions = {str(number): SimpleNamespace(arriving=None) for number in range(8)}
    slots(5)
    for _ in range(10):
        assert slots(5) == 1
        assert pacer.at_frame  # when the bells ring that could wait
    sockets.waiting = True
    slots(5)  # the frame that is on
    assert slots(50) == 50


def test_after_a_frame_without_time_for_it_websockets_are_heard_in_the_next_slot(
    worker: Worker, clock: ManualClock
) -> None:
    sockets = FakeSockets()
    parts = cast("Any", worker)
    parts._sockets, parts._hear_ns = sockets, 0
    parts._mux.drain = lambda: None
    parts._pacer = SimpleNamespace(at_frame=False)
    parts._sessions = {str(number): SimpleNamespace(arriving=None) for number in range(8)}
    worker._take_in()
    assert sockets.drained == 1
    for ms, drained in ((16, 1), (4, 1), (4, 2), (16, 2)):
        clock.advance_ms(ms)
        worker._take_in()
        assert sockets.drained == drained


async def test_a_session_wakes_a_worker_that_rests(worker: Worker, clock: ManualClock) -> None:
    pacer, timer = worker._pacer, cast("FakeTimer", worker._timer)
    clock.advance_ms(2_000)
    pacer.run(clock.now_ns())
    assert worker._beat.rest(clock.now_ns(), busy=False)
    worker._beat.due_ns = clock.now_ns() + 250 * NS_PER_MS
    pacer.rest(worker._beat.due_ns)
    clock.advance_ms(1)
    session = worker._new_session(ID)
    assert timer.due_ns == pacer.due_ns == clock.now_ns() + pacer.slot_ns
    assert worker._beat.due_ns <= pacer.due_ns
    await session.close("end")
