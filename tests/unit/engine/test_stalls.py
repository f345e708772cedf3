"""When a worker counts as hung: by its beats, at the pace that it has promised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from engine.config import load
from engine.supervisor import (
    RESTING_BEAT_MS,
    START_DEADLINE_S,
    Supervisor,
    WorkerHandle,
    WorkerState,
)
from ipc.clock import NS_PER_MS
from ipc.messages import WorkerBeat, WorkerHello, WorkerSettings

if TYPE_CHECKING:
    from ipc.clock import ManualClock

STALL_MS = 1_000


class FakeChild:
    """A process that writes down that it was killed."""

    def __init__(self) -> None:
        self.killed = False

    def kill(self) -> None:
        self.killed = True


class Setup:
    """A supervisor with one live worker, whose beats a test says."""

    def __init__(self, clock: ManualClock, **settings: Any) -> None:
        nothing: Any = None
        runtime: Any = type("Runtime", (), {"instance": "/nowhere"})
        self.clock = clock
        self.supervisor = Supervisor(
            load({"worker_stall_ms": STALL_MS, **settings}),
            runtime,
            nothing,
            clock,
            on_request=nothing,
            on_message=nothing,
            on_gone=nothing,
        )
        self.child = FakeChild()
        self.worker = WorkerHandle(
            name="w1",
            token="t",
            peer=b"w1",
            state=WorkerState.LIVE,
            child=cast("Any", self.child),
            beat_ns=clock.now_ns(),
        )
        self.supervisor._workers["w1"] = self.worker
        self.ticks = 0

    def beats(self, sessions: int, *, turned: int = 1) -> None:
        self.ticks += turned
        beat = WorkerBeat(number=1, ticks=self.ticks, sessions=sessions, load=0, late_ms=0)
        self.supervisor._heard(self.worker, beat)

    def killed_after_ms(self, ms: int, *, lag_ms: int = 0) -> bool:
        self.clock.advance_ms(ms)
        self.supervisor._look(self.clock.now_ns(), lag_ms * NS_PER_MS)
        return self.child.killed


@pytest.fixture
def setup(clock: ManualClock) -> Setup:
    return Setup(clock)


@pytest.mark.parametrize("sessions", [1, 32])
def test_a_busy_worker_hangs_when_no_beat_came_for_so_long(setup: Setup, sessions: int) -> None:
    setup.beats(sessions)
    assert not setup.killed_after_ms(STALL_MS)
    assert setup.killed_after_ms(1)
    assert setup.worker.reason == "worker_stalled"


def test_one_that_rests_has_as_long_from_when_its_beat_is_due(setup: Setup) -> None:
    setup.beats(0)
    assert not setup.killed_after_ms(STALL_MS + RESTING_BEAT_MS)
    assert setup.killed_after_ms(1)


def test_one_that_was_woken_is_watched_like_any_busy_one(setup: Setup) -> None:
    setup.beats(0)
    setup.clock.advance_ms(RESTING_BEAT_MS)
    setup.beats(1)
    assert not setup.killed_after_ms(STALL_MS)
    assert setup.killed_after_ms(1)


def test_beats_whose_tick_stands_still_are_none(setup: Setup) -> None:
    setup.beats(1)
    for _ in range(STALL_MS // 50):
        assert not setup.killed_after_ms(50)
        setup.beats(1, turned=0)
    assert setup.killed_after_ms(1)


def test_the_time_in_which_the_engine_did_not_turn_does_not_count(setup: Setup) -> None:
    setup.beats(1)
    assert not setup.killed_after_ms(3_000, lag_ms=2_900)
    assert setup.killed_after_ms(901)


@pytest.mark.parametrize(
    ("stall_ms", "beat_ms", "resting_ms"),
    [(1_000, 50, 250), (60_000, 50, 250), (400, 50, 100), (200, 100, 100), (1_000, 500, 500)],
)
async def test_a_worker_is_told_to_beat_often_enough_also_at_rest(
    clock: ManualClock, stall_ms: int, beat_ms: int, resting_ms: int
) -> None:
    setup = Setup(clock, worker_stall_ms=stall_ms, beat_ms=beat_ms)
    hello = WorkerHello(worker="w1", pid=1, token="t")
    told = await setup.supervisor._on_request(b"w1", hello)
    assert isinstance(told, WorkerSettings)
    assert (told.beat_ms, told.resting_beat_ms) == (beat_ms, resting_ms)


async def test_a_worker_that_says_hello_has_as_long_for_its_first_beat_as_for_its_start(
    setup: Setup,
) -> None:
    worker, start_ms = setup.worker, round(1_000 * START_DEADLINE_S)
    worker.state = WorkerState.STARTING
    worker.beat_ns = setup.clock.now_ns() + start_ms * NS_PER_MS
    await setup.supervisor._on_request(b"w1", WorkerHello(worker="w1", pid=1, token="t"))
    assert not setup.killed_after_ms(start_ms)
    assert setup.killed_after_ms(STALL_MS + 1)
