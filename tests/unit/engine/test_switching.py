"""Which worker takes callers' connections: the least loaded one that is live, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from engine.config import load
from engine.strain import BEATS, FEW
from engine.supervisor import Supervisor, WorkerHandle, WorkerState
from ipc.messages import Accepting, Message, WorkerBeat

if TYPE_CHECKING:
    import socket

    from ipc.clock import ManualClock


class Lines:
    """The channel to workers that take what they are told, or not."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []
        self.deaf: set[str] = set()

    def notify(self, message: Message, *, to: bytes) -> bool:
        if to.decode() in self.deaf:
            return False
        assert isinstance(message, Accepting)
        self.told.append((to.decode(), message.on))
        return True


class Setup:
    def __init__(self, clock: ManualClock, listener: object) -> None:
        nothing: Any = None
        self.supervisor = Supervisor(
            load({"workers": 2}),
            nothing,
            nothing,
            clock,
            on_request=nothing,
            on_message=nothing,
            on_gone=nothing,
            listener=cast("socket.socket", listener),
        )
        self.lines = Lines()
        self.supervisor._channel = cast("Any", self.lines)

    def add(self, name: str, state: WorkerState = WorkerState.LIVE) -> WorkerHandle:
        worker = WorkerHandle(name=name, token="", peer=name.encode(), state=state)
        self.supervisor._workers[name] = worker
        return worker

    def told(self) -> list[tuple[str, bool]]:
        self.supervisor.switch()
        told, self.lines.told = self.lines.told, []
        return told


@pytest.fixture
def setup(clock: ManualClock) -> Setup:
    return Setup(clock, object())


def test_the_least_loaded_live_worker_takes_them(setup: Setup) -> None:
    setup.add("w1", WorkerState.SPARE)
    assert setup.told() == []
    first, second = setup.add("w2"), setup.add("w3")
    assert setup.told() == [("w2", True)]
    assert setup.told() == []
    first.sessions.add("s")
    assert setup.told() == [("w3", True), ("w2", False)]
    second.sessions.add("t")  # as loaded as the other: no reason to change
    assert setup.told() == []


def test_when_it_is_gone_another_one_does(setup: Setup) -> None:
    first = setup.add("w1")
    setup.add("w2").sessions.add("s")
    assert setup.told() == [("w1", True)]
    first.state = WorkerState.GONE
    assert setup.told() == [("w2", True)]


def test_one_that_could_not_be_told_is_told_again(setup: Setup) -> None:
    first = setup.add("w1")
    second = setup.add("w2")
    setup.lines.deaf.add("w1")
    assert setup.told() == []
    setup.lines.deaf.clear()
    assert setup.told() == [("w1", True)]
    first.sessions.add("s")
    setup.lines.deaf.add("w2")
    assert setup.told() == []  # and nobody is told to stop
    setup.lines.deaf.clear()
    assert setup.told() == [("w2", True), ("w1", False)]
    assert second is setup.supervisor._accepting


def test_without_a_port_nobody_is_told_anything(clock: ManualClock) -> None:
    setup = Setup(clock, None)
    setup.add("w1")
    assert setup.told() == []


def test_one_that_does_not_keep_up_leaves_them_to_one_that_does(setup: Setup) -> None:
    strained, other = setup.add("w1"), setup.add("w2")
    other.sessions.add("s")
    assert setup.told() == [("w1", True)]
    lose_frames(strained)
    assert setup.told() == [("w2", True), ("w1", False)]
    lose_frames(other)  # then neither is better than the other, but for its load
    assert setup.told() == [("w1", True), ("w2", False)]
    other.sessions.clear()
    assert setup.told() == []


def lose_frames(worker: WorkerHandle) -> None:
    """Its beats of two seconds tell of more calls than it can serve."""
    for lost in range(1, BEATS + 1):
        beat = WorkerBeat(
            number=lost, ticks=lost, sessions=FEW, load=1, late_ms=50, missed_frames=lost
        )
        worker.strain.heard(beat)
