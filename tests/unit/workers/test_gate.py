"""What is not on the beat is let in one at a time, when there is time for it, and never starves."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from ipc.clock import NS_PER_MS, ManualClock
from tests.support import until
from workers import gate as gate_module
from workers.gate import MAX_WAIT_NS, SETTLING_TURNS, Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


class Loop:
    """An event loop whose turns the test makes."""

    def __init__(self) -> None:
        self.soon: deque[Callable[[], Any]] = deque()

    def call_soon(self, call: Callable[[], Any]) -> None:
        self.soon.append(call)

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            for _ in range(len(self.soon)):
                self.soon.popleft()()


class Setup:
    """A gate, a clock, and the next slot `left_ms` away."""

    def __init__(self, left_ms: float) -> None:
        self.loop, self.clock = Loop(), ManualClock()
        self.due_ns = 0
        self.gate = Gate(
            cast("asyncio.AbstractEventLoop", self.loop), self.clock, lambda: self.due_ns
        )
        self.done: list[object] = []
        self.leave(left_ms)

    def leave(self, left_ms: float) -> None:
        self.due_ns = self.clock.now_ns() + round(left_ms * NS_PER_MS)

    def push(self, name: object) -> bool:
        return self.gate.push(lambda: self.done.append(name))


def test_with_time_to_spare_nothing_waits() -> None:
    setup = Setup(left_ms=4)
    assert setup.push("a")
    assert setup.done == ["a"]


def test_shortly_before_a_slot_everything_waits_for_its_end() -> None:
    setup = Setup(left_ms=1)
    setup.push("a")
    setup.loop.turn(10)
    assert setup.done == []
    setup.leave(left_ms=2)
    setup.gate.open()
    assert setup.done == ["a"]


def test_the_next_one_waits_until_the_tasks_of_the_last_have_had_their_turns() -> None:
    setup = Setup(left_ms=4)
    for name in "abc":
        setup.push(name)
    seen = [len(setup.done)]
    for _ in range(3 * (SETTLING_TURNS + 1)):
        setup.loop.turn()
        seen.append(len(setup.done))
    assert setup.done == ["a", "b", "c"]
    assert seen[: SETTLING_TURNS + 2] == [1] * (SETTLING_TURNS + 1) + [2]


def test_time_that_the_first_has_used_is_not_there_for_the_second() -> None:
    setup = Setup(left_ms=2)
    setup.gate.push(lambda: setup.clock.advance_ms(1.4))
    setup.push("b")
    setup.loop.turn(20)
    assert setup.done == []
    setup.leave(left_ms=2)
    setup.gate.open()
    setup.loop.turn(20)
    assert setup.done == ["b"]


def test_order_is_kept() -> None:
    setup = Setup(left_ms=0.5)
    for number in range(50):
        setup.push(number)
    while setup.gate:
        setup.leave(left_ms=3)
        setup.gate.open()
        setup.loop.turn()
    assert setup.done == list(range(50))


def test_without_any_gap_one_passes_after_its_longest_wait() -> None:
    setup = Setup(left_ms=0)
    setup.push("a")
    setup.clock.advance_ms(MAX_WAIT_NS / NS_PER_MS)
    setup.gate.open()
    assert setup.done == []
    setup.clock.advance_ms(0.1)
    setup.gate.open()
    assert setup.done == ["a"]


def test_a_full_queue_takes_no_more_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "MAX_WAITING", 3)
    setup = Setup(left_ms=0)
    assert [setup.push(number) for number in range(5)] == [True, True, True, False, False]
    assert setup.gate.dropped == 2


async def test_a_coroutine_waits_for_its_turn_in_the_same_queue() -> None:
    clock = ManualClock()
    due_ns = clock.now_ns()
    gate = Gate(asyncio.get_running_loop(), clock, lambda: due_ns)
    done: list[str] = []
    gate.push(lambda: done.append("first"))
    task = asyncio.create_task(gate.turn())
    await until(lambda: len(gate) == 2, what="the place in the queue")
    assert not task.done()
    due_ns += 5 * NS_PER_MS
    gate.open()
    async with asyncio.timeout(30):
        await task
    assert done == ["first"]


async def test_a_coroutine_that_gave_up_takes_nobodys_turn() -> None:
    clock = ManualClock()
    due_ns = clock.now_ns()
    gate = Gate(asyncio.get_running_loop(), clock, lambda: due_ns)
    task = asyncio.create_task(gate.turn())
    await until(lambda: len(gate) == 1, what="the place in the queue")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    due_ns += 5 * NS_PER_MS
    passed = asyncio.Event()
    gate.push(passed.set)
    gate.open()
    async with asyncio.timeout(30):
        await passed.wait()


def test_an_input_that_fails_does_not_shut_the_gate() -> None:
    setup = Setup(left_ms=1_000)

    def fail() -> None:
        raise RuntimeError("hostile")

    assert setup.gate.push(fail)
    assert setup.push("behind it")
    setup.loop.turn(3 * SETTLING_TURNS)
    assert setup.done == ["behind it"]
