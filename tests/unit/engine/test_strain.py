"""A worker that has more calls than it can serve gets no new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.config import load
from engine.strain import FEW
from engine.supervisor import Supervisor, WorkerHandle, WorkerState
from ipc.errors import NoWorker, Overloaded
from ipc.messages import WorkerBeat

if TYPE_CHECKING:
    from ipc.clock import ManualClock

BEATS_PER_S = 20


class Setup:
    """A supervisor whose workers say what a test has them say."""

    def __init__(self, clock: ManualClock) -> None:
        nothing: Any = None
        self.supervisor = Supervisor(
            load({"workers": 2}),
            nothing,
            nothing,
            clock,
            on_request=nothing,
            on_message=nothing,
            on_gone=nothing,
        )
        self._counts: dict[str, tuple[int, int]] = {}

    def add(self, name: str, sessions: int = 0) -> WorkerHandle:
        worker = WorkerHandle(name=name, token="", state=WorkerState.LIVE)
        worker.sessions.update(f"{name}-{number}" for number in range(sessions))
        self.supervisor._workers[name] = worker
        return worker

    def beats(
        self, worker: WorkerHandle, seconds: float, *, missed: int = 0, unheard: int = 0
    ) -> None:
        """So much more is lost with each beat."""
        for _ in range(round(seconds * BEATS_PER_S)):
            before = self._counts.get(worker.name, (0, 0))
            lost = self._counts[worker.name] = (before[0] + missed, before[1] + unheard)
            beat = WorkerBeat(
                number=1,
                ticks=1,
                sessions=len(worker.sessions),
                load=1,
                late_ms=0,
                missed_frames=lost[0],
                unheard=lost[1],
            )
            self.supervisor._heard(worker, beat)


@pytest.fixture
def setup(clock: ManualClock) -> Setup:
    return Setup(clock)


@pytest.mark.parametrize("lost", [{"missed": 1}, {"unheard": 30}])
def test_new_calls_go_where_they_can_be_served(setup: Setup, lost: dict[str, int]) -> None:
    strained, other = setup.add("w1", sessions=FEW), setup.add("w2", sessions=50)
    setup.beats(strained, 1, **lost)
    assert setup.supervisor.place() is other
    setup.beats(other, 1, **lost)
    with pytest.raises(Overloaded, match="more calls than they can serve"):
        setup.supervisor.place()
    setup.beats(other, 2)
    assert setup.supervisor.place() is other


def test_a_call_that_has_lost_its_worker_is_taken_in_any_case(setup: Setup) -> None:
    worker = setup.add("w1", sessions=90)
    setup.beats(worker, 2, missed=1)
    assert setup.supervisor.find() is worker
    better = setup.add("w2", sessions=95)
    assert setup.supervisor.find() is better


def test_a_caller_who_has_come_to_a_strained_worker_is_refused(setup: Setup) -> None:
    worker, _other = setup.add("w1", sessions=FEW), setup.add("w2")
    setup.beats(worker, 1, missed=1)
    with pytest.raises(Overloaded):
        setup.supervisor.place([worker])


def test_a_machine_that_stands_still_now_and_then_is_no_reason(setup: Setup) -> None:
    worker = setup.add("w1", sessions=FEW)
    for _ in range(10):
        setup.beats(worker, 0.05, missed=20)
        setup.beats(worker, 0.35)
        assert setup.supervisor.place() is worker


def test_a_handful_of_calls_is_never_too_much(setup: Setup) -> None:
    worker = setup.add("w1", sessions=FEW - 1)
    setup.beats(worker, 2, missed=1)
    assert setup.supervisor.place() is worker


def test_without_workers_there_is_no_worker(setup: Setup) -> None:
    for choose in (setup.supervisor.place, setup.supervisor.find):
        with pytest.raises(NoWorker):
            choose()
